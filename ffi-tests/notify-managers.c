/* rdaemon_ready_fd under a real s6; and rdaemon_notify and its like beside systemd's own: what they
 * say to one receiver, and what they make of one environment. */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "probe.h"
#include "program.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

typedef struct rdaemon_notification Notification;

enum { PATIENCE_MS = 10000 };

/* ---- s6 ---- */

static char service[512];

/* The daemon: it says what it is told to by a FIFO, whose end ends it. */
HELPER(serves) {
    char word;
    int notification = atoi(arguments[0]), orders = open(arguments[1], O_RDONLY | O_CLOEXEC);
    CHECK(orders >= 0);
    while (read(orders, &word, 1) == 1)
        if (word == 'r')
            CHECK_INT(QUIET(rdaemon_ready_fd(notification)), 0);
        else if (word == 'c')
            close(notification);
        else if (word == 'n')
            CHECK_INT(QUIET(rdaemon_ready_fd(notification)), -EBADF);
    return 0;
}

static pid_t supervisor;
static int orders;

/* What the tool says; its exit status is to be that. */
static const char *asked(int status, const char *name, const char *const *arguments) {
    static char text[256];
    struct rdaemon_spawn_config config = {.paths = program_paths(name), .argv = arguments};
    struct rdaemon_communication talk = {.outputs[0] = {.buffer = text, .size = sizeof text - 1}};
    struct rdaemon_exit end;
    config.streams[1].action = RDAEMON_STREAM_PIPE;
    if (status != 0)
        config.streams[2].action = RDAEMON_STREAM_NULL;
    memset(text, 0, sizeof text);
    CHECK_INT(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), PATIENCE_MS,
                          RDAEMON_SIZED(&end), NULL, 0),
              0);
    CHECK_INT(end.returncode, status);
    return text;
}
#define ASKED(status, name, ...) asked(status, name, STRINGS(name, __VA_ARGS__))

static void supervise(int notification_fd) {
    char run[2048], number[8], fifo[512];
    const char *const *supervise_paths = program_paths("s6-supervise");
    program_paths("s6-svwait");
    program_paths("s6-svstat");
    snprintf(service, sizeof service, "%s", make_directory("service", 0755));
    snprintf(fifo, sizeof fifo, "%s", scratch_path("orders"));
    CHECK_INT(mkfifo(fifo, 0600), 0);
    snprintf(number, sizeof number, "%d\n", notification_fd);
    make_file("service/notification-fd", number);
    ssize_t length = readlink("/proc/self/exe", run, sizeof run - 1);
    CHECK(length > 0);
    run[length] = '\0';
    char script[3000];
    snprintf(script, sizeof script, "#!/bin/sh\nexec '%s' --helper serves %d '%s'\n", run,
             notification_fd, fifo);
    CHECK_INT(chmod(make_file("service/run", script), 0755), 0);
    supervisor = fork_child();
    if (supervisor == 0) {
        execv(supervise_paths[0], (char *[]){"s6-supervise", service, NULL});
        _exit(127);
    }
    orders = open(fifo, O_WRONLY | O_CLOEXEC); /* once the daemon has opened it */
    CHECK(orders >= 0);
}

static void end_supervision(void) {
    ASKED(0, "s6-svc", "-xd", service);
    close(orders);
    CHECK_INT(wait_for_exit(supervisor), 0);
}

static const char *up_and_ready(void) {
    return ASKED(0, "s6-svstat", "-o", "up,ready", service);
}

TEST(s6_is_told_that_the_service_is_ready) {
    supervise(3);
    ASKED(0, "s6-svwait", "-u", "-t", "5000", service);
    CHECK_STR(up_and_ready(), "true false\n");
    CHECK_INT(write(orders, "r", 1), 1);
    ASKED(0, "s6-svwait", "-U", "-t", "5000", service);
    CHECK_STR(up_and_ready(), "true true\n");
    end_supervision();
}

