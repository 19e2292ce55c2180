/* rdaemon_control_start: what the daemon is, how it ends, and what is refused. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "controlled.h"
#include "pidfile.h"
#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

static struct witness *witness;

static struct rdaemon_config config_of(const char *pidfile) {
    witness = witness_new();
    return (struct rdaemon_config){.pidfile = pidfile};
}

/* A worker that does nothing but run. */
static struct rdaemon_worker just(int (*run)(void *, const struct rdaemon_daemon *)) {
    return (struct rdaemon_worker){.run = run, .context = witness};
}

static void check_exited(pid_t pid, int status) {
    int wait_status = wait_for_exit(pid);
    CHECK(WIFEXITED(wait_status));
    CHECK_INT(WEXITSTATUS(wait_status), status);
}

/* ---- start ---- */

TEST(start_returns_the_pid_of_the_daemon_and_its_pidfd) {
    static struct snapshot before;
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    pid_t starter = getpid();
    snapshot_take(&before);
    pid_t pid = start_by(&config, &worker);
    CHECK_INT(getpid(), starter);
    CHECK(pid > 0 && pid != starter);
    CHECK(made.pidfd >= 3 && fd_is_cloexec(made.pidfd));
    CHECK_INT(pidfd_pid(made.pidfd), pid);
    CHECK_INT(made.ready_fd, -1);
    CHECK_INT(made.detached, 1);
    CHECK_INT(made.pidfile.fd, -1);
    CHECK_INT(made.pidfile.directory_fd, -1);
    close(made.pidfd);
    until(&witness->runs, 1);
    CHECK_INT(witness->pid, pid);
    stop_well(config.pidfile, pid);
    CHECK(snapshot_same(&before));
}

TEST(when_start_returns_the_pidfile_and_the_kernel_name_the_daemon) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    char line[16];
    pid_t pid = launch_with(&config, &worker);
    snprintf(line, sizeof line, "%d\n", (int)pid);
    CHECK_STR(file_text(config.pidfile), line);
    CHECK_INT(kernels_holder(config.pidfile), pid);
    stop_well(config.pidfile, pid);
}

static int run_looking_at_its_daemon(void *context, const struct rdaemon_daemon *daemon) {
    CHECK(context == witness);
    CHECK_INT(daemon->pid, getpid());
    CHECK_INT(daemon->pidfd, -1);
    CHECK_INT(daemon->ready_fd, -1);
    CHECK_INT(daemon->detached, 1);
    CHECK_INT(daemon->pidfile.writer, getpid());
    CHECK_STR(daemon->pidfile.name, "pid");
    CHECK(getsid(0) != getpid());
    CHECK_STR(fd_target(0, daemon->pidfile.fd), scratch_path("pid"));
    witness->runs++;
    return 0;
}

TEST(run_is_given_the_context_and_the_daemon) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = just(run_looking_at_its_daemon);
    check_exited(launch_with(&config, &worker), 0);
    CHECK_INT(witness->runs, 1);
}

static atomic_int *order;

static void at_exit_with_pidfile(void *context) {
    (void)context;
    CHECK_STR(file_text(scratch_path("pid")), own_line());
    CHECK_INT(++*order, 1);
}

static void atexit_without_pidfile(void) {
    CHECK(!exists(scratch_path("pid")));
    CHECK_INT(++*order, 2);
}

static int run_until_exit(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    CHECK_INT(atexit(atexit_without_pidfile), 0);
    return ((struct witness *)context)->result;
}

TEST(when_run_returns_come_at_exit_then_the_end_of_the_pidfile_then_exit) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = just(run_until_exit);
    order = shared_memory(sizeof *order);
    worker.at_exit = at_exit_with_pidfile;
    witness->result = 7;
    check_exited(launch_with(&config, &worker), 7);
    CHECK_INT(*order, 2);
    CHECK_STR(tree(scratch()), "");
}

TEST(sigterm_ends_the_daemon_by_that_signal_after_its_hooks) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    order = shared_memory(sizeof *order);
    worker.at_exit = at_exit_with_pidfile;
    pid_t pid = launch_with(&config, &worker);
    CHECK_INT(kill(pid, SIGTERM), 0);
    check_killed(pid, SIGTERM);
    CHECK_INT(witness->terminates, 1);
    CHECK_INT(*order, 1);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_daemon_whose_on_terminate_goes_on_ends_when_run_returns) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    witness->goes_on = true;
    witness->result = 3;
    pid_t pid = launch_with(&config, &worker);
    CHECK_INT(stop_by(config.pidfile), RDAEMON_CONTROL_STOPPED);
    check_exited(pid, 3);
    CHECK_INT(witness->terminates, 1);
    CHECK_INT(witness->exits, 1);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_worker_needs_no_hooks) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = just(run_until_told);
    pid_t pid = launch_with(&config, &worker);
    stop_well(config.pidfile, pid);
    CHECK_STR(tree(scratch()), "");
    pid = launch_with(&config, &worker);
    CHECK_INT(signal_by(config.pidfile, SIGUSR1), RDAEMON_CONTROL_RUNNING);
    check_killed(pid, SIGUSR1); /* its disposition is the default one */
}

