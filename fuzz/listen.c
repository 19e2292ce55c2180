/*
 * The variables of systemd: what rdaemon_listen() and rdaemon_listen_fd() make of any LISTEN_PID,
 * LISTEN_PIDFDID, LISTEN_FDS and LISTEN_FDNAMES, and of any fds.
 *
 * Input: which variables are set (1, 2, 4, 8; 16: a name is wanted, 32: RDAEMON_LISTEN_INETD, 64:
 * rdaemon_listen_fd(), 128: standard input is a socket), how many visits the visitor allows, and
 * fields with a NUL at their ends: the kinds of the fds from 3 on, the four variables, the name. A
 * '@' in LISTEN_PID is this process's pid, in LISTEN_PIDFDID its pidfd's inode.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fuzz.h"
#include "rdaemon.h"

enum {
    FIRST = 3,
    MOST_FDS = 24,
    MOST_TEXT = 4096,
    WANTS_NAME = 16,
    INETD = 32,
    ONE = 64,
    SOCKET = 128
};
enum { PID, PIDFDID, FDS, NAMES, VARIABLES };

static const char *const variables[] = {"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS",
                                        "LISTEN_FDNAMES"};

/* What the input says. */
static unsigned flags;
static int allowed_visits;
static char texts[VARIABLES + 1][MOST_TEXT];
static const char *values[VARIABLES], *wanted;
static uint32_t kinds[MOST_FDS];
static int types[MOST_FDS];

/* ---- fds ---- */

static int make_socket(int type, bool listens) {
    int fd = socket(AF_UNIX, type, 0);
    CHECK(fd >= 0 && (!listens || listen(fd, 1) == 0), "socket: %m");
    return fd;
}

/* Kind 0 is none. */
static void make_fd(int place, unsigned kind) {
    static const int socket_types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    struct sockaddr address = {.sa_family = AF_UNIX};
    int type = socket_types[kind / 4 % 3], fd = -1;
    kind %= 4;
    if (kind == 3)
        fd = open("/dev/null", O_RDWR);
    if (kind == 1 || kind == 2)
        fd = make_socket(type, false);
    if (kind == 1 && type != SOCK_DGRAM)
        CHECK(bind(fd, &address, sizeof address.sa_family) == 0 && listen(fd, 1) == 0, "listen");
    if (fd >= 0 && fd != FIRST + place) {
        CHECK(dup2(fd, FIRST + place) >= 0, "dup2: %m");
        close(fd);
    }
    kinds[place] = kind == 0            ? 0
                   : kind == 3          ? RDAEMON_SOCKET_OTHER
                   : type == SOCK_DGRAM ? RDAEMON_SOCKET_DATAGRAM
                   : kind == 1          ? RDAEMON_SOCKET_LISTENER
                                        : RDAEMON_SOCKET_CONNECTION;
    types[place] = kind == 3 ? 0 : type;
}

