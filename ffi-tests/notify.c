/* rdaemon_notify, rdaemon_notify_fds, rdaemon_notify_barrier and rdaemon_watchdog, with a manager
 * of the case's own; and rdaemon_ready_fd. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "probe.h"
#include "program.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

typedef struct rdaemon_notification Notification;

enum { MOST_FDS_IN_ONE = 253, MESSAGE_MAX = 4096, PATIENCE_MS = 8000 };

static int notify(Notification notification) {
    return QUIET(rdaemon_notify(RDAEMON_SIZED(&notification)));
}
#define NOTIFY(...) notify((Notification){__VA_ARGS__})
#define NOTIFY_REFUSED(failure, ...)                                                               \
    do {                                                                                           \
        Notification notification_ = {__VA_ARGS__};                                                \
        CHECK_REFUSED(rdaemon_notify(RDAEMON_SIZED(&notification_)), failure);                     \
    } while (0)

/* ---- the manager ---- */

static int manager;

static struct sockaddr_un address_of(const char *name, socklen_t *length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    if (size > sizeof address.sun_path)
        FAIL("%s is too long for a socket", name);
    memcpy(address.sun_path, name, size);
    if (*name == '@')
        address.sun_path[0] = '\0';
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return address;
}

static int bind_at(const char *name, int type) {
    socklen_t length;
    struct sockaddr_un address = address_of(name, &length);
    int on = 1, server = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&address, length) != 0 ||
        setsockopt(server, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        FAIL("%s: %s", name, strerror(errno));
    if (*name != '@')
        CHECK_INT(chmod(name, 0666), 0);
    return server;
}

static void begin_at(const char *name) {
    manager = bind_at(name, SOCK_DGRAM);
    CHECK_INT(setenv("NOTIFY_SOCKET", name, 1), 0);
}

static void begin(void) {
    begin_at(scratch_path("notify"));
}

/* What came last. */
static struct datagram {
    char text[2 * MESSAGE_MAX];
    size_t length;
    int fds[300];
    size_t fds_len;
    struct ucred sender;
} came;

/* Takes the next, if it comes within the time. */
static bool hears_within(int limit_ms) {
    static union {
        struct cmsghdr header;
        char space[4096];
    } control;
    struct iovec data = {.iov_base = came.text, .iov_len = sizeof came.text - 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct pollfd ready = {.fd = manager, .events = POLLIN};
    if (poll(&ready, 1, limit_ms) != 1)
        return false;
    memset(&came, 0, sizeof came);
    ssize_t length = recvmsg(manager, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        FAIL("recvmsg: %s, flags %x", strerror(errno), message.msg_flags);
    came.length = (size_t)length;
    came.text[length] = '\0';
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        size_t size = part->cmsg_len - CMSG_LEN(0);
        if (part->cmsg_type == SCM_RIGHTS) {
            memcpy(came.fds, CMSG_DATA(part), size);
            came.fds_len = size / sizeof(int);
        } else if (part->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&came.sender, CMSG_DATA(part), sizeof came.sender);
        } else {
            FAIL("a control message of type %d", part->cmsg_type);
        }
    }
    return true;
}

/* A datagram is there once the call that sent it has returned. */
static const char *heard(void) {
    if (!hears_within(0))
        FAIL("nothing was said");
    CHECK_INT(came.length, strlen(came.text));
    return came.text;
}

static bool heard_nothing(void) {
    return !hears_within(0);
}

static void close_came_fds(void) {
    for (size_t i = 0; i < came.fds_len; i++)
        close(came.fds[i]);
    came.fds_len = 0;
}

/* The call changes nothing here, and says this alone. */
#define CHECK_SAYS(text, ...)                                                                      \
    do {                                                                                           \
        static struct snapshot silent_;                                                            \
        snapshot_take(&silent_);                                                                   \
        CHECK_INT(NOTIFY(__VA_ARGS__), 1);                                                         \
        CHECK(snapshot_same(&silent_));                                                            \
        CHECK_STR(heard(), text);                                                                  \
        CHECK_INT(came.fds_len, 0);                                                                \
        CHECK(heard_nothing());                                                                    \
    } while (0)

/* Sends until the manager has no room. */
static int fill(void) {
    socklen_t length;
    struct sockaddr_un address = address_of(getenv("NOTIFY_SOCKET"), &length);
    int client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), count = 0;
    while (sendto(client, "filling", 7, 0, (struct sockaddr *)&address, length) == 7)
        count++;
    CHECK_INT(errno, EAGAIN);
    close(client);
    return count;
}

