#include "program.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "probe.h"
#include "tap.h"

const char *const *program_paths(const char *name) {
    static char texts[4][64];
    static const char *paths[4][2];
    static const char *const directories[] = {"/bin", "/usr/bin", "/usr/local/bin"};
    static unsigned turn;
    unsigned slot = turn++ % 4;
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(texts[slot], sizeof texts[slot], "%s/%s", directories[i], name);
        if (access(texts[slot], X_OK) == 0) {
            paths[slot][0] = texts[slot];
            return paths[slot];
        }
    }
    SKIP("there is no %s here", name);
}

struct rdaemon_child begin_program(const Config *config) {
    struct spawned spawned;
    spawn_well(&spawned, config);
    return spawned.child;
}

char word_of(const struct rdaemon_child *child, int stream) {
    char word = 0;
    ssize_t got;
    do
        got = read(child->fds[stream], &word, 1);
    while (got < 0 && errno == EINTR);
    CHECK_INT(got, 1);
    return word;
}

void check_exit(const struct rdaemon_exit *ended, uint32_t kind, int code) {
    int dumped = kind == RDAEMON_EXIT_DUMPED ? 0x80 : 0;
    bool exited = kind == RDAEMON_EXIT_EXITED;
    CHECK_INT(ended->kind, kind);
    CHECK_INT(ended->code, code);
    CHECK_INT(ended->returncode, exited ? code : -code);
    CHECK_INT(ended->wait_status, exited ? code << 8 : code | dumped);
}

static void ended_so(struct rdaemon_child *child, uint32_t kind, int code) {
    struct rdaemon_exit ended;
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(child), -1, RDAEMON_SIZED(&ended))), 0);
    check_exit(&ended, kind, code);
}

void exited_with(struct rdaemon_child *child, int status) {
    ended_so(child, RDAEMON_EXIT_EXITED, status);
}

void killed_by(struct rdaemon_child *child, int signal_number) {
    ended_so(child, RDAEMON_EXIT_SIGNALLED, signal_number);
}

void nothing_is_left(struct rdaemon_child *child) {
    CHECK_INT(QUIET(rdaemon_child_close(RDAEMON_SIZED(child))), 0);
    CHECK_INT(child->pidfd, -1);
    for (int i = 0; i < 3; i++)
        CHECK_INT(child->fds[i], -1);
    CHECK_STR(open_fds(0), "0 1 2");
    /* Not /proc: there a child that nobody may wait for is to be seen for an instant longer. */
    CHECK_INT(waitpid(-1, NULL, __WALL | WNOHANG), -1);
    CHECK_INT(errno, ECHILD);
}

/* ---- valves ---- */

void reap_orphans(void) {
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        continue;
}

struct valve valve_new(void) {
    struct valve valve;
    CHECK_INT(pipe2(valve.fds, O_CLOEXEC), 0);
    return valve;
}

void valve_open(struct valve *valve) {
    close(valve->fds[0]);
    close(valve->fds[1]);
}

void await_valve(void) {
    char byte;
    while (read(GATE_FD, &byte, 1) != 0)
        continue;
}

/* ---- storms ---- */

static atomic_int storm_signals;

static void count_signal(int signal_number) {
    (void)signal_number;
    atomic_fetch_add(&storm_signals, 1);
}

void begin_signal_storm(void) {
    struct sigaction action = {.sa_handler = count_signal};
    struct itimerval often = {{0, 1000}, {0, 1000}};
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
}

int signals_of_the_storm(void) {
    return atomic_load(&storm_signals);
}

void end_signal_storm(void) {
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK_INT(setitimer(ITIMER_REAL, &never, NULL), 0);
}