static bool is_cloexec(int fd) {
    return fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

/* ---- the input ---- */

/* 0 where the kernel's pidfds have no numbers of their own. */
static uint64_t own_pidfdid(void) {
    enum { PIDFS = 0x50494446 };
    struct statfs system;
    struct file file = {0};
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    bool is_told = fd >= 0 && fstatfs(fd, &system) == 0 && system.f_type == PIDFS;
    if (is_told)
        file_of(fd, &file);
    close(fd);
    return file.inode;
}

static void take_text(struct input *input, int which, uint64_t own) {
    struct input field = take_field(input, '\0');
    size_t length = 0;
    while (field.left > 0 && length < MOST_TEXT - 24) {
        unsigned byte = take_byte(&field);
        if (byte == '@' && own)
            length += (size_t)sprintf(texts[which] + length, "%" PRIu64, own);
        else
            texts[which][length++] = (char)byte;
    }
}

static void take_input(struct input *input) {
    flags = take_byte(input);
    allowed_visits = (int)take_byte(input);
    struct input fds = take_field(input, '\0');
    const uint64_t own[VARIABLES] = {[PID] = (uint64_t)getpid(), [PIDFDID] = own_pidfdid()};
    close_range(FIRST, ~0U, 0);
    for (int i = 0; i < MOST_FDS && fds.left > 0; i++)
        make_fd(i, take_byte(&fds));
    for (int i = 0; i < VARIABLES; i++) {
        take_text(input, i, own[i]);
        unsetenv(variables[i]);
        if (flags & 1U << i) {
            setenv(variables[i], texts[i], 1);
            values[i] = texts[i];
        }
    }
    take_text(input, VARIABLES, 0);
    wanted = flags & WANTS_NAME ? texts[VARIABLES] : NULL;
    int in = flags & SOCKET ? make_socket(SOCK_STREAM, false) : open("/dev/null", O_RDWR);
    if (in > 0) {
        dup2(in, 0);
        close(in);
    }
}

/* ---- model ---- */

static bool number_in(const char *text, uint64_t *number) {
    errno = 0;
    *number = strtoull(text, NULL, 10);
    return *text && strspn(text, "0123456789") == strlen(text) && !errno;
}

static const char *name_of(int index, char *name) {
    const char *from = values[NAMES];
    if (!from)
        return "unknown";
    while (index-- > 0)
        from = strchr(from, ':') + 1;
    snprintf(name, MOST_TEXT, "%.*s", (int)strcspn(from, ":"), from);
    return name;
}

static bool names_fit(int count) {
    const char *from = values[NAMES];
    int number = 0;
    do {
        size_t length = strcspn(from, ":");
        if (length > 255)
            return false;
        from += length;
        number++;
    } while (*from++);
    return number == count;
}

/* How many fds are this process's: 0 for none, or a negative errno. */
static int offered(void) {
    uint64_t number, own = own_pidfdid();
    if (!values[PID] || !number_in(values[PID], &number))
        return values[PID] ? -EINVAL : 0;
    if (number != (uint64_t)getpid())
        return 0;
    if (values[PIDFDID] && !number_in(values[PIDFDID], &number))
        return -EINVAL;
    if ((values[PIDFDID] && own && number != own) || !values[FDS])
        return 0;
    if (!number_in(values[FDS], &number) || number == 0 || number >= INT_MAX - FIRST)
        return -EINVAL;
    for (uint64_t i = 0; i < number; i++)
        if (i >= MOST_FDS || !kinds[i])
            return -EBADF;
    return values[NAMES] && !names_fit((int)number) ? -EBADMSG : (int)number;
}

/* ---- visits ---- */

static int count, visits, next;

/* The next fd that has the name. */
static int next_wanted(void) {
    char name[MOST_TEXT];
    while (next < count && wanted && strcmp(name_of(next, name), wanted) != 0)
        next++;
    return next++;
}

static int visit_inetd(const struct rdaemon_socket *socket) {
    CHECK(socket->fd >= FIRST && is_cloexec(socket->fd), "fd %d", socket->fd);
    CHECK(socket->kind == RDAEMON_SOCKET_CONNECTION, "kind %u", socket->kind);
    CHECK(strcmp(socket->name, wanted ? wanted : "inetd") == 0, "name %s", socket->name);
    return 0;
}

static int visit(void *context, const struct rdaemon_socket *socket) {
    char name[MOST_TEXT];
    CHECK(context == kinds, "the context");
    visits++;
    if (socket->source == RDAEMON_SOURCE_INETD)
        return visit_inetd(socket);
    int index = next_wanted();
    CHECK(socket->source == RDAEMON_SOURCE_SYSTEMD, "source %u", socket->source);
    CHECK(socket->fd == FIRST + index, "fd %d, not %d", socket->fd, FIRST + index);
    CHECK(socket->kind == kinds[index], "kind %u of fd %d, not %u", socket->kind, socket->fd,
          kinds[index]);
    CHECK(socket->type == types[index], "type %d of fd %d", socket->type, socket->fd);
    CHECK(socket->family == (types[index] ? AF_UNIX : 0), "family %d", socket->family);
    CHECK(strcmp(socket->name, name_of(index, name)) == 0, "name %s", socket->name);
    for (int i = 0; i < count; i++)
        CHECK(is_cloexec(FIRST + i), "fd %d is not yet close-on-exec", FIRST + i);
    return visits > allowed_visits ? -visits : 0;
}

static int expected_of_visits(void) {
    int matches = 0, last = 0;
    next = 0;
    for (int index = next_wanted(); index < count; index = next_wanted()) {
        matches++;
        last = index;
    }
    if (matches == 0)
        return -ENOENT;
    if (!(flags & ONE))
        return matches > allowed_visits ? -allowed_visits - 1 : matches;
    return matches > 1 ? -E2BIG : kinds[last] == RDAEMON_SOCKET_OTHER ? -ENOTSOCK : FIRST + last;
}

/* What the whole call returns. */
static int expected(void) {
    if (count != 0)
        return count < 0 ? count : expected_of_visits();
    if (!(flags & INETD))
        return -ESRCH;
    if (!(flags & SOCKET))
        return -ENOTSOCK;
    return flags & ONE ? 0 : 1;
}

static int listen_once(void) {
    uint32_t how = flags & INETD ? RDAEMON_LISTEN_INETD : 0;
    if (flags & ONE)
        return rdaemon_listen_fd(wanted, how);
    return rdaemon_listen(wanted, how, visit, kinds);
}

static void run(struct input *input) {
    take_input(input);
    count = offered();
    bool is_collected = count > 0 || (count == 0 && (flags & INETD) && (flags & SOCKET));
    bool is_activated = rdaemon_started_by() & RDAEMON_STARTED_LISTEN_PID;
    CHECK(is_activated || count <= 0, "LISTEN_PID is not believed");
    int result = listen_once();
    if (is_collected && count == 0 && (flags & ONE))
        CHECK(result >= FIRST && is_cloexec(result), "%d", result);
    else
        CHECK(result == expected(), "%d, not %d", result, expected());
    for (int i = 0; i < MOST_FDS; i++)
        CHECK(!kinds[i] || (is_open(FIRST + i) && is_cloexec(FIRST + i) == (i < count)), "fd %d",
              FIRST + i);
    for (int i = 0; i < VARIABLES; i++) {
        const char *value = getenv(variables[i]);
        CHECK(count > 0 ? !value
              : value   ? values[i] && !strcmp(value, values[i])
                        : !values[i],
              "%s is %s", variables[i], value ? value : "not set");
    }
    if (is_collected)
        CHECK((result = listen_once()) == -EALREADY, "%d the second time", result);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    run_in_child(run, (struct input){bytes, length});
    return 0;
}
