/*
 * An error from each system call of each process. Some are survived by another way, which makes a
 * success; any other is reported with a step, and leaves nothing behind.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "tap.h"
#include "traced.h"

static const int errors[] = {EPERM, ENOMEM, ENOSYS, EIO};
enum { ERRORS = sizeof errors / sizeof *errors };

static void fail_call(struct traced *traced, enum trace_role role, int index, int error) {
    traced->request.action = TRACE_ERROR;
    traced->request.role = role;
    traced->request.index = index;
    traced->request.value = error;
    traced_run(traced);
    /* How often the original has to look varies with the pace of the others. */
    CHECK(traced->trace.acted || role == TRACE_ORIGINAL);
}

/* Skipping one of these leaves its work undone, whatever the library does. */
static bool is_the_end_of_something(long number) {
    return number == SYS_close || number == SYS_munmap || number == SYS_unlinkat ||
           number == SYS_ftruncate || number == SYS_rt_sigprocmask || number == SYS_wait4 ||
           number == SYS_waitid;
}

/* An error of it would not be an error but another process's number. */
static bool cannot_fail(long number) {
    return number == SYS_getpid;
}

static void fail_each_call(enum trace_role role) {
    struct traced traced;
    int survived = 0, reported = 0;
    if (!trace_can_fail_calls())
        SKIP_PLATFORM("system calls cannot be failed on this architecture");
    traced_init(&traced);
    int calls = traced_calls(&traced, role);
    for (int i = 1; i <= calls; i++) {
        for (int error = 0; error < ERRORS; error++) {
            traced.compare = error == 0;
            fail_call(&traced, role, i, errors[error]);
            if (role == TRACE_ORIGINAL && is_the_end_of_something(traced.trace.acted_on))
                continue;
            if (cannot_fail(traced.trace.acted_on))
                continue;
            bool success = traced_answered(&traced, 2000);
            if (success)
                CHECK_INT(traced.trace.of[TRACE_DAEMON].wait_status, 0);
            survived += success;
            reported += !success;
        }
    }
    CHECK(reported > 0);
    NOTE("%d errors were survived, %d were reported", survived, reported);
}

TEST_BOTH_FORKS(each_system_call_of_the_original_fails, .time_limit_ms = 120000) {
    fail_each_call(TRACE_ORIGINAL);
}

TEST_BOTH_FORKS(each_system_call_of_the_intermediate_fails, .time_limit_ms = 120000) {
    fail_each_call(TRACE_INTERMEDIATE);
}

TEST_BOTH_FORKS(each_system_call_of_the_daemon_fails, .time_limit_ms = 120000) {
    fail_each_call(TRACE_DAEMON);
}

/* Interrupted calls are taken up again, each in its own way. */
TEST_BOTH_FORKS(each_wait_of_the_original_is_interrupted) {
    struct traced traced;
    if (!trace_can_fail_calls())
        SKIP_PLATFORM("system calls cannot be failed on this architecture");
    traced_init(&traced);
    int calls = traced_calls(&traced, TRACE_ORIGINAL), interrupted = 0;
    for (int i = 1; i <= calls; i++) {
        fail_call(&traced, TRACE_ORIGINAL, i, EINTR);
        long number = traced.trace.acted_on;
        if (number != SYS_wait4 && number != SYS_ppoll && number != SYS_recvmsg &&
            strcmp(trace_call_name(number), "poll") != 0)
            continue;
        interrupted++;
        CHECK(traced_answered(&traced, 2000));
    }
    CHECK(interrupted >= 2);
}