static uint64_t now_usec(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static const char *repeated(char byte, size_t count) {
    static char text[3 * MESSAGE_MAX];
    memset(text, byte, count);
    text[count] = '\0';
    return text;
}

/* ---- what is said ---- */

TEST(each_flag_is_an_assignment) {
    begin();
    CHECK_SAYS("READY=1\n", .flags = RDAEMON_STATE_READY);
    CHECK_SAYS("STOPPING=1\n", .flags = RDAEMON_STATE_STOPPING);
    CHECK_SAYS("WATCHDOG=1\n", .flags = RDAEMON_STATE_WATCHDOG);
    CHECK_SAYS("WATCHDOG=trigger\n", .flags = RDAEMON_STATE_WATCHDOG_TRIGGER);
}

TEST(reloading_goes_with_the_moment_on_the_monotonic_clock) {
    char again[128];
    unsigned long long usec;
    begin();
    uint64_t before = now_usec();
    CHECK_INT(NOTIFY(.flags = RDAEMON_STATE_RELOADING), 1);
    uint64_t after = now_usec();
    CHECK_INT(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%llu\n", &usec), 1);
    CHECK(usec >= before && usec <= after);
    snprintf(again, sizeof again, "RELOADING=1\nMONOTONIC_USEC=%llu\n", usec);
    CHECK_STR(came.text, again);
}

TEST(each_field_is_an_assignment) {
    begin();
    CHECK_SAYS("STATUS=Listens on 80\n", .status = "Listens on 80");
    CHECK_SAYS("MAINPID=12345\n", .main_pid = 12345);
    CHECK_SAYS("ERRNO=2\n", .error = -ENOENT);
    CHECK_SAYS("EXTEND_TIMEOUT_USEC=1500000\n", .extend_timeout_usec = 1500000);
}

TEST(numbers_at_their_ends) {
    begin();
    CHECK_SAYS("MAINPID=1\n", .main_pid = 1);
    CHECK_SAYS("MAINPID=2147483647\n", .main_pid = INT32_MAX);
    CHECK_SAYS("ERRNO=1\n", .error = -1);
    CHECK_SAYS("ERRNO=4095\n", .error = -4095);
    CHECK_SAYS("EXTEND_TIMEOUT_USEC=1\n", .extend_timeout_usec = 1);
    CHECK_SAYS("EXTEND_TIMEOUT_USEC=4294967296\n", .extend_timeout_usec = (uint64_t)1 << 32);
    CHECK_SAYS("EXTEND_TIMEOUT_USEC=18446744073709551615\n", .extend_timeout_usec = UINT64_MAX);
}

TEST(all_at_once_is_one_datagram) {
    begin();
    CHECK_SAYS("READY=1\nWATCHDOG=1\nSTATUS=serves\nMAINPID=7\nERRNO=5\nEXTEND_TIMEOUT_USEC=9\n",
               .flags = RDAEMON_STATE_READY | RDAEMON_STATE_WATCHDOG, .main_pid = 7, .error = -EIO,
               .extend_timeout_usec = 9, .status = "serves");
    CHECK_SAYS("STOPPING=1\nSTATUS=no space\nERRNO=28\n", .flags = RDAEMON_STATE_STOPPING,
               .error = -ENOSPC, .status = "no space");
    CHECK_INT(NOTIFY(.flags = RDAEMON_STATE_RELOADING, .status = "reads"), 1);
    CHECK(strstr(heard(), "\nSTATUS=reads\n") != NULL);
}

TEST(an_empty_status_is_one) {
    begin();
    CHECK_SAYS("STATUS=\n", .status = "");
}

TEST(a_status_is_told_byte_by_byte) {
    static const char *const texts[] = {"Gr\xc3\xbc\xc3\x9f"
                                        "e, \xe2\x82\xac, \xf0\x9f\x98\x80",
                                        "\x80\xff", "100 % \\n \"x\" 'y'", " a = b ", "READY=1"};
    char expected[128];
    begin();
    for (size_t i = 0; i < LENGTH(texts); i++) {
        snprintf(expected, sizeof expected, "STATUS=%s\n", texts[i]);
        CHECK_SAYS(expected, .status = texts[i]);
    }
}

TEST(a_message_of_4096_bytes_is_sent_and_no_longer_one) {
    const size_t front = strlen("STATUS=\n"), ready = strlen("READY=1\n");
    begin();
    CHECK_INT(NOTIFY(.status = repeated('x', MESSAGE_MAX - front)), 1);
    CHECK_INT(strlen(heard()), MESSAGE_MAX);
    CHECK_INT(
        NOTIFY(.flags = RDAEMON_STATE_READY, .status = repeated('x', MESSAGE_MAX - front - ready)),
        1);
    CHECK_INT(strlen(heard()), MESSAGE_MAX);
    NOTIFY_REFUSED(-EMSGSIZE, .status = repeated('x', MESSAGE_MAX - front + 1));
    NOTIFY_REFUSED(-EMSGSIZE, .flags = RDAEMON_STATE_READY,
                   .status = repeated('x', MESSAGE_MAX - front - ready + 1));
    NOTIFY_REFUSED(-EMSGSIZE, .status = repeated('x', MESSAGE_MAX - front), .main_pid = 1);
    NOTIFY_REFUSED(-EMSGSIZE, .status = repeated('x', MESSAGE_MAX - 1));
    CHECK(heard_nothing());
}

TEST(a_status_longer_than_any_message_is_refused_as_one) {
    begin();
    NOTIFY_REFUSED(-EMSGSIZE, .status = repeated('x', MESSAGE_MAX));
    NOTIFY_REFUSED(-EMSGSIZE, .status = repeated('x', 2 * MESSAGE_MAX));
    CHECK(heard_nothing());
}

TEST(the_sender_is_this_process) {
    begin();
    CHECK_INT(NOTIFY(.flags = RDAEMON_STATE_READY), 1);
    heard();
    CHECK_INT(came.sender.pid, getpid());
    CHECK_INT(came.sender.uid, geteuid());
    CHECK_INT(came.sender.gid, getegid());
    pid_t child = fork_child();
    if (child == 0) {
        become_user();
        CHECK_INT(NOTIFY(.flags = RDAEMON_STATE_READY, .main_pid = getpid()), 1);
        _exit(0);
    }
    CHECK_INT(wait_for_exit(child), 0);
    heard();
    CHECK_INT(came.sender.pid, child);
    if (geteuid() == 0) {
        CHECK_INT(came.sender.uid, TEST_UID);
        CHECK_INT(came.sender.gid, TEST_GID);
    }
}

/* ---- what is refused, whether or not somebody listens ---- */

static void check_bad_notifications(void) {
    static const uint32_t unknown[] = {32, 1U << 31, UINT32_MAX, RDAEMON_STATE_READY | 64};
    static const int32_t no_error[] = {1, ENOENT, INT32_MAX, -4096, INT32_MIN};
    NOTIFY_REFUSED(-EINVAL, 0);
    for (size_t i = 0; i < LENGTH(unknown); i++)
        NOTIFY_REFUSED(-EINVAL, .flags = unknown[i]);
    for (size_t i = 0; i < LENGTH(no_error); i++)
        NOTIFY_REFUSED(-EINVAL, .flags = RDAEMON_STATE_READY, .error = no_error[i]);
    NOTIFY_REFUSED(-EINVAL, .flags = RDAEMON_STATE_READY, .main_pid = -1);
    NOTIFY_REFUSED(-EINVAL, .flags = RDAEMON_STATE_READY, .main_pid = INT32_MIN);
    NOTIFY_REFUSED(-EINVAL, .flags = RDAEMON_STATE_READY, .reserved = 1);
}

TEST(bad_input_is_refused_and_nothing_said) {
    begin();
    check_bad_notifications();
    CHECK(heard_nothing());
}

TEST(bad_input_is_refused_though_nobody_is_to_be_told) {
    check_bad_notifications();
    NOTIFY_REFUSED(-EINVAL, .status = "two\nlines");
    CHECK_REFUSED(rdaemon_notify_fds("x", (const int32_t[]){-1}, 1), -EBADF);
    CHECK_REFUSED(rdaemon_notify_fds(NULL, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_notify_barrier(-2), -EINVAL);
}

TEST(a_status_with_a_control_character_is_refused) {
    begin();
    for (int byte = 1; byte < 128; byte = byte == 31 ? 127 : byte + 1) {
        char alone[] = {(char)byte, 0}, within[] = {'a', (char)byte, 'b', 0},
             last[] = {'a', (char)byte, 0};
        NOTIFY_REFUSED(-EINVAL, .status = alone);
        NOTIFY_REFUSED(-EINVAL, .status = within, .flags = RDAEMON_STATE_READY);
        NOTIFY_REFUSED(-EINVAL, .status = last);
    }
    CHECK(heard_nothing());
}

TEST(the_struct_may_be_of_another_version) {
    struct {
        Notification known;
        uint64_t unknown;
    } longer = {.known = {.flags = RDAEMON_STATE_READY}};
    static union {
        Notification known;
        char bytes[5000];
    } page = {.known = {.flags = RDAEMON_STATE_READY}};
    begin();
    CHECK_REFUSED(rdaemon_notify(NULL, 0), -EINVAL); /* nothing to tell */
    CHECK_REFUSED(rdaemon_notify(NULL, sizeof(Notification)), -EINVAL);
    CHECK_REFUSED(rdaemon_notify(&longer.known, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_notify(&longer.known, sizeof(Notification) - 1), -EINVAL);
    CHECK(heard_nothing());
    CHECK_INT(QUIET(rdaemon_notify(&longer.known, sizeof longer)), 1);
    CHECK_STR(heard(), "READY=1\n");
    longer.unknown = 1;
    CHECK_REFUSED(rdaemon_notify(&longer.known, sizeof longer), -E2BIG);
    CHECK_INT(QUIET(rdaemon_notify(&page.known, 4096)), 1);
    CHECK_STR(heard(), "READY=1\n");
    CHECK_REFUSED(rdaemon_notify(&page.known, sizeof page), -E2BIG);
    CHECK(heard_nothing());
}

/* ---- NOTIFY_SOCKET ---- */

/* All three that speak to a manager answer this at once, and nothing of them is left. */
static void check_everybody(int result) {
    const int32_t input = 0;
    const Notification ready = {.flags = RDAEMON_STATE_READY};
    CHECK_REFUSED(rdaemon_notify(RDAEMON_SIZED(&ready)), result);
    CHECK_REFUSED(rdaemon_notify_fds("x", &input, 1), result);
    CHECK_REFUSED(rdaemon_notify_fds("x", NULL, 0), result);
    CHECK_REFUSED(rdaemon_notify_barrier(-1), result);
}

static void check_everybody_at(const char *name, int result) {
    CHECK_INT(setenv("NOTIFY_SOCKET", name, 1), 0);
    check_everybody(result);
    CHECK_STR(getenv("NOTIFY_SOCKET"), name);
}

TEST(without_a_manager_there_is_nobody_to_tell) {
    CHECK_INT(unsetenv("NOTIFY_SOCKET"), 0);
    check_everybody(0);
}

TEST(an_empty_environment_names_no_manager) {
    CHECK_INT(clearenv(), 0);
    check_everybody(0);
}

TEST(an_address_is_an_absolute_path_or_abstract) {
    static const char *const bad[] = {"",    "relative", "./x",         "../x",
                                      "x@y", "@",        "vsock:2:123", "unix:/run/x"};
    for (size_t i = 0; i < LENGTH(bad); i++)
        check_everybody_at(bad[i], -EINVAL);
}

TEST(the_manager_may_be_abstract) {
    char name[64];
    snprintf(name, sizeof name, "@rdaemon notify/%d", (int)getpid());
    begin_at(name);
    CHECK_SAYS("READY=1\n", .flags = RDAEMON_STATE_READY);
    CHECK_STR(getenv("NOTIFY_SOCKET"), name);
}

/* An abstract name has no end but its length. */
TEST(an_abstract_name_is_not_that_of_a_longer_one) {
    char name[64];
    snprintf(name, sizeof name, "@rdaemon-notify-%d-x", (int)getpid());
    begin_at(name);
    name[strlen(name) - 1] = '\0';
    check_everybody_at(name, -ECONNREFUSED);
    CHECK(heard_nothing());
}

/* A path in the scratch directory, or an abstract name, of so many bytes. */
static const char *long_name(bool abstract, size_t length) {
    static char name[8192];
    char front[512];
    snprintf(front, sizeof front, "@rdaemon-notify-%d-", (int)getpid());
    if (!abstract)
        snprintf(front, sizeof front, "%s", scratch_path(""));
    if (strlen(front) >= length)
        SKIP("%s is too long", front);
    memset(name, 'x', length);
    name[length] = '\0';
    memcpy(name, front, strlen(front));
    return name;
}

TEST(a_path_of_107_bytes_is_an_address) {
    begin_at(long_name(false, 107));
    CHECK_SAYS("READY=1\n", .flags = RDAEMON_STATE_READY);
}

TEST(a_longer_path_is_none) {
    static const size_t lengths[] = {108, 109, 4095, 8000};
    for (size_t i = 0; i < LENGTH(lengths); i++)
        check_everybody_at(long_name(false, lengths[i]), -ENAMETOOLONG);
}

TEST(an_abstract_name_of_107_bytes_is_an_address) {
    begin_at(long_name(true, 107));
    CHECK_SAYS("READY=1\n", .flags = RDAEMON_STATE_READY);
}

/* One of 108 bytes could be bound; systemd has none, and says nothing to it either. */
TEST(a_longer_abstract_name_is_none) {
    static const size_t lengths[] = {108, 109, 110, 8000};
    for (size_t i = 0; i < LENGTH(lengths); i++)
        check_everybody_at(long_name(true, lengths[i]), -ENAMETOOLONG);
}

TEST(where_no_manager_listens_the_kernel_s_error_is_told) {
    int closed = bind_at(scratch_path("closed"), SOCK_DGRAM);
    close(closed);
    check_everybody_at(scratch_path("closed"), -ECONNREFUSED);
    check_everybody_at(scratch_path("missing"), -ENOENT);
    check_everybody_at(make_file("file", ""), -ECONNREFUSED);
    check_everybody_at(scratch_path("file/below"), -ENOTDIR);
    check_everybody_at(make_directory("directory", 0755), -ECONNREFUSED);
    check_everybody_at(long_name(true, 60), -ECONNREFUSED);
}

TEST(a_stream_socket_is_no_manager) {
    int stream = bind_at(scratch_path("stream"), SOCK_STREAM);
    CHECK_INT(listen(stream, 5), 0);
    check_everybody_at(scratch_path("stream"), -EPROTOTYPE);
    close(stream);
    unlink(scratch_path("stream"));
    stream = bind_at(scratch_path("stream"), SOCK_SEQPACKET);
    CHECK_INT(listen(stream, 5), 0);
    check_everybody_at(scratch_path("stream"), -EPROTOTYPE);
}

TEST(a_manager_that_must_not_be_told_is_an_error) {
    REQUIRE_ROOT();
    begin();
    CHECK_INT(chmod(scratch_path("notify"), 0600), 0);
    become_user();
    check_everybody(-EACCES);
}

TEST(a_manager_that_has_stopped_listening_raises_no_signal) {
    begin();
    CHECK_INT(shutdown(manager, SHUT_RD), 0);
    check_everybody(-EPIPE);
    CHECK(!signal_in(0, "SigPnd", SIGPIPE));
    CHECK(!signal_in(0, "ShdPnd", SIGPIPE));
}

HELPER(asks_with_more_rights) {
    uint64_t usec = 77;
    const Notification ready = {.flags = RDAEMON_STATE_READY};
    if (geteuid() == getuid())
        return 99;
    CHECK_STR(getenv("NOTIFY_SOCKET"), arguments[0]);
    CHECK_STR(getenv("WATCHDOG_USEC"), "1000");
    CHECK_REFUSED(rdaemon_notify(RDAEMON_SIZED(&ready)), 0);
    CHECK_REFUSED(rdaemon_notify_barrier(-1), 0);
    CHECK_REFUSED(rdaemon_watchdog(&usec), 0);
    CHECK_INT(usec, 77);
    return 0;
}

static void copy_this_program(const char *to, mode_t mode) {
    static char bytes[1 << 16];
    ssize_t length;
    int from_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to_fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    CHECK(from_fd >= 0 && to_fd >= 0);
    while ((length = read(from_fd, bytes, sizeof bytes)) > 0)
        CHECK_INT(write(to_fd, bytes, (size_t)length), length);
    CHECK_INT(length, 0);
    CHECK_INT(fchmod(to_fd, mode), 0);
    close(from_fd);
    close(to_fd);
}

TEST(a_set_uid_program_does_not_believe_its_environment) {
    REQUIRE_ROOT();
    begin();
    copy_this_program(scratch_path("set-uid"), 04755);
    CHECK_INT(setenv("WATCHDOG_USEC", "1000", 1), 0);
    pid_t child = fork_child();
    if (child == 0) {
        become_user();
        execl(scratch_path("set-uid"), "helper", "--helper", "asks_with_more_rights",
              getenv("NOTIFY_SOCKET"), NULL);
        _exit(99);
    }
    int status = wait_for_exit(child);
    if (status == 99 << 8)
        SKIP("no set-uid programs in %s", scratch());
    CHECK_INT(status, 0);
    CHECK(heard_nothing());
}

/* ---- calls ---- */

static int says_ready(void) {
    return NOTIFY(.flags = RDAEMON_STATE_READY);
}

static int stores_an_fd(void) {
    const int32_t input = 0;
    return QUIET(rdaemon_notify_fds("x", &input, 1));
}

static int waits_50_ms(void) {
    return QUIET(rdaemon_notify_barrier(50));
}

static int says_ready_in_a_storm(void) {
    begin_signal_storm();
    return says_ready();
}

static int waits_50_ms_in_a_storm(void) {
    begin_signal_storm();
    return waits_50_ms();
}

static int waits_for_ever(void) {
    return QUIET(rdaemon_notify_barrier(-1));
}

static int waits_long(void) {
    return QUIET(rdaemon_notify_barrier(60000));
}

static int waits_long_in_a_storm(void) {
    begin_signal_storm();
    return waits_long();
}

/* ---- fds ---- */

static void check_says_without_fds(const char *expected) {
    CHECK_INT(NOTIFY(.flags = RDAEMON_STATE_READY), 1);
    CHECK_STR(open_fds(0), expected);
    CHECK_STR(heard(), "READY=1\n");
}

TEST(a_process_without_standard_streams_is_heard) {
    begin();
    int high = fcntl(manager, F_DUPFD_CLOEXEC, 10);
    close(manager);
    manager = high;
    close(0);
    check_says_without_fds("1 2 10");
    close(1);
    check_says_without_fds("2 10");
    close(2);
    check_says_without_fds("10");
    CHECK_INT(QUIET(rdaemon_notify_barrier(0)), -ETIMEDOUT);
    CHECK_STR(open_fds(0), "10");
    const int32_t ten = 10;
    CHECK_INT(QUIET(rdaemon_notify_fds("x", &ten, 1)), 1);
    CHECK_STR(open_fds(0), "10");
}

static int with_fds_free(int free, int (*call)(void)) {
    static struct snapshot before;
    struct rlimit was, limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &was), 0);
    limit = was;
    limit.rlim_cur = (rlim_t)(manager + 1 + free);
    snapshot_take(&before);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int result = call();
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &was), 0);
    if (hears_within(0))
        close_came_fds();
    CHECK(snapshot_same(&before));
    return result;
}

