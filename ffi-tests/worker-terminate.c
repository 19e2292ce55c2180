/*
 * SIGTERM at any instant of a worker's own code: a thousand daemons that are busy in libc, and are
 * terminated in the middle of it. Each runs its at_exit once, removes its pidfile, and dies of the
 * signal, unless run had returned first.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"
#include "trace.h"
#include "worker.h"

enum { STARTERS = 4, HANG_MS = 10000, RESULT = 23 };

/* ---- work ---- */

static FILE *journal;
static int receiver[2];

/* What syslog(3) does: a time, a line, a datagram. */
static void say(const char *format, ...) {
    char line[512], stamp[64];
    struct tm broken_down;
    time_t now = time(NULL);
    va_list arguments;
    va_start(arguments, format);
    size_t length = strftime(stamp, sizeof stamp, "%b %e %T", localtime_r(&now, &broken_down));
    CHECK(length > 0);
    int total = snprintf(line, sizeof line, "<30>%s worker[%d]: ", stamp, (int)getpid());
    vsnprintf(line + total, sizeof line - (size_t)total, format, arguments);
    va_end(arguments);
    send(receiver[0], line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Every piece of it holds a lock of libc's for most of its time. */
static void work(unsigned seed) {
    void *blocks[16];
    for (unsigned i = 0; i < 16; i++) {
        blocks[i] = malloc(1 + (seed * 2654435761U + i * 40503U) % 60000);
        CHECK(blocks[i] != NULL);
        *(unsigned char *)blocks[i] = 1;
    }
    for (unsigned i = 0; i < 16; i++) {
        fprintf(journal, "%u %s %f\n", seed, "of the work", (double)i / 3);
        free(blocks[(i * 7) % 16]);
    }
    say("%u pieces of work", seed);
    free(realloc(malloc(seed % 512 + 1), 300000));
}

static void begin_work(void) {
    journal = fopen("/dev/null", "w");
    CHECK(journal != NULL);
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, receiver), 0);
}

static void *works_on(void *unused) {
    for (unsigned i = 0;; i++)
        work(i);
    return unused;
}

static int works_alone(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_work();
    begin_run(context);
    works_on(NULL);
    return 0;
}

static int works_in_threads(void *context, const struct rdaemon_daemon *daemon) {
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            begin_work();
        CHECK_INT(pthread_create(&thread, NULL, works_on, NULL), 0);
    }
    (void)daemon;
    begin_run(context);
    works_on(NULL);
    return 0;
}

static int works_and_returns(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_work();
    begin_run(context);
    for (unsigned i = 0; i < 6; i++) {
        if (i == 3)
            bump(&tally->stage);
        work(i);
    }
    return RESULT;
}

/* ---- terminating it ---- */

