/*
 * failing.h: spawns that fail, each at another step, for cases about what a failure leaves behind.
 */
#ifndef FAILING_H
#define FAILING_H

#include <stdbool.h>
#include <stdint.h>

#include "rdaemon.h"

struct failing_spawn {
    const char *name;
    int step, error;
    uint32_t needs;    /* the flags without which it does not fail so */
    uint32_t excludes; /* the flags that it contradicts */
    /* Makes the config fail, for good: by the config or by the state of this process. */
    void (*arrange)(struct rdaemon_spawn_config *config);
};

/* Ends with one that has no name. */
extern const struct failing_spawn failing_spawns[];

/* Whether it can be had with these flags of enum rdaemon_spawn_flags; it adds those it needs. */
bool failing_config(const struct failing_spawn *failing, uint32_t flags,
                    struct rdaemon_spawn_config *config);

/* What failing_config starts from, which would succeed: pipes, a pidfd, a new file, a passed fd and
 * many other options, so that there is something to be left behind. */
void many_options(struct rdaemon_spawn_config *config, uint32_t flags);
/* The parent's end of the pipe among them that is not a standard stream. */
extern int32_t many_options_pipe;

#endif
