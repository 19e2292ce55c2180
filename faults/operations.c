#include "operations.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "controlled.h"
#include "failing.h"
#include "listening.h"
#include "receiver.h"
#include "sandbox.h"
#include "tap.h"
#include "trace.h"

struct scene *scene;

/* What the caller has of the latest operation. */
static struct rdaemon_daemon the_daemon;
static struct rdaemon_child child;
static struct rdaemon_pidfile the_pidfile;

/* A path that stays. */
static const char *path(const char *name) {
    return strdup(scratch_path(name));
}

/* ---- what a process is ---- */

static void add(char *text, size_t size, const char *format, ...) {
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, size - length, format, arguments);
    va_end(arguments);
}

/* Between the streams and those that were asked for it is the library's own, whose numbers tell
 * nothing. */
static void add_fds(char *text, size_t size) {
    for (int fd = 0; fd < 64; fd++) {
        struct stat is;
        if (fstat(fd, &is) == 0)
            add(text, size, "fd %d %o %lx %x %x\n", fd > 2 && fd < 20 ? -1 : fd, is.st_mode,
                (unsigned long)is.st_rdev, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    }
}

static void add_signals(char *text, size_t size) {
    unsigned long mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    for (int number = 1; number <= 64; number++) {
        struct {
            void *handler;
            unsigned long rest[3];
        } action = {0};
        syscall(SYS_rt_sigaction, number, NULL, &action, 8);
        if (action.handler != SIG_DFL)
            add(text, size, "signal %d %s\n", number, action.handler == SIG_IGN ? "-" : "caught");
    }
    add(text, size, "mask %lx\n", mask);
}

static void add_ids(char *text, size_t size) {
    uid_t uids[3];
    gid_t gids[3], groups[32];
    getresuid(&uids[0], &uids[1], &uids[2]);
    getresgid(&gids[0], &gids[1], &gids[2]);
    add(text, size, "ids %u %u %u, %u %u %u,", uids[0], uids[1], uids[2], gids[0], gids[1],
        gids[2]);
    int count = getgroups(32, groups);
    for (int i = 0; i < count; i++)
        add(text, size, " %u", groups[i]);
}

static void add_limits(char *text, size_t size) {
    static const int resources[] = {RLIMIT_CPU, RLIMIT_NOFILE};
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
        struct rlimit limit;
        getrlimit(resources[i], &limit);
        add(text, size, "\nlimit %lx %lx", limit.rlim_cur, limit.rlim_max);
    }
}

/* In either of the ways that rdaemon_prevent_core() has. */
static bool dumps_core(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    return limit.rlim_max > 1 || (limit.rlim_max == 0 && prctl(PR_GET_DUMPABLE) != 0);
}

/* All by system calls, as a new root directory has no /proc. */
static void describe(char *text, size_t size) {
    struct stat root, cwd;
    int death = 0;
    mode_t mask = umask(0);
    umask(mask);
    stat("/", &root);
    stat(".", &cwd);
    prctl(PR_GET_PDEATHSIG, &death);
    text[0] = '\0';
    add_fds(text, size);
    add_signals(text, size);
    add_ids(text, size);
    add_limits(text, size);
    add(text, size, "\numask %o, chroot %d, cwd %d, leads %d %d, nnp %d, core %d, death %d\n", mask,
        root.st_ino != 2, cwd.st_ino == root.st_ino, getsid(0) == getpid(), getpgrp() == getpid(),
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), dumps_core(), death);
}

/* ---- daemons ---- */

void scene_new(void) {
    scene = shared_memory(sizeof *scene);
}

/* No system call but futex(2), wherever the operation has come to. */
static void live(void) {
    int pid = getpid();
    for (;;) {
        unsigned word = scene->word;
        scene->answered_by = pid;
        scene->answered = word;
        if (scene->over)
            return;
        syscall(SYS_futex, &scene->word, FUTEX_WAIT, word, NULL, NULL, 0);
    }
}

static void call_daemons(void) {
    scene->word++;
    syscall(SYS_futex, &scene->word, FUTEX_WAKE, 1 << 20, NULL, NULL, 0);
}

bool daemon_answers(pid_t pid) {
    call_daemons();
    while (scene->answered != scene->word || scene->answered_by != pid) {
        char state = process_state(pid);
        if (state == 'X' || state == 'Z')
            return false;
        usleep(200);
    }
    return true;
}

void end_daemons(void) {
    scene->over = true;
    call_daemons();
}

