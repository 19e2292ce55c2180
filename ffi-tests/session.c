#include "rdaemon.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"
#include "trace.h"

/* ---- setsid ---- */

TEST(setsid_starts_a_session) {
    IN_CHILD {
        CHECK_INT(QUIET(rdaemon_setsid()), getpid());
        CHECK_INT(getsid(0), getpid());
        CHECK_INT(getpgrp(), getpid());
    }
}

TEST(setsid_of_a_leader_is_refused) {
    IN_CHILD {
        setpgid(0, 0);
        CHECK_REFUSED(rdaemon_setsid(), -EPERM);
    }
}

/* ---- double_fork ---- */

struct pids {
    pid_t original, daemon, parent, session, group;
};

static struct pids *pids;

static void record_daemon(void) {
    pids->daemon = getpid();
    pids->parent = getppid();
    pids->session = getsid(0);
    pids->group = getpgrp();
}

/* double_fork, with the daemon recording itself and ending with 42; returns its pid. */
static pid_t fork_daemon(int *ret_pidfd) {
    pids = shared_memory(sizeof *pids);
    pids->original = getpid();
    int result = QUIET(rdaemon_double_fork(ret_pidfd));
    if (result == 0) {
        record_daemon();
        _exit(42);
    }
    return result;
}

TEST(double_fork_returns_the_pid_of_the_daemon) {
    pid_t pid = fork_daemon(NULL);
    CHECK(pid > 0);
    CHECK_INT(WEXITSTATUS(wait_for_exit(pid)), 42);
    CHECK_INT(pids->daemon, pid);
    CHECK_INT(getpid(), pids->original);
}

TEST(double_fork_makes_a_session_that_the_daemon_does_not_lead) {
    pid_t pid = fork_daemon(NULL);
    wait_for_exit(pid);
    CHECK(pids->session != getsid(0));
    CHECK(pids->session != pid);
    CHECK_INT(pids->group, pids->session);
}

TEST(double_fork_leaves_only_the_daemon) {
    struct gate *gate = gate_new();
    pid_t pid = QUIET(rdaemon_double_fork(NULL));
    if (pid == 0) {
        gate_wait(gate);
        _exit(0);
    }
    /* The case adopts orphans: the daemon is its only child, not even a zombie beside it. */
    CHECK_INT(first_child_of(getpid()), pid);
    gate_open(gate);
    CHECK_INT(wait_for_exit(pid), 0);
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST(double_fork_gives_a_pidfd_of_the_daemon) {
    int pidfd = -7;
    pid_t pid = fork_daemon(&pidfd);
    if (pidfd == -1)
        SKIP_PLATFORM("no pidfd here");
    CHECK_INT(pidfd_pid(pidfd), pid);
    CHECK(fd_is_cloexec(pidfd));
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    CHECK_INT(poll(&end, 1, -1), 1);
    wait_for_exit(pid);
    CHECK_INT(pidfd_pid(pidfd), -1);
}

TEST(double_fork_keeps_its_pidfd_off_the_standard_descriptors) {
    int pidfd = -7;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    pid_t pid = fork_daemon(&pidfd);
    wait_for_exit(pid);
    if (pidfd == -1)
        SKIP_PLATFORM("no pidfd here");
    CHECK(pidfd >= 3);
    CHECK(!fd_is_open(0) && !fd_is_open(1) && !fd_is_open(2));
}

TEST(double_fork_without_pidfd_leaves_no_descriptor) {
    static struct snapshot before;
    snapshot_take(&before);
    wait_for_exit(fork_daemon(NULL));
    CHECK(snapshot_same(&before));
}

/* Two numbers for the channel, of which one is free again for the pidfd. */
TEST(double_fork_needs_two_spare_descriptors_and_no_more) {
    for (rlim_t limit = 0; limit <= 8; limit++) {
        IN_CHILD {
            int pidfd = -7;
            for (int fd = 3; fd < 100; fd++)
                close(fd);
            close(0);
            CHECK_INT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){limit, limit}), 0);
            int pid = rdaemon_double_fork(&pidfd);
            while (pid == 0)
                pause();
            if (limit < 5) {
                CHECK_INT(pid, -EMFILE);
            } else {
                CHECK(pidfd >= 3);
                kill(pid, SIGKILL);
            }
        }
        while (wait(NULL) > 0)
            continue;
    }
}

TEST(double_fork_that_cannot_wait_for_the_daemon_leaves_none) {
    IN_CHILD {
        deny_syscall(SYS_ppoll, ENOMEM);
#ifdef SYS_poll
        deny_syscall(SYS_poll, ENOMEM);
#endif
        int pid = rdaemon_double_fork(NULL);
        while (pid == 0)
            pause();
        CHECK_INT(pid, -ENOMEM);
    }
    while (wait(NULL) > 0)
        continue;
}

TEST(double_fork_leaves_no_descriptor_in_the_daemon) {
    pid_t pid = QUIET(rdaemon_double_fork(NULL));
    if (pid == 0) {
        CHECK_STR(open_fds(0), "0 1 2");
        _exit(0);
    }
    CHECK_INT(wait_for_exit(pid), 0);
}

