/* The readiness of a daemon: said by rdaemon_ready or rdaemon_fail, awaited by rdaemon_wait_ready.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

static const struct rdaemon_config with_ready = {.flags = RDAEMON_NOTIFY_READY};

/* Lets a daemon wait for the case: it spins in memory, so that its fds are untouched. */
static atomic_int *stage;

static void reach(int at_least) {
    while (atomic_load(stage) < at_least)
        usleep(100);
}

static int wait_ready(const struct start *started, int timeout_ms, struct rdaemon_status *status) {
    memset(status, 0xa5, sizeof *status);
    return QUIET(rdaemon_wait_ready(started->daemon.ready_fd, started->daemon.pidfd, timeout_ms,
                                    RDAEMON_SIZED(status)));
}

/* ---- the daemon's end of the channel ---- */

static void says_ready(const struct start *start) {
    int fd = start->daemon.ready_fd;
    CHECK(fd >= 3);
    CHECK(fd_is_cloexec(fd));
    CHECK_INT(QUIET(rdaemon_ready(fd)), 0);
    CHECK(!fd_is_open(fd));
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(the_daemon_says_that_it_is_ready) {
    struct start started;
    struct rdaemon_status status;
    start_well(&started, &with_ready, says_ready);
    CHECK(started.daemon.ready_fd >= 3);
    CHECK(fd_is_cloexec(started.daemon.ready_fd));
    CHECK(started.daemon.ready_fd != started.daemon.pidfd);
    CHECK_INT(wait_ready(&started, -1, &status), 0);
    CHECK_INT(status.step, RDAEMON_STEP_NONE);
    CHECK_INT(status.error, 0);
    CHECK(fd_is_open(started.daemon.ready_fd)); /* nothing is closed */
    CHECK(fd_is_open(started.daemon.pidfd));
    lived(&started);
}

TEST(ready_is_heard_after_the_daemon_has_ended) {
    struct start started;
    struct rdaemon_status status;
    pid_t pid = start_well(&started, &with_ready, says_ready);
    CHECK_INT(wait_for_exit(pid), 0);
    CHECK_INT(wait_ready(&started, -1, &status), 0);
}

static void says_failed(const struct start *start) {
    int fd = start->daemon.ready_fd;
    CHECK_INT(QUIET(rdaemon_fail(fd, -EADDRINUSE)), 0);
    CHECK(!fd_is_open(fd));
}

TEST(the_daemon_says_that_it_failed) {
    struct start started;
    struct rdaemon_status status;
    start_well(&started, &with_ready, says_failed);
    CHECK_INT(wait_ready(&started, -1, &status), -EADDRINUSE);
    CHECK_INT(status.step, RDAEMON_STEP_READY);
    CHECK_INT(status.error, -EADDRINUSE);
    lived(&started);
}

static void asks_wrongly(const struct start *start) {
    int fd = start->daemon.ready_fd;
    CHECK_INT(QUIET(rdaemon_fail(fd, 0)), -EINVAL);
    CHECK_INT(QUIET(rdaemon_fail(fd, EIO)), -EINVAL);
    CHECK(fd_is_open(fd)); /* a refused call changes nothing */
    CHECK_INT(QUIET(rdaemon_ready(-2)), -EBADF);
    CHECK_INT(QUIET(rdaemon_fail(-2, -EIO)), -EBADF);
    CHECK_INT(QUIET(rdaemon_ready(fd)), 0);
}

TEST(the_daemon_s_bad_arguments_are_refused) {
    struct start started;
    struct rdaemon_status status;
    start_well(&started, &with_ready, asks_wrongly);
    CHECK_INT(wait_ready(&started, -1, &status), 0);
    lived(&started);
}

TEST(no_channel_is_no_error) {
    CHECK_REFUSED(rdaemon_ready(-1), 0);
    CHECK_REFUSED(rdaemon_fail(-1, -EIO), 0);
}

/* ---- death before it ---- */

TEST(a_daemon_that_ends_before_it_is_ready_is_seen) {
    struct start started;
    struct rdaemon_status status;
    start_well(&started, &with_ready, NULL);
    CHECK_INT(wait_ready(&started, -1, &status), -ESRCH);
    CHECK_INT(status.step, RDAEMON_STEP_READY);
    CHECK_INT(status.error, -ESRCH);
    lived(&started);
}

static pid_t *worker;

static void forks_a_worker_and_dies(const struct start *start) {
    (void)start;
    pid_t child = fork();
    if (child == 0)
        live_on(NULL);
    *worker = child;
    raise(SIGKILL);
}

TEST(a_death_is_seen_at_once_though_a_worker_holds_the_channel) {
    struct start started;
    struct rdaemon_status status;
    worker = shared_memory(sizeof *worker);
    pid_t pid = start_well(&started, &with_ready, forks_a_worker_and_dies);
    double begin = now_ms();
    CHECK_INT(wait_ready(&started, 5000, &status), -ESRCH);
    CHECK(now_ms() - begin < 1000);
    CHECK_INT(status.step, RDAEMON_STEP_READY);
    CHECK_INT(wait_for_exit(pid), SIGKILL);
    CHECK_INT(waitpid(*worker, NULL, WNOHANG), 0);
    kill(*worker, SIGKILL);
    wait_for_exit(*worker);
}

static void forks_a_worker_and_says_ready(const struct start *start) {
    pid_t child = fork();
    if (child == 0)
        live_on(NULL);
    *worker = child;
    CHECK_INT(rdaemon_ready(start->daemon.ready_fd), 0);
}

TEST(ready_counts_though_the_daemon_died_and_a_worker_holds_the_channel) {
    struct start started;
    struct rdaemon_status status;
    worker = shared_memory(sizeof *worker);
    pid_t pid = start_well(&started, &with_ready, forks_a_worker_and_says_ready);
    CHECK_INT(wait_for_exit(pid), 0);
    CHECK_INT(wait_ready(&started, -1, &status), 0);
    kill(*worker, SIGKILL);
    wait_for_exit(*worker);
}

static void lets_go_and_lives(const struct start *start) {
    close(start->daemon.ready_fd);
    live_on(start);
}

TEST(a_daemon_that_closes_the_channel_will_never_be_ready) {
    struct start started;
    struct rdaemon_status status;
    start_well(&started, &with_ready, lets_go_and_lives);
    double begin = now_ms();
    int result = wait_ready(&started, 5000, &status);
    CHECK(result < 0 && result != -ETIMEDOUT);
    CHECK(now_ms() - begin < 1000);
    CHECK_INT(status.step, RDAEMON_STEP_READY);
    CHECK_INT(process_state(started.result) == 'Z', false);
    slay(&started);
}

/* ---- time ---- */

static void says_ready_at_stage_1(const struct start *start) {
    reach(1);
    CHECK_INT(rdaemon_ready(start->daemon.ready_fd), 0);
    live_on(start);
}

TEST(a_time_limit_leaves_the_daemon_alone_and_a_later_wait_succeeds) {
    struct start started;
    struct rdaemon_status status;
    stage = shared_memory(sizeof *stage);
    start_well(&started, &with_ready, says_ready_at_stage_1);
    double begin = now_ms();
    CHECK_INT(wait_ready(&started, 50, &status), -ETIMEDOUT);
    double took = now_ms() - begin;
    CHECK(took >= 49 && took < 1000);
    CHECK_INT(status.step, RDAEMON_STEP_READY);
    CHECK_INT(wait_ready(&started, 0, &status), -ETIMEDOUT);
    CHECK_INT(waitpid(started.result, NULL, WNOHANG), 0);
    atomic_store(stage, 1);
    CHECK_INT(wait_ready(&started, 5000, &status), 0);
    slay(&started);
}

static void on_alarm(int signal) {
    (void)signal;
}

TEST(an_interrupted_wait_goes_on) {
    struct start started;
    struct rdaemon_status status;
    stage = shared_memory(sizeof *stage);
    start_well(&started, &with_ready, says_ready_at_stage_1);
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    ualarm(1000, 1000);
    double begin = now_ms();
    CHECK_INT(wait_ready(&started, 100, &status), -ETIMEDOUT);
    ualarm(0, 0);
    CHECK(now_ms() - begin < 1000);
    slay(&started);
}

TEST(the_channel_can_be_polled) {
    struct start started;
    struct rdaemon_status status;
    stage = shared_memory(sizeof *stage);
    start_well(&started, &with_ready, says_ready_at_stage_1);
    struct pollfd channel = {.fd = started.daemon.ready_fd, .events = POLLIN};
    CHECK_INT(poll(&channel, 1, 0), 0);
    atomic_store(stage, 1);
    CHECK_INT(poll(&channel, 1, 5000), 1);
    CHECK_INT(wait_ready(&started, 0, &status), 0);
    slay(&started);
}

/* ---- bad arguments and absent ones ---- */

TEST(a_wait_without_a_channel_is_refused) {
    struct rdaemon_status status;
    int null = open("/dev/null", O_RDWR);
    int closed = dup(null);
    close(closed);
    CHECK_REFUSED(rdaemon_wait_ready(-1, -1, 0, RDAEMON_SIZED(&status)), -EBADF);
    CHECK_INT(status.error, -EBADF);
    CHECK_REFUSED(rdaemon_wait_ready(closed, -1, 0, RDAEMON_SIZED(&status)), -EBADF);
}

TEST(a_wait_works_without_a_pidfd) {
    struct start started;
    struct rdaemon_status status;
    start_well(&started, &with_ready, says_ready);
    CHECK_INT(QUIET(rdaemon_wait_ready(started.daemon.ready_fd, -1, -1, RDAEMON_SIZED(&status))),
              0);
    lived(&started);
    start_well(&started, &with_ready, NULL);
    int error = QUIET(rdaemon_wait_ready(started.daemon.ready_fd, -1, -1, NULL, 0));
    CHECK_INT(error, -ESRCH);
    lived(&started);
}

static void speaks_to_nobody(const struct start *start) {
    reach(1);
    CHECK_INT(start->daemon.ready_fd >= 3, 1);
    rdaemon_ready(start->daemon.ready_fd);
}

TEST(a_daemon_whose_original_has_gone_does_not_die_of_sigpipe) {
    stage = shared_memory(sizeof *stage);
    IN_CHILD {
        struct start started;
        start_well(&started, &with_ready, speaks_to_nobody);
    }
    atomic_store(stage, 1);
    int status;
    CHECK(wait(&status) > 0);
    CHECK_INT(status, 0);
}

TEST(without_notify_ready_there_is_no_channel) {
    struct start started;
    start_well(&started, NULL, NULL);
    CHECK_INT(started.daemon.ready_fd, -1);
    lived(&started);
}

static void has_no_channel(const struct start *start) {
    CHECK_INT(start->daemon.ready_fd, -1);
    CHECK_INT(rdaemon_ready(start->daemon.ready_fd), 0);
}

TEST(without_a_fork_ready_has_nobody_to_tell) {
    struct rdaemon_config config = {.flags = RDAEMON_NOTIFY_READY, .detach = RDAEMON_DETACH_NO};
    IN_CHILD {
        struct start started;
        start(&started, &config, has_no_channel);
        CHECK_INT(started.result, 0);
    }
}

/* ---- a daemon that is quicker than the process between ---- */

static pid_t original;

/* In the process between, after its fork: waits until the daemon has spoken, or a while. */
static void hold_up(void) {
    double begin = now_ms();
    while (getpid() != original && !atomic_load(stage) && now_ms() - begin < 1000)
        usleep(100);
}

static void says_failed_first(const struct start *start) {
    CHECK_INT(rdaemon_fail(start->daemon.ready_fd, -ENOSPC), 0);
    atomic_store(stage, 1);
}

static void says_ready_first(const struct start *start) {
    CHECK_INT(rdaemon_ready(start->daemon.ready_fd), 0);
    atomic_store(stage, 1);
}

static void hear_the_first_word(void (*life)(const struct start *start), int expected) {
    struct start started;
    struct rdaemon_status status;
    original = getpid();
    stage = shared_memory(sizeof *stage);
    CHECK_INT(pthread_atfork(NULL, hold_up, NULL), 0);
    start_well(&started, &with_ready, life);
    CHECK_INT(wait_ready(&started, 5000, &status), expected);
    CHECK_INT(status.step, expected ? RDAEMON_STEP_READY : RDAEMON_STEP_NONE);
    CHECK_INT(status.error, expected);
    lived(&started);
}

TEST(a_failure_is_heard_of_a_daemon_quicker_than_the_process_between) {
    hear_the_first_word(says_failed_first, -ENOSPC);
}

TEST(ready_is_heard_of_a_daemon_quicker_than_the_process_between) {
    hear_the_first_word(says_ready_first, 0);
}
