/* rdaemon_exec in a process that the caller forked by itself: it is the child half of
 * rdaemon_spawn, returns only on failure, and says which step failed. Most of its cases are those
 * of the spawn's programs that end in by_exec. */
#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

/* Runs it in a forked process, and answers the process' wait status; 99 << 8 when it returned. */
static int run(const Config *config, struct rdaemon_status *status) {
    struct rdaemon_status *told = shared_memory(sizeof *told);
    memset(told, 0xa5, sizeof *told);
    pid_t pid = fork_child();
    if (pid == 0) {
        int result = QUIET(rdaemon_exec(RDAEMON_SIZED(config), RDAEMON_SIZED(told)));
        CHECK(result < 0);
        CHECK_INT(result, told->error);
        _exit(99);
    }
    int end = wait_for_exit(pid);
    *status = *told;
    return end;
}

static void check_exit(const Config *config, int exit_status) {
    struct rdaemon_status status;
    int end = run(config, &status);
    if (end == 99 << 8)
        FAIL("it returned: %s, %s", rdaemon_step_name(status.step), error_name(status.error));
    CHECK_INT(end, exit_status << 8);
}

static void check_failure(const Config *config, int step, int error) {
    struct rdaemon_status status;
    CHECK_INT(run(config, &status), 99 << 8);
    if (status.step != step)
        FAIL("it failed at %s instead of %s", rdaemon_step_name(status.step),
             rdaemon_step_name(step));
    CHECK_INT(status.error, error);
    CHECK_INT(status.pid, 0);
    CHECK_INT(status.signal, 0);
}

#define SH(script) .argv = STRINGS("/bin/sh", "-c", script)

/* ---- success ---- */

TEST(this_process_becomes_the_program) {
    by_exec = true;
    struct spawned spawned;
    report_and_stop(&spawned, &(Config){0});
    CHECK_INT(told_pid("pid"), spawned.result);
    CHECK_INT(told_pid("ppid"), getpid());
    CHECK_STR(told("fds"), "0 1 2");
    kill_and_reap(&spawned);
    check_exit(&(Config){SH("exit 42")}, 42);
}

TEST(the_status_may_be_absent) {
    Config config = {SH("exit 3")};
    pid_t pid = fork_child();
    if (pid == 0) {
        rdaemon_exec(RDAEMON_SIZED(&config), NULL, 0);
        _exit(99);
    }
    CHECK_INT(wait_for_exit(pid), 3 << 8);
}

TEST(candidates_arguments_and_environment) {
    by_exec = true;
    CHECK_STR(OUTPUT_OF(.paths = STRINGS("/nonexistent", "/bin/sh"),
                        .argv = STRINGS("me", "-c", "echo $0 $X", "you $(x)"),
                        .envp = STRINGS("X='")),
              "you $(x) '\n");
    setenv("X", "inherited", 1);
    CHECK_STR(OUTPUT_OF(SH("echo $X")), "inherited\n");
}

TEST(streams_map_and_passed_fds) {
    by_exec = true;
    const char *out = scratch_path("out");
    int32_t pass = 20;
    struct rdaemon_fd_mapping map[] = {map_fd(4, 5), map_fd(5, 4)};
    open_at(4, O_CLOEXEC);
    open_at(5, 0);
    open_at(20, O_CLOEXEC);
    open_at(21, 0);
    REPORT(.streams = {plain_stream(RDAEMON_STREAM_NULL), fd_stream(5), fd_stream(1)},
           .fd_map = map, .fd_map_len = 2, .pass_fds = &pass, .pass_fds_len = 1);
    CHECK_STR(told("fds"), "0 1 2 4 5 20");
    CHECK_STR(told("fd.1"), identity_of_fd(5));
    CHECK_STR(told("fd.4"), identity_of_fd(5));
    CHECK_STR(told("fd.5"), identity_of_fd(4));
    check_exit(&(Config){SH("echo to a file"), .streams = {[1] = file_stream(out, 0, 0)}}, 0);
    CHECK_STR(file_text(out), "to a file\n");
}

/* The forked process is single-threaded, so ids change in all of it. */
static void *exec_from_a_thread(void *context) {
    const Config *config = context;
    report_of(config);
    return NULL;
}