TEST(fds_that_are_needed_and_not_free_are_an_error) {
    begin();
    CHECK_INT(with_fds_free(0, says_ready), -EMFILE);
    CHECK_INT(with_fds_free(1, says_ready), 1);
    CHECK_STR(came.text, "READY=1\n");
    CHECK_INT(with_fds_free(0, stores_an_fd), -EMFILE);
    CHECK_INT(with_fds_free(0, waits_50_ms), -EMFILE);
    CHECK_INT(with_fds_free(1, waits_50_ms), -EMFILE);
    CHECK_INT(with_fds_free(2, waits_50_ms), -EMFILE);
    CHECK_STR(came.text, "READY=1\n"); /* the latest */
    CHECK_INT(with_fds_free(3, waits_50_ms), -ETIMEDOUT);
    CHECK_STR(came.text, "BARRIER=1\n");
}

/* Only numbers below 3 are free, where the library leaves none. */
TEST(standard_streams_are_not_taken_for_want_of_others) {
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 100};
    const Notification ready = {.flags = RDAEMON_STATE_READY};
    begin();
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    close(0);
    close(1);
    CHECK_REFUSED(rdaemon_notify(RDAEMON_SIZED(&ready)), -EMFILE);
    CHECK_REFUSED(rdaemon_notify_barrier(-1), -EMFILE);
    CHECK(heard_nothing());
}

