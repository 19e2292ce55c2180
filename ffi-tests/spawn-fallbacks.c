/*
 * The same results whatever the kernel refuses: no way to make a child but one is left, pidfds or
 * close_range(2) are missing, /proc is hidden. What is looked at is one list of spawns, good and
 * bad ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

#define MISSING "/nonexistent/rdaemon"
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

/* ---- the results ---- */

/* This program by a path that needs no /proc, so look before that is hidden. */
static const char *const *own_path(void) {
    static char path[4096];
    static const char *paths[] = {path, NULL};
    if (path[0] == '\0' && readlink("/proc/self/exe", path, sizeof path - 1) <= 0)
        FAIL("/proc/self/exe: %s", strerror(errno));
    return paths;
}

static void succeeds(uint32_t flags) {
    struct rdaemon_exit end;
    struct spawned spawned;
    Config config = {.flags = flags, .argv = STRINGS("/bin/sh", "-c", "exit 7")};
    spawn_well(&spawned, &config);
    CHECK_INT(spawned.child.pidfd, -1);
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&spawned.child), -1, RDAEMON_SIZED(&end))), 0);
    CHECK_INT(end.kind, RDAEMON_EXIT_EXITED);
    CHECK_INT(end.code, 7);
    CHECK_INT(waitpid(-1, NULL, __WALL), -1);
}

static void fails(uint32_t flags) {
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .flags = flags, .argv = STRINGS(MISSING));
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, .flags = flags, .argv = STRINGS("/bin/true"),
                .working_directory = MISSING);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .flags = flags | RDAEMON_SPAWN_PIDFD,
                .argv = STRINGS(MISSING), .streams[1].action = RDAEMON_STREAM_PIPE);
}

/* Fds that are close-on-exec and that are not, dense, far apart and high. */
static void open_many(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int highest = limit.rlim_max > 15000 ? 15000 : (int)limit.rlim_max - 1;
    for (int fd = 3; fd < 40; fd++)
        dup2(0, fd);
    for (int fd = 50; fd < 60; fd++)
        fcntl(0, F_DUPFD_CLOEXEC, fd);
    CHECK_INT(dup2(0, 1024), 1024);
    CHECK_INT(dup2(0, highest), highest);
}

static void closes_all(uint32_t flags) {
    static const int32_t passed[] = {52, 5, 1024};
    report_of(&(Config){.flags = flags, .paths = own_path()});
    CHECK_STR(told("fds"), "0 1 2");
    report_of(&(Config){.flags = flags,
                        .paths = own_path(),
                        .pass_fds = passed,
                        .pass_fds_len = 3,
                        .streams[2].action = RDAEMON_STREAM_NULL});
    CHECK_STR(told("fds"), "0 1 2 5 52 1024");
}

static void is_detached(uint32_t flags, bool with_pidfd) {
    struct spawned spawned;
    Config config = {.flags = flags | RDAEMON_SPAWN_DETACHED, .paths = own_path()};
    report_and_stop(&spawned, &config);
    CHECK_INT(told_pid("pid"), spawned.result);
    CHECK_INT(stat_field(spawned.result, 4), getpid());
    CHECK(told_pid("sid") != getsid(0));
    CHECK(told_pid("sid") != spawned.result);
    CHECK_STR(told("fds"), "0 1 2");
    CHECK(with_pidfd ? spawned.child.pidfd >= 3
                     : spawned.child.pidfd >= 3 || spawned.child.pidfd == -1);
    kill_and_reap(&spawned);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .flags = flags | RDAEMON_SPAWN_DETACHED,
                .argv = STRINGS(MISSING));
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, .flags = flags | RDAEMON_SPAWN_DETACHED,
                .argv = STRINGS("/bin/true"), .working_directory = MISSING);
}

