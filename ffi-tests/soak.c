/*
 * Eight threads that start, talk to, signal and stop programs and daemons, in a storm of signals,
 * for a long time: fds, processes, memory and everything else that the process has are the same
 * after it as before.
 *
 * RDAEMON_SOAK_SECONDS is how long: 10. The counts of before are those after the first fifth of
 * that, or after a minute, when all has been touched that is made once and kept, as stacks are.
 */
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>

#include "child.h"
#include "crew.h"
#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

enum { HANDS = 8, PIDFILES = 4, LIMIT_MS = 120000, MOST_TEXT = 100000, LEAST = 10 };

/* What is rare may write to a page of a stack or of libc's data for the first time after the counts
 * of before. No leak hides in that: what is mapped and what is allocated may not grow at all. */
enum { RARE_KB = 64 };

static double end_ms;
static pid_t reaper;
static atomic_long caught, refused, lost;
static char text[MOST_TEXT], outputs[HANDS][MOST_TEXT];
static struct hand hands[HANDS];

static unsigned below(struct hand *hand, unsigned limit) {
    return (unsigned)rand_r(&hand->seed) % limit;
}

static void name_file(char path[512], const char *kind, unsigned number) {
    snprintf(path, 512, "%s/%s.%u", scratch(), kind, number);
}

/* ---- programs ---- */

static int hook(void *context) {
    (void)context;
    return 0;
}

static void spawn_one(struct hand *hand) {
    static const uint32_t flags[] = {0, RDAEMON_SPAWN_PIDFD, RDAEMON_SPAWN_FORCE_FORK,
                                     RDAEMON_SPAWN_DETACHED};
    bool found = below(hand, 4) > 0;
    struct rdaemon_spawn_config config = {
        .flags = flags[below(hand, 4)],
        .argv = found ? STRINGS("/bin/true") : STRINGS("/nonexistent/rdaemon"),
        .hook = below(hand, 4) == 0 ? hook : NULL,
        .streams[1].action = below(hand, 2) ? RDAEMON_STREAM_PIPE : RDAEMON_STREAM_NULL,
    };
    struct rdaemon_child child;
    int result = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0);
    if (!found) {
        CHECK_INT(result, -ENOENT);
        return;
    }
    CHECK(result > 0);
    CHECK_INT(rdaemon_child_wait(RDAEMON_SIZED(&child), LIMIT_MS, NULL, 0),
              config.flags & RDAEMON_SPAWN_DETACHED ? -ECHILD : 0);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
}

static void communicate(struct hand *hand) {
    char *output = outputs[hand - hands];
    struct rdaemon_spawn_config config = {.argv = STRINGS("/bin/cat")};
    struct rdaemon_communication talk = {.input = text,
                                         .input_len = below(hand, MOST_TEXT),
                                         .outputs[0] = {.buffer = output, .size = MOST_TEXT}};
    struct rdaemon_exit end;
    CHECK_INT(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), LIMIT_MS,
                          RDAEMON_SIZED(&end), NULL, 0),
              0);
    CHECK_INT(end.wait_status, 0);
    CHECK(talk.outputs[0].len == talk.input_len && memcmp(output, text, talk.input_len) == 0);
}

static void communicate_in_vain(struct hand *hand) {
    struct rdaemon_spawn_config config = {.argv = STRINGS("/bin/sleep", "1000")};
    struct rdaemon_communication talk = {.input = text, .input_len = MOST_TEXT};
    CHECK_INT(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), (int)below(hand, 5), NULL,
                          0, NULL, 0),
              -ETIMEDOUT);
}

static void signal_and_stop(struct hand *hand) {
    static const int signals[] = {SIGCONT, SIGSTOP, SIGWINCH, SIGURG};
    struct rdaemon_spawn_config config = {.flags = RDAEMON_SPAWN_PIDFD,
                                          .argv = STRINGS("/bin/sleep", "1000"),
                                          .streams[0].action = RDAEMON_STREAM_PIPE};
    struct rdaemon_child child;
    struct rdaemon_exit end;
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0) > 0);
    for (int i = 0; i < 50; i++)
        CHECK_INT(rdaemon_child_signal(RDAEMON_SIZED(&child), signals[below(hand, 4)]), 0);
    CHECK_INT(rdaemon_child_stop(RDAEMON_SIZED(&child), (int)below(hand, 20), LIMIT_MS,
                                 RDAEMON_SIZED(&end)),
              0);
    CHECK(end.kind == RDAEMON_EXIT_SIGNALLED && (end.code == SIGTERM || end.code == SIGKILL));
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
}