/* ---- a manager that does not read ---- */

static void ends_within(pid_t pid, int limit_ms, const char *name) {
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    CHECK(end.fd >= 0);
    if (poll(&end, 1, limit_ms) != 1)
        FAIL("%s has not given up", name);
    close(end.fd);
    CHECK_INT(wait_for_exit(pid), 0);
}

/* Each in a process of its own, so that they wait the same five seconds. */
TEST(a_manager_that_does_not_read_is_waited_for_five_seconds, .time_limit_ms = 30000) {
    static const struct {
        const char *name;
        int (*call)(void);
    } calls[] = {{"a notification", says_ready},
                 {"one with an fd", stores_an_fd},
                 {"one that signals interrupt", says_ready_in_a_storm}};
    pid_t children[LENGTH(calls)];
    begin();
    int there = fill();
    for (size_t i = 0; i < LENGTH(calls); i++) {
        children[i] = fork_child();
        if (children[i] == 0) {
            double before = now_ms();
            CHECK_INT(calls[i].call(), -EAGAIN);
            double took = now_ms() - before;
            CHECK(took > 4900 && took < 7000);
            CHECK_STR(open_fds(0), "0 1 2 3");
            _exit(0);
        }
    }
    for (size_t i = 0; i < LENGTH(calls); i++)
        ends_within(children[i], i == 0 ? 8000 : 3000, calls[i].name);
    for (; there > 0; there--)
        CHECK_STR(heard(), "filling");
    CHECK(heard_nothing());
}

