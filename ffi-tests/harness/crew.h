/*
 * crew.h: threads that work side by side for as long as a case wants, and must go on: one that
 * waits for ever is named, with what it was doing.
 */
#ifndef CREW_H
#define CREW_H

#include <pthread.h>
#include <stdatomic.h>

struct hand {
    const char *name;
    void (*work)(struct hand *hand); /* takes turns until it has done what there is to do */
    unsigned seed;                   /* its own, for rand_r */
    pthread_t thread;
    _Atomic(const char *) doing;
    atomic_long turns;
};

/* A thread says what it does next. */
void take_turn(struct hand *hand, const char *doing);

void crew_start(struct hand *hands, int count);
/* Waits for their end. */
void crew_join(struct hand *hands, int count);

/* A number from the environment, which must be positive; `otherwise` where there is none. */
long setting(const char *variable, long otherwise);

#endif
