/*
 * A signal to each of the processes at each of its system calls. Whatever dies, the original
 * process returns soon, with success if the daemon had reported and with a step if not; and SIGTERM
 * has its effect after the last step, never in the middle.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "tap.h"
#include "traced.h"

static void aim(struct traced *traced, enum trace_role role, int index, int signal) {
    traced->request.action = TRACE_SIGNAL;
    traced->request.role = role;
    traced->request.index = index;
    traced->request.value = signal;
    traced_run(traced);
    /* How often the original has to look varies with the pace of the others. */
    CHECK(traced->trace.acted || role == TRACE_ORIGINAL);
}

static bool died_of(const struct trace_process *process, int signal) {
    return process->ended && WIFSIGNALED(process->wait_status) &&
           WTERMSIG(process->wait_status) == signal;
}

/* ---- SIGKILL ---- */

TEST_BOTH_FORKS(the_daemon_killed_at_each_system_call, .time_limit_ms = 60000) {
    struct traced traced;
    int failures = 0;
    traced_init(&traced);
    traced.compare = true;
    int calls = traced_calls(&traced, TRACE_DAEMON);
    for (int i = 0; i <= calls; i++) {
        aim(&traced, TRACE_DAEMON, i, SIGKILL);
        CHECK(died_of(&traced.trace.of[TRACE_DAEMON], SIGKILL));
        if (traced_answered(&traced, 2000))
            continue;
        failures++;
        if (traced.original->result != -ESRCH)
            FAIL("%s: failed with %s", traced_where(&traced), error_name(traced.original->result));
        CHECK_INT(traced.original->status.pid, 0);
    }
    CHECK(failures > calls / 2);
}

TEST_BOTH_FORKS(a_killed_daemon_is_blamed_on_the_step_it_had_reached, .time_limit_ms = 60000) {
    struct traced traced;
    int reached = 0, distinct = 0;
    traced_init(&traced);
    int calls = traced_calls(&traced, TRACE_DAEMON);
    for (int i = 0; i <= calls; i++) {
        aim(&traced, TRACE_DAEMON, i, SIGKILL);
        if (traced_answered(&traced, 2000))
            continue;
        int step = traced.original->status.step;
        if (step < reached)
            FAIL("%s: blamed on %s, after %s", traced_where(&traced), rdaemon_step_name(step),
                 rdaemon_step_name(reached));
        distinct += step > reached;
        reached = step;
    }
    CHECK(distinct >= 8);
    CHECK(reached >= RDAEMON_STEP_SET_SIGNALS);
}

TEST_BOTH_FORKS(the_intermediate_killed_at_each_system_call, .time_limit_ms = 60000) {
    struct traced traced;
    int failures = 0;
    traced_init(&traced);
    traced.compare = true;
    int calls = traced_calls(&traced, TRACE_INTERMEDIATE);
    for (int i = 0; i <= calls; i++) {
        aim(&traced, TRACE_INTERMEDIATE, i, SIGKILL);
        CHECK(died_of(&traced.trace.of[TRACE_INTERMEDIATE], SIGKILL));
        if (traced_answered(&traced, 2000)) {
            CHECK(traced.trace.of[TRACE_DAEMON].returned);
            continue;
        }
        failures++;
        CHECK_INT(traced.original->result, -ESRCH);
        CHECK_INT(traced.original->status.signal, SIGKILL);
        CHECK(traced.original->status.step == RDAEMON_STEP_DOUBLE_FORK ||
              traced.original->status.step == RDAEMON_STEP_SETSID);
        CHECK(!traced.trace.of[TRACE_DAEMON].returned);
    }
    CHECK(failures > 0);
}

TEST_BOTH_FORKS(the_original_killed_at_each_system_call, .time_limit_ms = 60000) {
    struct traced traced;
    int survivors = 0;
    traced_init(&traced);
    int calls = traced_calls(&traced, TRACE_ORIGINAL);
    traced.life = NULL; /* the call will not return */
    for (int i = 0; i <= calls; i++) {
        aim(&traced, TRACE_ORIGINAL, i, SIGKILL);
        const struct trace_process *daemon = &traced.trace.of[TRACE_DAEMON];
        CHECK(died_of(&traced.trace.of[TRACE_ORIGINAL], SIGKILL) || !traced.trace.acted);
        if (traced.trace.hung)
            FAIL("%s: something hung", traced_where(&traced));
        if (daemon->pid == 0)
            continue;
        survivors++;
        if (daemon->wait_status != 0 || !daemon->returned)
            FAIL("%s: the daemon ended with wait status %x", traced_where(&traced),
                 daemon->wait_status);
    }
    CHECK(survivors > 0);
}

/* The intermediate dies before it could tell who the daemon is, and the daemon is slow. */
TEST_BOTH_FORKS(a_daemon_whose_intermediate_was_killed_at_each_system_call,
                .time_limit_ms = 120000) {
    struct traced traced;
    traced_init(&traced);
    int calls = traced_calls(&traced, TRACE_DAEMON);
    traced.config.timeout_ms = 100;
    traced.request.action = TRACE_FREEZE; /* until the original has given up */
    traced.request.role = TRACE_DAEMON;
    traced.request.orphan = true;
    for (int i = 0; i <= calls; i++) {
        traced.request.index = i;
        traced_run(&traced);
        traced_answered(&traced, 1500);
    }
}

/* ---- SIGTERM ---- */