/* ---- daemons ---- */

/* A daemon runs; or another thread's child has a copy of the lock for as long as it lives. */
static bool is_held(int result) {
    refused += result == -EEXIST;
    return result == -EEXIST;
}

static void await_daemon(struct rdaemon_daemon *daemon) {
    struct pollfd end = {.fd = daemon->pidfd, .events = POLLIN};
    CHECK(daemon->pidfd >= 3);
    while (poll(&end, 1, -1) < 0)
        CHECK_INT(errno, EINTR);
    CHECK_INT(close(daemon->pidfd), 0);
}

static void daemonize(struct hand *hand) {
    char log[512], pidfile[512];
    name_file(log, "log", 0);
    name_file(pidfile, "own", (unsigned)(hand - hands));
    bool fails = below(hand, 4) == 0;
    struct rdaemon_config config = {.flags = RDAEMON_NOTIFY_READY,
                                    .pidfile = below(hand, 2) ? pidfile : NULL,
                                    .working_directory = fails ? "/nonexistent" : NULL,
                                    .streams[2] = {.action = RDAEMON_STREAM_FILE, .path = log}};
    struct rdaemon_daemon daemon;
    int result = rdaemon_daemonize(RDAEMON_SIZED(&config), RDAEMON_SIZED(&daemon), NULL, 0);
    if (result == 0) {
        if (config.pidfile)
            rdaemon_pidfile_remove(RDAEMON_SIZED(&daemon.pidfile));
        CHECK_INT(rdaemon_ready(daemon.ready_fd), 0);
        _exit(0);
    }
    if (is_held(result))
        return;
    if (fails) {
        CHECK_INT(result, -ENOENT);
        return;
    }
    CHECK(result > 0);
    CHECK_INT(rdaemon_wait_ready(daemon.ready_fd, daemon.pidfd, -1, NULL, 0), 0);
    CHECK_INT(close(daemon.ready_fd), 0);
    await_daemon(&daemon);
}

static int run(void *context, const struct rdaemon_daemon *daemon) {
    rdaemon_ready(daemon->ready_fd);
    while (context)
        pause();
    return 0;
}

static void ignore_user1(void *context) {
    (void)context;
}

static void start_daemon(struct hand *hand) {
    char pidfile[512];
    name_file(pidfile, "pid", below(hand, PIDFILES));
    struct rdaemon_config config = {.flags = below(hand, 2) ? RDAEMON_NOTIFY_READY : 0,
                                    .pidfile = pidfile};
    struct rdaemon_worker worker = {
        .run = run, .on_user1 = ignore_user1, .context = below(hand, 4) ? pidfile : NULL};
    struct rdaemon_daemon daemon;
    int result = below(hand, 2)
                     ? rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                             RDAEMON_SIZED(&daemon), NULL, 0)
                     : rdaemon_control_restart(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                               (int)below(hand, 50), LIMIT_MS,
                                               RDAEMON_SIZED(&daemon), NULL, 0);
    lost += result == -ESRCH; /* another thread has stopped it before it could report */
    if (is_held(result) || result == -ESRCH)
        return;
    CHECK(result > 0);
    CHECK_INT(close(daemon.pidfd), 0);
}

static void stop_daemon(struct hand *hand) {
    char pidfile[512];
    name_file(pidfile, "pid", below(hand, PIDFILES));
    int result = below(hand, 4)
                     ? rdaemon_control_stop(pidfile, (int)below(hand, 50), LIMIT_MS, NULL, 0)
                     : rdaemon_control_signal(pidfile, SIGKILL, NULL, 0);
    CHECK(result >= 0);
}

static void signal_daemon(struct hand *hand) {
    char pidfile[512];
    int pidfd;
    name_file(pidfile, "pid", below(hand, PIDFILES));
    for (int i = 0; i < 20; i++)
        CHECK(rdaemon_control_signal(pidfile, SIGUSR1, NULL, 0) >= 0);
    CHECK(rdaemon_control_query(pidfile, &pidfd, NULL, 0) >= 0);
    CHECK(pidfd < 0 || close(pidfd) == 0);
}

/* ---- the rest ---- */

