/* A program that is started as a daemon: nobody's child but the reaper's, in a session that it does
 * not lead. */
#include "rdaemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

HELPER(linger) {
    while (pause() != 0)
        ;
    return 0;
}

/* Each case adopts orphans, so that it is the parent of a detached program in the end. */
#define DETACHED .flags = RDAEMON_SPAWN_DETACHED

/* ---- where it belongs ---- */

TEST_BOTH_WAYS(a_detached_program_is_in_a_session_that_it_does_not_lead) {
    struct spawned spawned;
    report_and_stop(&spawned, &(Config){DETACHED});
    CHECK_INT(told_pid("pid"), spawned.result);
    CHECK(told_pid("sid") != getsid(0));
    CHECK(told_pid("sid") != spawned.result);
    CHECK_STR(told("pgid"), told("sid"));
    CHECK_INT(process_state(told_pid("sid")), 'X');
    kill_and_reap(&spawned);
}

TEST_BOTH_WAYS(a_detached_program_is_the_reaper_s_child) {
    struct report {
        pid_t pid, caller;
    } *report = shared_memory(sizeof *report);
    pid_t reaper = getpid();
    IN_CHILD {
        struct spawned spawned;
        report->caller = getpid();
        report->pid = spawn_well(&spawned, &(Config){DETACHED, THE_HELPER(linger)});
        CHECK_INT(stat_field(report->pid, 4), reaper);
        CHECK_INT(first_child_of(getpid()), 0);
        CHECK_INT(waitpid(-1, NULL, WNOHANG | __WALL), -1);
        CHECK_INT(errno, ECHILD);
    }
    CHECK_INT(first_child_of(reaper), report->pid);
    CHECK_INT(kill(report->pid, SIGKILL), 0);
    CHECK_INT(wait_for_exit(report->pid), SIGKILL);
    CHECK_INT(first_child_of(reaper), 0);
}

TEST_BOTH_WAYS(a_detached_program_leaves_nothing_beside_it) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){DETACHED, THE_HELPER(linger)});
    CHECK_INT(first_child_of(getpid()), spawned.result);
    kill_and_reap(&spawned);
    CHECK_INT(first_child_of(getpid()), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST_BOTH_WAYS(a_detached_start_raises_no_sigchld) {
    struct spawned spawned;
    sigset_t child, pending;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    spawn_well(&spawned, &(Config){DETACHED, THE_HELPER(linger)});
    CHECK_INT(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGCHLD));
    kill_and_reap(&spawned);
}

TEST_BOTH_WAYS(a_detached_start_works_where_sigchld_is_ignored) {
    struct gate *gate = gate_new();
    IN_CHILD {
        struct spawned spawned;
        signal(SIGCHLD, SIG_IGN);
        spawn_well(&spawned, &(Config){DETACHED, THE_HELPER(linger)});
        CHECK_INT(pidfd_pid(spawned.child.pidfd), spawned.result);
        SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, DETACHED, .argv = STRINGS("/nonexistent"));
        kill(spawned.result, SIGKILL);
        gate_open(gate);
    }
    gate_wait(gate);
    /* Where fork(2) makes every child the failed one is here too. */
    int reaped = 0;
    while (waitpid(-1, NULL, __WALL) > 0)
        reaped++;
    CHECK(reaped > 0);
}

TEST_BOTH_WAYS(a_detached_program_has_no_terminal_and_gets_none) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        SKIP("no pseudo-terminal: %s", strerror(errno));
    IN_CHILD {
        adopt_orphans();
        signal(SIGHUP, SIG_IGN);
        CHECK_INT(setsid(), getpid());
        int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
        CHECK_INT(ioctl(slave, TIOCSCTTY, 0), 0);
        report_quietly(&(Config){DETACHED, .streams = {fd_stream(slave), fd_stream(slave)}});
        CHECK_STR(told("terminal"), "0");
        char script[128];
        snprintf(script, sizeof script, "exec 3<>%s; : </dev/tty", ptsname(master));
        struct spawned spawned;
        spawn_well(&spawned, &(Config){DETACHED, .argv = STRINGS("/bin/sh", "-c", script)});
        CHECK(reap(&spawned) != 0);
    }
}

static void *start_detached(void *context) {
    report_and_stop(context, &(Config){DETACHED});
    return NULL;
}

TEST_BOTH_WAYS(a_thread_starts_a_detached_program) {
    struct spawned spawned;
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, start_detached, &spawned), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_STR(status_field(spawned.result, "Tgid"), status_field(spawned.result, "Pid"));
    CHECK_INT(stat_field(spawned.result, 4), getpid());
    CHECK(told_pid("sid") != getsid(0));
    kill_and_reap(&spawned);
}