TEST(s6_hears_a_service_that_became_ready_before_anybody_waited) {
    supervise(7);
    CHECK_INT(write(orders, "rn", 2), 2); /* the fd is closed by the first */
    ASKED(0, "s6-svwait", "-U", "-t", "5000", service);
    CHECK_STR(up_and_ready(), "true true\n");
    end_supervision();
}

/* That is what the newline is for. */
TEST(s6_takes_no_closed_fd_for_readiness) {
    supervise(3);
    CHECK_INT(write(orders, "c", 1), 1);
    ASKED(99, "s6-svwait", "-U", "-t", "200", service);
    CHECK_STR(up_and_ready(), "true false\n");
    end_supervision();
}

/* ---- systemd's own functions ---- */

static struct {
    int (*notify)(int unset, const char *state);
    int (*with_fds)(pid_t pid, int unset, const char *state, const int *fds, unsigned count);
    int (*barrier)(int unset, uint64_t usec);
    int (*watchdog)(int unset, uint64_t *usec);
} theirs;

static void *their(void *library, const char *name) {
    void *function = dlsym(library, name);
    if (!function)
        SKIP("no %s in libsystemd", name);
    return function;
}

static void load_theirs(void) {
    void *library = dlopen("libsystemd.so.0", RTLD_NOW);
    if (!library)
        SKIP("no libsystemd.so.0");
    *(void **)&theirs.notify = their(library, "sd_notify");
    *(void **)&theirs.with_fds = their(library, "sd_pid_notify_with_fds");
    *(void **)&theirs.barrier = their(library, "sd_notify_barrier");
    *(void **)&theirs.watchdog = their(library, "sd_watchdog_enabled");
}

/* ---- a receiver ---- */