/* A time limit holds, with and without one. */
static void gives_pidfd(uint32_t flags, bool with_pidfd) {
    struct rdaemon_exit end;
    struct spawned spawned;
    Config config = {.flags = flags | RDAEMON_SPAWN_PIDFD,
                     .argv = STRINGS("/bin/cat"),
                     .streams[0].action = RDAEMON_STREAM_PIPE};
    spawn_well(&spawned, &config);
    if (with_pidfd)
        CHECK(spawned.child.pidfd >= 3 && fd_is_cloexec(spawned.child.pidfd));
    else
        CHECK_INT(spawned.child.pidfd, -1);
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&spawned.child), 0, RDAEMON_SIZED(&end))),
              -ETIMEDOUT);
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&spawned.child), 20, RDAEMON_SIZED(&end))),
              -ETIMEDOUT);
    CHECK_INT(close(spawned.child.fds[0]), 0);
    spawned.child.fds[0] = -1;
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&spawned.child), -1, RDAEMON_SIZED(&end))), 0);
    CHECK_INT(end.wait_status, 0);
    CHECK_INT(QUIET(rdaemon_child_close(RDAEMON_SIZED(&spawned.child))), 0);
    spawn_well(&spawned, &config);
    CHECK_INT(QUIET(rdaemon_child_stop(RDAEMON_SIZED(&spawned.child), -1, -1, RDAEMON_SIZED(&end))),
              0);
    CHECK_INT(end.returncode, -SIGTERM);
    CHECK_INT(QUIET(rdaemon_child_close(RDAEMON_SIZED(&spawned.child))), 0);
}

static void all_results(bool with_pidfd) {
    static const uint32_t flags[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    for (int i = 0; i < 2; i++) {
        succeeds(flags[i]);
        fails(flags[i]);
        closes_all(flags[i]);
        is_detached(flags[i], with_pidfd);
        gives_pidfd(flags[i], with_pidfd);
    }
}

/* Defines a case: with what the block denies there are the same results. */
#define SAME_RESULTS(cause, with_pidfd)                                                            \
    static void cause##_denied(void);                                                              \
    TEST(cause) {                                                                                  \
        own_path();                                                                                \
        open_many();                                                                               \
        cause##_denied();                                                                          \
        all_results(with_pidfd);                                                                   \
    }                                                                                              \
    static void cause##_denied(void)

SAME_RESULTS(nothing_is_refused, true) {
}

/* ---- ways to make a child ---- */

static void deny_clone3(int error) {
    deny_syscall(SYS_clone3, error);
    CHECK_INT(syscall(SYS_clone3, NULL, 0), -1);
    CHECK_INT(errno, error);
}

/* Of clone(2); the flags of clone3(2) no filter can see. */
static void deny_clone_with(unsigned flags, int error) {
    deny_syscall_bits(SYS_clone, 0, flags, error);
    CHECK_INT(syscall(SYS_clone, flags | CLONE_THREAD, 0, 0, 0, 0), -1);
    CHECK_INT(errno, error);
}

SAME_RESULTS(clone3_is_missing, true) {
    deny_clone3(ENOSYS);
}

SAME_RESULTS(clone3_is_forbidden, true) {
    deny_clone3(EPERM);
}

SAME_RESULTS(clone3_is_invalid, true) {
    deny_clone3(EINVAL);
}

SAME_RESULTS(no_child_may_share_memory, true) {
    deny_clone3(ENOSYS);
    deny_clone_with(CLONE_VM, EPERM);
}

SAME_RESULTS(sharing_memory_is_invalid, true) {
    deny_clone3(EPERM);
    deny_clone_with(CLONE_VM, EINVAL);
}

SAME_RESULTS(clone_with_shared_memory_is_missing, true) {
    deny_clone3(EINVAL);
    deny_clone_with(CLONE_VM, ENOSYS);
}

SAME_RESULTS(no_parent_may_be_suspended, true) {
    deny_clone3(ENOSYS);
    deny_clone_with(CLONE_VFORK, EINVAL);
}

/* ---- pidfds ---- */

SAME_RESULTS(clone_gives_no_pidfd, true) {
    deny_clone3(ENOSYS);
    deny_clone_with(CLONE_PIDFD, EINVAL);
}

SAME_RESULTS(clone_gives_no_pidfd_and_no_memory_is_shared, true) {
    deny_clone3(ENOSYS);
    deny_clone_with(CLONE_PIDFD, EINVAL);
    deny_clone_with(CLONE_VM, EINVAL);
}

static void deny_pidfd_open(int error) {
    deny_syscall(SYS_pidfd_open, error);
    CHECK_INT(syscall(SYS_pidfd_open, getpid(), 0), -1);
    CHECK_INT(errno, error);
}

SAME_RESULTS(pidfd_open_is_missing, true) {
    deny_pidfd_open(ENOSYS);
}

SAME_RESULTS(pidfd_open_is_forbidden, true) {
    deny_pidfd_open(EPERM);
}

SAME_RESULTS(there_are_no_pidfds, false) {
    deny_clone3(ENOSYS);
    deny_clone_with(CLONE_PIDFD, EINVAL);
    deny_pidfd_open(ENOSYS);
    deny_syscall(SYS_pidfd_send_signal, ENOSYS);
}

SAME_RESULTS(pidfds_take_no_signals, true) {
    deny_syscall(SYS_pidfd_send_signal, ENOSYS);
}

/* ---- close_range ---- */

static void deny_close_range(int error) {
    deny_syscall(SYS_close_range, error);
    CHECK_INT(syscall(SYS_close_range, ~0U, ~0U, 0), -1);
    CHECK_INT(errno, error);
}

SAME_RESULTS(close_range_is_missing, true) {
    deny_close_range(ENOSYS);
}

SAME_RESULTS(close_range_is_forbidden, true) {
    deny_close_range(EPERM);
}

SAME_RESULTS(close_range_knows_no_cloexec, true) {
    deny_syscall_bits(SYS_close_range, 2, CLOSE_RANGE_CLOEXEC, EINVAL);
    CHECK_INT(syscall(SYS_close_range, ~0U, ~0U, CLOSE_RANGE_CLOEXEC), -1);
    CHECK_INT(errno, EINVAL);
}

SAME_RESULTS(everything_new_is_missing, false) {
    deny_close_range(ENOSYS);
    deny_clone3(ENOSYS);
    deny_clone_with(CLONE_PIDFD, EINVAL);
    deny_pidfd_open(ENOSYS);
    deny_syscall(SYS_pidfd_send_signal, ENOSYS);
    deny_syscall(SYS_openat2, ENOSYS);
    deny_syscall(SYS_faccessat2, ENOSYS);
}

/* ---- close-all without /proc ---- */

static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK, RDAEMON_SPAWN_DETACHED};
enum { WAYS = sizeof ways / sizeof *ways };

