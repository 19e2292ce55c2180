/* Daemons by their pidfile: asked, signalled, stopped and restarted. */
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "controlled.h"
#include "pidfile.h"
#include "program.h"
#include "sandbox.h"

static struct witness *witness;

static struct rdaemon_config config_of(const char *pidfile) {
    witness = witness_new();
    return (struct rdaemon_config){.pidfile = pidfile};
}

/* ---- query ---- */

TEST(query_names_the_daemon_that_runs_and_disturbs_nothing) {
    const char *path = scratch_path("pid");
    static struct snapshot before;
    witness = witness_new();
    check_query(path, RDAEMON_CONTROL_NOT_RUNNING, 0);
    pid_t pid = launch(path, witness);
    snapshot_take(&before);
    struct stat was = stat_of(path);
    for (int i = 0; i < 100; i++)
        check_query(path, RDAEMON_CONTROL_RUNNING, pid);
    struct stat is = stat_of(path);
    CHECK_INT(memcmp(&was.st_mtim, &is.st_mtim, sizeof was.st_mtim), 0);
    CHECK_INT(was.st_ino, is.st_ino);
    CHECK(snapshot_same(&before));
    CHECK_INT(kernels_holder(path), pid);
    stop_well(path, pid);
    check_query(path, RDAEMON_CONTROL_NOT_RUNNING, 0);
}

TEST(query_without_outputs) {
    const char *path = scratch_path("pid");
    static struct snapshot before;
    pid_t pid = launch(path, witness_new());
    snapshot_take(&before);
    CHECK_INT(QUIET(rdaemon_control_query(path, NULL, NULL, 0)), RDAEMON_CONTROL_RUNNING);
    CHECK(snapshot_same(&before));
    stop_well(path, pid);
    CHECK_INT(QUIET(rdaemon_control_query(path, NULL, NULL, 0)), RDAEMON_CONTROL_NOT_RUNNING);
}

TEST(a_pidfd_of_query_tells_the_end) {
    const char *path = scratch_path("pid");
    int pidfd;
    pid_t pid = launch(path, witness_new());
    CHECK_INT(rdaemon_control_query(path, &pidfd, NULL, 0), RDAEMON_CONTROL_RUNNING);
    struct pollfd poll_end = {.fd = pidfd, .events = POLLIN};
    CHECK_INT(poll(&poll_end, 1, 0), 0);
    stop_well(path, pid);
    CHECK_INT(poll(&poll_end, 1, 0), 1);
    close(pidfd);
}

TEST(a_daemon_that_is_starting_is_held) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, false);
    check_query(path, RDAEMON_CONTROL_HELD, 0);
    CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_HELD);
    CHECK_INT(outcome.pid, 0);
    end_holder(holder);
    check_query(path, RDAEMON_CONTROL_NOT_RUNNING, 0);
}

static void *wait_for_the_end(void *context) {
    gate_wait(((struct witness *)context)->end);
    exit(0);
}

static int run_in_another_thread(void *context, const struct rdaemon_daemon *daemon) {
    pthread_t thread;
    (void)daemon;
    CHECK_INT(pthread_create(&thread, NULL, wait_for_the_end, context), 0);
    pthread_exit(NULL);
}

/* To /proc it looks like a zombie. */
TEST(a_daemon_whose_first_thread_has_ended_runs) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    worker.run = run_in_another_thread;
    pid_t pid = launch_with(&config, &worker);
    wait_for_state(pid, 'Z');
    check_answers(config.pidfile, witness, pid);
    CHECK_FAILS(start_by(&config, &worker), -EEXIST, RDAEMON_STEP_PIDFILE_OPEN, 0);
    CHECK_INT(outcome.pid, pid);
    CHECK_INT(stop_by(config.pidfile), RDAEMON_CONTROL_STOPPED);
    check_killed(pid, SIGTERM);
    CHECK_INT(witness->exits, 1);
}

static int run_with_a_child_that_asks(void *context, const struct rdaemon_daemon *daemon) {
    pid_t pid = fork_child();
    if (pid == 0) {
        check_query(scratch_path("pid"), RDAEMON_CONTROL_RUNNING, daemon->pid);
        CHECK_INT(signal_by(scratch_path("pid"), SIGUSR2), RDAEMON_CONTROL_RUNNING);
        _exit(0);
    }
    CHECK_INT(wait_for_exit(pid), 0);
    return run_until_told(context, daemon);
}