/* ---- the handle ---- */

TEST_BOTH_WAYS(the_caller_gets_pid_and_pidfd) {
    static struct snapshot before;
    struct spawned spawned;
    snapshot_take(&before);
    spawn_well(&spawned, &(Config){DETACHED, THE_HELPER(linger)});
    CHECK_INT(spawned.status.pid, spawned.result);
    CHECK(spawned.child.pidfd >= 3);
    CHECK(fd_is_cloexec(spawned.child.pidfd));
    CHECK_INT(pidfd_pid(spawned.child.pidfd), spawned.result);
    for (int i = 0; i < 3; i++)
        CHECK_INT(spawned.child.fds[i], -1);
    char fds[16];
    snprintf(fds, sizeof fds, "0 1 2 %d", spawned.child.pidfd);
    CHECK_STR(open_fds(0), fds);
    struct pollfd end = {.fd = spawned.child.pidfd, .events = POLLIN};
    CHECK_INT(poll(&end, 1, 0), 0);
    CHECK_INT(kill(spawned.result, SIGKILL), 0);
    CHECK_INT(poll(&end, 1, -1), 1);
    CHECK_INT(reap(&spawned), SIGKILL);
    CHECK(snapshot_same(&before));
}

TEST_BOTH_WAYS(the_pidfd_is_no_standard_fd_even_if_these_are_closed) {
    struct spawned spawned;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    report_and_stop(&spawned, &(Config){DETACHED});
    CHECK(spawned.child.pidfd >= 3);
    CHECK(fd_is_cloexec(spawned.child.pidfd));
    CHECK_INT(pidfd_pid(spawned.child.pidfd), spawned.result);
    CHECK(!fd_is_open(0) && !fd_is_open(1) && !fd_is_open(2));
    CHECK_STR(told("fds"), "0 1 2");
    kill_and_reap(&spawned);
    CHECK_STR(open_fds(0), "");
}

TEST_BOTH_WAYS(the_program_ends_as_any_other) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){DETACHED, .argv = STRINGS("/bin/sh", "-c", "exit 42")});
    CHECK_INT(reap(&spawned), 42 << 8);
}

/* ---- fds ---- */

static void check_is_null(int fd) {
    char key[16];
    snprintf(key, sizeof key, "fd.%d", fd);
    CHECK_INT(strncmp(told(key), identity_of("/dev/null"), strlen(identity_of("/dev/null"))), 0);
}

TEST_BOTH_WAYS(streams_are_null_unless_they_are_said_to_be_something_else) {
    const char *out = scratch_path("out");
    for (int fd = 0; fd < 3; fd++)
        open_at(fd, 0);
    open_at(5, 0);
    report_quietly(&(Config){DETACHED});
    CHECK_STR(told("fds"), "0 1 2");
    for (int fd = 0; fd < 3; fd++)
        check_is_null(fd);
    report_quietly(
        &(Config){DETACHED, .streams = {plain_stream(RDAEMON_STREAM_INHERIT), fd_stream(5)}});
    CHECK_STR(told("fds"), "0 1 2");
    CHECK_STR(told("fd.0"), identity_of_fd(0));
    CHECK_STR(told("fd.1"), identity_of_fd(5));
    check_is_null(2);
    struct rdaemon_fd_mapping map[] = {map_fd(0, 5), map_fd(9, 1)};
    report_of(&(Config){
        DETACHED,
        .streams =
            {[1] = file_stream(out, 0, 0), [2] = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)},
        .fd_map = map, .fd_map_len = 2});
    CHECK_STR(told("fds"), "0 1 2 9");
    CHECK_STR(told("fd.0"), identity_of_fd(5));
    CHECK_STR(told("fd.9"), identity_of_fd(1));
    CHECK_STR(told("fd.2"), told("fd.1"));
}

TEST_BOTH_WAYS(standard_error_is_the_null_device_that_standard_output_is) {
    open_at(1, 0);
    report_quietly(
        &(Config){DETACHED, .streams = {[2] = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)}});
    CHECK_STR(told("fds"), "0 1 2");
    check_is_null(1);
    CHECK_STR(told("fd.2"), told("fd.1"));
}

TEST_BOTH_WAYS(pipes_go_to_a_detached_program_too) {
    struct spawned spawned;
    char text[8] = "";
    spawn_well(&spawned, &(Config){DETACHED, .argv = STRINGS("/bin/cat"),
                                   .streams = {plain_stream(RDAEMON_STREAM_PIPE),
                                               plain_stream(RDAEMON_STREAM_PIPE)}});
    CHECK_INT(write(spawned.child.fds[0], "word", 4), 4);
    close(spawned.child.fds[0]);
    spawned.child.fds[0] = -1;
    CHECK_INT(read(spawned.child.fds[1], text, 4), 4);
    CHECK_STR(text, "word");
    CHECK_INT(read(spawned.child.fds[1], text, 4), 0);
    CHECK_INT(reap(&spawned), 0);
}