/* ---- daemonize ---- */

static int log_server;

static void make_places(void) {
    make_directory("root", 0755);
    make_directory("root/work", 0755);
    make_directory("run", 0755);
    make_file("input", "");
    CHECK_INT(chown(scratch_path("run"), TEST_UID, TEST_GID), 0);
    log_server = listen_at(scratch_path("log"));
}

static const int32_t preserved[] = {40};

static void open_preserved(void) {
    CHECK_INT(dup2(0, preserved[0]), preserved[0]);
}

/* Every option that adds something; those that leave something out would leave calls out. */
static struct rdaemon_config every_option(void) {
    static const uint32_t groups[] = {TEST_GID, 5};
    static const struct rdaemon_limit limits[] = {
        {.resource = RLIMIT_CPU, .soft = 1000, .hard = RDAEMON_UNLIMITED},
        {.resource = RLIMIT_NOFILE, .soft = 128, .hard = 256}};
    static const struct rdaemon_signal_action map[] = {
        {.signal = SIGTERM, .action = RDAEMON_SIGNAL_TERMINATE},
        {.signal = SIGUSR1, .action = RDAEMON_SIGNAL_IGNORE}};
    return (struct rdaemon_config){
        .flags = RDAEMON_NOTIFY_READY | RDAEMON_RESET_SIGNALS | RDAEMON_UNDUMPABLE |
                 RDAEMON_SET_NO_NEW_PRIVS,
        .detach = RDAEMON_DETACH_YES,
        .working_directory = "/work",
        .chroot_directory = path("root"),
        .umask = 027,
        .pidfile = path("run/pid"),
        .pidfile_options = {.flags = RDAEMON_PIDFILE_OWNER,
                            .mode = 0600,
                            .uid = TEST_UID,
                            .gid = TEST_GID},
        .files_preserve = preserved,
        .files_preserve_len = 1,
        .streams = {{.action = RDAEMON_STREAM_FILE, .path = path("input")},
                    {.action = RDAEMON_STREAM_SYSLOG},
                    {.action = RDAEMON_STREAM_FILE, .path = path("errors")}},
        .signal_map = map,
        .signal_map_len = 2,
        .limits = limits,
        .limits_len = 2,
        .identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS,
                     .uid = TEST_UID,
                     .gid = TEST_GID,
                     .groups = groups,
                     .groups_len = 2},
        .syslog = {.ident = "faults", .path = path("log")},
    };
}

static _Noreturn void be_the_daemon(void) {
    rdaemon_ready(the_daemon.ready_fd);
    trace_return(0);
    describe(scene->state, sizeof scene->state);
    if (write(1, "served\n", 7) != 7)
        _exit(1);
    live();
    rdaemon_pidfile_remove(RDAEMON_SIZED(&the_daemon.pidfile));
    _exit(0);
}

static void daemonize_as(const struct rdaemon_config *config, struct outcome *outcome) {
    outcome->result = rdaemon_daemonize(RDAEMON_SIZED(config), RDAEMON_SIZED(&the_daemon),
                                        RDAEMON_SIZED(&outcome->status));
    if (outcome->result == 0)
        be_the_daemon();
    if (outcome->result < 0)
        return;
    int ready = rdaemon_wait_ready(the_daemon.ready_fd, the_daemon.pidfd, -1,
                                   RDAEMON_SIZED(&outcome->status));
    if (ready < 0)
        outcome->result = ready;
}

static void daemonize(struct outcome *outcome) {
    struct rdaemon_config config = every_option();
    daemonize_as(&config, outcome);
}

static void daemonize_classically(struct outcome *outcome) {
    struct rdaemon_config config = every_option();
    config.flags |= RDAEMON_CLASSIC_FORK;
    daemonize_as(&config, outcome);
}

static void daemonize_in_time(struct outcome *outcome) {
    struct rdaemon_config config = every_option();
    config.timeout_ms = 10000;
    daemonize_as(&config, outcome);
}

/* A wait for readiness that fails leaves the daemon alone. */
static void release_daemon(struct outcome *outcome) {
    if (outcome->status.step == RDAEMON_STEP_READY && the_daemon.pidfd >= 0) {
        struct pollfd end = {.fd = the_daemon.pidfd, .events = POLLIN};
        syscall(SYS_pidfd_send_signal, the_daemon.pidfd, SIGKILL, NULL, 0);
        poll(&end, 1, -1);
        scene->left = true;
    }
    if (the_daemon.pidfd > 0)
        close(the_daemon.pidfd);
    if (the_daemon.ready_fd > 0)
        close(the_daemon.ready_fd);
}