TEST(a_second_start_is_refused_with_the_running_pid) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    pid_t pid = launch(config.pidfile, witness);
    for (int i = 0; i < 3; i++) {
        CHECK_FAILS(start_by(&config, &worker), -EEXIST, RDAEMON_STEP_PIDFILE_OPEN, 0);
        CHECK_INT(outcome.pid, pid);
    }
    CHECK_INT(witness->runs, 1);
    check_answers(config.pidfile, witness, pid);
    stop_well(config.pidfile, pid);
}

TEST(a_start_after_a_crash_takes_the_stale_pidfile_over) {
    const char *path = scratch_path("pid");
    witness = witness_new();
    pid_t first = launch(path, witness);
    kill(first, SIGKILL);
    wait_for_exit(first);
    CHECK_STR(tree(scratch()), "pid");
    pid_t second = launch(path, witness);
    check_answers(path, witness, second);
    stop_well(path, second);
}

TEST(a_step_that_fails_leaves_nothing) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    config.working_directory = scratch_path("missing");
    CHECK_FAILS(start_by(&config, &worker), -ENOENT, RDAEMON_STEP_CHDIR, 0);
    CHECK_FAILS(restart_by(&config, &worker), -ENOENT, RDAEMON_STEP_CHDIR, 0);
    CHECK_INT(witness->runs, 0);
}

TEST(a_process_that_does_not_detach_is_the_daemon) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    config.detach = RDAEMON_DETACH_NO;
    witness->result = 5;
    pid_t pid = fork_child();
    if (pid == 0) {
        rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker), NULL, 0, NULL, 0);
        FAIL("the call returned");
    }
    until(&witness->runs, 1);
    CHECK_INT(witness->pid, pid);
    check_answers(config.pidfile, witness, pid);
    gate_open(witness->end);
    check_exited(pid, 5);
    CHECK_INT(witness->exits, 1);
    CHECK_STR(tree(scratch()), "");
}

TEST(sigterm_ends_a_daemon_whose_signal_map_does_not_name_it) {
    struct rdaemon_signal_action map = {.signal = SIGHUP, .action = RDAEMON_SIGNAL_IGNORE};
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    config.signal_map = &map;
    for (config.signal_map_len = 0; config.signal_map_len < 2; config.signal_map_len++) {
        pid_t pid = launch_with(&config, &worker);
        CHECK_INT(signal_in(pid, "SigIgn", SIGHUP), config.signal_map_len);
        stop_well(config.pidfile, pid);
        CHECK_STR(tree(scratch()), "");
    }
}

TEST(a_signal_map_may_make_another_signal_terminate) {
    struct rdaemon_signal_action map = {.signal = SIGINT, .action = RDAEMON_SIGNAL_TERMINATE};
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    config.signal_map = &map;
    config.signal_map_len = 1;
    pid_t pid = launch_with(&config, &worker);
    CHECK_INT(signal_by(config.pidfile, SIGINT), RDAEMON_CONTROL_RUNNING);
    check_killed(pid, SIGINT);
    CHECK_INT(witness->terminates, 1);
    CHECK_INT(witness->exits, 1);
    CHECK_STR(tree(scratch()), "");
}

static void start_another(void) {
    struct rdaemon_config config = {.pidfile = scratch_path("other/pid"),
                                    .flags = RDAEMON_RESET_SIGNALS};
    struct rdaemon_worker worker = worker_of(witness);
    CHECK(start_by(&config, &worker) > 0);
}

static int run_until_another_is_started(void *context, const struct rdaemon_daemon *daemon) {
    (void)context, (void)daemon;
    return atexit(start_another);
}

