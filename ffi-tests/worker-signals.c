/* The signals of a worker: its hooks, its map, and what a process has of them that it forks. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"
#include "worker.h"

static void end_it(struct start *started) {
    bump(&tally->stage);
    worker_exited(started, 7);
}

/* ---- SIGUSR1, SIGUSR2 ---- */

TEST(rule_8_5_each_user_signal_runs_its_hook_once) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    struct rdaemon_config config = worker_config();
    struct start started;
    pid_t pid = start_worker(&started, &config, &worker);
    for (int i = 1; i <= 3; i++) {
        CHECK_INT(kill(pid, SIGUSR1), 0);
        await(&tally->user1, i);
        CHECK_INT(atomic_load(&tally->user2), i - 1);
        CHECK_INT(kill(pid, SIGUSR2), 0);
        await(&tally->user2, i);
        CHECK_INT(atomic_load(&tally->user1), i);
    }
    end_it(&started); /* which checks that the hooks had their context, in the daemon */
    CHECK_INT(atomic_load(&tally->user1), 3);
    CHECK_INT(atomic_load(&tally->user2), 3);
    CHECK_INT(atomic_load(&tally->terminates), 0);
}

TEST(without_a_hook_the_signal_keeps_its_default) {
    static const int signals[] = {SIGUSR1, SIGUSR2};
    for (int i = 0; i < 2; i++) {
        struct rdaemon_worker worker = new_worker(run_on);
        struct rdaemon_config config = worker_config();
        struct start started;
        worker.on_user1 = i == 0 ? NULL : worker.on_user1;
        worker.on_user2 = i == 1 ? NULL : worker.on_user2;
        pid_t pid = start_worker(&started, &config, &worker);
        CHECK_INT(signal_in(pid, "SigCgt", signals[i]), false);
        CHECK_INT(signal_in(pid, "SigCgt", signals[!i]), true);
        CHECK_INT(kill(pid, signals[i]), 0);
        CHECK_INT(worker_end(&started), signals[i]);
        CHECK_INT(atomic_load(&tally->exits), 0);
    }
}

static Count *own_calls;

static void own_handler(int signal) {
    (void)signal;
    bump(own_calls);
}

TEST(without_a_hook_the_signal_keeps_what_the_caller_made_of_it) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    struct rdaemon_config config = worker_config();
    struct start started;
    own_calls = shared_memory(sizeof *own_calls);
    worker.on_user1 = worker.on_user2 = NULL;
    signal(SIGUSR1, own_handler);
    signal(SIGUSR2, SIG_IGN);
    pid_t pid = start_worker(&started, &config, &worker);
    CHECK_INT(kill(pid, SIGUSR2), 0);
    CHECK_INT(kill(pid, SIGUSR1), 0);
    await(own_calls, 1);
    end_it(&started);
    CHECK_INT(atomic_load(own_calls), 1);
}

TEST(a_hook_takes_the_place_of_the_callers_handler_and_of_ignorance) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    struct rdaemon_config config = worker_config();
    struct start started;
    own_calls = shared_memory(sizeof *own_calls);
    signal(SIGUSR1, own_handler);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    pid_t pid = start_worker(&started, &config, &worker);
    kill(pid, SIGUSR1);
    kill(pid, SIGUSR2);
    await(&tally->user1, 1);
    await(&tally->user2, 1);
    kill(pid, SIGTERM);
    worker_killed_by(&started, SIGTERM);
    CHECK_INT(atomic_load(own_calls), 0);
    raise(SIGUSR1); /* the original has its own as before */
    CHECK_INT(atomic_load(own_calls), 1);
}