TEST_BOTH_FORKS(sigterm_to_the_daemon_at_each_system_call, .time_limit_ms = 60000) {
    struct traced traced;
    int complete = 0;
    traced_init(&traced);
    traced.config.flags |= RDAEMON_KEEP_SIGNALS;
    int calls = traced_calls(&traced, TRACE_DAEMON);
    for (int i = 0; i <= calls; i++) {
        aim(&traced, TRACE_DAEMON, i, SIGTERM);
        const struct trace_process *daemon = &traced.trace.of[TRACE_DAEMON];
        CHECK(traced_answered(&traced, 2000));
        if (!died_of(daemon, SIGTERM) || daemon->returned)
            FAIL("%s: the daemon ended with wait status %x", traced_where(&traced),
                 daemon->wait_status);
        if (i == 0) { /* held back until the mask was restored, which is the last step */
            CHECK_INT(daemon->last, SYS_rt_sigprocmask);
            complete = daemon->calls;
        }
        CHECK(daemon->calls >= complete);
        CHECK_STR(tree(scratch()), "log pid");
    }
}

TEST_BOTH_FORKS(sigterm_that_terminates_at_each_system_call, .time_limit_ms = 60000) {
    struct traced traced;
    traced_init(&traced);
    traced.config.identity.flags = 0; /* or the daemon could not remove its pidfile */
    int calls = traced_calls(&traced, TRACE_DAEMON);
    for (int i = 0; i <= calls; i++) {
        aim(&traced, TRACE_DAEMON, i, SIGTERM);
        const struct trace_process *daemon = &traced.trace.of[TRACE_DAEMON];
        CHECK(traced_answered(&traced, 2000));
        if (!died_of(daemon, SIGTERM) || daemon->returned)
            FAIL("%s: the daemon ended with wait status %x", traced_where(&traced),
                 daemon->wait_status);
        CHECK_STR(tree(scratch()), "log");
    }
}

TEST_BOTH_FORKS(every_signal_is_blocked_during_the_steps_but_those_of_libc,
                .time_limit_ms = 60000) {
    struct traced traced;
    int seen = 0;
    bool in_steps = false;
    traced_init(&traced);
    int calls = traced_calls(&traced, TRACE_DAEMON);
    for (int i = 1; i <= calls; i++) {
        aim(&traced, TRACE_DAEMON, i, 0); /* a look, no signal */
        in_steps |= traced.trace.acted_on == SYS_umask;
        if (!in_steps)
            continue;
        if (traced.trace.blocked !=
            ~(SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(32) | SIGNAL_BIT(33)))
            FAIL("%s: the mask is %jx", traced_where(&traced), (uintmax_t)traced.trace.blocked);
        seen++;
        if (traced.trace.acted_on == SYS_rt_sigprocmask)
            break;
    }
    CHECK(seen > 10);
}

/* What the caller's handler found, in shared memory. */
static struct found {
    atomic_int calls;
    pid_t pid;
    bool complete;
} * found;

static const char *scratch_directory;

static void on_term(int signal) {
    char cwd[4096], target[64];
    found->calls++;
    found->pid = getpid();
    ssize_t length = readlink("/proc/self/fd/0", target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    struct sigaction stop;
    sigaction(SIGTSTP, NULL, &stop);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    found->complete = signal == SIGTERM && getcwd(cwd, sizeof cwd) &&
                      strcmp(cwd, scratch_directory) == 0 && strcmp(target, "/dev/null") == 0 &&
                      stop.sa_handler == SIG_IGN && !sigismember(&mask, SIGUSR1) &&
                      fcntl(1, F_GETFL) & O_APPEND;
}

TEST_BOTH_FORKS(a_callers_sigterm_handler_runs_in_the_complete_daemon_only,
                .time_limit_ms = 60000) {
    struct traced traced;
    struct rdaemon_signal_action map = {.signal = SIGTSTP, .action = RDAEMON_SIGNAL_IGNORE};
    found = shared_memory(sizeof *found);
    traced_init(&traced);
    scratch_directory = scratch();
    traced.config.signal_map = &map; /* which leaves SIGTERM to the caller */
    traced.config.signal_map_len = 1;
    signal(SIGTERM, on_term);
    int calls = traced_calls(&traced, TRACE_DAEMON);
    for (int i = 0; i <= calls; i++) {
        memset(found, 0, sizeof *found);
        aim(&traced, TRACE_DAEMON, i, SIGTERM);
        const struct trace_process *daemon = &traced.trace.of[TRACE_DAEMON];
        CHECK(traced_answered(&traced, 2000));
        CHECK_INT(daemon->wait_status, 0);
        if (found->calls != 1 || found->pid != daemon->pid || !found->complete)
            FAIL("%s: the handler ran %d times, in process %d of %d, %s", traced_where(&traced),
                 found->calls, found->pid, daemon->pid,
                 found->complete ? "at the end" : "in the middle");
    }
}

TEST_BOTH_FORKS(sigterm_to_the_intermediate_at_each_system_call, .time_limit_ms = 60000) {
    struct traced traced;
    found = shared_memory(sizeof *found);
    traced_init(&traced);
    scratch_directory = scratch();
    signal(SIGTERM, on_term);
    int calls = traced_calls(&traced, TRACE_INTERMEDIATE);
    for (int i = 0; i <= calls; i++) {
        memset(found, 0, sizeof *found);
        aim(&traced, TRACE_INTERMEDIATE, i, SIGTERM);
        traced_answered(&traced, 2000);
        CHECK_INT(found->calls, 0); /* the caller's handler has no business in there */
    }
}