TEST_BOTH_WAYS(all_other_fds_are_closed_but_those_passed_on) {
    int32_t pass = 7;
    for (int fd = 3; fd < 10; fd++)
        open_at(fd, fd % 2 ? O_CLOEXEC : 0);
    report_quietly(&(Config){DETACHED, .pass_fds = &pass, .pass_fds_len = 1});
    CHECK_STR(told("fds"), "0 1 2 7");
    report_quietly(&(Config){.flags = RDAEMON_SPAWN_DETACHED | RDAEMON_SPAWN_KEEP_FDS});
    CHECK_STR(told("fds"), "0 1 2 4 6 8");
}

TEST_BOTH_WAYS(the_caller_s_fds_stay_as_they_are) {
    static struct snapshot before;
    struct rdaemon_fd_mapping map[32];
    for (int i = 0; i < 32; i++) {
        if (i % 3)
            open_at(3 + i, i % 2 ? O_CLOEXEC : 0);
        map[i] = map_fd(3 + i, i % 3);
    }
    snapshot_take(&before);
    report_of(&(Config){DETACHED, .fd_map = map, .fd_map_len = 32});
    CHECK(snapshot_same(&before));
    for (int fd = 3; fd < 35; fd++) {
        char key[16];
        snprintf(key, sizeof key, "fd.%d", fd);
        CHECK_STR(told(key), identity_of_fd((fd - 3) % 3));
    }
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, DETACHED, .argv = STRINGS("/nonexistent"),
                .fd_map = map, .fd_map_len = 32);
}

/* ---- attributes ---- */

TEST_BOTH_WAYS(a_detached_program_is_otherwise_as_any_other) {
    const char *there = make_directory("there", 0755);
    static const int32_t blocked[] = {SIGUSR2};
    static const struct rdaemon_limit limit = {.resource = RLIMIT_CPU, .soft = 900, .hard = 950};
    static const struct rdaemon_signal_action map = {.signal = SIGUSR1,
                                                     .action = RDAEMON_SIGNAL_IGNORE};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    report_quietly(&(Config){.flags = RDAEMON_SPAWN_DETACHED | RDAEMON_SPAWN_UMASK |
                                      RDAEMON_SPAWN_SIGNAL_MASK | RDAEMON_SPAWN_NO_NEW_PRIVS,
                             .working_directory = there,
                             .umask = 0137,
                             .limits = &limit,
                             .limits_len = 1,
                             .signal_map = &map,
                             .signal_map_len = 1,
                             .blocked_signals = blocked,
                             .blocked_signals_len = 1});
    CHECK_STR(told("cwd"), identity_of(there));
    CHECK_STR(told("umask"), "137");
    CHECK_STR(told("limit.0"), "900:950");
    CHECK_STR(told("blocked"), "0000000000000800");
    CHECK(told_signal("ignored", SIGUSR1));
    CHECK(told_signal("ignored", SIGPIPE));
    CHECK(told_signal("ignored", SIGHUP));
    CHECK_STR(told("no_new_privs"), "1");
}

TEST_BOTH_WAYS(the_signal_mask_is_inherited) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_SETMASK, &set, NULL);
    report_quietly(&(Config){DETACHED});
    CHECK_STR(told("blocked"), "0000000000000200");
}

TEST_BOTH_WAYS(a_detached_program_has_another_identity) {
    REQUIRE_ROOT();
    static const uint32_t groups[] = {700};
    struct spawned spawned;
    report_and_stop(&spawned, &(Config){DETACHED, .identity = {.flags = RDAEMON_IDENTITY_UID |
                                                                        RDAEMON_IDENTITY_GID |
                                                                        RDAEMON_IDENTITY_GROUPS,
                                                               .uid = TEST_UID,
                                                               .gid = TEST_GID,
                                                               .groups = groups,
                                                               .groups_len = 1}});
    CHECK_STR(told("uid"), "12345 12345 12345");
    CHECK_STR(told("gid"), "23456 23456 23456");
    CHECK_STR(told("groups"), "700");
    CHECK(told_pid("sid") != spawned.result);
    CHECK(told_pid("sid") != getsid(0));
    CHECK_INT(stat_field(spawned.result, 4), getpid());
    CHECK_INT(pidfd_pid(spawned.child.pidfd), spawned.result);
    kill_and_reap(&spawned);
}