/* A child that waits in the call, which it is about to make. */
static pid_t child_that_waits_in(int (*call)(void), int expected) {
    struct gate *gate = gate_new();
    pid_t child = fork_child();
    if (child == 0) {
        close(manager);
        gate_open(gate);
        CHECK_INT(call(), expected);
        CHECK_STR(open_fds(0), "0 1 2");
        _exit(0);
    }
    gate_wait(gate);
    wait_for_state(child, 'S');
    return child;
}

/* What a program that it starts meanwhile would get. */
static void check_inherits_nothing(pid_t child) {
    char name[64];
    unsigned flags;
    CHECK_STR(open_fds(child), "0 1 2 3");
    snprintf(name, sizeof name, "/proc/%d/fdinfo/3", (int)child);
    CHECK_INT(sscanf(file_text(name), "pos: %*u flags: %o", &flags), 1);
    CHECK_INT(flags & O_CLOEXEC, O_CLOEXEC);
}

TEST(once_a_busy_manager_reads_it_is_told) {
    begin();
    int there = fill();
    pid_t child = child_that_waits_in(says_ready, 1);
    check_inherits_nothing(child);
    double before = now_ms();
    for (; there > 0; there--)
        CHECK_STR(heard(), "filling");
    CHECK_INT(wait_for_exit(child), 0);
    CHECK(now_ms() - before < 1000);
    CHECK_STR(heard(), "READY=1\n");
    CHECK_INT(came.sender.pid, child);
}

static int says_ready_without_streams(void) {
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    int result = says_ready();
    CHECK_STR(open_fds(0), "");
    for (int fd = 0; fd < 3; fd++)
        CHECK_INT(open("/dev/null", O_RDWR), fd);
    return result;
}

/* What another thread prints meanwhile does not go to the manager. */
TEST(the_connection_is_no_standard_stream) {
    begin();
    fill();
    pid_t child = child_that_waits_in(says_ready_without_streams, 1);
    CHECK_STR(open_fds(child), "3");
    while (hears_within(0))
        continue;
    CHECK_INT(wait_for_exit(child), 0);
    hears_within(0); /* unless the loop has taken it */
    CHECK_STR(came.text, "READY=1\n");
}

TEST(a_barrier_s_time_limit_is_kept_when_the_manager_does_not_read) {
    begin();
    fill();
    double before = now_ms();
    CHECK_INT(QUIET(rdaemon_notify_barrier(0)), -ETIMEDOUT);
    CHECK_INT(waits_50_ms(), -ETIMEDOUT);
    CHECK(now_ms() - before < 1000);
}

/* ---- fds to keep ---- */

static const char *name_line(const char *front, const char *name) {
    static char text[512];
    snprintf(text, sizeof text, name ? "%s\nFDNAME=%s\n" : "%s\n", front, name);
    return text;
}

