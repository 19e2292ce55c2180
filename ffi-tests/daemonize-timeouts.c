/* The time limit of a start: a process that is held up at any of its system calls, by a stop that
 * it cannot know of, is killed and reported with the step it had reached. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "tap.h"
#include "traced.h"

enum { TIMEOUT_MS = 40 };

static void freeze(struct traced *traced, enum trace_role role, int index) {
    traced->request.action = TRACE_FREEZE;
    traced->request.role = role;
    traced->request.index = index;
    traced_run(traced);
    CHECK(traced->trace.acted);
}

static void freeze_at_each_call(enum trace_role role) {
    struct traced traced;
    int failures = 0;
    traced_init(&traced);
    traced.config.timeout_ms = 2000;
    int calls = traced_calls(&traced, role);
    traced.config.timeout_ms = TIMEOUT_MS;
    for (int i = 0; i <= calls; i++) {
        freeze(&traced, role, i);
        if (traced_answered(&traced, 1500))
            continue;
        failures++;
        const struct trace_process *daemon = &traced.trace.of[TRACE_DAEMON];
        if (traced.original->result != -ETIMEDOUT)
            FAIL("%s: failed with %s", traced_where(&traced), error_name(traced.original->result));
        if (daemon->pid != 0 && daemon->returned)
            FAIL("%s: the daemon came to life", traced_where(&traced));
        if (daemon->pid != 0 && daemon->wait_status == 0)
            FAIL("%s: the daemon was not killed", traced_where(&traced));
    }
    CHECK(failures > 0);
}

TEST(a_daemon_held_up_at_each_system_call_is_killed, .time_limit_ms = 60000) {
    freeze_at_each_call(TRACE_DAEMON);
}

TEST(an_intermediate_held_up_at_each_system_call_is_killed, .time_limit_ms = 60000) {
    freeze_at_each_call(TRACE_INTERMEDIATE);
}

TEST(the_step_that_took_too_long_is_named, .time_limit_ms = 60000) {
    struct traced traced;
    bool seen[RDAEMON_STEP_READY] = {false};
    traced_init(&traced);
    traced.config.timeout_ms = 2000;
    int calls = traced_calls(&traced, TRACE_DAEMON);
    traced.config.timeout_ms = TIMEOUT_MS;
    for (int i = 1; i <= calls; i++) {
        freeze(&traced, TRACE_DAEMON, i);
        if (!traced_answered(&traced, 1500))
            seen[traced.original->status.step] = true;
    }
    for (int step = RDAEMON_STEP_CLOSE_FDS; step <= RDAEMON_STEP_SET_SIGNALS; step++)
        if (!seen[step] && step != RDAEMON_STEP_CHROOT)
            FAIL("no delay was blamed on %s", rdaemon_step_name(step));
}

TEST(a_limit_that_is_not_reached_changes_nothing) {
    struct rdaemon_config config = {.timeout_ms = 5000};
    double begin = now_ms();
    run_daemon(&config, NULL);
    CHECK(now_ms() - begin < 1000);
}