TEST(signals_of_the_hooks_are_not_blocked_though_the_caller_blocks_them) {
    static const int32_t signals[] = {SIGTERM, SIGUSR1, SIGUSR2, SIGHUP};
    for (int i = 0; i < 2; i++) {
        struct rdaemon_worker worker = new_worker(run_on);
        struct rdaemon_config config = worker_config();
        struct start started;
        bool has_user2 = i == 0;
        if (!has_user2)
            worker.on_user2 = NULL;
        CHECK(rdaemon_signals_open(signals, 4) >= 3);
        unsigned long long blocked = signals_in(0, "SigBlk");
        pid_t pid = start_worker(&started, &config, &worker);
        CHECK_INT(signals_in(0, "SigBlk"), blocked);
        CHECK_INT(signals_in(pid, "SigBlk"),
                  SIGNAL_BIT(SIGHUP) | (has_user2 ? 0 : SIGNAL_BIT(SIGUSR2)));
        kill(pid, SIGUSR1);
        await(&tally->user1, 1);
        kill(pid, SIGUSR2);
        if (has_user2)
            await(&tally->user2, 1);
        kill(pid, SIGTERM);
        worker_killed_by(&started, SIGTERM);
    }
}

static int depth, deepest;

/* Sends the process every signal that has a hook; those that go on may not run inside of this. */
static void enters_a_hook(void *context, Count *count) {
    CHECK(context == tally);
    deepest = ++depth > deepest ? depth : deepest;
    if (atomic_load(count) == 0) {
        raise(SIGUSR1);
        raise(SIGUSR2);
        raise(SIGTERM);
    }
    CHECK((signals_in(0, "SigBlk") &
           ~(SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(32) | SIGNAL_BIT(33))) ==
          (~0ULL & ~(SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(32) | SIGNAL_BIT(33))));
    depth--;
    bump(count);
}

static void user1_among_others(void *context) {
    enters_a_hook(context, &tally->user1);
}

static void user2_among_others(void *context) {
    enters_a_hook(context, &tally->user2);
}

static int terminate_among_others(void *context) {
    enters_a_hook(context, &tally->terminates);
    return 1;
}

static int enters_every_hook(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    raise(SIGUSR1);
    CHECK(atomic_load(&tally->user1) >= 2);
    CHECK(atomic_load(&tally->user2) >= 1);
    CHECK(atomic_load(&tally->terminates) >= 1);
    CHECK_INT(deepest, 1);
    CHECK_INT(signals_in(0, "SigBlk"), 0);
    return 0;
}

TEST(no_signal_interrupts_a_hook) {
    struct rdaemon_worker worker = new_worker(enters_every_hook);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.on_user1 = user1_among_others;
    worker.on_user2 = user2_among_others;
    worker.on_terminate = terminate_among_others;
    start_worker(&started, &config, &worker);
    worker_exited(&started, 0);
}

static void spoils_errno(void *context) {
    (void)context;
    errno = EDOM;
}

static int spoils_errno_and_goes_on(void *context) {
    (void)context;
    errno = EDOM;
    return 1;
}

static int looks_after_errno(void *context, const struct rdaemon_daemon *daemon) {
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGTERM};
    (void)daemon;
    begin_run(context);
    for (int i = 0; i < 3; i++) {
        errno = ERRNO_CANARY;
        CHECK_INT(raise(signals[i]), 0);
        CHECK_INT(errno, ERRNO_CANARY);
    }
    return 0;
}

TEST(errno_outlives_the_hooks) {
    struct rdaemon_worker worker = new_worker(looks_after_errno);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.on_user1 = worker.on_user2 = spoils_errno;
    worker.on_terminate = spoils_errno_and_goes_on;
    start_worker(&started, &config, &worker);
    worker_exited(&started, 0);
}

/* ---- the map ---- */

