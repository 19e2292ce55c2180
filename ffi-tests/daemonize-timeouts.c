/* The time limit of a start: a process that is held up at any of its system calls, by a stop that
 * it cannot know of, is killed and reported with the step it had reached. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"
#include "traced.h"

enum { TIMEOUT_MS = 100 };

static void freeze(struct traced *traced, enum trace_role role, int index) {
    traced->request.action = TRACE_FREEZE;
    traced->request.role = role;
    traced->request.index = index;
    traced_run(traced);
}

static void check_failure(const struct traced *traced) {
    const struct trace_process *daemon = &traced->trace.of[TRACE_DAEMON];
    if (traced->original->result != -ETIMEDOUT)
        FAIL("%s: failed with %s", traced_where(traced), error_name(traced->original->result));
    if (daemon->pid != 0 && daemon->wait_status == 0)
        FAIL("%s: the daemon was not killed", traced_where(traced));
}

/* Marks the steps that were blamed. On a busy machine the time may be over before the process has
 * come to the call where it is to be held up, which makes no difference to what must follow, but
 * to where: returns whether every call was reached. */
static bool freeze_at_each_call(enum trace_role role, int timeout_ms, bool *blamed) {
    struct traced traced;
    int failures = 0;
    bool all_reached = true;
    traced_init(&traced);
    int calls = traced_calls(&traced, role);
    traced.config.timeout_ms = timeout_ms;
    for (int i = 0; i <= calls; i++) {
        freeze(&traced, role, i);
        all_reached &= traced.trace.acted || i == calls; /* which there is not */
        if (traced_answered(&traced, 1400 + timeout_ms))
            continue;
        failures++;
        check_failure(&traced);
        blamed[traced.original->status.step] = true;
    }
    CHECK(failures > 0);
    return all_reached;
}

TEST(a_daemon_held_up_at_each_system_call_is_killed, .time_limit_ms = 120000) {
    bool blamed[RDAEMON_STEP_READY] = {false};
    for (int timeout_ms = TIMEOUT_MS; !freeze_at_each_call(TRACE_DAEMON, timeout_ms, blamed);
         timeout_ms *= 2)
        memset(blamed, false, sizeof blamed);
    for (int step = RDAEMON_STEP_CLOSE_FDS; step <= RDAEMON_STEP_SET_SIGNALS; step++)
        if (!blamed[step] && step != RDAEMON_STEP_CHROOT) /* there is none */
            FAIL("no delay was blamed on %s", rdaemon_step_name(step));
}

TEST(an_intermediate_held_up_at_each_system_call_is_killed, .time_limit_ms = 60000) {
    bool blamed[RDAEMON_STEP_READY] = {false};
    freeze_at_each_call(TRACE_INTERMEDIATE, TIMEOUT_MS, blamed);
    CHECK(blamed[RDAEMON_STEP_DOUBLE_FORK]);
}

TEST(a_limit_that_is_not_reached_changes_nothing) {
    struct rdaemon_config config = {.timeout_ms = 5000};
    double begin = now_ms();
    run_daemon(&config, NULL);
    CHECK(now_ms() - begin < 1000);
}

/* ---- without pidfds, and with an intermediate that is stopped at its fork ---- */

static pid_t original;

static void stop_unless_original(void) {
    if (getpid() != original)
        raise(SIGSTOP);
}

static void start_within_300_ms(struct start *started) {
    struct rdaemon_config config = {.timeout_ms = 300};
    adopt_orphans();
    deny_syscall(SYS_pidfd_open, ENOSYS);
    double begin = now_ms();
    start(started, &config, live_on);
    CHECK(now_ms() - begin < 2000);
}

TEST(the_limit_holds_without_pidfds_for_an_intermediate_stopped_before_its_fork) {
    struct start started;
    original = getpid();
    CHECK_INT(pthread_atfork(stop_unless_original, NULL, NULL), 0);
    start_within_300_ms(&started);
    CHECK_INT(started.result, -ETIMEDOUT);
    CHECK_INT(started.status.step, RDAEMON_STEP_DOUBLE_FORK);
    CHECK_INT(first_child_of(getpid()), 0);
}

/* The daemon may have done every step in time. */
TEST(the_limit_holds_without_pidfds_for_an_intermediate_stopped_after_its_fork) {
    struct start started;
    original = getpid();
    CHECK_INT(pthread_atfork(NULL, stop_unless_original, NULL), 0);
    start_within_300_ms(&started);
    if (started.result > 0) {
        CHECK_INT(first_child_of(getpid()), started.result);
        slay(&started);
    } else {
        CHECK_INT(started.result, -ETIMEDOUT);
    }
    CHECK_INT(first_child_of(getpid()), 0);
}