TEST(a_daemon_that_is_started_by_one_that_ends_can_end_itself) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = just(run_until_another_is_started);
    const char *other = scratch_path("other/pid");
    make_directory("other", 0755);
    for (int i = 0; i < 2; i++) {
        witness->end = gate_new();
        check_exited(launch_with(&config, &worker), 0);
        until(&witness->runs, i + 1);
        pid_t pid = witness->pid;
        if (i == 0) {
            CHECK_INT(stop_within(other, 5000, 5000), RDAEMON_CONTROL_STOPPED);
            check_killed(pid, SIGTERM);
        } else {
            gate_open(witness->end);
            check_exited(pid, 0);
        }
        CHECK_INT(witness->exits, i + 1);
    }
    CHECK_STR(tree(scratch()), "other/");
}

/* ---- start and readiness ---- */

static struct gate *may_be_ready;
static atomic_bool *returned;

static int run_getting_ready(void *context, const struct rdaemon_daemon *daemon) {
    CHECK(daemon->ready_fd >= 3);
    witness->runs++;
    gate_wait(may_be_ready);
    CHECK(!*returned);
    CHECK_INT(rdaemon_ready(daemon->ready_fd), 0);
    gate_wait(((struct witness *)context)->end);
    return 0;
}

TEST(start_returns_when_the_daemon_is_ready) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = just(run_getting_ready);
    config.flags = RDAEMON_NOTIFY_READY;
    returned = shared_memory(sizeof *returned);
    may_be_ready = gate_new();
    pid_t starter = fork_child();
    if (starter == 0) {
        CHECK(start_by(&config, &worker) > 0);
        *returned = true;
        gate_wait(witness->end);
        _exit(0);
    }
    until(&witness->runs, 1);
    wait_for_state(starter, 'S'); /* in the call, or at the gate behind it */
    gate_open(may_be_ready);
    while (!*returned)
        usleep(1000);
    pid_t pid = kernels_holder(config.pidfile);
    gate_open(witness->end);
    CHECK_INT(wait_for_exit(starter), 0);
    check_exited(pid, 0);
}

static int run_failing(void *context, const struct rdaemon_daemon *daemon) {
    CHECK_INT(rdaemon_fail(daemon->ready_fd, -EADDRINUSE), 0);
    gate_wait(((struct witness *)context)->end);
    return 0;
}

static int run_without_a_word(void *context, const struct rdaemon_daemon *daemon) {
    (void)context, (void)daemon;
    return 0;
}

static int run_into_death(void *context, const struct rdaemon_daemon *daemon) {
    (void)context, (void)daemon;
    return kill(getpid(), SIGKILL);
}

TEST(start_fails_as_the_daemon_does_and_leaves_none) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = just(run_failing);
    config.flags = RDAEMON_NOTIFY_READY;
    CHECK_FAILS(start_by(&config, &worker), -EADDRINUSE, RDAEMON_STEP_READY, 0);
    worker.run = run_without_a_word;
    CHECK_FAILS(start_by(&config, &worker), -ESRCH, RDAEMON_STEP_READY, 0);
    worker.run = run_into_death;
    CHECK_FAILS(start_by(&config, &worker), -ESRCH, RDAEMON_STEP_READY, 0);
}

TEST(a_daemon_that_does_not_get_ready_in_time_is_ended) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    config.flags = RDAEMON_NOTIFY_READY;
    config.timeout_ms = 1000;
    double begin = now_ms();
    CHECK_FAILS(start_by(&config, &worker), -ETIMEDOUT, RDAEMON_STEP_READY, 0);
    CHECK(now_ms() - begin >= 1000);
    CHECK_INT(witness->runs, 1);
    CHECK_INT(witness->exits, 1);
    CHECK(!is_alive(witness->pid));
    witness->goes_on = true; /* this one does not hear SIGTERM */
    worker.run = run_getting_ready;
    may_be_ready = gate_new();
    CHECK_FAILS(start_by(&config, &worker), -ETIMEDOUT, RDAEMON_STEP_READY, 0);
    CHECK_INT(witness->runs, 2);
}

/* ---- arguments ---- */

TEST(outputs_may_be_null) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    static struct snapshot before;
    snapshot_take(&before);
    int pid = QUIET(
        rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker), NULL, 0, NULL, 0));
    CHECK(pid > 0);
    stop_well(config.pidfile, pid);
    CHECK(snapshot_same(&before)); /* no pidfd is left either */
}

TEST(a_map_of_a_signal_without_its_hook_is_fine) {
    struct rdaemon_signal_action map = {.signal = SIGUSR1, .action = RDAEMON_SIGNAL_IGNORE};
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    worker.on_user1 = NULL;
    config.signal_map = &map;
    config.signal_map_len = 1;
    pid_t pid = launch_with(&config, &worker);
    CHECK_INT(signal_by(config.pidfile, SIGUSR1), RDAEMON_CONTROL_RUNNING);
    CHECK_INT(signal_by(config.pidfile, SIGUSR2), RDAEMON_CONTROL_RUNNING);
    until(&witness->user2, 1);
    CHECK(is_alive(pid));
    stop_well(config.pidfile, pid);
}