static void log_arrives(void) {
    CHECK(strstr(received(log_server), "faults: served") != NULL);
}

/* ---- stop, restart ---- */

static bool is_old;

static int work(void *context, const struct rdaemon_daemon *daemon) {
    (void)context;
    rdaemon_ready(daemon->ready_fd);
    if (!is_old)
        trace_return(0);
    describe(scene->state, sizeof scene->state);
    live();
    return 0;
}

static struct rdaemon_config control_config(void) {
    return (struct rdaemon_config){.flags = RDAEMON_NOTIFY_READY, .pidfile = path("pid")};
}

static const struct rdaemon_worker worker = {.run = work};
enum { TERM_MS = 1500, KILL_MS = 1500 };

static void start_old(void) {
    struct rdaemon_config config = control_config();
    is_old = true;
    CHECK_INT(rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                    RDAEMON_SIZED(&the_daemon), NULL, 0) > 0,
              1);
    is_old = false;
    close(the_daemon.pidfd);
    the_daemon.pidfd = -1;
    scene->old = the_daemon.pid;
    CHECK(daemon_answers(the_daemon.pid));
}

static void stop(struct outcome *outcome) {
    outcome->result =
        rdaemon_control_stop(path("pid"), TERM_MS, KILL_MS, RDAEMON_SIZED(&outcome->status));
}

static void check_stopped(struct outcome *outcome) {
    bool stopped =
        outcome->result == RDAEMON_CONTROL_STOPPED || outcome->result == RDAEMON_CONTROL_KILLED;
    if (stopped)
        CHECK(!is_alive(scene->old));
    if (outcome->result >= 0 && outcome->result != RDAEMON_CONTROL_STOPPED)
        snprintf(scene->ended, sizeof scene->ended, "%d", outcome->result);
}

static void restart(struct outcome *outcome) {
    struct rdaemon_config config = control_config();
    outcome->result =
        rdaemon_control_restart(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker), TERM_MS, KILL_MS,
                                RDAEMON_SIZED(&the_daemon), RDAEMON_SIZED(&outcome->status));
}

static void release_pidfd(struct outcome *outcome) {
    if (outcome->result > 0 && the_daemon.pidfd > 0)
        close(the_daemon.pidfd);
}

/* ---- spawn ---- */

/* It lives until the caller has looked for it. */
HELPER(describe_itself) {
    char text[4096];
    describe(text, sizeof text);
    bool is_written = write(1, text, strlen(text)) >= 0;
    return !is_written || read(0, text, 1) != 0;
}

static int agree(void *context) {
    (void)context;
    return 0;
}

static void spawn_as(uint32_t flags, bool as_user, int (*hook)(void *), struct outcome *outcome) {
    static const char *argv[] = {"program", "--helper", "describe_itself", NULL};
    const char *paths[] = {"/nonexistent", path("program"), NULL};
    struct rdaemon_spawn_config config;
    many_options(&config, flags);
    config.argv = argv;
    config.paths = paths;
    config.chroot_directory = "/";
    config.hook = hook;
    if (as_user)
        config.identity = (struct rdaemon_identity){
            .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS,
            .uid = TEST_UID,
            .gid = TEST_GID};
    outcome->result = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child),
                                    RDAEMON_SIZED(&outcome->status));
}

static void spawn(struct outcome *outcome) {
    spawn_as(0, false, NULL, outcome);
}

static void spawn_copy(struct outcome *outcome) {
    spawn_as(0, true, NULL, outcome);
}

static void spawn_fork(struct outcome *outcome) {
    spawn_as(0, true, agree, outcome);
}

static void spawn_detached(struct outcome *outcome) {
    spawn_as(RDAEMON_SPAWN_DETACHED, false, NULL, outcome);
}

static void spawn_detached_fork(struct outcome *outcome) {
    spawn_as(RDAEMON_SPAWN_DETACHED, true, agree, outcome);
}

/* fd 20 and above are passed, and opened where nobody counts. */
static void open_passed(void) {
    struct rdaemon_spawn_config config;
    many_options(&config, 0);
}

