/* Whether to fork: detach yes, no and auto, and what counts as evidence of a service manager. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "listening.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

static const struct rdaemon_config automatic;

/* What systemd does before it executes a service with one socket. */
static void be_activated(void) {
    forget_managers();
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    set_number("LISTEN_PID", (unsigned long long)getpid());
    set_number("LISTEN_FDS", 1);
}

static void is_a_new_process(const struct start *start) {
    CHECK_INT(start->daemon.detached, 1);
}

static void expect_a_fork(const struct rdaemon_config *config) {
    struct start started;
    adopt_orphans();
    start_well(&started, config, is_a_new_process);
    CHECK_INT(started.daemon.detached, 1);
    lived(&started);
}

static pid_t caller;
static pid_t callers_session;

static void is_the_caller(const struct start *start) {
    CHECK_INT(getpid(), caller);
    CHECK_INT(getsid(0), callers_session);
    CHECK_INT(start->result, 0);
    CHECK_INT(start->daemon.detached, 0);
    CHECK_INT(start->daemon.pid, caller);
    CHECK_INT(start->daemon.pidfd, -1);
    CHECK_INT(start->status.pid, caller);
    CHECK_INT(first_child_of(getpid()), 0);
    char cwd[64];
    CHECK_STR(getcwd(cwd, sizeof cwd), "/"); /* the rest of the steps is done */
}

/* The last word of a case, which is a daemon from here on. */
static void expect_no_fork(const struct rdaemon_config *config) {
    struct start started;
    caller = getpid();
    callers_session = getsid(0);
    start(&started, config, is_the_caller);
    CHECK_INT(started.result, 0);
}

static void expect_hints(int expected) {
    CHECK_REFUSED(rdaemon_started_by(), expected);
}

/* ---- yes and no ---- */

TEST(an_ordinary_program_forks) {
    forget_managers();
    expect_hints(0);
    expect_a_fork(&automatic);
}

TEST(yes_forks) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_YES};
    forget_managers();
    expect_a_fork(&config);
}

TEST(no_does_not_fork) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_NO};
    forget_managers();
    expect_no_fork(&config);
}

static const char *expected_targets[3];

static void has_inherited_its_streams(const struct start *start) {
    (void)start;
    for (int fd = 0; fd < 3; fd++)
        CHECK_STR(fd_target(0, fd), expected_targets[fd]);
    CHECK_STR(open_fds(0), "0 1 2"); /* swept all the same */
}

TEST(without_a_fork_the_streams_are_inherited) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_NO};
    static const char *const names[] = {"in", "out", "err"};
    for (int fd = 0; fd < 3; fd++) {
        int file = open(make_file(names[fd], ""), O_RDWR);
        dup2(file, fd);
        close(file);
        expected_targets[fd] = scratch_path(names[fd]);
    }
    CHECK(dup(0) >= 3);
    struct start started;
    start(&started, &config, has_inherited_its_streams);
    CHECK_INT(started.result, 0);
}

static void has_dev_null_as_asked(const struct start *start) {
    (void)start;
    CHECK_STR(fd_target(0, 1), "/dev/null");
}

TEST(without_a_fork_an_explicit_stream_still_counts) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_NO,
                                    .streams[1] = {.action = RDAEMON_STREAM_NULL}};
    dup2(open(make_file("out", ""), O_RDWR), 1);
    struct start started;
    start(&started, &config, has_dev_null_as_asked);
    CHECK_INT(started.result, 0);
}

static void holds_the_lock(const struct start *start) {
    is_the_caller(start);
    CHECK_INT(start->daemon.pidfile.writer, getpid());
    live_on(start);
}

TEST(without_a_fork_the_pidfile_works) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_NO, .pidfile = scratch_path("pid")};
    pid_t pid = fork_child();
    if (pid == 0) {
        struct start started;
        caller = getpid();
        callers_session = getsid(0);
        start(&started, &config, holds_the_lock);
    }
    struct rdaemon_pidfile_state state;
    while (rdaemon_pidfile_read(config.pidfile, RDAEMON_SIZED(&state)) != RDAEMON_PIDFILE_RUNNING)
        CHECK(process_state(pid) != 'Z');
    CHECK_INT(state.pid, pid);
    kill(pid, SIGTERM);
    CHECK_INT(wait_for_exit(pid), SIGTERM);
    CHECK_STR(tree(scratch()), "");
}

