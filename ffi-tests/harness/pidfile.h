/*
 * pidfile.h: what the cases about pidfiles are made of. The calls are those of rdaemon.h, with the
 * results below, and check that errno is left alone.
 */
#ifndef PIDFILE_H
#define PIDFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "rdaemon.h"
#include "start.h"

extern struct rdaemon_pidfile pidfile;
extern struct rdaemon_status status;
extern struct rdaemon_pidfile_state state;

int open_pidfile(const char *path);
int open_with(const char *path, struct rdaemon_pidfile_options options);
#define OPEN_WITH(path, ...) open_with(path, (struct rdaemon_pidfile_options){__VA_ARGS__})
int write_pidfile(void);
int remove_pidfile(void);
int close_pidfile(void);
int read_pidfile(const char *path);

/* Opens and writes, as a daemon does. */
void hold(const char *path);

/* A second process that holds a pidfile until it is told to end. */
struct holder {
    pid_t pid;
    struct gate *ready, *end;
};
struct holder start_holder(const char *path, bool writes);
void end_holder(struct holder holder);

void check_state(const char *path, uint32_t kind, pid_t pid, int written);
/* The same, asked by another process: the holder itself must not open its file again. */
void check_state_from_outside(const char *path, uint32_t kind, pid_t pid, int written);
/* The path is refused at once, with nothing changed and nothing given back but the status. */
void check_open_refused(const char *path, int error);
void check_read_refused(const char *path, int error);

void write_file(const char *path, const char *text, size_t length);
/* What this process must have written. */
const char *own_line(void);

#endif