/* How it ended is told by the child's own wait status, or by nothing. */
static void release_child(struct outcome *outcome) {
    struct rdaemon_exit end;
    if (outcome->result <= 0)
        return;
    close(child.fds[0]);
    child.fds[0] = -1;
    int result = rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end));
    if (result == 0 && end.returncode != 0)
        snprintf(scene->ended, sizeof scene->ended, "%d", end.returncode);
    rdaemon_child_close(RDAEMON_SIZED(&child));
    close(many_options_pipe);
}

/* ---- communicate ---- */

static struct rdaemon_communication talk;
static char heard[64];

/* With standard error closed already, no two ends come at a time. */
static void start_cat(void) {
    static const char *const argv[] = {"/bin/sh", "-c", "exec 2>&-; exec cat", NULL};
    struct rdaemon_spawn_config config = {.argv = argv,
                                          .flags = RDAEMON_SPAWN_PIDFD,
                                          .streams = {{.action = RDAEMON_STREAM_PIPE},
                                                      {.action = RDAEMON_STREAM_PIPE},
                                                      {.action = RDAEMON_STREAM_PIPE}}};
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0) > 0);
    struct pollfd closed = {.fd = child.fds[2], .events = POLLIN};
    CHECK_INT(poll(&closed, 1, -1), 1);
    talk = (struct rdaemon_communication){
        .input = "said\n", .input_len = 5, .outputs[0] = {.buffer = heard, .size = sizeof heard}};
}

static void communicate(struct outcome *outcome) {
    struct rdaemon_exit end;
    outcome->call = "communicate";
    outcome->result = rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&talk), 60000);
    if (outcome->result < 0)
        return;
    outcome->call = "wait";
    outcome->result = rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end));
}

/* A call that failed is to be repeated, and goes on where it was. */
static void hear_the_rest(struct outcome *outcome) {
    struct rdaemon_exit end;
    if (outcome->result < 0)
        CHECK_INT(rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&talk), 60000), 0);
    int result = rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end));
    if (result == 0)
        CHECK_INT(end.returncode, 0);
    else
        CHECK_INT(result, -ECHILD);
    /* A program need not take its input. */
    CHECK_INT(talk.outputs[0].len, talk.input_sent);
    CHECK_INT(memcmp(heard, "said\n", talk.input_sent), 0);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
}

/* ---- pidfile ---- */

static void pidfile_cycle(struct outcome *outcome) {
    struct rdaemon_pidfile_state state;
    const char *name = path("pid");
    the_pidfile = (struct rdaemon_pidfile){0};
    outcome->call = "read";
    outcome->result = rdaemon_pidfile_read(name, RDAEMON_SIZED(&state));
    if (outcome->result < 0)
        return;
    outcome->call = NULL;
    outcome->result = rdaemon_pidfile_open(name, NULL, 0, RDAEMON_SIZED(&the_pidfile),
                                           RDAEMON_SIZED(&outcome->status));
    if (outcome->result < 0)
        return;
    outcome->call = "write";
    outcome->result = rdaemon_pidfile_write(RDAEMON_SIZED(&the_pidfile));
    if (outcome->result < 0)
        return;
    outcome->call = "remove";
    outcome->result = rdaemon_pidfile_remove(RDAEMON_SIZED(&the_pidfile));
    if (outcome->result < 0)
        return;
    outcome->call = "close";
    outcome->result = rdaemon_pidfile_close(RDAEMON_SIZED(&the_pidfile));
}

static void close_pidfile_of_failure(struct outcome *outcome) {
    scene->left = outcome->call != NULL;
    if (outcome->result < 0)
        rdaemon_pidfile_close(RDAEMON_SIZED(&the_pidfile));
}

/* ---- listen ---- */

static void be_offered(void) {
    offer_listeners(2, "web:admin");
}

static void be_connected(void) {
    be_started_by_inetd(unix_connection(SOCK_STREAM));
}

static int visit(void *context, const struct rdaemon_socket *socket) {
    *(int *)context +=
        socket->kind == RDAEMON_SOCKET_LISTENER || socket->kind == RDAEMON_SOCKET_CONNECTION;
    return 0;
}

/* Once they are collected, an error does not undo it. */
static void uncollect(struct outcome *outcome) {
    int visited = 0;
    if (outcome->result < 0 && rdaemon_listen(NULL, 0, visit, &visited) == -EALREADY)
        for (int fd = 3; fd < 5; fd++)
            CHECK_INT(fcntl(fd, F_SETFD, 0), 0);
}

static void listen_for(uint32_t flags, int expected, struct outcome *outcome) {
    int visited = 0;
    outcome->call = "listen";
    outcome->result = rdaemon_listen(NULL, flags, visit, &visited);
    if (outcome->result > 0 && visited != expected)
        outcome->result = -EBADMSG;
}