static unsigned long next_random(unsigned long *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void spin_us(double us) {
    for (double begin = now_ms(); (now_ms() - begin) * 1e3 < us;)
        ;
}

/* The wait status; a daemon that hangs is killed, and the case fails. */
static int end_in_time(struct start *started, const char *moment) {
    struct pollfd end = {.fd = started->daemon.pidfd, .events = POLLIN};
    if (poll(&end, 1, HANG_MS) != 1) {
        kill(started->result, SIGKILL);
        wait_for_exit(started->result);
        FAIL("a worker hung after a SIGTERM %s", moment);
    }
    return worker_end(started);
}

/* One daemon's life; returns whether it was SIGTERM that ended it. */
static bool terminate_one(const struct rdaemon_worker *worker, Count *instant, double delay_us,
                          const char *moment) {
    struct rdaemon_config config = {.pidfile = tally->pidfile};
    struct start started;
    Count *const counts[] = {&tally->runs, &tally->exits, &tally->stage, &tally->terminates};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        atomic_store(counts[i], 0);
    atomic_store(&tally->file_was, 0);
    start_worker(&started, &config, worker);
    if (instant)
        await(instant, 1);
    spin_us(delay_us);
    kill(started.result, SIGTERM);
    int how = end_in_time(&started, moment);
    if (how != SIGTERM && !(instant && WIFEXITED(how) && WEXITSTATUS(how) == RESULT))
        FAIL("a worker ended with wait status %x after a SIGTERM %s, %f us later", (unsigned)how,
             moment, delay_us);
    CHECK_INT(atomic_load(&tally->exits), 1);
    CHECK_INT(atomic_load(&tally->file_was), 1);
    CHECK(access(config.pidfile, F_OK) != 0 && errno == ENOENT);
    return how == SIGTERM;
}

struct outcome {
    Count terminated, exited;
};

/* A quarter of the daemons. Where there is an instant to aim at the delay follows the boundary
 * between the two ends. */
static void terminate_a_part(int (*run)(void *, const struct rdaemon_daemon *), int part, int count,
                             bool aimed, const char *moment, struct outcome *outcome) {
    struct rdaemon_worker worker = new_worker(run);
    unsigned long random = 88172645463325252UL + (unsigned long)part;
    const double range_us = aimed ? 200 : 2000;
    double centre_us = range_us;
    snprintf(tally->pidfile, sizeof tally->pidfile, "%s/pid%d", scratch(), part);
    adopt_orphans();
    for (int i = 0; i < count; i++) {
        double delay_us = (double)(next_random(&random) % 1000) / 1000 * range_us;
        if (aimed)
            delay_us += centre_us - range_us / 2;
        bool terminated = terminate_one(&worker, aimed ? &tally->stage : NULL, delay_us, moment);
        bump(terminated ? &outcome->terminated : &outcome->exited);
        centre_us += terminated ? 20 : -20;
    }
}

/* So many daemons, several of them at a time. */
static struct outcome *terminate_many(int (*run)(void *, const struct rdaemon_daemon *), int count,
                                      bool aimed, const char *moment) {
    struct outcome *outcome = shared_memory(sizeof *outcome);
    pid_t starters[STARTERS];
    scratch(); /* is made once, before the forks */
    for (int i = 0; i < STARTERS; i++) {
        starters[i] = fork_child();
        if (starters[i] == 0) {
            terminate_a_part(run, i, count / STARTERS, aimed, moment, outcome);
            _exit(0);
        }
    }
    for (int i = 0; i < STARTERS; i++)
        join(__FILE__, __LINE__, starters[i]);
    CHECK_INT(outcome->terminated + outcome->exited, count);
    CHECK_STR(tree(scratch()), "");
    NOTE("%d were terminated, %d exited", atomic_load(&outcome->terminated),
         atomic_load(&outcome->exited));
    return outcome;
}

TEST(a_worker_busy_in_libc_is_terminated_at_any_instant, .time_limit_ms = 60000) {
    struct outcome *outcome = terminate_many(works_alone, 400, false, "in the middle of its work");
    CHECK_INT(outcome->terminated, 400);
}

TEST(a_worker_with_threads_in_libc_is_terminated_at_any_instant, .time_limit_ms = 60000) {
    struct outcome *outcome =
        terminate_many(works_in_threads, 200, false, "in the middle of its threads' work");
    CHECK_INT(outcome->terminated, 200);
}

TEST(a_worker_is_terminated_around_the_instant_of_its_return, .time_limit_ms = 60000) {
    struct outcome *outcome = terminate_many(works_and_returns, 400, true, "around run's return");
    CHECK(outcome->terminated > 0);
    CHECK(outcome->exited > 0);
}

static int sets_signals(void *context, const struct rdaemon_daemon *daemon) {
    struct rdaemon_signal_action line = {.signal = SIGTERM, .action = RDAEMON_SIGNAL_TERMINATE};
    begin_run(context);
    while (rdaemon_set_signals(&line, 1, RDAEMON_SIZED(&daemon->pidfile)) == 0)
        ;
    return RESULT;
}

TEST(a_worker_that_sets_its_signals_is_terminated_at_any_instant, .time_limit_ms = 60000) {
    struct outcome *outcome =
        terminate_many(sets_signals, 300, false, "while its signals were being set");
    CHECK_INT(outcome->terminated, 300);
}

/* ---- at each system call ---- */

static int *start_result;

static int returns_at_once(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    return RESULT;
}

static void start_traced(void *context) {
    struct rdaemon_config config = {.pidfile = tally->pidfile};
    trace_enter();
    *start_result =
        rdaemon_control_start(RDAEMON_SIZED(&config), (const struct rdaemon_worker *)context,
                              sizeof(struct rdaemon_worker), NULL, 0, NULL, 0);
    trace_return(*start_result);
    _exit(0);
}

/* From its birth to its end; the start succeeds, as the signal has no effect before run's time. */
TEST(a_worker_is_terminated_at_each_of_its_system_calls, .time_limit_ms = 60000) {
    int terminated = 0, exited = 0;
    start_result = shared_memory(sizeof *start_result);
    for (int i = 0;; i++) {
        struct rdaemon_worker worker = new_worker(returns_at_once);
        struct trace_result result;
        const struct trace_process *daemon = &result.of[TRACE_DAEMON];
        int error = trace_run(&(struct trace_request){.body = start_traced,
                                                      .context = &worker,
                                                      .action = TRACE_SIGNAL,
                                                      .role = TRACE_DAEMON,
                                                      .index = i,
                                                      .value = SIGTERM},
                              HANG_MS, &result);
        if (error == -EPERM || error == -ENOSYS || error == -EIO)
            SKIP_PLATFORM("ptrace: %s", strerror(-error));
        CHECK_INT(error, 0);
        if (!result.acted)
            break;
        bool by_signal = WIFSIGNALED(daemon->wait_status);
        if (result.hung || *start_result != daemon->pid || tally->exits != 1 ||
            access(tally->pidfile, F_OK) == 0 ||
            !(by_signal ? WTERMSIG(daemon->wait_status) == SIGTERM
                        : WEXITSTATUS(daemon->wait_status) == RESULT))
            FAIL("call %d (%s): start %d, at_exit %d times, wait status %x%s", i,
                 trace_call_name(result.acted_on), *start_result, atomic_load(&tally->exits),
                 (unsigned)daemon->wait_status, result.hung ? ", hung" : "");
        terminated += by_signal;
        exited += !by_signal;
    }
    NOTE("%d were terminated, %d exited", terminated, exited);
    CHECK(terminated > 20);
    CHECK(exited > 0);
}
