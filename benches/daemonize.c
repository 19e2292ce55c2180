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
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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

// The least that makes a daemon of a double fork: its calls alone, with one copy of the memory.
static int begin_session_and_fork(void *cpus) {
    if (setsid() < 0 || (cpus && sched_setaffinity(0, sizeof(cpu_set_t), cpus) != 0))
        _exit(1);
    if (fork() == 0)
        note(STARTED);
    _exit(0);
}

static pid_t bare_calls_restoring(cpu_set_t *cpus) {
    static char stack[64 * 1024] __attribute__((aligned(16)));
    pid_t pid = clone(begin_session_and_fork, stack + sizeof stack, CLONE_VM | CLONE_VFORK, cpus);
    return pid < 0 ? -1 : waitpid(pid, NULL, __WALL);
}

static pid_t bare_calls(void) {
    return bare_calls_restoring(NULL);
}

static pid_t bare_calls_on_this_cpu(void) {
    cpu_set_t cpus, this_cpu;
    CPU_ZERO(&this_cpu);
    CPU_SET(sched_getcpu(), &this_cpu);
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0 ||
        sched_setaffinity(0, sizeof this_cpu, &this_cpu) != 0)
        return -1;
    pid_t pid = bare_calls_restoring(&cpus);
    return sched_setaffinity(0, sizeof cpus, &cpus) != 0 ? -1 : pid;
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
    {"bare", bare_calls},
    {"bare+affinity", bare_calls_on_this_cpu},
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