TEST(without_a_fork_a_failure_is_returned_and_nothing_is_left) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_NO,
                                    .pidfile = scratch_path("pid"),
                                    .chroot_directory = scratch_path("missing")};
    struct start started;
    start(&started, &config, NULL);
    CHECK_INT(started.status.step, RDAEMON_STEP_CHROOT);
    CHECK_INT(started.result, -ENOENT);
    CHECK_STR(tree(scratch()), "");
    CHECK_INT(first_child_of(getpid()), 0);
}

/* ---- activation by systemd ---- */

TEST(listen_pid_is_evidence_of_activation) {
    be_activated();
    expect_hints(RDAEMON_STARTED_ACTIVATED | RDAEMON_STARTED_BY_MANAGER |
                 RDAEMON_STARTED_LISTEN_PID);
    expect_no_fork(&automatic);
}

TEST(a_stale_listen_pid_is_no_evidence) {
    be_activated();
    set_number("LISTEN_PID", (unsigned long long)getppid());
    expect_hints(0);
    expect_a_fork(&automatic);
}

TEST(a_malformed_listen_pid_is_no_evidence) {
    const char *const forms[] = {"%dx", "%d ", "-%d", "0x%x", "4294967296%d"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char text[32];
        be_activated();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, forms[i], (int)getpid());
#pragma GCC diagnostic pop
        setenv("LISTEN_PID", text, 1);
        CHECK_INT(rdaemon_started_by() & RDAEMON_STARTED_ACTIVATED, 0);
    }
    setenv("LISTEN_PID", "", 1);
    CHECK_INT(rdaemon_started_by() & RDAEMON_STARTED_ACTIVATED, 0);
}

TEST(the_child_of_an_activated_program_is_not_activated) {
    be_activated();
    IN_CHILD {
        expect_hints(0);
        expect_a_fork(&automatic);
    }
}

TEST(the_environment_of_a_set_uid_program_is_not_believed) {
    REQUIRE_ROOT();
    for (int groups = 0; groups < 2; groups++)
        IN_CHILD {
            be_activated();
            set_number("SYSTEMD_EXEC_PID", (unsigned long long)getpid());
            CHECK_INT(groups ? setresgid(1000, 0, 0) : setresuid(1000, 0, 0), 0);
            CHECK_INT(rdaemon_started_by() & ~RDAEMON_STARTED_STDIN_IS_SOCKET, 0);
            expect_a_fork(&automatic);
        }
}

/* The inode of a pidfd, where pidfds live on a file system of their own. */
TEST(a_matching_listen_pidfdid_is_evidence) {
    be_activated();
    set_number("LISTEN_PIDFDID", own_pidfd_inode());
    CHECK(rdaemon_started_by() & RDAEMON_STARTED_ACTIVATED);
    expect_no_fork(&automatic);
}

TEST(a_listen_pidfdid_of_another_process_is_none) {
    be_activated();
    set_number("LISTEN_PIDFDID", own_pidfd_inode() + 1);
    expect_hints(0);
    expect_a_fork(&automatic);
}

static void expect_already(struct rdaemon_config config) {
    struct rdaemon_status status;
    struct rdaemon_daemon daemon;
    config.detach = RDAEMON_DETACH_YES;
    CHECK_REFUSED(rdaemon_check(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status)), -EALREADY);
    CHECK_REFUSED(
        rdaemon_daemonize(RDAEMON_SIZED(&config), RDAEMON_SIZED(&daemon), RDAEMON_SIZED(&status)),
        -EALREADY);
    CHECK_INT(status.step, RDAEMON_STEP_CONFIG);
    CHECK_INT(status.subject, RDAEMON_STEP_DOUBLE_FORK);
    CHECK_INT(status.error, -EALREADY);
}

TEST(yes_is_refused_when_activated) {
    be_activated();
    expect_already(automatic);
}

TEST(yes_is_refused_when_started_by_inetd) {
    forget_managers();
    expect_already((struct rdaemon_config){.flags = RDAEMON_INETD});
}

