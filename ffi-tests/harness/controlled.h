/*
 * controlled.h: daemons that a case starts, asks and stops by their pidfile. The calls are those of
 * rdaemon.h; they check that errno is left alone, and that what they return and what they tell go
 * together.
 */
#ifndef CONTROLLED_H
#define CONTROLLED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

/* What the latest call of this thread said, and made. */
extern _Thread_local struct rdaemon_status outcome;
extern _Thread_local struct rdaemon_daemon made;

/* More than any wait here takes, even on a busy machine. */
enum { PATIENCE_MS = 20000 };

int query_by(const char *pidfile);
int signal_by(const char *pidfile, int signal);
int stop_by(const char *pidfile);
int stop_within(const char *pidfile, int term_timeout_ms, int kill_timeout_ms);
int start_by(const struct rdaemon_config *config, const struct rdaemon_worker *worker);
int restart_by(const struct rdaemon_config *config, const struct rdaemon_worker *worker);
int restart_within(const struct rdaemon_config *config, const struct rdaemon_worker *worker,
                   int term_timeout_ms, int kill_timeout_ms);

/* Checks that a call of the above fails with that, and leaves this process and the scratch
 * directory as they were. */
#define CHECK_FAILS(call, failure, at_step, at_subject)                                            \
    do {                                                                                           \
        char files_[4096];                                                                         \
        snprintf(files_, sizeof files_, "%s", tree(scratch()));                                    \
        CHECK_REFUSED(call, failure);                                                              \
        CHECK_STR(rdaemon_step_name(outcome.step), rdaemon_step_name(at_step));                    \
        CHECK_STR(rdaemon_step_name(outcome.subject), rdaemon_step_name(at_subject));              \
        CHECK_STR(tree(scratch()), files_);                                                        \
    } while (0)

/* What a daemon tells, in memory that it shares with the case, and what it is told. */
struct witness {
    atomic_int runs, user1, user2, terminates, exits; /* how often each hook was called */
    atomic_int pid;                                   /* of the daemon that ran last */
    atomic_int answered; /* the process in which on_user1 was called last */
    atomic_int result;   /* run is to return this */
    atomic_bool goes_on; /* on_terminate is to say so, and run to return then */
    struct gate *end;    /* open: run is to return */
};
struct witness *witness_new(void);

/* A worker with all hooks, whose context is the witness, and which runs until it is told. */
struct rdaemon_worker worker_of(struct witness *witness);
int run_until_told(void *context, const struct rdaemon_daemon *daemon);

/* A daemon that must start. Its parent is the case, or whoever adopts the orphans of the caller. */
pid_t launch(const char *pidfile, struct witness *witness);
pid_t launch_with(const struct rdaemon_config *config, const struct rdaemon_worker *worker);
/* Checks that query names it, and that it answers SIGUSR1. */
void check_answers(const char *pidfile, struct witness *witness, pid_t pid);
void check_query(const char *pidfile, int result, pid_t pid);
/* Stops it, which must take no SIGKILL, and reaps it. */
void stop_well(const char *pidfile, pid_t pid);

/* Waits for a daemon that must have been ended by the signal. */
void check_killed(pid_t pid, int signal);

/* Waits until the counter has reached the value. */
void until(const atomic_int *counter, int value);
/* Waits until the process sleeps within a call of the library that looks again and again; it must
 * not end before. */
void wait_for_sleep(pid_t pid);
/* Whether the process has not ended; a zombie has. */
bool is_alive(pid_t pid);

/*
 * Takes two locks that last as long as the process, and returns false when another process has
 * both. Their fds are lower and higher than any of the library's: in whatever order the kernel
 * closes those of a process that ends, one of the two is free before its pidfile is. The files are
 * "alone.low" and "alone.high" of the scratch directory.
 */
bool be_alone(void);

/*
 * A slow death: from hold_end() on the process, a child of the caller, is stopped when it is about
 * to end, and still has all that it had. A signal to it has its effect once await_end() is called,
 * which returns when the process is there.
 */
void hold_end(pid_t pid);
void await_end(pid_t pid);
void let_end(pid_t pid);

/* Runs the body as process 1 of a pid namespace, with a /proc of its own. */
void in_pid_namespace(void (*body)(void));

/* Makes a process with this pid, which must be free; it blocks all signals, and waits. */
pid_t bystander(pid_t pid);
/* Checks that it has got no signal at all; then it is killed and reaped. */
void check_untouched(pid_t bystander);

#endif
