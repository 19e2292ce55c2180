/*
 * traced.h: a daemonize with many options under the tracer of trace.h, and what must be true of it
 * whatever happened on the way.
 */
#ifndef TRACED_H
#define TRACED_H

#include "rdaemon.h"
#include "start.h"
#include "trace.h"

/* Whether what traced_init() prepares copies the memory twice. */
extern bool classic_fork;

/* Defines two cases with one body: `name`, and `name_with_the_classic_fork`. */
#define TEST_BOTH_FORKS(test_name, ...)                                                            \
    static void body_##test_name(void);                                                            \
    TEST(test_name, __VA_ARGS__) {                                                                 \
        body_##test_name();                                                                        \
    }                                                                                              \
    TEST(test_name##_with_the_classic_fork, __VA_ARGS__) {                                         \
        classic_fork = true;                                                                       \
        body_##test_name();                                                                        \
    }                                                                                              \
    static void body_##test_name(void)

struct traced {
    struct trace_request request;
    struct rdaemon_config config;            /* set by traced_init, may be changed */
    void (*life)(const struct start *start); /* set to one that lasts until the call returns */
    struct start *original; /* what the call said in the original; result 1 << 30 until it has */
    bool compare;           /* look at the original before and after, which takes its time */
    bool *changed;          /* after a failure the original was not what it had been */
    struct trace_result trace;
};

/* Skips the case where there is no ptrace. */
void traced_init(struct traced *traced);

/* Does it all once, with the request's action; everything has ended when it returns. */
void traced_run(struct traced *traced);

/* How many system calls the process makes, when nothing happens to it. */
int traced_calls(struct traced *traced, enum trace_role role);

/* "daemon, call 7 (close_range)": where the action was, for messages. */
const char *traced_where(const struct traced *traced);

/* Checks that the original has returned, in time, either with success or with a step and an error;
 * and that after a failure nothing is left, no living daemon either. Returns whether it was a
 * success. */
bool traced_answered(const struct traced *traced, double limit_ms);

#endif