TEST(ids_after_a_fork_in_a_threaded_process) {
    REQUIRE_ROOT();
    by_exec = true;
    pthread_t thread;
    Config config = {.identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID,
                                  .uid = TEST_UID,
                                  .gid = TEST_GID}};
    CHECK_INT(pthread_create(&thread, NULL, exec_from_a_thread, &config), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_STR(told("uid"), "12345 12345 12345");
    CHECK_STR(told("gid"), "23456 23456 23456");
    CHECK_STR(status_field(0, "Uid"), "0 0 0 0");
}

TEST(a_session_leader_may_not_have_another_session) {
    IN_CHILD {
        setsid();
        struct rdaemon_status status;
        Config config = {.argv = STRINGS("/bin/true"), .flags = RDAEMON_SPAWN_SETSID};
        CHECK_INT(QUIET(rdaemon_exec(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status))), -EPERM);
        CHECK_INT(status.step, RDAEMON_STEP_SETSID);
    }
}

/* ---- failure ---- */

TEST(it_returns_with_step_and_error) {
    static const struct rdaemon_limit limit = {
        .resource = RLIMIT_CPU, .soft = RDAEMON_UNLIMITED, .hard = RDAEMON_UNLIMITED};
    const char *name = scratch_path("missing");
    check_failure(&(Config){.argv = STRINGS(name)}, RDAEMON_STEP_EXEC, -ENOENT);
    check_failure(&(Config){SH(""), .working_directory = name}, RDAEMON_STEP_CHDIR, -ENOENT);
    check_failure(&(Config){SH(""), .streams = {file_stream(name, 0, 0)}},
                  RDAEMON_STEP_OPEN_STREAMS, -ENOENT);
    check_failure(
        &(Config){SH(""), .flags = RDAEMON_SPAWN_SETSID | RDAEMON_SPAWN_CONTROLLING_TERMINAL},
        RDAEMON_STEP_CONTROLLING_TERMINAL, -ENOTTY);
    struct rlimit low = {100, 200};
    CHECK_INT(setrlimit(RLIMIT_CPU, &low), 0);
    become_user();
    check_failure(&(Config){SH(""), .limits = &limit, .limits_len = 1}, RDAEMON_STEP_SET_LIMITS,
                  -EPERM);
    check_failure(&(Config){SH(""), .chroot_directory = "/"}, RDAEMON_STEP_CHROOT, -EPERM);
    check_failure(&(Config){SH(""), .identity = {.flags = RDAEMON_IDENTITY_UID}},
                  RDAEMON_STEP_DROP_PRIVILEGES, -EPERM);
}

TEST(a_refusal_changes_nothing) {
    IN_CHILD {
        struct rdaemon_status status;
        Config config = {.flags = RDAEMON_SPAWN_UMASK | RDAEMON_SPAWN_RESET_SIGNALS,
                         .streams = {plain_stream(RDAEMON_STREAM_NULL), fd_stream(77)},
                         .argv = STRINGS("/bin/true")};
        signal(SIGPIPE, SIG_IGN);
        CHECK_REFUSED(rdaemon_exec(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status)), -EBADF);
        CHECK_INT(status.step, RDAEMON_STEP_CONFIG);
        CHECK_INT(status.subject, RDAEMON_STEP_MAP_FDS);
    }
}

TEST(created_files_are_removed_when_a_later_step_fails) {
    const char *out = scratch_path("out");
    check_failure(
        &(Config){.argv = STRINGS("/nonexistent"), .streams = {[1] = file_stream(out, 0, 0)}},
        RDAEMON_STEP_EXEC, -ENOENT);
    check_failure(&(Config){SH(""), .working_directory = "/nonexistent",
                            .streams = {[1] = file_stream(out, 0, 0)}},
                  RDAEMON_STEP_CHDIR, -ENOENT);
    CHECK_STR(tree(scratch()), "");
}

TEST(the_signal_mask_is_the_caller_s_again_after_a_failure) {
    IN_CHILD {
        sigset_t set, now;
        struct rdaemon_status status;
        Config config = {.argv = STRINGS("/nonexistent")};
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_SETMASK, &set, NULL);
        CHECK_INT(QUIET(rdaemon_exec(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status))), -ENOENT);
        sigprocmask(SIG_SETMASK, NULL, &now);
        for (int i = 1; i < 32; i++)
            CHECK_INT(sigismember(&now, i), i == SIGUSR1);
    }
}

static int refuse(void *context) {
    return -*(int *)context;
}

TEST(the_hook_s_result_is_returned) {
    int error = EXDEV;
    check_failure(&(Config){SH(""), .hook = refuse, .hook_context = &error}, RDAEMON_STEP_HOOK,
                  -EXDEV);
}