TEST(a_child_of_the_daemon_may_ask_and_costs_it_no_lock) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    worker.run = run_with_a_child_that_asks;
    pid_t pid = launch_with(&config, &worker);
    until(&witness->runs, 1);
    CHECK_INT(witness->user2, 1);
    check_answers(config.pidfile, witness, pid);
    stop_well(config.pidfile, pid);
}

/* ---- signal ---- */

TEST(a_signal_reaches_the_daemon_once) {
    const char *path = scratch_path("pid");
    witness = witness_new();
    CHECK_INT(signal_by(path, SIGUSR1), RDAEMON_CONTROL_NOT_RUNNING);
    pid_t pid = launch(path, witness);
    CHECK_INT(signal_by(path, SIGUSR2), RDAEMON_CONTROL_RUNNING);
    CHECK_INT(outcome.pid, pid);
    until(&witness->user2, 1);
    for (int i = 1; i <= 20; i++)
        check_answers(path, witness, pid);
    CHECK_INT(witness->user1, 20);
    CHECK_INT(witness->user2, 1);
    CHECK_INT(witness->terminates, 0);
    stop_well(path, pid);
    CHECK_INT(signal_by(path, SIGUSR1), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_INT(witness->user1, 20);
}

TEST(signal_0_only_asks) {
    const char *path = scratch_path("pid");
    CHECK_INT(signal_by(path, 0), RDAEMON_CONTROL_NOT_RUNNING);
    pid_t pid = launch(path, witness_new());
    CHECK_INT(signal_by(path, 0), RDAEMON_CONTROL_RUNNING);
    CHECK_INT(outcome.pid, pid);
    CHECK(is_alive(pid));
    stop_well(path, pid);
}

TEST(sigkill_leaves_a_stale_pidfile_which_is_nobody) {
    const char *path = scratch_path("pid");
    pid_t pid = launch(path, witness_new());
    CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_RUNNING);
    check_killed(pid, SIGKILL);
    check_query(path, RDAEMON_CONTROL_NOT_RUNNING, 0);
    CHECK_INT(signal_by(path, SIGUSR1), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "pid");
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_bad_signal_is_refused_whether_a_daemon_runs_or_not) {
    const char *path = scratch_path("pid");
    static const int bad[] = {-1, -15, 65, 66, 1000, INT_MAX, INT_MIN};
    pid_t pid = launch(path, witness_new());
    for (int i = 0; i < 7; i++) {
        CHECK_FAILS(signal_by(path, bad[i]), -EINVAL, RDAEMON_STEP_CONFIG, RDAEMON_STEP_SIGNAL);
        CHECK_FAILS(signal_by(scratch_path("none"), bad[i]), -EINVAL, RDAEMON_STEP_CONFIG,
                    RDAEMON_STEP_SIGNAL);
    }
    CHECK(is_alive(pid));
    stop_well(path, pid);
}

TEST(a_user_may_ask_for_the_daemon_of_root_but_not_signal_it) {
    REQUIRE_ROOT();
    const char *path = scratch_path("pid");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    IN_CHILD {
        become_user();
        check_query(path, RDAEMON_CONTROL_RUNNING, pid);
        CHECK_FAILS(signal_by(path, SIGUSR1), -EPERM, RDAEMON_STEP_SIGNAL, 0);
        CHECK_FAILS(signal_by(path, 0), -EPERM, RDAEMON_STEP_SIGNAL, 0);
        CHECK_FAILS(stop_within(path, 100, 100), -EPERM, RDAEMON_STEP_SIGNAL, 0);
        CHECK_FAILS(restart_within(&(struct rdaemon_config){.pidfile = path},
                                   &(struct rdaemon_worker){.run = run_until_told}, 100, 100),
                    -EPERM, RDAEMON_STEP_SIGNAL, 0);
    }
    CHECK_INT(witness->user1, 0);
    check_answers(path, witness, pid);
    stop_well(path, pid);
}

TEST(a_daemon_that_has_become_a_user_is_stopped_by_root_and_by_that_user) {
    REQUIRE_ROOT();
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    config.identity = (struct rdaemon_identity){
        .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = TEST_UID, .gid = TEST_GID};
    pid_t pid = launch_with(&config, &worker);
    stop_well(config.pidfile, pid);
    CHECK_STR(tree(scratch()), ""); /* the daemon itself could not remove it */
    pid = launch_with(&config, &worker);
    IN_CHILD {
        become_user();
        CHECK_INT(stop_by(config.pidfile), RDAEMON_CONTROL_STOPPED);
        CHECK_INT(outcome.pid, pid);
    }
    check_killed(pid, SIGTERM);
    CHECK_INT(witness->exits, 2);
    check_query(config.pidfile, RDAEMON_CONTROL_NOT_RUNNING, 0);
    CHECK_STR(file_text(config.pidfile), ""); /* nor could the user */
}