static void closes_all_each_way(void) {
    for (int i = 0; i < WAYS; i++)
        closes_all(ways[i]);
}

TEST(all_fds_are_closed_where_proc_is_hidden) {
    own_path();
    open_many();
    hide_proc();
    CHECK(access("/proc/self", F_OK) != 0);
    closes_all_each_way();
}

TEST(all_fds_are_closed_where_proc_is_hidden_and_close_range_is_missing) {
    own_path();
    open_many();
    hide_proc();
    deny_close_range(ENOSYS);
    closes_all_each_way();
}

/* The child may no longer be able to look at /proc when it needs to. */
static void closes_all_inside(const char *root) {
    static const int32_t passed[] = {52, 5, 1024};
    for (int i = 0; i < WAYS; i++) {
        report_of(&(Config){.flags = ways[i], .chroot_directory = root});
        CHECK_STR(told("fds"), "0 1 2");
        report_of(&(Config){.flags = ways[i],
                            .chroot_directory = root,
                            .pass_fds = passed,
                            .pass_fds_len = 3,
                            .streams[2].action = RDAEMON_STREAM_NULL});
        CHECK_STR(told("fds"), "0 1 2 5 52 1024");
    }
}

TEST(all_fds_are_closed_in_a_new_root) {
    const char *root = jail();
    open_many();
    closes_all_inside(root);
}

TEST(all_fds_are_closed_in_a_new_root_where_close_range_is_missing) {
    const char *root = jail();
    open_many();
    deny_close_range(EPERM);
    closes_all_inside(root);
}

/* All at once, as a careful server starts a program that is not to be trusted. */
TEST(ids_root_and_directory_change_and_all_fds_are_closed) {
    REQUIRE_ROOT();
    const char *root = jail();
    char inner[4096];
    snprintf(inner, sizeof inner, "%s/inner", root);
    CHECK_INT(mkdir(inner, 0755), 0);
    open_many();
    for (int denied = 0; denied < 2; denied++) {
        for (int i = 0; i < WAYS; i++) {
            report_of(&(Config){.flags = ways[i],
                                .chroot_directory = root,
                                .working_directory = "inner",
                                .identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID,
                                             .uid = TEST_UID,
                                             .gid = TEST_GID}});
            CHECK_STR(told("fds"), "0 1 2");
            CHECK_STR(told("uid"), "12345 12345 12345");
            CHECK_STR(told("gid"), "23456 23456 23456");
            CHECK_STR(told("root"), identity_of(root));
            CHECK_STR(told("cwd"), identity_of(inner));
        }
        if (!denied)
            deny_close_range(ENOSYS);
    }
}

/* The hook is followed by a second closing, in the new root, where there is no /proc. */
static int open_one_more(void *context) {
    (void)context;
    return dup2(0, 77) == 77 ? 0 : -EMFILE;
}