TEST_BOTH_WAYS(a_detached_program_in_a_jail) {
    char inner[PATH_MAX];
    const char *root = jail();
    snprintf(inner, sizeof inner, "%s/inner", root);
    CHECK_INT(mkdir(inner, 0755), 0);
    report_quietly(&(Config){DETACHED, .chroot_directory = root, .working_directory = "/inner"});
    CHECK_STR(told("root"), identity_of(root));
    CHECK_STR(told("cwd"), identity_of(inner));
}

struct witness {
    pid_t pid, sid;
    int result;
};

static int record(void *context) {
    struct witness *witness = context;
    witness->pid = getpid();
    witness->sid = getsid(0);
    return witness->result;
}

TEST_BOTH_WAYS(a_hook_runs_in_the_detached_program_s_process) {
    struct witness *witness = shared_memory(sizeof *witness);
    struct spawned spawned;
    report_and_stop(&spawned, &(Config){DETACHED, .hook = record, .hook_context = witness});
    CHECK_INT(witness->pid, spawned.result);
    CHECK_INT(witness->sid, told_pid("sid"));
    CHECK(told_pid("sid") != spawned.result);
    CHECK_INT(stat_field(spawned.result, 4), getpid());
    CHECK_INT(pidfd_pid(spawned.child.pidfd), spawned.result);
    kill_and_reap(&spawned);
}

/* ---- failures ---- */

TEST_BOTH_WAYS(a_failing_step_is_reported_and_nothing_is_left) {
    struct witness *witness = shared_memory(sizeof *witness);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, DETACHED, .argv = STRINGS("/nonexistent"));
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, DETACHED, .argv = STRINGS("/bin/true"),
                .working_directory = "/nonexistent");
    SPAWN_BADLY(RDAEMON_STEP_OPEN_STREAMS, -ENOENT, DETACHED, .argv = STRINGS("/bin/true"),
                .streams = {file_stream("/nonexistent", 0, 0)});
    SPAWN_BADLY(
        RDAEMON_STEP_EXEC, -EACCES, DETACHED, .argv = STRINGS(scratch()),
        .streams = {plain_stream(RDAEMON_STREAM_PIPE), file_stream(scratch_path("out"), 0, 0)});
    witness->result = -EXDEV;
    SPAWN_BADLY(RDAEMON_STEP_HOOK, -EXDEV, DETACHED, .argv = STRINGS("/bin/true"), .hook = record,
                .hook_context = witness);
    become_user();
    SPAWN_BADLY(RDAEMON_STEP_CHROOT, -EPERM, DETACHED, .argv = STRINGS("/bin/true"),
                .chroot_directory = "/");
    SPAWN_BADLY(RDAEMON_STEP_DROP_PRIVILEGES, -EPERM, DETACHED, .argv = STRINGS("/bin/true"),
                .identity = {.flags = RDAEMON_IDENTITY_UID});
}

TEST_BOTH_WAYS(a_failure_raises_no_sigchld) {
    sigset_t child, pending;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, DETACHED, .argv = STRINGS("/nonexistent"));
    CHECK_INT(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGCHLD));
}

TEST_BOTH_WAYS(a_failure_leaves_no_orphan_to_the_reaper) {
    IN_CHILD {
        SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, DETACHED, .argv = STRINGS("/nonexistent"));
        SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, DETACHED, .argv = STRINGS("/bin/true"),
                    .working_directory = "/nonexistent");
    }
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST_BOTH_WAYS(fork_s_own_error_is_told_apart) {
    REQUIRE_ROOT();
    CHECK_INT(setuid(lonely_uid()), 0);
    /* With 2 the process between is made, and the program is not. */
    for (rlim_t most = 2; most > 0; most--) {
        struct rlimit limit = {most, most};
        CHECK_INT(setrlimit(RLIMIT_NPROC, &limit), 0);
        SPAWN_BADLY(RDAEMON_STEP_FORK, -EAGAIN, DETACHED, .argv = STRINGS("/bin/true"));
    }
}

static int fail_late(void *context) {
    poll(NULL, 0, *(int *)context);
    return -EIO;
}

/* The wait for a process that nobody has heard of has an end, the wait for a step has none. */
TEST(a_failure_arrives_late_too_when_the_process_between_cannot_be_reaped) {
    int longer_than_any_patience = 1300;
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    SPAWN_BADLY(RDAEMON_STEP_HOOK, -EIO, DETACHED, .argv = STRINGS("/bin/true"), .hook = fail_late,
                .hook_context = &longer_than_any_patience);
}
