/*
 * child.h: a program started with rdaemon_spawn for a case, and what it tells of itself.
 */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "rdaemon.h"
#include "tap.h"

/* Added to the flags of every config that passes through here: 0 or RDAEMON_SPAWN_FORCE_FORK. */
extern uint32_t way;
/* Whether they are taken to rdaemon_exec instead, in a process forked for it. */
extern bool by_exec;

/* Defines two cases with one body: `name`, and `name_forked` where the child is made by fork. */
#define TEST_BOTH_WAYS(test_name, ...)                                                             \
    static void test_name##_body(void);                                                            \
    TEST(test_name, __VA_ARGS__) {                                                                 \
        way = 0;                                                                                   \
        test_name##_body();                                                                        \
    }                                                                                              \
    TEST(test_name##_forked, __VA_ARGS__) {                                                        \
        way = RDAEMON_SPAWN_FORCE_FORK;                                                            \
        test_name##_body();                                                                        \
    }                                                                                              \
    static void test_name##_body(void)

/* The same, and `name_by_exec`. */
#define TEST_EACH_WAY(test_name, ...)                                                              \
    static void test_name##_body(void);                                                            \
    TEST(test_name##_by_exec, __VA_ARGS__) {                                                       \
        by_exec = true;                                                                            \
        test_name##_body();                                                                        \
    }                                                                                              \
    TEST_BOTH_WAYS(test_name, __VA_ARGS__)

/* What an argv and a list of strings are made of. */
#define STRINGS(...)                                                                               \
    (const char *const[]) {                                                                        \
        __VA_ARGS__, NULL                                                                          \
    }
/* The fields argv and paths that start a HELPER of this program. */
#define THE_HELPER(helper_name, ...)                                                               \
    .paths = STRINGS("/proc/self/exe"),                                                            \
    .argv = STRINGS("helper", "--helper", #helper_name, ##__VA_ARGS__)

typedef struct rdaemon_spawn_config Config;

struct rdaemon_stream plain_stream(uint32_t action);
struct rdaemon_stream fd_stream(int fd);
struct rdaemon_stream file_stream(const char *path, int flags, uint32_t mode);
struct rdaemon_fd_mapping map_fd(int child_fd, int fd);

/* Makes that fd a file of its own; flags are 0 or O_CLOEXEC. */
void open_at(int fd, int flags);

struct spawned {
    int result;
    struct rdaemon_child child;
    struct rdaemon_status status;
};

/* Calls rdaemon_spawn, with errno and the outputs made recognisable before and checked after. */
void spawn(struct spawned *spawned, const Config *config);

/* The same for a spawn that must succeed; returns the pid. */
pid_t spawn_well(struct spawned *spawned, const Config *config);

/* The same for a spawn that must fail at `step` with `error`, and must leave this process as it
 * was, the scratch directory included. */
void spawn_badly(const Config *config, int step, int error);
#define SPAWN_BADLY(step, error, ...) spawn_badly(&(Config){__VA_ARGS__}, step, error)

/* Waits for the program, closes what the handle holds, and returns the wait status. */
int reap(struct spawned *spawned);
/* Kills it before. */
void kill_and_reap(struct spawned *spawned);

/*
 * Runs the program and returns its standard output, which is valid until the next call. The stream
 * is made a pipe unless the config says what else it is: then the text is empty. The program must
 * end with 0.
 */
const char *output_of(const Config *config);
#define OUTPUT_OF(...) output_of(&(Config){__VA_ARGS__})
/* The length of the latest of these outputs, for one with NULs. */
extern size_t output_length;

/*
 * Runs a program that reports on itself, with the config's own argv and paths only if it has any,
 * and waits for its end. With a chroot_directory that is to be jail()'s.
 */
void report_of(const Config *config);
/* The same, and the caller must stay as it is. */
void report_quietly(const Config *config);
#define REPORT(...) report_quietly(&(Config){__VA_ARGS__})

/* The same, but returns while the program is stopped, after its report. */
void report_and_stop(struct spawned *spawned, const Config *config);

/*
 * The latest report's value of a key. Keys, with an example of a value:
 *     pid ppid pgid sid   12
 *     terminal        1 when /dev/tty can be opened, else 0
 *     foreground      1 when its process group is the terminal's foreground one
 *     umask           022
 *     cwd root        device:inode, as identity_of() writes it
 *     uid gid         0 0 0 (real, effective, saved)
 *     groups          5 6
 *     blocked ignored caught  0000000000000000 (signal 1 in the lowest bit)
 *     no_new_privs death_signal   0
 *     limit.7         1024:4096 (RLIMIT_NOFILE is 7)
 *     fds             0 1 2 5
 *     fd.5            device:inode and access mode, as identity_of_fd() writes it
 *     flags.5         102001 (octal, as F_GETFL tells)
 */
const char *told(const char *key);
bool told_signal(const char *key, int signal_number);
pid_t told_pid(const char *key);

/* "device:inode" of a path; "device:inode:r", w or rw of an fd. Valid until the eighth call after.
 */
const char *identity_of(const char *path);
const char *identity_of_fd(int fd);

/* Whether the process' fd and one of this process are one open file description. */
bool shares_description(pid_t pid, int its_fd, int own_fd);

/* A directory as a root in which a program of this system can run, and the reporting one is. Needs
 * root or a user namespace: else the case is skipped. */
const char *jail(void);

#endif
