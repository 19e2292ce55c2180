/*
 * Spawns that fail, over and over: no zombie, no fd, no memory and no file is left. What is counted
 * is seen without the library and without /proc, as some causes hide it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "child.h"
#include "failing.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

/*
 * A fork copies page tables, and its child starts beside this process, which takes two to four
 * times as long as a child on shared memory; a leak of one of anything shows as well after fewer.
 */
enum { TIMES = 10000, TIMES_FORKED = 500, FIRST = 20, HIGHEST_FD = 1024 };

static int count_fds(void) {
    int count = 0;
    for (int fd = 0; fd < HIGHEST_FD; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* How many pages of memory this process has, as the kernel counts them. */
static long count_pages(void) {
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        FAIL("/proc/self/statm: %s", strerror(errno));
    close(fd);
    return strtol(text, NULL, 10);
}

/* What costs little to make and would be seen if it stayed. */
static void few_options(Config *config) {
    config->flags &= ~(uint32_t)RDAEMON_SPAWN_RESET_SIGNALS;
    memset(&config->streams[1], 0, 2 * sizeof config->streams[1]);
}

static void fail_times(const struct failing_spawn *failing, uint32_t flags, int times) {
    Config config;
    struct rdaemon_child child;
    struct rdaemon_status status;
    if (!failing_config(failing, flags, &config))
        return;
    if (failing->step != RDAEMON_STEP_OPEN_STREAMS)
        few_options(&config);
    if (config.hook || config.identity.flags)
        times = TIMES_FORKED;
    int fds = 0;
    long pages = 0;
    for (int i = 0; i < times; i++) {
        if (i == FIRST) {
            fds = count_fds();
            pages = count_pages();
        }
        int result =
            rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), RDAEMON_SIZED(&status));
        if (result != -failing->error || status.step != failing->step)
            FAIL("%s, time %d: %s, %s", failing->name, i, rdaemon_step_name(status.step),
                 error_name(result));
    }
    if (count_fds() != fds || count_pages() != pages)
        FAIL("%s: %d fds became %d, %ld pages %ld", failing->name, fds, count_fds(), pages,
             count_pages());
    if (waitpid(-1, NULL, WNOHANG | __WALL) != -1 || errno != ECHILD)
        FAIL("%s: a child is left", failing->name);
    CHECK(true);
}

/* The first cause of each; of all steps those with an even number, or with an odd one. */
static void half_the_steps(int half, uint32_t flags, int times) {
    int last = 0, number = 0;
    for (const struct failing_spawn *f = failing_spawns; f->name; last = f->step, f++) {
        if (f->step == last || number++ % 2 != half)
            continue;
        IN_CHILD {
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            fail_times(f, flags, times);
        }
    }
}

static void every_step(uint32_t flags, int times) {
    double begin = now_ms();
    pid_t halves[2];
    scratch();
    for (int half = 0; half < 2; half++) {
        halves[half] = fork_child();
        if (halves[half] == 0) {
            half_the_steps(half, flags, times);
            _exit(0);
        }
    }
    CHECK_INT(wait_for_exit(halves[0]), 0);
    CHECK_INT(wait_for_exit(halves[1]), 0);
    CHECK_STR(tree(scratch()), "");
    NOTE("each step %d times, those that fork %d: %.0f ms", times, TIMES_FORKED, now_ms() - begin);
}

TEST(ten_thousand_failures_leave_nothing, .time_limit_ms = 120000) {
    every_step(0, TIMES);
}

TEST(failures_of_forked_children_leave_nothing, .time_limit_ms = 120000) {
    every_step(RDAEMON_SPAWN_FORCE_FORK, TIMES_FORKED);
}

TEST(failures_of_detached_children_leave_nothing, .time_limit_ms = 120000) {
    every_step(RDAEMON_SPAWN_DETACHED, TIMES_FORKED);
}

TEST(failures_of_detached_and_forked_children_leave_nothing, .time_limit_ms = 120000) {
    every_step(RDAEMON_SPAWN_DETACHED | RDAEMON_SPAWN_FORCE_FORK, TIMES_FORKED);
}

TEST(successes_leave_nothing, .time_limit_ms = 120000) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK, RDAEMON_SPAWN_DETACHED};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        Config config = {.flags = ways[w] | RDAEMON_SPAWN_PIDFD,
                         .argv = STRINGS("/bin/true"),
                         .streams[1].action = RDAEMON_STREAM_PIPE};
        int fds = 0;
        for (int i = 0; i < 200; i++) {
            struct spawned spawned;
            if (i == FIRST)
                fds = count_fds();
            spawn_well(&spawned, &config);
            CHECK_INT(reap(&spawned), 0);
        }
        CHECK_INT(count_fds(), fds);
        CHECK_INT(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    }
}
