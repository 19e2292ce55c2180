/*
 * operations.h: the operations that are disturbed, each with all that it can do, and what the
 * processes of one tell each other in shared memory.
 */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "rdaemon.h"

/* What an operation said. */
struct outcome {
    int result;
    struct rdaemon_status status;
    const char *call; /* the one of several that failed, where there is no status */
};

struct operation {
    const char *name;
    /* "1 intermediate, 1.1 daemon": who the processes are, by the names that trace.h gives. */
    const char *processes;
    void (*prepare)(void);                    /* before all; in the process that looks on */
    void (*settle)(void);                     /* in the caller, before the operation */
    void (*begin)(void);                      /* the same, unless there is a daemon already */
    void (*run)(struct outcome *outcome);     /* returns in the caller only */
    void (*release)(struct outcome *outcome); /* in the caller: gives back what it was given */
    void (*look)(void);  /* in the process that looks on: whether what was made serves */
    const char *pidfile; /* in the scratch directory */
    bool makes_daemon;   /* whose pid is the result */
    bool makes_program;  /* which tells of itself in the file "output" */
    bool changes_caller; /* a success is seen in the calling process */
    bool undoes_settle;  /* release undoes what settle has done */
};

extern const struct operation operations[]; /* ends with one that has no name */
const struct operation *operation_named(const char *name);

extern struct scene {
    struct outcome outcome;
    bool returned;    /* the caller has got an answer */
    pid_t old;        /* the daemon that was there before */
    bool same;        /* and it is what it was */
    bool left;        /* a daemon that was killed may have left its pidfile */
    char ended[32];   /* how what was started has ended, if it did not end well */
    char state[4096]; /* what a daemon is, as the kernel tells it */
    atomic_uint word, answered;
    atomic_int answered_by;
    atomic_bool over; /* the daemons are to end */
} * scene;

void scene_new(void);
/* Whether the daemon answers; else it has ended. */
bool daemon_answers(pid_t pid);
void end_daemons(void);
/* The process that prepare has made, or 0. */
extern pid_t manager;

#endif