static void own_pidfile(struct hand *hand) {
    char path[512];
    struct rdaemon_pidfile pidfile;
    name_file(path, "own", (unsigned)(hand - hands));
    int result = rdaemon_pidfile_open(path, NULL, 0, RDAEMON_SIZED(&pidfile), NULL, 0);
    if (is_held(result))
        return;
    CHECK_INT(result, 0);
    CHECK_INT(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)), 0);
    CHECK_INT(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), 0);
    CHECK_INT(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile)), 0);
}

static void take_signals(struct hand *hand) {
    static const int32_t number = SIGUSR2;
    sigset_t set;
    (void)hand;
    int fd = rdaemon_signals_open(&number, 1);
    CHECK(fd >= 3);
    CHECK_INT(pthread_kill(pthread_self(), SIGUSR2), 0);
    CHECK_INT(rdaemon_signals_next(fd, LIMIT_MS, NULL, 0), SIGUSR2);
    CHECK_INT(close(fd), 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK_INT(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
}

static void pump(struct hand *hand) {
    char path[512];
    name_file(path, "no-log", 0);
    struct rdaemon_syslog_options options = {
        .flags = RDAEMON_SYSLOG_LATER, .ident = "soak", .path = path};
    struct rdaemon_syslog log;
    CHECK_INT(rdaemon_syslog_open(RDAEMON_SIZED(&options), RDAEMON_SIZED(&log)), 0);
    int fd = rdaemon_log_pump(RDAEMON_SIZED(&log), LOG_INFO, NULL, 0);
    CHECK(fd >= 3);
    CHECK(write(fd, text, below(hand, 1000)) >= 0);
    CHECK_INT(close(fd), 0);
    CHECK_INT(rdaemon_syslog_close(RDAEMON_SIZED(&log)), 0);
}

/* In a process of its own, as they are the whole process's. */
static void close_stdio(struct hand *hand) {
    unsigned subset = 1 + below(hand, 7);
    static void (*const deeds[])(struct hand *) = {spawn_one, communicate, daemonize, start_daemon};
    unsigned deed = below(hand, 4);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int fd = 0; fd < 3; fd++)
            if (subset >> fd & 1)
                close(fd);
        deeds[deed](hand);
        _exit(0);
    }
    CHECK_INT(wait_for_exit(child), 0);
}

static const struct {
    const char *name;
    void (*act)(struct hand *hand);
} deeds[] = {
    {"spawn", spawn_one},
    {"communicate", communicate},
    {"communicate in vain", communicate_in_vain},
    {"signal and stop a program", signal_and_stop},
    {"daemonize", daemonize},
    {"start a daemon", start_daemon},
    {"stop a daemon", stop_daemon},
    {"signal a daemon", signal_daemon},
    {"open and remove a pidfile", own_pidfile},
    {"take a signal", take_signals},
    {"start and end a log pump", pump},
    {"closed stdio", close_stdio},
};
enum { DEEDS = sizeof deeds / sizeof *deeds };
static atomic_long done[DEEDS];
static long done_before[DEEDS];

/* However slow the machine, all has been done before it is time to count. */
static bool all_done(void) {
    for (int i = 0; i < DEEDS; i++)
        if (done[i] < done_before[i] + LEAST)
            return false;
    return true;
}

static bool is_over(void) {
    return now_ms() >= end_ms && all_done();
}

/* Libc keeps the first pages of a stack for the next thread: those that no thread has used yet
 * would count as growth later. */
static void touch_stack(void) {
    volatile char pages[64 * 1024];
    for (size_t i = 0; i < sizeof pages; i += 1024)
        pages[i] = 0;
}

static void work(struct hand *hand) {
    touch_stack();
    while (!is_over()) {
        unsigned deed = below(hand, DEEDS);
        take_turn(hand, deeds[deed].name);
        deeds[deed].act(hand);
        done[deed]++;
    }
}

/* ---- the storm ---- */

static void count_signal(int signal_number) {
    (void)signal_number;
    caught++;
}

/* To the process: the kernel takes one thread after the other. */
static void storm(struct hand *hand) {
    touch_stack();
    while (!is_over()) {
        take_turn(hand, "kill");
        for (int i = 0; i < 10; i++)
            CHECK_INT(kill(getpid(), i % 2 ? SIGUSR1 : SIGALRM), 0);
        usleep(1000);
    }
}

