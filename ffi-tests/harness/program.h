/*
 * program.h: what child.h does not have for programs that are waited for and spoken to.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <sys/types.h>

#include "child.h"
#include "rdaemon.h"

/* The fields argv and paths that start a program of the system. The case is skipped by the name of
 * one that is missing. */
#define THE_PROGRAM(name, ...) .paths = program_paths(name), .argv = STRINGS(name, ##__VA_ARGS__)
const char *const *program_paths(const char *name);

#define PIPE                                                                                       \
    { .action = RDAEMON_STREAM_PIPE }

/* spawn_well() for a case that needs no more than the handle. */
struct rdaemon_child begin_program(const Config *config);

/* Reads one byte from the child's standard output, or error, once it is there. */
char word_of(const struct rdaemon_child *child, int stream);

/* Waits without a limit; the program must have ended so. */
void exited_with(struct rdaemon_child *child, int status);
void killed_by(struct rdaemon_child *child, int signal_number);

/* The same of what a call told. */
void check_exit(const struct rdaemon_exit *ended, uint32_t kind, int code);

/* Closes the handle; then this process has no child, and no fd but 0 to 2. */
void nothing_is_left(struct rdaemon_child *child);

/* Waits for every process that is this one's to wait for. */
void reap_orphans(void);

/* A gate for a program, which shares no memory: a pipe that is fd GATE_FD there, and whose end of
 * file opens it. GATE_MAP(valve) is a field of its config. */
struct valve {
    int fds[2];
};
enum { GATE_FD = 9 };
#define GATE_MAP(valve)                                                                            \
    .fd_map = (struct rdaemon_fd_mapping[]){map_fd(GATE_FD, (valve).fds[0])}, .fd_map_len = 1
struct valve valve_new(void);
void valve_open(struct valve *valve);
/* For the program. */
void await_valve(void);

/* Interrupts every system call of this process a thousand times a second, from now on. */
void begin_signal_storm(void);
int signals_of_the_storm(void);
void end_signal_storm(void);

#endif
