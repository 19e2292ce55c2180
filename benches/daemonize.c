// One daemon, made in one way: when it was begun, when the caller went on, and when the daemon
// made its first instruction.
//
//   daemonize METHOD MIB BOARD
//
// MIB MiB of this process are resident. The three moments, in nanoseconds of CLOCK_MONOTONIC, get
// into the file BOARD.

#include "bench.h"
#include "rdaemon.h"

#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_LIBDAEMON
#include <libdaemon/daemon.h>
#endif

enum moment { BEGUN, GOES_ON, STARTED, MOMENTS };

static volatile uint64_t *board;

// The first time counts.
static void note(enum moment moment) {
    uint64_t here = now();
    if (board[moment] == 0)
        board[moment] = here;
}

static pid_t ours(uint32_t flags) {
    const struct rdaemon_config config = {.flags = flags, .detach = RDAEMON_DETACH_YES};
    int pid = rdaemon_daemonize(RDAEMON_SIZED(&config), NULL, 0, NULL, 0);
    errno = pid < 0 ? -pid : 0;
    return pid;
}

static pid_t ours_copying_once(void) {
    return ours(0);
}

static pid_t ours_classic(void) {
    return ours(RDAEMON_CLASSIC_FORK);
}

static pid_t ours_double_fork(void) {
    int pid = rdaemon_double_fork(NULL);
    errno = pid < 0 ? -pid : 0;
    return pid;
}

static void note_that_it_goes_on(void) {
    note(GOES_ON);
}

// The caller ends inside of it, as soon as it has forked.
static pid_t libc_daemon(void) {
    need(pthread_atfork(NULL, note_that_it_goes_on, NULL) == 0, "pthread_atfork");
    return daemon(0, 0);
}

#ifdef HAVE_LIBDAEMON
// As its example has it.
static pid_t libdaemon(void) {
    if (daemon_retval_init() < 0)
        return -1;
    pid_t pid = daemon_fork();
    if (pid > 0)
        return daemon_retval_wait(20) == 0 ? pid : -1;
    if (pid == 0)
        return daemon_close_all(-1) < 0 || daemon_retval_send(0) < 0 ? -1 : 0;
    return pid;
}
#endif

static const struct method {
    const char *name;
    pid_t (*daemonize)(void);
} methods[] = {
    {"fork", fork},
    {"ours", ours_copying_once},
    {"ours+classic", ours_classic},
    {"ours+forks", ours_double_fork},
    {"daemon", libc_daemon},
#ifdef HAVE_LIBDAEMON
    {"libdaemon", libdaemon},
    {"libdaemon+forks", daemon_fork},
#endif
};

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("glibc %s\n", gnu_get_libc_version());
        return 0;
    }
    errno = EINVAL;
    need(argc == 4, "usage: daemonize METHOD MIB BOARD");
    const struct method *method = NAMED(argv[1], methods);
    need(method != NULL, argv[1]);
    int file = open(argv[3], O_RDWR | O_CLOEXEC);
    need(file >= 0, argv[3]);
    board = mmap(NULL, MOMENTS * sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    need(board != MAP_FAILED, "mmap");
    close(file);
    need(become_large(strtoul(argv[2], NULL, 10)) == 0, "memory");

    note(BEGUN);
    pid_t pid = method->daemonize();
    note(pid == 0 ? STARTED : GOES_ON);
    need(pid >= 0, method->name);
    _exit(0);
}