TEST(rule_3_3_a_worker_has_the_default_map) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    unsigned long long ignored = signals_in(0, "SigIgn"), caught = signals_in(0, "SigCgt");
    pid_t pid = start_worker(&started, &config, &worker);
    CHECK_INT(signals_in(pid, "SigIgn"),
              ignored | SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU) | SIGNAL_BIT(SIGTSTP));
    CHECK_INT(signals_in(pid, "SigCgt"),
              caught | SIGNAL_BIT(SIGTERM) | SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(SIGUSR2));
    static const int nothing[] = {SIGTTIN, SIGTTOU, SIGTSTP, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++)
        CHECK_INT(kill(pid, nothing[i]), 0);
    await(&tally->user1, 1); /* the last of them; none has stopped or ended it */
    kill(pid, SIGTERM);
    worker_killed_by(&started, SIGTERM);
    CHECK_INT(atomic_load(&tally->terminates), 1);
}

TEST(sigterm_terminates_though_the_map_or_a_flag_leaves_it_out) {
    struct rdaemon_signal_action line = {.signal = SIGHUP, .action = RDAEMON_SIGNAL_IGNORE};
    for (int i = 0; i < 4; i++) {
        struct rdaemon_worker worker = new_worker(run_on);
        struct rdaemon_config config = worker_config();
        struct start started;
        config.signal_map = i < 2 ? &line : NULL;
        config.signal_map_len = i == 0; /* 1 is an empty map */
        config.flags = i == 2 ? RDAEMON_KEEP_SIGNALS : i == 3 ? RDAEMON_RESET_SIGNALS : 0;
        pid_t pid = start_worker(&started, &config, &worker);
        CHECK_INT(signal_in(pid, "SigIgn", SIGHUP), i == 0);
        CHECK_INT(signal_in(pid, "SigIgn", SIGTSTP), i == 3);
        kill(pid, SIGTERM);
        worker_killed_by(&started, SIGTERM);
        CHECK_INT(atomic_load(&tally->terminates), 1);
    }
}

static struct start start_with_line(struct rdaemon_worker worker, int signal, uint32_t action,
                                    void (*handler)(int)) {
    struct rdaemon_signal_action line = {.signal = signal, .action = action, .handler = handler};
    struct rdaemon_config config = worker_config();
    struct start started;
    config.signal_map = &line;
    config.signal_map_len = 1;
    start_worker(&started, &config, &worker);
    return started;
}

TEST(a_line_that_ignores_sigterm_is_respected) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    worker.on_terminate = NULL;
    struct start started = start_with_line(worker, SIGTERM, RDAEMON_SIGNAL_IGNORE, NULL);
    CHECK(signal_in(started.result, "SigIgn", SIGTERM));
    kill(started.result, SIGTERM);
    kill(started.result, SIGUSR1);
    await(&tally->user1, 1);
    end_it(&started);
}

TEST(a_line_with_a_handler_for_sigterm_is_respected) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    own_calls = shared_memory(sizeof *own_calls);
    worker.on_terminate = NULL;
    struct start started = start_with_line(worker, SIGTERM, RDAEMON_SIGNAL_HANDLER, own_handler);
    kill(started.result, SIGTERM);
    await(own_calls, 1);
    end_it(&started);
    CHECK_INT(atomic_load(own_calls), 1);
}

TEST(a_line_that_leaves_sigterm_its_default_is_respected) {
    struct rdaemon_worker worker = new_worker(run_on);
    worker.on_terminate = NULL;
    struct start started = start_with_line(worker, SIGTERM, RDAEMON_SIGNAL_DEFAULT, NULL);
    kill(started.result, SIGTERM);
    CHECK_INT(worker_end(&started), SIGTERM);
    CHECK_INT(atomic_load(&tally->exits), 0);
    CHECK_STR(tree(scratch()), "pid"); /* stale */
}

TEST(a_line_for_a_user_signal_without_a_hook_is_respected) {
    struct rdaemon_worker worker = new_worker(run_on);
    worker.on_user1 = NULL;
    struct start started = start_with_line(worker, SIGUSR1, RDAEMON_SIGNAL_TERMINATE, NULL);
    kill(started.result, SIGUSR2);
    await(&tally->user2, 1);
    kill(started.result, SIGUSR1);
    worker_killed_by(&started, SIGUSR1);
}