TEST(rule_1_8_double_fork_keeps_the_mask_on_both_sides) {
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMAX);
    sigprocmask(SIG_SETMASK, &set, NULL);
    pid_t pid = QUIET(rdaemon_double_fork(NULL));
    CHECK_INT(sigprocmask(SIG_SETMASK, NULL, &now), 0);
    for (int i = 1; i <= SIGRTMAX; i++)
        CHECK_INT(sigismember(&now, i), sigismember(&set, i));
    if (pid == 0)
        _exit(0);
    CHECK_INT(wait_for_exit(pid), 0);
}

static atomic_int *exits;

static void count_exit(void) {
    atomic_fetch_add(exits, 1);
}

TEST(rule_1_5_intermediate_runs_no_exit_handler_and_flushes_nothing) {
    char text[64] = "";
    int ends[2];
    exits = shared_memory(sizeof *exits);
    atexit(count_exit);
    CHECK_INT(pipe(ends), 0);
    FILE *stream = fdopen(ends[1], "w");
    fputs("once", stream);
    pid_t pid = QUIET(rdaemon_double_fork(NULL));
    if (pid == 0)
        _exit(0);
    CHECK_INT(wait_for_exit(pid), 0);
    CHECK_INT(atomic_load(exits), 0);
    fclose(stream);
    CHECK_INT(read(ends[0], text, sizeof text), 4);
}

TEST(rule_1_3_double_fork_under_an_ignored_sigchld) {
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = QUIET(rdaemon_double_fork(NULL));
    if (pid == 0)
        _exit(0);
    CHECK(pid > 0);
    /* With SIGCHLD ignored this waits until no child is left, and then fails. */
    CHECK_INT(waitpid(pid, NULL, 0), -1);
}

TEST(double_fork_reaps_no_child_of_the_caller) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(5);
    siginfo_t info;
    CHECK_INT(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    wait_for_exit(fork_daemon(NULL));
    CHECK_INT(WEXITSTATUS(wait_for_exit(child)), 5);
}

/* Becomes a user with no other process, who may have `processes` of them. */
static void limit_processes(rlim_t processes) {
    enum { LONELY_UID = 54321 };
    struct rlimit limit = {processes, processes};
    CHECK_INT(setrlimit(RLIMIT_NPROC, &limit), 0);
    CHECK_INT(setuid(LONELY_UID), 0);
}

TEST(rule_1_11_first_fork_that_fails_changes_nothing) {
    REQUIRE_ROOT();
    limit_processes(1);
    prctl(PR_SET_DUMPABLE, 1);
    CHECK_REFUSED(rdaemon_double_fork(NULL), -EAGAIN);
}

TEST(rule_1_11_second_fork_that_fails_is_reported_and_changes_nothing) {
    REQUIRE_ROOT();
    int pidfd = -7;
    limit_processes(2);
    prctl(PR_SET_DUMPABLE, 1);
    CHECK_REFUSED(rdaemon_double_fork(NULL), -EAGAIN);
    CHECK_REFUSED(rdaemon_double_fork(&pidfd), -EAGAIN);
    CHECK_INT(pidfd, -7);
}

/* ---- the process between killed ---- */

enum { NOT_YET = 1 << 30, SURVIVED_A_FAILURE = 7 };

static volatile int *told;

static void fork_and_tell(void *context) {
    (void)context;
    trace_enter();
    int result = rdaemon_double_fork(NULL);
    trace_return(result);
    if (result != 0) {
        *told = result;
        _exit(0);
    }
    while (*told == NOT_YET)
        usleep(200);
    _exit(*told > 0 ? 0 : SURVIVED_A_FAILURE);
}

static void trace_forks(const struct trace_request *request, struct trace_result *result) {
    *told = NOT_YET;
    int error = trace_run(request, 5000, result);
    if (error == -EPERM || error == -ENOSYS || error == -EIO)
        SKIP_PLATFORM("ptrace: %d", error);
    CHECK_INT(error, 0);
    CHECK(!result->hung);
    CHECK(*told != NOT_YET);
}

TEST(double_fork_whose_intermediate_is_killed_leaves_no_unknown_daemon, .time_limit_ms = 30000) {
    struct trace_request request = {.body = fork_and_tell, .action = TRACE_WATCH};
    struct trace_result result;
    int failures = 0;
    told = shared_memory(sizeof *told);
    trace_forks(&request, &result);
    CHECK_INT(*told, result.of[TRACE_DAEMON].pid);
    int calls = result.of[TRACE_INTERMEDIATE].calls;
    CHECK(calls >= 3);
    request.action = TRACE_SIGNAL;
    request.role = TRACE_INTERMEDIATE;
    request.value = SIGKILL;
    for (request.index = 0; request.index <= calls; request.index++) {
        trace_forks(&request, &result);
        CHECK(result.acted);
        const struct trace_process *daemon = &result.of[TRACE_DAEMON];
        failures += *told < 0;
        if (*told > 0 ? *told != daemon->pid : daemon->wait_status == SURVIVED_A_FAILURE << 8)
            FAIL("killed at %s: result %d, and daemon %d ended with %#x",
                 trace_call_name(result.acted_on), *told, (int)daemon->pid,
                 (unsigned)daemon->wait_status);
    }
    CHECK(failures > 0);
}