/* ---- stop ---- */

TEST(stop_returns_when_the_daemon_has_ended_and_its_pidfile_is_gone) {
    const char *path = scratch_path("pid");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
    CHECK_INT(outcome.pid, pid);
    CHECK(!is_alive(pid));
    CHECK_STR(tree(scratch()), "");
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING); /* although nobody has reaped it */
    check_killed(pid, SIGTERM);
    CHECK_INT(witness->terminates, 1);
    CHECK_INT(witness->exits, 1);
}

TEST(stop_of_nothing_is_a_result_of_its_own) {
    CHECK_INT(stop_by(scratch_path("pid")), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_INT(stop_within(scratch_path("pid"), 0, 0), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_INT(QUIET(rdaemon_control_stop(scratch_path("pid"), -1, -1, NULL, 0)),
              RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
}

TEST(stop_waits_for_ever_where_it_is_told_to) {
    const char *path = scratch_path("pid");
    pid_t pid = launch(path, witness_new());
    CHECK_INT(stop_within(path, -1, -1), RDAEMON_CONTROL_STOPPED);
    check_killed(pid, SIGTERM);
}

TEST(bad_time_limits_stop_nothing) {
    const char *path = scratch_path("pid");
    pid_t pid = launch(path, witness_new());
    CHECK_FAILS(stop_within(path, -2, 0), -EINVAL, RDAEMON_STEP_CONFIG, RDAEMON_STEP_STOP);
    CHECK_FAILS(stop_within(path, 0, -2), -EINVAL, RDAEMON_STEP_CONFIG, RDAEMON_STEP_STOP);
    CHECK_FAILS(stop_within(path, INT_MIN, INT_MIN), -EINVAL, RDAEMON_STEP_CONFIG,
                RDAEMON_STEP_STOP);
    stop_well(path, pid);
}

TEST(stop_waits_for_a_start_in_progress_and_stops_the_daemon) {
    const char *path = scratch_path("pid");
    struct gate *go = gate_new();
    pid_t daemon = fork_child();
    if (daemon == 0) {
        CHECK_INT(open_pidfile(path), 0);
        gate_wait(go);
        CHECK_INT(write_pidfile(), 0);
        for (;;)
            pause();
    }
    while (query_by(path) != RDAEMON_CONTROL_HELD)
        usleep(100);
    pid_t stopper = fork_child();
    if (stopper == 0) {
        CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
        CHECK_INT(outcome.pid, daemon);
        _exit(0);
    }
    wait_for_sleep(stopper);
    gate_open(go);
    CHECK_INT(wait_for_exit(stopper), 0);
    check_killed(daemon, SIGTERM);
    CHECK_STR(tree(scratch()), "");
}

static void wait_until(double moment) {
    while (now_ms() < moment)
        usleep(1000);
}

TEST(a_daemon_whose_start_was_waited_for_has_the_whole_time_to_end) {
    enum { LIMIT_MS = 1500 };
    const char *path = scratch_path("pid");
    struct gate *held = gate_new(), *go = gate_new();
    double *begin = shared_memory(sizeof *begin);
    pid_t daemon = fork_child();
    if (daemon == 0) {
        sigset_t term;
        int signal;
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigprocmask(SIG_BLOCK, &term, NULL);
        CHECK_INT(open_pidfile(path), 0);
        gate_open(held);
        gate_wait(go);
        wait_until(*begin + LIMIT_MS * 0.5);
        CHECK_INT(write_pidfile(), 0);
        CHECK_INT(sigwait(&term, &signal), 0);
        wait_until(*begin + LIMIT_MS * 1.1);
        _exit(0);
    }
    gate_wait(held);
    *begin = now_ms();
    gate_open(go);
    CHECK_INT(stop_within(path, LIMIT_MS, PATIENCE_MS), RDAEMON_CONTROL_STOPPED);
    CHECK_INT(outcome.pid, daemon);
    CHECK_INT(wait_for_exit(daemon), 0);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_daemon_that_survives_sigkill_for_too_long_is_reported) {
    const char *path = scratch_path("pid");
    struct rdaemon_config config = config_of(path);
    struct rdaemon_worker worker = worker_of(witness);
    pid_t pid = launch(path, witness);
    hold_end(pid);
    pid_t stopper = fork_child();
    if (stopper == 0) {
        CHECK_FAILS(stop_within(path, 100, 100), -ETIMEDOUT, RDAEMON_STEP_STOP, 0);
        _exit(0);
    }
    CHECK_INT(wait_for_exit(stopper), 0);
    stopper = fork_child();
    if (stopper == 0) {
        CHECK_FAILS(restart_within(&config, &worker, 100, 100), -ETIMEDOUT, RDAEMON_STEP_STOP, 0);
        _exit(0);
    }
    CHECK_INT(wait_for_exit(stopper), 0);
    await_end(pid);
    let_end(pid);
    check_killed(pid, SIGKILL);
    CHECK_INT(witness->runs, 1);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
}

/* ---- a caller with signals of its own ---- */

TEST(signals_end_no_wait) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    begin_signal_storm();
    for (int i = 0; i < 20; i++) {
        pid_t pid = i % 2 ? restart_by(&config, &worker) : start_by(&config, &worker);
        CHECK(pid > 0);
        close(made.pidfd);
        CHECK_INT(query_by(config.pidfile), RDAEMON_CONTROL_RUNNING);
        CHECK_INT(signal_by(config.pidfile, 0), RDAEMON_CONTROL_RUNNING);
        CHECK_INT(stop_by(config.pidfile), RDAEMON_CONTROL_STOPPED);
        check_killed(pid, SIGTERM);
    }
    CHECK(signals_of_the_storm() > 10);
    end_signal_storm();
    CHECK_INT(witness->exits, 20);
}

TEST(a_caller_that_ignores_sigchld) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = launch(config.pidfile, witness);
    CHECK_FAILS(start_by(&config, &worker), -EEXIST, RDAEMON_STEP_PIDFILE_OPEN, 0);
    CHECK_INT(stop_by(config.pidfile), RDAEMON_CONTROL_STOPPED);
    CHECK_INT(outcome.pid, pid);
    CHECK_INT(waitpid(-1, NULL, 0), -1); /* once the kernel has buried it */
    config.working_directory = scratch_path("missing");
    CHECK_FAILS(start_by(&config, &worker), -ENOENT, RDAEMON_STEP_CHDIR, 0);
    CHECK_STR(tree(scratch()), "");
}

/* ---- restart ---- */

TEST(restart_replaces_the_daemon_by_one_with_the_new_configuration) {
    const char *path = scratch_path("pid");
    struct rdaemon_config config = {.pidfile = path};
    pid_t old = 0;
    witness = NULL;
    for (int i = 0; i < 4; i++) { /* at first there is nothing to stop */
        struct witness *last = witness, *next = witness_new();
        struct rdaemon_worker worker = worker_of(next);
        config.umask = 020 + (uint32_t)i;
        pid_t pid = restart_by(&config, &worker);
        CHECK(pid > 0 && pid != old);
        CHECK_INT(pidfd_pid(made.pidfd), pid);
        close(made.pidfd);
        if (old) {
            check_killed(old, SIGTERM);
            CHECK_INT(last->exits, 1);
        }
        CHECK_INT(strtol(status_field(pid, "Umask"), NULL, 8), config.umask);
        check_answers(path, next, pid);
        old = pid;
        witness = next;
    }
    stop_well(path, old);
    CHECK_STR(tree(scratch()), "");
}

TEST(restart_kills_a_daemon_that_will_not_end) {
    const char *path = scratch_path("pid");
    struct rdaemon_config config = config_of(path);
    struct rdaemon_worker worker = worker_of(witness);
    struct rdaemon_signal_action map = {.signal = SIGTERM, .action = RDAEMON_SIGNAL_IGNORE};
    config.signal_map = &map;
    config.signal_map_len = 1;
    pid_t old = launch_with(&config, &worker);
    pid_t pid = restart_within(&config, &worker, 50, PATIENCE_MS);
    CHECK(pid > 0);
    close(made.pidfd);
    check_killed(old, SIGKILL);
    check_answers(path, witness, pid);
    CHECK_INT(stop_within(path, 0, PATIENCE_MS), RDAEMON_CONTROL_KILLED);
    check_killed(pid, SIGKILL);
    CHECK_STR(tree(scratch()), "");
}

TEST(restart_takes_a_file_that_is_no_pidfile_as_start_does) {
    struct rdaemon_config config = config_of(make_file("pid", "hello\n"));
    struct rdaemon_worker worker = worker_of(witness);
    pid_t pid = restart_by(&config, &worker);
    CHECK(pid > 0);
    close(made.pidfd);
    stop_well(config.pidfile, pid);
}

TEST(when_the_start_of_a_restart_fails_nothing_runs) {
    const char *path = scratch_path("pid");
    struct rdaemon_config config = config_of(path);
    struct rdaemon_worker worker = worker_of(witness);
    pid_t pid = launch(path, witness);
    config.working_directory = scratch_path("missing");
    CHECK_INT(restart_by(&config, &worker), -ENOENT);
    CHECK_INT(outcome.step, RDAEMON_STEP_CHDIR);
    check_killed(pid, SIGTERM);
    CHECK_INT(first_child_of(getpid()), 0);
    CHECK_STR(tree(scratch()), "");
}

static void no_pidfile(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    (void)worker;
    config->pidfile = NULL;
}

static void unknown_flag(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    (void)worker;
    config->flags = 1U << 31;
}

static void bad_umask(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    (void)worker;
    config->umask = 01000;
}

static void bad_pidfile_mode(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    (void)worker;
    config->pidfile_options.mode = 0666;
}

static void closed_fd(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    static const int32_t fd = 77;
    (void)worker;
    config->files_preserve = &fd;
    config->files_preserve_len = 1;
}

static void impossible_map(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    static const struct rdaemon_signal_action map = {.signal = SIGKILL,
                                                     .action = RDAEMON_SIGNAL_IGNORE};
    (void)worker;
    config->signal_map = &map;
    config->signal_map_len = 1;
}

static void map_of_user1(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    static const struct rdaemon_signal_action map = {.signal = SIGUSR1,
                                                     .action = RDAEMON_SIGNAL_IGNORE};
    (void)worker;
    config->signal_map = &map;
    config->signal_map_len = 1;
}

static void map_of_user2(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    static const struct rdaemon_signal_action map = {.signal = SIGUSR2,
                                                     .action = RDAEMON_SIGNAL_DEFAULT};
    (void)worker;
    config->signal_map = &map;
    config->signal_map_len = 1;
}

static void no_run(struct rdaemon_config *config, struct rdaemon_worker *worker) {
    (void)config;
    worker->run = NULL;
}

/* What makes the arguments bad. */
static const struct refusal {
    const char *what;
    int error, subject;
    void (*spoil)(struct rdaemon_config *config, struct rdaemon_worker *worker);
} refusals[] = {
    {"no pidfile", -EINVAL, RDAEMON_STEP_PIDFILE_OPEN, no_pidfile},
    {"an unknown flag", -EINVAL, RDAEMON_STEP_CONFIG, unknown_flag},
    {"a bad umask", -EINVAL, RDAEMON_STEP_UMASK, bad_umask},
    {"a mode that lets others write", -EINVAL, RDAEMON_STEP_PIDFILE_OPEN, bad_pidfile_mode},
    {"an fd that is not open", -EBADF, RDAEMON_STEP_CLOSE_FDS, closed_fd},
    {"a signal that cannot be caught", -EINVAL, RDAEMON_STEP_SET_SIGNALS, impossible_map},
    {"a signal map with USR1", -EINVAL, RDAEMON_STEP_SET_SIGNALS, map_of_user1},
    {"a signal map with USR2", -EINVAL, RDAEMON_STEP_SET_SIGNALS, map_of_user2},
    {"nothing to run", -EINVAL, RDAEMON_STEP_CONFIG, no_run},
    {0},
};

TEST(a_refused_configuration_stops_nothing) {
    const char *path = scratch_path("pid");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    for (const struct refusal *refusal = refusals; refusal->what; refusal++) {
        struct rdaemon_config config = {.pidfile = path};
        struct rdaemon_worker worker = worker_of(witness);
        refusal->spoil(&config, &worker);
        int result = restart_by(&config, &worker);
        if (result != refusal->error || outcome.subject != refusal->subject)
            FAIL("%s: %s, of %s", refusal->what, error_name(result),
                 rdaemon_step_name(outcome.subject));
        CHECK_FAILS(restart_by(&config, &worker), refusal->error, RDAEMON_STEP_CONFIG,
                    refusal->subject);
        CHECK_FAILS(start_by(&config, &worker), refusal->error, RDAEMON_STEP_CONFIG,
                    refusal->subject);
    }
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = worker_of(witness);
    CHECK_FAILS(restart_within(&config, &worker, -2, 0), -EINVAL, RDAEMON_STEP_CONFIG,
                RDAEMON_STEP_STOP);
    CHECK_FAILS(restart_within(&config, &worker, 0, -2), -EINVAL, RDAEMON_STEP_CONFIG,
                RDAEMON_STEP_STOP);
    CHECK_INT(witness->terminates, 0);
    check_answers(path, witness, pid);
    stop_well(path, pid);
}