TEST(every_signal_that_terminates_runs_the_hooks) {
    const int signals[] = {SIGINT, SIGHUP, SIGQUIT, SIGALRM, SIGRTMIN + 1};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct start started =
            start_with_line(new_worker(run_on), signals[i], RDAEMON_SIGNAL_TERMINATE, NULL);
        kill(started.result, signals[i]);
        worker_killed_by(&started, signals[i]);
        CHECK_INT(atomic_load(&tally->terminates), 1);
    }
}

TEST(every_signal_that_terminates_can_be_answered_by_going_on) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    atomic_store(&tally->go_on, 1);
    struct start started = start_with_line(worker, SIGINT, RDAEMON_SIGNAL_TERMINATE, NULL);
    kill(started.result, SIGINT);
    await(&tally->terminates, 1);
    kill(started.result, SIGTERM);
    await(&tally->terminates, 2);
    end_it(&started);
}

/* ---- processes forked from the daemon ---- */

static atomic_int *child;

static int forks_a_child(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    atomic_store(child, pid);
    bump(&tally->stage);
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), SIGTERM);
    bump(&tally->stage);
    await(&tally->stage, 3);
    return 7;
}

TEST(a_forked_process_survives_the_user_signals_runs_no_hook_and_dies_of_sigterm) {
    struct rdaemon_worker worker = new_worker(forks_a_child);
    struct rdaemon_config config = worker_config();
    struct start started;
    child = shared_memory(sizeof *child);
    atomic_store(&tally->go_on, 1);
    start_worker(&started, &config, &worker);
    await(&tally->stage, 1);
    kill(atomic_load(child), SIGUSR1);
    kill(atomic_load(child), SIGUSR2);
    kill(atomic_load(child), SIGTERM);
    await(&tally->stage, 2);
    CHECK_INT(tally->user1 + tally->user2 + tally->terminates + tally->exits, 0);
    CHECK_STR(tree(scratch()), "pid");
    kill(started.result, SIGUSR1); /* the daemon still has its hooks */
    await(&tally->user1, 1);
    end_it(&started);
}

static int forks_a_child_that_exits(void *context, const struct rdaemon_daemon *daemon) {
    begin_run(context);
    pid_t pid = fork();
    if (pid == 0) {
        rdaemon_pidfile_remove(RDAEMON_SIZED(&daemon->pidfile));
        exit(5);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    CHECK_INT(atomic_load(&tally->exits), 0);
    CHECK_INT(access(tally->pidfile, F_OK), 0);
    return 7;
}

TEST(a_forked_process_that_exits_runs_no_hook_and_removes_nothing) {
    struct rdaemon_worker worker = new_worker(forks_a_child_that_exits);
    struct rdaemon_config config = worker_config();
    struct start started;
    start_worker(&started, &config, &worker);
    worker_exited(&started, 7);
}

static int forks_a_child_of_a_child(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    pid_t pid = fork();
    if (pid == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0)
            for (;;)
                pause();
        atomic_store(child, grandchild);
        bump(&tally->stage);
        _exit(0);
    }
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    return 7;
}

TEST(a_process_that_outlives_the_daemon_runs_no_hook_either) {
    struct rdaemon_worker worker = new_worker(forks_a_child_of_a_child);
    struct rdaemon_config config = worker_config();
    struct start started;
    child = shared_memory(sizeof *child);
    start_worker(&started, &config, &worker);
    await(&tally->stage, 1);
    worker_exited(&started, 7);
    kill(atomic_load(child), SIGUSR1);
    kill(atomic_load(child), SIGTERM);
    CHECK_INT(wait_for_exit(atomic_load(child)), SIGTERM);
    CHECK_INT(tally->user1 + tally->terminates, 0);
    CHECK_INT(atomic_load(&tally->exits), 1);
}