static void listen_systemd(struct outcome *outcome) {
    listen_for(0, 2, outcome);
}

static void listen_inetd(struct outcome *outcome) {
    listen_for(RDAEMON_LISTEN_INETD, 1, outcome);
}

/* ---- notify ---- */

pid_t manager;

/* A manager that takes what comes, and closes the fds that come along. */
static void manage(int server) {
    for (;;) {
        char bytes[4096], control[256];
        struct iovec data = {bytes, sizeof bytes};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        recvmsg(server, &message, MSG_CMSG_CLOEXEC);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_type == SCM_RIGHTS)
                close(*(int *)CMSG_DATA(c));
    }
}

static void start_manager(void) {
    int server = listen_at(scratch_path("notify"));
    manager = fork_child();
    if (manager == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        manage(server);
    }
    close(server);
}

static void be_managed(void) {
    CHECK_INT(setenv("NOTIFY_SOCKET", path("notify"), 1), 0);
}

static void notify(struct outcome *outcome) {
    struct rdaemon_notification notification = {.flags = RDAEMON_STATE_READY, .status = "serves"};
    int32_t fd = 0;
    outcome->call = "notify";
    outcome->result = rdaemon_notify(RDAEMON_SIZED(&notification));
    if (outcome->result < 0)
        return;
    outcome->call = "notify_fds";
    outcome->result = rdaemon_notify_fds("input", &fd, 1);
    if (outcome->result < 0)
        return;
    outcome->call = "notify_barrier";
    outcome->result = rdaemon_notify_barrier(60000);
}

static void nothing(struct outcome *outcome) {
    (void)outcome;
}

#define DAEMONIZE(label, function)                                                                 \
    {                                                                                              \
        .name = label, .processes = "1 intermediate, 1.1 daemon, 1.1.1 pump-maker, 1.1.1.1 pump",  \
        .prepare = make_places, .settle = open_preserved, .run = function,                         \
        .release = release_daemon, .look = log_arrives, .makes_daemon = true, .pidfile = "run/pid" \
    }

#define SPAWN(label, who, function)                                                                \
    {                                                                                              \
        .name = label, .processes = who, .settle = open_passed, .run = function,                   \
        .release = release_child, .makes_program = true                                            \
    }

const struct operation operations[] = {
    DAEMONIZE("daemonize", daemonize),
    DAEMONIZE("daemonize-classic", daemonize_classically),
    DAEMONIZE("daemonize-in-time", daemonize_in_time),
    SPAWN("spawn", "1 probe, 2 child", spawn),
    SPAWN("spawn-copy", "1 probe, 2 child", spawn_copy),
    SPAWN("spawn-fork", "1 child", spawn_fork),
    SPAWN("spawn-detached", "1 probe, 2 intermediate, 2.1 child", spawn_detached),
    SPAWN("spawn-detached-fork", "1 intermediate, 1.1 child", spawn_detached_fork),
    {.name = "communicate",
     .processes = "",
     .settle = start_cat,
     .run = communicate,
     .release = hear_the_rest,
     .undoes_settle = true},
    {.name = "stop",
     .processes = "1.1 daemon",
     .begin = start_old,
     .run = stop,
     .release = check_stopped,
     .pidfile = "pid"},
    {.name = "restart",
     .processes = "1.1 old-daemon, 2 intermediate, 2.1 daemon",
     .begin = start_old,
     .makes_daemon = true,
     .run = restart,
     .release = release_pidfd,
     .pidfile = "pid"},
    {.name = "pidfile",
     .processes = "",
     .run = pidfile_cycle,
     .release = close_pidfile_of_failure,
     .pidfile = "pid"},
    {.name = "listen",
     .processes = "",
     .settle = be_offered,
     .run = listen_systemd,
     .release = uncollect,
     .changes_caller = true},
    {.name = "listen-inetd",
     .processes = "",
     .settle = be_connected,
     .run = listen_inetd,
     .release = nothing,
     .changes_caller = true},
    {.name = "notify",
     .processes = "",
     .prepare = start_manager,
     .settle = be_managed,
     .run = notify,
     .release = nothing},
    {0},
};

const struct operation *operation_named(const char *name) {
    for (const struct operation *operation = operations; operation->name; operation++)
        if (strcmp(operation->name, name) == 0)
            return operation;
    FAIL("no operation is called %s", name);
}