TEST(what_a_hook_opens_is_closed) {
    report_of(&(Config){.hook = open_one_more});
    CHECK_STR(told("fds"), "0 1 2");
    deny_close_range(ENOSYS);
    report_of(&(Config){.hook = open_one_more});
    CHECK_STR(told("fds"), "0 1 2");
}

TEST(what_a_hook_opens_in_a_new_root_is_closed_where_close_range_is_missing) {
    const char *root = jail();
    deny_close_range(ENOSYS);
    report_of(&(Config){.hook = open_one_more, .chroot_directory = root});
    CHECK_STR(told("fds"), "0 1 2");
}

/* ---- close-all and limits ---- */

/* 0 to 2 are below the limit then, and 700 and 5000 are above. */
static void lower_the_limit(void) {
    CHECK_INT(dup2(0, 700), 700);
    CHECK_INT(dup2(0, 5000), 5000);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 64}), 0);
}

static void closes_above_the_limit(void) {
    static const int32_t passed[] = {700};
    for (int i = 0; i < WAYS; i++) {
        report_of(&(Config){.flags = ways[i], .paths = own_path()});
        CHECK_STR(told("fds"), "0 1 2");
        report_of(&(Config){
            .flags = ways[i], .paths = own_path(), .pass_fds = passed, .pass_fds_len = 1});
        CHECK_STR(told("fds"), "0 1 2 700");
    }
}

TEST(fds_above_a_lowered_limit_are_closed) {
    own_path();
    lower_the_limit();
    closes_above_the_limit();
}

TEST(fds_above_a_lowered_limit_are_closed_where_close_range_is_missing) {
    own_path();
    lower_the_limit();
    deny_close_range(ENOSYS);
    closes_above_the_limit();
}

TEST(fds_above_a_lowered_limit_are_closed_where_proc_is_hidden) {
    own_path();
    lower_the_limit();
    hide_proc();
    closes_above_the_limit();
}

TEST(fds_above_a_lowered_limit_are_closed_by_counting) {
    own_path();
    lower_the_limit();
    hide_proc();
    deny_close_range(ENOSYS);
    closes_above_the_limit();
}

/* The limit for the program itself is no limit for what is closed before. */
TEST(fds_above_the_programs_own_limit_are_closed) {
    static const struct rdaemon_limit limit = {.resource = RLIMIT_NOFILE, .soft = 16, .hard = 16};
    own_path();
    open_many();
    for (int denied = 0; denied < 2; denied++) {
        for (int i = 0; i < WAYS; i++) {
            report_of(&(Config){
                .flags = ways[i], .paths = own_path(), .limits = &limit, .limits_len = 1});
            CHECK_STR(told("fds"), "0 1 2");
        }
        if (!denied)
            deny_close_range(ENOSYS);
    }
}

/* Tells its fds on standard output. */
HELPER(tell_fds) {
    const char *fds = open_fds(0);
    return write(STDOUT_FILENO, fds, strlen(fds)) < 0;
}

/* No fd is free for a look at /proc: a forked child's channel takes what there is. */
TEST(all_fds_are_closed_where_none_is_free_and_close_range_is_missing) {
    static const struct {
        uint32_t flags;
        rlim_t free;
    } cases[] = {{0, 0}, {0, 1}, {RDAEMON_SPAWN_FORCE_FORK, 2}, {RDAEMON_SPAWN_FORCE_FORK, 3}};
    struct rlimit limit;
    int output[2];
    deny_close_range(ENOSYS);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_INT(pipe(output), 0);
    for (int fd = 5; fd < 100; fd++)
        dup2(0, fd);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char fds[64] = "";
        struct spawned spawned;
        Config config = {.flags = cases[i].flags,
                         THE_HELPER(tell_fds),
                         .streams[1] = {.action = RDAEMON_STREAM_FD, .fd = output[1]}};
        limit.rlim_cur = 100 + cases[i].free;
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
        spawn_well(&spawned, &config);
        CHECK_INT(reap(&spawned), 0);
        CHECK(read(output[0], fds, sizeof fds - 1) > 0);
        CHECK_STR(fds, "0 1 2");
    }
}

/* ---- pid namespaces ---- */

/* The first child is the init of its namespace, so that nothing else may be made before the
 * program. */
TEST(the_first_child_of_a_new_pid_namespace_is_the_program) {
    if (unshare(CLONE_NEWPID) != 0)
        SKIP("no pid namespace: %s", strerror(errno));
    CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "echo $$"), .death_signal = SIGTERM),
              "1\n");
}