/* What is stored. */
static int32_t own[MOST_FDS_IN_ONE + 1];
static void open_own(size_t count) {
    for (size_t i = 0; i < count; i++)
        CHECK((own[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 3);
}

/* Those that are under way belong to the manager's socket until it has taken and closed them. */
static void store_and_hear(const char *name, size_t count) {
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(QUIET(rdaemon_notify_fds(name, own, count)), 1);
    CHECK_STR(heard(), name_line("FDSTORE=1", name));
    CHECK_INT(came.fds_len, count);
    for (size_t i = 0; i < count; i++)
        CHECK(same_description(came.fds[i], own[i]));
    close_came_fds();
    CHECK(snapshot_same(&before));
    CHECK(heard_nothing());
}

TEST(fds_travel_with_their_name) {
    begin();
    open_own(3);
    store_and_hear("http", 1);
    store_and_hear("http", 2);
    store_and_hear(NULL, 3);
    CHECK_INT(came.sender.pid, getpid());
}

TEST(as_many_fds_as_a_message_carries) {
    begin();
    open_own(MOST_FDS_IN_ONE + 1);
    store_and_hear("many", MOST_FDS_IN_ONE);
    store_and_hear(NULL, MOST_FDS_IN_ONE - 1);
    CHECK_REFUSED(rdaemon_notify_fds("many", own, MOST_FDS_IN_ONE + 1), -EINVAL);
    CHECK(heard_nothing());
}

TEST(any_kind_of_fd_travels) {
    int pipe_ends[2];
    begin();
    CHECK_INT(pipe2(pipe_ends, O_CLOEXEC), 0);
    own[0] = 0;
    own[1] = pipe_ends[1];
    own[2] = manager;
    own[3] = pipe_ends[1]; /* twice */
    own[4] = open(scratch(), O_DIRECTORY | O_RDONLY);
    store_and_hear("mixed", 5);
    CHECK(!fd_is_cloexec(own[4]));
    CHECK(fd_is_cloexec(pipe_ends[1]));
}

TEST(fds_are_forgotten_by_name) {
    begin();
    CHECK_INT(QUIET(rdaemon_notify_fds("http", NULL, 0)), 1);
    CHECK_STR(heard(), "FDSTOREREMOVE=1\nFDNAME=http\n");
    CHECK_INT(came.fds_len, 0);
    open_own(1);
    CHECK_INT(QUIET(rdaemon_notify_fds("http", own, 0)), 1);
    CHECK_STR(heard(), "FDSTOREREMOVE=1\nFDNAME=http\n");
    CHECK_INT(came.fds_len, 0);
    CHECK_REFUSED(rdaemon_notify_fds(NULL, NULL, 0), -EINVAL);
    CHECK(heard_nothing());
}

/* As fdname_is_valid() of systemd has it, which ignores any other name. */
TEST(every_byte_that_a_name_may_have) {
    char name[3] = "x";
    begin();
    open_own(1);
    for (int byte = 1; byte < 256; byte++) {
        name[1] = (char)byte;
        if (byte >= ' ' && byte < 127 && byte != ':') {
            CHECK_INT(QUIET(rdaemon_notify_fds(name, own, 1)), 1);
            CHECK_STR(heard(), name_line("FDSTORE=1", name));
            close_came_fds();
        } else if (byte < 128) {
            CHECK_INT(QUIET(rdaemon_notify_fds(name, own, 1)), -EINVAL);
            CHECK_INT(QUIET(rdaemon_notify_fds(name, NULL, 0)), -EINVAL);
        }
    }
    CHECK(heard_nothing());
}

TEST(a_name_has_no_bytes_beyond_ascii) {
    begin();
    open_own(1);
    CHECK_REFUSED(rdaemon_notify_fds("caf\xc3\xa9", own, 1), -EINVAL);
    CHECK_REFUSED(rdaemon_notify_fds("\xff", NULL, 0), -EINVAL);
    CHECK(heard_nothing());
}

TEST(a_name_has_1_to_255_bytes) {
    begin();
    open_own(1);
    store_and_hear("x", 1);
    store_and_hear(repeated('x', 255), 1);
    static const size_t bad[] = {0, 256, 4095};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        CHECK_REFUSED(rdaemon_notify_fds(repeated('x', bad[i]), own, 1), -EINVAL);
        CHECK_REFUSED(rdaemon_notify_fds(repeated('x', bad[i]), NULL, 0), -EINVAL);
    }
    CHECK(heard_nothing());
}

TEST(a_name_longer_than_any_string_is_refused_like_other_bad_names) {
    begin();
    open_own(1);
    CHECK_REFUSED(rdaemon_notify_fds(repeated('x', 5000), own, 1), -EINVAL);
    CHECK_REFUSED(rdaemon_notify_fds(repeated('x', 5000), NULL, 0), -EINVAL);
    CHECK(heard_nothing());
}

/* The kernel counts the fds that a user has under way, but for who may exceed limits. */
TEST(fds_that_the_kernel_does_not_take_are_an_error) {
    REQUIRE_ROOT();
    struct rlimit limit = {.rlim_cur = 20, .rlim_max = 100};
    int result = 1, sent = 0;
    begin();
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_INT(setuid(lonely_uid()), 0);
    open_own(10);
    for (; result == 1 && sent < 9; sent += result == 1)
        result = QUIET(rdaemon_notify_fds("x", own, 10));
    CHECK_INT(result, -ETOOMANYREFS);
    CHECK(sent > 0);
    CHECK_STR(open_fds(0), "0 1 2 3 4 5 6 7 8 9 10 11 12 13");
    limit.rlim_cur = 100;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (; sent > 0; sent--) {
        CHECK_STR(heard(), "FDSTORE=1\nFDNAME=x\n");
        CHECK_INT(came.fds_len, 10);
        close_came_fds();
    }
    CHECK(heard_nothing());
}

TEST(a_bad_fd_keeps_the_others_back) {
    begin();
    open_own(3);
    int closed = dup(manager);
    close(closed);
    for (size_t i = 0; i < 3; i++) {
        int32_t bad[3] = {own[0], own[1], own[2]};
        bad[i] = closed;
        CHECK_REFUSED(rdaemon_notify_fds("x", bad, 3), -EBADF);
        bad[i] = -1;
        CHECK_REFUSED(rdaemon_notify_fds("x", bad, 3), -EBADF);
        bad[i] = INT32_MAX;
        CHECK_REFUSED(rdaemon_notify_fds("x", bad, 3), -EBADF);
    }
    CHECK_REFUSED(rdaemon_notify_fds("x", NULL, 1), -EINVAL);
    CHECK_REFUSED(rdaemon_notify_fds("x", own, SIZE_MAX), -EINVAL);
    CHECK(heard_nothing());
}

/* ---- barrier ---- */

TEST(a_barrier_is_alone_with_one_fd) {
    static struct snapshot before;
    begin();
    snapshot_take(&before);
    CHECK_INT(QUIET(rdaemon_notify_barrier(0)), -ETIMEDOUT);
    CHECK_STR(heard(), "BARRIER=1\n");
    CHECK_INT(came.fds_len, 1);
    CHECK_INT(came.sender.pid, getpid());
    close_came_fds();
    CHECK(snapshot_same(&before));
    CHECK(heard_nothing());
}

/* Looks whether the child has returned, before and after the manager has closed its fd. */
static void close_and_see(pid_t child) {
    if (!hears_within(PATIENCE_MS))
        FAIL("no barrier came");
    CHECK_STR(came.text, "BARRIER=1\n");
    CHECK_INT(came.fds_len, 1);
    CHECK_INT(came.sender.pid, child);
    CHECK_INT(waitpid(child, NULL, WNOHANG), 0);
    close_came_fds();
    CHECK_INT(wait_for_exit(child), 0);
}

TEST(a_barrier_waits_until_the_manager_closes_its_fd) {
    static int (*const calls[])(void) = {waits_for_ever, waits_long, waits_long_in_a_storm};
    begin();
    for (size_t i = 0; i < LENGTH(calls); i++) {
        double before = now_ms();
        pid_t child = child_that_waits_in(calls[i], 1);
        check_inherits_nothing(child);
        close_and_see(child);
        CHECK(now_ms() - before < 2000);
    }
}

TEST(a_barrier_has_a_time_limit) {
    static int (*const calls[])(void) = {waits_50_ms, waits_50_ms_in_a_storm};
    static const int bad[] = {-2, INT_MIN};
    begin();
    for (size_t i = 0; i < LENGTH(calls); i++) {
        double before = now_ms();
        CHECK_INT(calls[i](), -ETIMEDOUT);
        double took = now_ms() - before;
        CHECK(took >= 49 && took < 1000);
        CHECK_STR(open_fds(0), "0 1 2 3");
    }
    end_signal_storm();
    hears_within(0);
    hears_within(0);
    for (size_t i = 0; i < LENGTH(bad); i++)
        CHECK_REFUSED(rdaemon_notify_barrier(bad[i]), -EINVAL);
    CHECK(heard_nothing());
}

TEST(a_manager_that_goes_away_ends_the_wait) {
    begin();
    pid_t child = child_that_waits_in(waits_for_ever, 1);
    double before = now_ms();
    close(manager);
    CHECK_INT(wait_for_exit(child), 0);
    CHECK(now_ms() - before < 1000);
}

TEST(a_barrier_comes_after_what_was_said_before) {
    const int32_t input = 0;
    begin();
    CHECK_INT(NOTIFY(.flags = RDAEMON_STATE_READY), 1);
    CHECK_INT(QUIET(rdaemon_notify_fds("x", &input, 1)), 1);
    CHECK_INT(NOTIFY(.status = "serves"), 1);
    pid_t child = child_that_waits_in(waits_for_ever, 1);
    CHECK_STR(heard(), "READY=1\n");
    CHECK_STR(heard(), "FDSTORE=1\nFDNAME=x\n");
    CHECK_STR(heard(), "STATUS=serves\n");
    close_and_see(child);
}

/* ---- threads ---- */

enum { THREADS = 8, MESSAGES = 100, STATUS_LENGTH = 2000 };

static void *tells_much(void *argument) {
    char status[STATUS_LENGTH + 1];
    long number = (long)argument;
    memset(status, 'a' + (int)number, STATUS_LENGTH);
    status[STATUS_LENGTH] = '\0';
    for (int i = 0; i < MESSAGES; i++) {
        Notification notification = {.main_pid = 1000 + i, .status = status};
        CHECK_INT(QUIET(rdaemon_notify(RDAEMON_SIZED(&notification))), 1);
    }
    return NULL;
}

TEST(threads_do_not_mix_their_messages) {
    pthread_t threads[THREADS];
    int next[THREADS] = {0};
    char expected[STATUS_LENGTH + 64];
    begin();
    for (long i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, tells_much, (void *)i), 0);
    for (int i = 0; i < THREADS * MESSAGES; i++) {
        if (!hears_within(PATIENCE_MS))
            FAIL("message %d did not come", i);
        int number = came.text[strlen("STATUS=")] - 'a';
        CHECK(number >= 0 && number < THREADS);
        snprintf(expected, sizeof expected, "STATUS=%s\nMAINPID=%d\n",
                 repeated((char)('a' + number), STATUS_LENGTH), 1000 + next[number]++);
        CHECK_STR(came.text, expected);
        CHECK_INT(came.sender.pid, getpid());
    }
    for (long i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK(heard_nothing());
    CHECK_STR(open_fds(0), "0 1 2 3");
}

/* ---- a daemon ---- */

static void tells_its_pid(const struct start *start) {
    (void)start;
    CHECK_INT(NOTIFY(.flags = RDAEMON_STATE_READY, .main_pid = getpid(), .status = "serves"), 1);
    CHECK_INT(QUIET(rdaemon_notify_barrier(PATIENCE_MS)), 1);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(a_daemon_tells_the_pid_that_it_has_after_the_forks) {
    struct start started;
    char expected[64];
    begin();
    start_well(&started, NULL, tells_its_pid);
    snprintf(expected, sizeof expected, "READY=1\nSTATUS=serves\nMAINPID=%d\n", started.result);
    CHECK(started.result != getpid());
    CHECK(hears_within(PATIENCE_MS));
    CHECK_STR(came.text, expected);
    CHECK_INT(came.sender.pid, started.result);
    CHECK(hears_within(PATIENCE_MS));
    CHECK_STR(came.text, "BARRIER=1\n");
    CHECK_INT(came.sender.pid, started.result);
    close_came_fds();
    lived(&started);
}

/* ---- watchdog ---- */

static void set_watchdog(const char *usec, const char *pid) {
    if (usec)
        setenv("WATCHDOG_USEC", usec, 1);
    else
        unsetenv("WATCHDOG_USEC");
    if (pid)
        setenv("WATCHDOG_PID", pid, 1);
    else
        unsetenv("WATCHDOG_PID");
}

static void check_watchdog(const char *usec, const char *pid, int result, uint64_t expected) {
    uint64_t told = 0x5a5a5a5a5a5a5a5a;
    set_watchdog(usec, pid);
    CHECK_REFUSED(rdaemon_watchdog(&told), result);
    CHECK_INT(told, result == 1 ? expected : 0x5a5a5a5a5a5a5a5a);
    CHECK_REFUSED(rdaemon_watchdog(NULL), result);
    CHECK_STR(getenv("WATCHDOG_USEC") ? getenv("WATCHDOG_USEC") : "unset", usec ? usec : "unset");
}

static const char *pid_text(long long pid) {
    static char text[32];
    snprintf(text, sizeof text, "%lld", pid);
    return text;
}

TEST(the_watchdog_s_interval_is_told_to_the_process_that_is_watched) {
    check_watchdog(NULL, NULL, 0, 0);
    check_watchdog("30000000", NULL, 1, 30000000);
    check_watchdog("30000000", pid_text(getpid()), 1, 30000000);
    check_watchdog("1", NULL, 1, 1);
    check_watchdog("4294967296", NULL, 1, (uint64_t)1 << 32);
    check_watchdog("18446744073709551614", NULL, 1, UINT64_MAX - 1);
}

TEST(the_watchdog_of_another_process_is_none_of_ours) {
    check_watchdog("30000000", pid_text(getppid()), 0, 0);
    check_watchdog("30000000", "1", 0, 0);
    check_watchdog("30000000", pid_text(getpid() + (1LL << 32)), 0, 0);
    check_watchdog(NULL, pid_text(getpid()), 0, 0);
    set_watchdog("30000000", pid_text(getpid()));
    IN_CHILD {
        uint64_t usec = 77;
        CHECK_REFUSED(rdaemon_watchdog(&usec), 0);
        CHECK_INT(usec, 77);
    }
}

TEST(a_watchdog_that_is_no_number_is_refused) {
    static const char *const bad[] = {"",
                                      "x",
                                      "0x10",
                                      "1s",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1\n",
                                      "1.5",
                                      "0",
                                      "00",
                                      "18446744073709551616",
                                      "1e6",
                                      "\xd9\xa1"};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        check_watchdog(bad[i], NULL, -EINVAL, 0);
        check_watchdog(bad[i], pid_text(getpid()), -EINVAL, 0);
    }
    static const char *const bad_pids[] = {"", "x", "-1", " 1", "1 ", "18446744073709551616", "+1"};
    for (size_t i = 0; i < LENGTH(bad_pids); i++)
        check_watchdog("30000000", bad_pids[i], -EINVAL, 0);
}

/* ---- the pipe of s6 ---- */

static void refuse_quiet_writes(void) {
    deny_syscall(SYS_pwritev2, EOPNOTSUPP);
}

/* The cases of a pipe again, where the kernel has no write that raises no signal. */
#define TEST_EACH_WRITE(test_name)                                                                 \
    static void test_name##_body(void);                                                            \
    TEST(test_name) {                                                                              \
        test_name##_body();                                                                        \
    }                                                                                              \
    TEST(test_name##_without_quiet_writes) {                                                       \
        refuse_quiet_writes();                                                                     \
        test_name##_body();                                                                        \
    }                                                                                              \
    static void test_name##_body(void)

/* Closes the fd, and changes nothing else. */
static void check_ready_fd(int fd, int result) {
    static struct snapshot before;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 50);
    CHECK_INT(copy, 50);
    close(fd);
    snapshot_take(&before);
    CHECK_INT(dup3(copy, fd, O_CLOEXEC), fd);
    CHECK_INT(QUIET(rdaemon_ready_fd(fd)), result);
    CHECK(!fd_is_open(fd));
    CHECK(snapshot_same(&before));
    close(copy);
}

