/* The end of a worker that has threads. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "rdaemon.h"
#include "start.h"
#include "tap.h"
#include "worker.h"

static void let_this_thread_alone(void) {
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
}

/* Long enough for another thread to do what it should not. */
static void take_time(void) {
    for (double begin = now_ms(); now_ms() - begin < 20;)
        ;
}

static pthread_t start_thread(void *(*body)(void *)) {
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, body, NULL), 0);
    return thread;
}

static void *just_lives(void *unused) {
    bump(&tally->stage);
    live_on(NULL);
    return unused;
}

static int leaves_signals_to_a_thread(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    start_thread(just_lives);
    let_this_thread_alone();
    await(&tally->stage, 1);
    begin_run(context);
    live_on(NULL);
    return 0;
}

static void exit_in_a_thread(void *context) {
    CHECK(gettid() != getpid());
    take_time();
    bump(&((struct tally *)context)->exits);
}

TEST(sigterm_in_another_thread_ends_the_process_after_at_exit) {
    struct rdaemon_worker worker = new_worker(leaves_signals_to_a_thread);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.at_exit = exit_in_a_thread;
    atomic_store(&tally->file_was, 1);
    kill(start_worker(&started, &config, &worker), SIGTERM);
    worker_killed_by(&started, SIGTERM);
}

static Count *exits_ended;

/* Its first call has the other threads do what they may, and is not to be cut short by it. */
static void exit_among_threads(void *context) {
    struct tally *own = context;
    bump(&own->exits);
    bump(&own->stage);
    take_time();
    bump(exits_ended);
}

static void *sends_itself_sigterm_at_stage_1(void *unused) {
    await(&tally->stage, 1);
    pthread_kill(pthread_self(), SIGTERM);
    return unused;
}

static int is_sent_sigterm_by_two_threads(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    start_thread(sends_itself_sigterm_at_stage_1);
    start_thread(sends_itself_sigterm_at_stage_1);
    begin_run(context);
    await(&tally->stage, 1);
    pthread_kill(pthread_self(), SIGTERM);
    live_on(NULL);
    return 0;
}

static void ends_once_among_threads(int (*run)(void *, const struct rdaemon_daemon *),
                                    bool opened) {
    struct rdaemon_worker worker = new_worker(run);
    struct rdaemon_config config = worker_config();
    struct start started;
    exits_ended = shared_memory(sizeof *exits_ended);
    worker.at_exit = exit_among_threads;
    atomic_store(&tally->file_was, 1);
    start_worker(&started, &config, &worker);
    if (opened)
        bump(&tally->stage);
    worker_exited_or_killed(&started, 6, SIGTERM);
    CHECK_INT(atomic_load(exits_ended), 1);
}

TEST(sigterm_in_several_threads_at_once_ends_the_worker_once) {
    for (int i = 0; i < 20; i++)
        ends_once_among_threads(is_sent_sigterm_by_two_threads, true);
}

static void *sends_itself_sigterm(void *unused) {
    pthread_kill(pthread_self(), SIGTERM);
    return unused;
}

static int returns_while_a_thread_is_at_its_end(void *context,
                                                const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    start_thread(sends_itself_sigterm);
    await(&tally->exits, 1);
    return 6;
}

TEST(run_returns_while_a_thread_is_in_at_exit_and_does_not_cut_it_short) {
    for (int i = 0; i < 10; i++)
        ends_once_among_threads(returns_while_a_thread_is_at_its_end, false);
}

static int returns_and_a_thread_gets_sigterm(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    start_thread(sends_itself_sigterm_at_stage_1); /* at_exit gets there */
    begin_run(context);
    return 6;
}

TEST(sigterm_in_a_thread_does_not_cut_short_at_exit_after_run) {
    for (int i = 0; i < 10; i++)
        ends_once_among_threads(returns_and_a_thread_gets_sigterm, false);
}