/* The worker as a later version of the library may have it. */
static union grown_worker {
    struct rdaemon_worker worker;
    unsigned char bytes[sizeof(struct rdaemon_worker) + 24];
} grown;

static int start_sized(const struct rdaemon_config *config, const void *worker, size_t size) {
    memset(&outcome, 0xa5, sizeof outcome);
    int result = QUIET(rdaemon_control_start(RDAEMON_SIZED(config), worker, size, NULL, 0,
                                             RDAEMON_SIZED(&outcome)));
    CHECK_INT(outcome.error, result < 0 ? result : 0);
    int again = result < 0 ? QUIET(rdaemon_control_restart(RDAEMON_SIZED(config), worker, size, 0,
                                                           0, NULL, 0, RDAEMON_SIZED(&outcome)))
                           : result;
    CHECK_INT(again, result);
    return result;
}

TEST(workers_that_are_too_short_or_have_unknown_fields_are_refused) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    grown.worker = worker_of(witness);
    static const size_t shorter[] = {0, 1, sizeof(struct rdaemon_worker) - 1};
    for (int i = 0; i < 3; i++)
        CHECK_FAILS(start_sized(&config, &grown, shorter[i]), -EINVAL, RDAEMON_STEP_CONFIG,
                    outcome.subject);
    CHECK_FAILS(start_sized(&config, NULL, 0), -EINVAL, RDAEMON_STEP_CONFIG, outcome.subject);
    CHECK_FAILS(start_sized(&config, NULL, sizeof grown.worker), -EINVAL, RDAEMON_STEP_CONFIG,
                outcome.subject);
    for (size_t i = sizeof grown.worker; i < sizeof grown; i++) {
        grown.bytes[i] = 1;
        CHECK_FAILS(start_sized(&config, &grown, sizeof grown), -E2BIG, RDAEMON_STEP_CONFIG,
                    outcome.subject);
        grown.bytes[i] = 0;
    }
    CHECK_INT(witness->runs, 0);
    pid_t pid = start_sized(&config, &grown, sizeof grown);
    CHECK(pid > 0);
    until(&witness->runs, 1);
    stop_well(config.pidfile, pid);
}

TEST(a_config_without_its_first_fields_is_refused) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    CHECK_FAILS(QUIET(rdaemon_control_start(&config, 8, RDAEMON_SIZED(&worker), NULL, 0,
                                            RDAEMON_SIZED(&outcome))),
                -EINVAL, RDAEMON_STEP_CONFIG, outcome.subject);
    CHECK_FAILS(QUIET(rdaemon_control_start(NULL, 0, RDAEMON_SIZED(&worker), NULL, 0,
                                            RDAEMON_SIZED(&outcome))),
                -EINVAL, RDAEMON_STEP_CONFIG, RDAEMON_STEP_PIDFILE_OPEN);
}

TEST(shorter_outputs_are_filled_as_far_as_they_go_and_longer_ones_zeroed) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    union {
        struct rdaemon_daemon daemon;
        struct rdaemon_status status;
        unsigned char bytes[1024];
    } daemon, status;
    memset(&daemon, 0xa5, sizeof daemon);
    memset(&status, 0xa5, sizeof status);
    int pid = QUIET(rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                          &daemon.daemon, sizeof daemon, &status.status, 12));
    CHECK(pid > 0);
    CHECK_INT(daemon.daemon.pid, pid);
    CHECK_INT(pidfd_pid(daemon.daemon.pidfd), pid);
    for (size_t i = sizeof daemon.daemon; i < sizeof daemon; i++)
        CHECK_INT(daemon.bytes[i], 0);
    CHECK_INT(status.status.pid, pid);
    for (size_t i = 12; i < sizeof status; i++)
        CHECK_INT(status.bytes[i], 0xa5);
    memset(&status, 0xa5, sizeof status);
    CHECK_INT(QUIET(rdaemon_control_query(config.pidfile, NULL, &status.status, sizeof status)),
              RDAEMON_CONTROL_RUNNING);
    CHECK_INT(status.status.pid, pid);
    for (size_t i = sizeof status.status; i < sizeof status; i++)
        CHECK_INT(status.bytes[i], 0);
    stop_well(config.pidfile, pid);
}