static void new_pipe(int ends[2], int flags) {
    CHECK_INT(pipe2(ends, O_CLOEXEC | flags), 0);
}

static void check_newline_then_end(int reader) {
    char bytes[8];
    CHECK_INT(read(reader, bytes, sizeof bytes), 1);
    CHECK_INT(bytes[0], '\n');
    CHECK_INT(read(reader, bytes, sizeof bytes), 0);
}

TEST_EACH_WRITE(ready_is_a_newline_and_then_the_end) {
    int ends[2];
    for (int flags = 0; flags >= 0; flags = flags ? -1 : O_NONBLOCK) {
        new_pipe(ends, flags);
        check_ready_fd(ends[1], 0);
        check_newline_then_end(ends[0]);
        close(ends[0]);
    }
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST_EACH_WRITE(ready_may_be_said_to_other_fds_than_pipes) {
    int ends[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    check_ready_fd(ends[1], 0);
    check_newline_then_end(ends[0]);
    const char *file = make_file("file", "before\n");
    CHECK_INT(QUIET(rdaemon_ready_fd(open(file, O_WRONLY | O_APPEND | O_CLOEXEC))), 0);
    CHECK_STR(file_text(file), "before\n\n");
    CHECK_STR(open_fds(0), "0 1 2 3");
    check_ready_fd(open("/dev/null", O_WRONLY | O_CLOEXEC), 0);
    CHECK_INT(mkfifo(scratch_path("fifo"), 0600), 0);
    int reader = open(scratch_path("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    check_ready_fd(open(scratch_path("fifo"), O_WRONLY | O_CLOEXEC), 0);
    check_newline_then_end(reader);
}

TEST_EACH_WRITE(where_nobody_waits_for_ready_no_signal_is_raised) {
    int ends[2];
    new_pipe(ends, 0);
    close(ends[0]);
    check_ready_fd(ends[1], -EPIPE);
    CHECK(!signal_in(0, "SigPnd", SIGPIPE));
    CHECK(!signal_in(0, "ShdPnd", SIGPIPE));
    CHECK_STR(status_field(0, "SigBlk"), "0000000000000000");
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    close(ends[0]);
    check_ready_fd(ends[1], -EPIPE);
}

TEST_EACH_WRITE(a_sigpipe_that_was_pending_before_stays) {
    int ends[2];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    CHECK_INT(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_INT(raise(SIGPIPE), 0);
    new_pipe(ends, 0);
    close(ends[0]);
    check_ready_fd(ends[1], -EPIPE);
    CHECK(signal_in(0, "SigBlk", SIGPIPE));
    CHECK(signal_in(0, "SigPnd", SIGPIPE) || signal_in(0, "ShdPnd", SIGPIPE));
}

TEST_EACH_WRITE(an_fd_that_cannot_be_written_to_is_closed_too) {
    int ends[2];
    new_pipe(ends, 0);
    check_ready_fd(ends[0], -EBADF);
    check_ready_fd(open("/dev/null", O_RDONLY | O_CLOEXEC), -EBADF);
    check_ready_fd(open(scratch(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), -EBADF);
}

TEST_EACH_WRITE(no_fd_is_no_ready_fd) {
    static const int bad[] = {-1, -2, INT_MIN, INT_MAX};
    int closed = dup(0);
    close(closed);
    CHECK_REFUSED(rdaemon_ready_fd(closed), -EBADF);
    for (size_t i = 0; i < LENGTH(bad); i++)
        CHECK_REFUSED(rdaemon_ready_fd(bad[i]), -EBADF);
}

static int full_pipe(int *reader) {
    static char bytes[4096];
    int ends[2];
    new_pipe(ends, O_NONBLOCK);
    while (write(ends[1], bytes, sizeof bytes) > 0)
        continue;
    CHECK_INT(fcntl(ends[1], F_SETFL, 0), 0);
    *reader = ends[0];
    return ends[1];
}

/* What comes of it must not depend on the kernel. */
TEST_EACH_WRITE(a_pipe_that_is_full_is_not_waited_for) {
    int reader, writer = full_pipe(&reader);
    double before = now_ms();
    check_ready_fd(writer, -EAGAIN);
    CHECK(now_ms() - before < 1000);
}

static int preserved;

static void says_it_on_the_preserved_fd(const struct start *start) {
    (void)start;
    CHECK_INT(QUIET(rdaemon_ready_fd(preserved)), 0);
    live_on(start);
}

/* That the daemon lives on holds no end of the pipe open. */
TEST(a_daemon_says_it_on_an_fd_that_it_has_kept) {
    int ends[2];
    struct start started;
    new_pipe(ends, 0);
    preserved = ends[1];
    struct rdaemon_config config = {.files_preserve = &preserved, .files_preserve_len = 1};
    start_well(&started, &config, says_it_on_the_preserved_fd);
    close(ends[1]);
    check_newline_then_end(ends[0]);
    slay(&started);
}