TEST(yes_when_activated_may_be_insisted_on) {
    struct rdaemon_config config = {.flags = RDAEMON_DETACH_ACTIVATED,
                                    .detach = RDAEMON_DETACH_YES};
    be_activated();
    CHECK_INT(rdaemon_check(RDAEMON_SIZED(&config), NULL, 0), 0);
    expect_a_fork(&config);
}

TEST(insisting_changes_nothing_about_auto) {
    struct rdaemon_config config = {.flags = RDAEMON_DETACH_ACTIVATED};
    be_activated();
    expect_no_fork(&config);
}

/* ---- other managers ---- */

TEST(inetd_counts_as_activation) {
    struct rdaemon_config config = {.flags = RDAEMON_INETD};
    forget_managers();
    expect_no_fork(&config);
}

TEST(systemd_exec_pid_is_evidence_of_a_manager) {
    forget_managers();
    set_number("SYSTEMD_EXEC_PID", (unsigned long long)getpid());
    expect_hints(RDAEMON_STARTED_BY_MANAGER | RDAEMON_STARTED_SYSTEMD_EXEC_PID);
    expect_no_fork(&automatic);
}

TEST(a_manager_that_did_not_activate_allows_yes) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_YES};
    forget_managers();
    set_number("SYSTEMD_EXEC_PID", (unsigned long long)getpid());
    expect_a_fork(&config);
}

TEST(an_inherited_systemd_exec_pid_is_no_evidence) {
    forget_managers();
    set_number("SYSTEMD_EXEC_PID", (unsigned long long)getppid());
    expect_hints(0);
    expect_a_fork(&automatic);
}

TEST(hints_are_reported_but_decide_nothing) {
    forget_managers();
    setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
    expect_hints(RDAEMON_STARTED_NOTIFY_SOCKET);
    setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef", 1);
    expect_hints(RDAEMON_STARTED_NOTIFY_SOCKET | RDAEMON_STARTED_INVOCATION_ID);
    setenv("XPC_SERVICE_NAME", "org.example.service", 1);
    setenv("XPC_FLAGS", "0x0", 1);
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_INT(dup2(fds[0], 0), 0);
    expect_hints(RDAEMON_STARTED_NOTIFY_SOCKET | RDAEMON_STARTED_INVOCATION_ID |
                 RDAEMON_STARTED_XPC_SERVICE | RDAEMON_STARTED_STDIN_IS_SOCKET);
    expect_a_fork(&automatic);
}

/* ---- a parent that is init ---- */

static void mount_own_proc(void) {
    if (mount("proc", "/proc", "proc", 0, NULL) != 0)
        SKIP("needs a /proc of its own: %s", strerror(errno));
}

/* Runs `body` as the child of a process 1 with that name. */
static void run_below(const char *name, void (*body)(void)) {
    REQUIRE_ROOT();
    forget_managers();
    enter_mount_namespace();
    if (unshare(CLONE_NEWPID) != 0)
        SKIP("needs a pid namespace: %s", strerror(errno));
    IN_CHILD {
        mount_own_proc();
        prctl(PR_SET_NAME, name);
        IN_CHILD {
            CHECK_INT(getppid(), 1);
            body();
        }
    }
}

static void leads_its_session_and_starts(void) {
    CHECK(setsid() > 0);
    expect_hints(RDAEMON_STARTED_BY_MANAGER | RDAEMON_STARTED_PARENT_IS_INIT);
    expect_no_fork(&automatic);
}

TEST(the_child_of_an_init_was_started_by_a_manager) {
    run_below("init", leads_its_session_and_starts);
}

static void is_an_orphan_and_starts(void) {
    expect_hints(0);
    expect_a_fork(&automatic);
}

TEST(an_orphan_of_somebody_elses_session_was_not) {
    run_below("init", is_an_orphan_and_starts);
}

static void leads_its_session_and_forks(void) {
    CHECK(setsid() > 0);
    expect_hints(0);
    expect_a_fork(&automatic);
}

TEST(a_process_1_that_is_no_init_is_no_manager) {
    run_below("shell", leads_its_session_and_forks);
}
