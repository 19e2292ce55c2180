/*
 * Runs a function in a child of its own under ptrace, follows every process that it makes, and acts
 * on one of them at one of its system calls: a signal, or an error in place of the call. This is
 * how a test reaches the moments between two steps, which no clock can hit.
 *
 * The caller becomes the tracer of all of them, so it must have no other children, and should be a
 * subreaper.
 */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Who made whom: the body runs in the original, whose first child is the intermediate, whose first
 * child is the daemon. */
enum trace_role { TRACE_ORIGINAL, TRACE_INTERMEDIATE, TRACE_DAEMON, TRACE_OTHER, TRACE_ROLES };

enum trace_action {
    TRACE_WATCH,  /* change nothing */
    TRACE_SIGNAL, /* send signal `value` while the process is stopped at the entry of the call */
    TRACE_ERROR,  /* skip the call, which then fails with errno `value` */
    TRACE_ERROR_AFTER, /* let the call do its work, and fail with errno `value` */
    TRACE_FREEZE,      /* hold the process in the stop until the original has returned or ended */
    TRACE_DO           /* run `deed` in the tracer meanwhile */
};

struct trace_request {
    void (*body)(void *context); /* runs in the original; must not return in another process */
    void *context;
    enum trace_action action;
    enum trace_role role;
    int index; /* 0 is the process' birth (for the original: trace_enter), n its n-th system call
                  from there */
    int value;
    void (*deed)(void *context);
    bool orphan; /* kill the intermediate at the same moment */
    /* In place of role and index: is told of each system call between trace_enter in the original
     * and trace_return or a successful execve in each process, and says whether to act there.
     * The original is "", its first child "1", and the second child of that "1.2". */
    bool (*choose)(void *context, const char *process, long number, const uint64_t *arguments);
    void (*original_ended)(void *context); /* NULL: nothing */
};

struct trace_process {
    pid_t pid; /* 0: it was never made */
    int calls; /* system calls between birth (or trace_enter) and trace_return, that one not counted
                */
    long last; /* the number of the latest of them */
    bool entered; /* has called trace_enter; true from birth for all but the original */
    bool returned;
    int returned_with; /* the value given to trace_return */
    bool ended;
    int wait_status;
};

struct trace_result {
    struct trace_process of[TRACE_ROLES]; /* TRACE_OTHER: the latest of them */
    bool acted;                           /* the requested point was reached */
    long acted_on;                        /* the number of the system call there, -1 at a birth */
    uint64_t blocked;                     /* the signal mask there, signal 1 in bit 0 */
    char survivors[64]; /* "1.1 2": who was alive when the original returned a failure */
    bool hung;          /* the time limit ran out; everything was killed */
    double answered_ms; /* from the action to the original's trace_return or end */
};

/* Marks for the tracer, made by the body around the call under test. Async-signal-safe; harmless
 * without a tracer. */
void trace_enter(void);
void trace_return(int value);

/* 0, or a negative errno when ptrace is not available. Returns when every process that it traced
 * has ended. */
int trace_run(const struct trace_request *request, int limit_ms, struct trace_result *result);

/* Whether TRACE_ERROR is implemented for this architecture. */
bool trace_can_fail_calls(void);

/* "close_range", or the number for a call that has no name here. */
const char *trace_call_name(long number);

#endif
