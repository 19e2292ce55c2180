/*
 * worker.h: a daemon with a worker for a case, whose hooks count themselves in shared memory.
 */
#ifndef WORKER_H
#define WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "rdaemon.h"
#include "start.h"

/* How often something has happened, in whichever process, for whoever waits for it. */
typedef atomic_int Count;
void bump(Count *count);
void await(Count *count, int at_least);

/* What the hooks and the functions below tell, and are told. new_worker() makes it anew. */
struct tally {
    Count runs, user1, user2, terminates, exits;
    Count strangers; /* hooks that ran in another process than run did */
    Count stage;     /* the case's own */
    atomic_int daemon;
    atomic_int go_on;    /* what on_terminate answers */
    atomic_int file_was; /* at_exit: 1 when the pidfile was there, and not empty; else -1 */
    char pidfile[512];   /* "": none that at_exit could look at */
};
extern struct tally *tally;

/* Every hook there is; each checks its context. */
struct rdaemon_worker new_worker(int (*run)(void *context, const struct rdaemon_daemon *daemon));

/* run's part in the counting: it begins with this. */
void begin_run(void *context);
/* A run that lasts until a signal ends it. */
int run_on(void *context, const struct rdaemon_daemon *daemon);
/* A run that returns 7 once tally->stage is 1. */
int run_until_stage_1(void *context, const struct rdaemon_daemon *daemon);

/* A config with the pidfile "pid" in the scratch directory. */
struct rdaemon_config worker_config(void);

/* Calls rdaemon_control_start, with errno and the outputs made recognisable before and checked
 * after. */
int call_start(struct start *start, const struct rdaemon_config *config,
               const struct rdaemon_worker *worker);
/* The same for a start that must succeed; returns the daemon's pid once run has begun. */
pid_t start_worker(struct start *start, const struct rdaemon_config *config,
                   const struct rdaemon_worker *worker);

/* Waits for the daemon, which must end so, at_exit having run once and the pidfile being gone;
 * closes the pidfd. */
void worker_exited(struct start *start, int status);
void worker_killed_by(struct start *start, int signal_number);
/* Where both came at once, and either is true. */
void worker_exited_or_killed(struct start *start, int status, int signal_number);
/* The wait status alone. */
int worker_end(struct start *start);

#endif