static int bind_at(const char *name, size_t size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int on = 1, server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(size <= sizeof address.sun_path);
    memcpy(address.sun_path, name, size);
    if (*name == '@')
        address.sun_path[0] = '\0';
    if (bind(server, (struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) != 0 ||
        setsockopt(server, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        FAIL("%s: %s", name, strerror(errno));
    return server;
}

struct datagram {
    char text[8192]; /* the assignments, without a newline at the end */
    int fds[256];
    size_t fds_len;
    struct ucred sender;
};

static bool take(int server, struct datagram *datagram) {
    static union {
        struct cmsghdr header;
        char space[4096];
    } control;
    struct iovec data = {.iov_base = datagram->text, .iov_len = sizeof datagram->text - 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    memset(datagram, 0, sizeof *datagram);
    ssize_t length = recvmsg(server, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0)
        return false;
    if (length > 0 && datagram->text[length - 1] == '\n')
        datagram->text[length - 1] = '\0';
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        size_t size = part->cmsg_len - CMSG_LEN(0);
        if (part->cmsg_type == SCM_RIGHTS) {
            memcpy(datagram->fds, CMSG_DATA(part), size);
            datagram->fds_len = size / sizeof(int);
        } else if (part->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&datagram->sender, CMSG_DATA(part), sizeof datagram->sender);
        }
    }
    return true;
}

/* "pipe:w", "chr:r": what an fd is and how it was opened. */
static const char *kind_of_fd(int fd) {
    static char texts[2][32];
    static unsigned turn;
    static const char *const modes[] = {"r", "w", "rw", "?"};
    struct stat status;
    CHECK_INT(fstat(fd, &status), 0);
    char *text = texts[turn++ % 2];
    snprintf(text, sizeof texts[0], "%s:%s",
             S_ISFIFO(status.st_mode)   ? "pipe"
             : S_ISCHR(status.st_mode)  ? "chr"
             : S_ISSOCK(status.st_mode) ? "socket"
                                        : "file",
             modes[fcntl(fd, F_GETFL) & O_ACCMODE]);
    return text;
}

/* The two datagrams that are there must be the same. */
static void check_same_twice(int server) {
    static struct datagram ours, other;
    CHECK(take(server, &ours));
    CHECK(take(server, &other));
    CHECK_STR(ours.text, other.text);
    CHECK_INT(ours.sender.pid, other.sender.pid);
    CHECK_INT(ours.fds_len, other.fds_len);
    for (size_t i = 0; i < ours.fds_len; i++) {
        CHECK_STR(kind_of_fd(ours.fds[i]), kind_of_fd(other.fds[i]));
        close(ours.fds[i]);
        close(other.fds[i]);
    }
    CHECK(!take(server, &other));
}

static int begin(void) {
    const char *path = scratch_path("notify");
    load_theirs();
    int server = bind_at(path, strlen(path));
    CHECK_INT(setenv("NOTIFY_SOCKET", path, 1), 0);
    return server;
}

static int notify(Notification notification) {
    return QUIET(rdaemon_notify(RDAEMON_SIZED(&notification)));
}

/* ---- beside each other ---- */

TEST(systemd_says_the_same) {
    static const struct {
        Notification notification;
        const char *state;
    } pairs[] = {
        {{.flags = RDAEMON_STATE_READY}, "READY=1"},
        {{.flags = RDAEMON_STATE_STOPPING}, "STOPPING=1"},
        {{.flags = RDAEMON_STATE_WATCHDOG}, "WATCHDOG=1"},
        {{.flags = RDAEMON_STATE_WATCHDOG_TRIGGER}, "WATCHDOG=trigger"},
        {{.status = "100 % gr\xc3\xbcn"}, "STATUS=100 % gr\xc3\xbcn"},
        {{.status = ""}, "STATUS="},
        {{.main_pid = 4711}, "MAINPID=4711"},
        {{.error = -ENOENT}, "ERRNO=2"},
        {{.extend_timeout_usec = 5000000}, "EXTEND_TIMEOUT_USEC=5000000"},
        {{.flags = RDAEMON_STATE_READY, .status = "x", .main_pid = 1},
         "READY=1\nSTATUS=x\nMAINPID=1"},
    };
    int server = begin();
    for (size_t i = 0; i < LENGTH(pairs); i++) {
        CHECK_INT(notify(pairs[i].notification), 1);
        CHECK_INT(theirs.notify(0, pairs[i].state), 1);
        check_same_twice(server);
    }
}

TEST(systemd_stores_and_forgets_fds_so) {
    int fds[253];
    int server = begin();
    for (size_t i = 0; i < LENGTH(fds); i++)
        CHECK((fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) > 0);
    for (unsigned count = 1; count <= 253; count += 126) {
        CHECK_INT(QUIET(rdaemon_notify_fds("http", fds, count)), 1);
        CHECK_INT(theirs.with_fds(0, 0, "FDSTORE=1\nFDNAME=http", fds, count), 1);
        check_same_twice(server);
    }
    CHECK_INT(QUIET(rdaemon_notify_fds(NULL, fds, 1)), 1);
    CHECK_INT(theirs.with_fds(0, 0, "FDSTORE=1", fds, 1), 1);
    check_same_twice(server);
    CHECK_INT(QUIET(rdaemon_notify_fds("http", NULL, 0)), 1);
    CHECK_INT(theirs.notify(0, "FDSTOREREMOVE=1\nFDNAME=http"), 1);
    check_same_twice(server);
}

TEST(systemd_s_barrier_is_the_same) {
    int server = begin();
    CHECK_INT(QUIET(rdaemon_notify_barrier(0)), -ETIMEDOUT);
    CHECK_INT(theirs.barrier(0, 0), -ETIMEDOUT);
    check_same_twice(server);
}

static void check_address(const char *name) {
    CHECK_INT(setenv("NOTIFY_SOCKET", name, 1), 0);
    int our_result = notify((Notification){.flags = RDAEMON_STATE_READY});
    int their_result = theirs.notify(0, "READY=1");
    if ((our_result > 0) != (their_result > 0))
        FAIL("%zu bytes, \"%s\": %s, systemd: %s", strlen(name), name, error_name(our_result),
             error_name(their_result));
}

TEST(systemd_takes_the_same_addresses) {
    static const char *const bad[] = {"", "@", "relative", "./x", "/", "/nowhere", "@nowhere"};
    static struct datagram datagram;
    load_theirs();
    for (size_t i = 0; i < LENGTH(bad); i++)
        check_address(bad[i]);
    for (size_t length = 100; length <= 110; length++)
        for (int abstract = 0; abstract < 2; abstract++) {
            char name[256], front[256];
            snprintf(front, sizeof front, "%s/", scratch());
            if (abstract)
                snprintf(front, sizeof front, "@rdaemon-notify-%d-", (int)getpid());
            CHECK(strlen(front) < length);
            memset(name, 'x', length);
            memcpy(name, front, strlen(front));
            name[length] = '\0';
            int server = length <= 108 ? bind_at(name, length) : -1;
            check_address(name);
            while (server >= 0 && take(server, &datagram))
                CHECK_STR(datagram.text, "READY=1");
            close(server);
        }
    CHECK_INT(unsetenv("NOTIFY_SOCKET"), 0);
    CHECK_INT(notify((Notification){.flags = RDAEMON_STATE_READY}), 0);
    CHECK_INT(theirs.notify(0, "READY=1"), 0);
}

TEST(systemd_understands_the_watchdog_s_variables_so) {
    static const char *const usecs[] = {NULL, "1", "30000000", "18446744073709551614",
                                        "0",  "",  "x",        "-1"};
    char own[16];
    load_theirs();
    snprintf(own, sizeof own, "%d", (int)getpid());
    const char *const pids[] = {NULL, own, "1"};
    for (size_t i = 0; i < LENGTH(usecs); i++)
        for (size_t j = 0; j < LENGTH(pids); j++) {
            uint64_t our_usec = 7, their_usec = 7;
            if (usecs[i])
                setenv("WATCHDOG_USEC", usecs[i], 1);
            else
                unsetenv("WATCHDOG_USEC");
            if (pids[j])
                setenv("WATCHDOG_PID", pids[j], 1);
            else
                unsetenv("WATCHDOG_PID");
            int our_result = QUIET(rdaemon_watchdog(&our_usec));
            int their_result = theirs.watchdog(0, &their_usec);
            if ((our_result > 0) != (their_result > 0))
                FAIL("\"%s\" for %s: %d, systemd: %d", usecs[i] ? usecs[i] : "unset",
                     pids[j] ? pids[j] : "any", our_result, their_result);
            CHECK_INT(our_usec, their_usec);
        }
}

/* ---- systemd-notify ---- */

static bool has_line(const char *text, const char *line) {
    size_t length = strlen(line);
    for (const char *place = text; place; place = strchr(place, '\n')) {
        place += *place == '\n';
        if (strncmp(place, line, length) == 0 && (place[length] == '\n' || place[length] == '\0'))
            return true;
    }
    return false;
}

TEST(systemd_notify_says_the_same) {
    static struct datagram ours, other;
    char text[8192];
    const char *path = scratch_path("notify");
    program_paths("systemd-notify");
    int server = bind_at(path, strlen(path));
    CHECK_INT(setenv("NOTIFY_SOCKET", path, 1), 0);
    CHECK_INT(notify((Notification){
                  .flags = RDAEMON_STATE_READY, .main_pid = getpid(), .status = "serves 3"}),
              1);
    CHECK(take(server, &ours));
    char pid[32];
    snprintf(pid, sizeof pid, "--pid=%d", (int)getpid());
    ASKED(0, "systemd-notify", "--no-block", "--ready", "--status=serves 3", pid);
    CHECK(take(server, &other));
    snprintf(text, sizeof text, "%s", ours.text);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
        if (!has_line(other.text, line))
            FAIL("systemd-notify does not say \"%s\", but: %s", line, other.text);
    CHECK_INT(lines, 3);
    CHECK_INT(strlen(ours.text), strlen(other.text));
}
