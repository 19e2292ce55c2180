/*
 * start.h: a daemon for a case: started with rdaemon_daemonize, given a life, and ended.
 */
#ifndef START_H
#define START_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "rdaemon.h"

struct start {
    int result;
    struct rdaemon_daemon daemon;
    struct rdaemon_status status;
};

/*
 * Calls rdaemon_daemonize, with errno and the outputs made recognisable before and checked after.
 * The daemon runs `life` (NULL: nothing) and exits with 0, so only the calling process returns: as
 * the original, or, with result 0, as a daemon that did not detach.
 */
void start(struct start *start, const struct rdaemon_config *config,
           void (*life)(const struct start *start));

/* The same for a start that must succeed; returns the daemon's pid. */
pid_t start_well(struct start *start, const struct rdaemon_config *config,
                 void (*life)(const struct start *start));

/* The same for a start that must fail at `step` with `error`, and must leave this process as it
 * was, the scratch directory included. */
void start_badly(const struct rdaemon_config *config, int step, int error);

/* A life that lasts until a signal ends it. */
void live_on(const struct start *start);

/* Waits for a daemon that must end by itself, with 0. */
void lived(struct start *start);

/* Kills the daemon and waits for it. */
void slay(struct start *start);

/* Makes the calling process the one that can wait for its daemons, as the case itself is. */
void adopt_orphans(void);

/* Starts a daemon, whose life must end by itself. Adopts orphans. */
void run_daemon(const struct rdaemon_config *config, void (*life)(const struct start *start));

/* Milliseconds on the monotonic clock. */
double now_ms(void);

/* The names below a directory, sorted, folders ended by a slash: "a b/ b/c". */
const char *tree(const char *directory);

/* "EPERM" for -EPERM. */
const char *error_name(int error);

/* Writes a file of the scratch directory, or reads one: the text is valid until the next call. */
const char *make_file(const char *name, const char *text);
const char *make_directory(const char *name, mode_t mode);
const char *file_text(const char *path);

/* The file itself, if it is a symlink. */
bool exists(const char *path);
struct stat stat_of(const char *path);
unsigned mode_of(const char *path);

/* A field of /proc/<pid>/stat by its number in proc(5), from 3 on; pid 0 is this process. */
long stat_field(pid_t pid, int number);

/* Waits until the process is in the state of that letter. */
void wait_for_state(pid_t pid, char state);

/* An id that no other process on this machine runs as. */
uid_t lonely_uid(void);

#endif