/* ---- what the process has ---- */

struct possessions {
    struct snapshot snapshot;
    char files[1024];
    int fds, processes;
    long mapped_kb, resident_kb, allocated;
};

static int count_words(const char *words) {
    int count = *words != '\0';
    for (; *words; words++)
        count += *words == ' ';
    return count;
}

/* Exact, where the counters of /proc/self/status may be late. */
static long resident_kb(void) {
    char line[256];
    long total = 0, value;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Anonymous: %ld", &value) == 1 || sscanf(line, "Swap: %ld", &value) == 1)
            total += value;
    fclose(file);
    return total;
}

static void stop_all_daemons(void) {
    for (unsigned i = 0; i < PIDFILES; i++) {
        char pidfile[512];
        name_file(pidfile, "pid", i);
        CHECK(rdaemon_control_stop(pidfile, LIMIT_MS, LIMIT_MS, NULL, 0) >= 0);
    }
}

static void take_stock(struct possessions *possessions) {
    stop_all_daemons();
    CHECK_INT(waitpid(-1, NULL, __WALL | WNOHANG), -1);
    CHECK_INT(errno, ECHILD);
    /* What has lost its parent is the reaper's child. */
    for (double begin = now_ms(); (possessions->processes = count_children_of(reaper)) != 1;)
        if (now_ms() - begin > LIMIT_MS)
            break;
    possessions->fds = count_words(open_fds(0));
    possessions->mapped_kb = atol(status_field(0, "VmData"));
    possessions->resident_kb = resident_kb();
    struct mallinfo2 heap = mallinfo2();
    possessions->allocated = (long)(heap.uordblks + heap.hblkhd);
    snprintf(possessions->files, sizeof possessions->files, "%s", tree(scratch()));
    snapshot_take(&possessions->snapshot);
}

static void compare(const char *what, long before, long after, long tolerance) {
    NOTE("%-28s %10ld %10ld", what, before, after);
    if (labs(after - before) > tolerance)
        FAIL("%s: %ld became %ld", what, before, after);
}

static void work_until(double end) {
    struct hand storms = {.name = "storm", .work = storm};
    sigset_t set, old;
    end_ms = end;
    for (int i = 0; i < DEEDS; i++)
        done_before[i] = done[i];
    crew_start(hands, HANDS);
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    crew_start(&storms, 1);
    crew_join(hands, HANDS);
    crew_join(&storms, 1);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void soak(void) {
    static struct possessions before, after;
    long duration_ms = 1000 * setting("RDAEMON_SOAK_SECONDS", 10);
    double begin = now_ms();
    struct sigaction action = {.sa_handler = count_signal};
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    for (unsigned i = 0; i < HANDS; i++)
        hands[i] = (struct hand){.name = "hand", .work = work, .seed = i};
    work_until(begin + (duration_ms < 300000 ? duration_ms / 5 : 60000));
    take_stock(&after); /* which takes some memory itself, once */
    take_stock(&before);
    work_until(begin + duration_ms);
    take_stock(&after);
    for (int i = 0; i < DEEDS; i++)
        NOTE("%-28s %10ld", deeds[i].name, atomic_load(&done[i]));
    NOTE("%ld signals came; %ld pidfiles were held, %ld daemons stopped at once", caught, refused,
         lost);
    CHECK(caught > 0);
    NOTE("%-28s %10s %10s", "", "before", "after");
    compare("fds", before.fds, after.fds, 0);
    compare("processes", before.processes, after.processes, 0);
    compare("bytes allocated", before.allocated, after.allocated, 0);
    compare("KiB of private memory", before.mapped_kb, after.mapped_kb, 0);
    compare("KiB of it resident", before.resident_kb, after.resident_kb, RARE_KB);
    CHECK_STR(after.files, before.files);
    CHECK(snapshot_same(&before.snapshot));
}

/* Reaps what has lost its parent, as init does. */
TEST(nothing_grows, .time_limit_ms = 24 * 3600 * 1000) {
    memset(text, 't', sizeof text);
    memset(outputs, 'o', sizeof outputs);
    scratch();
    reaper = getpid();
    pid_t soaked = fork_child(), pid;
    if (soaked == 0) {
        soak();
        _exit(0);
    }
    int status;
    while ((pid = waitpid(-1, &status, 0)) > 0)
        if (pid == soaked)
            CHECK_INT(status, 0);
}
