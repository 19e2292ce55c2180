/* Daemons that do not end as they should, and holders of the pidfile that are no daemon. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "controlled.h"
#include "sandbox.h"

static const char *path;
static struct witness *witness;

static struct rdaemon_config config_of(const char *pidfile) {
    path = pidfile;
    witness = witness_new();
    return (struct rdaemon_config){.pidfile = pidfile};
}

/* ---- daemons that do not end as they should ---- */

static void unreaped(void) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    for (int i = 0; i < 3; i++) {
        pid_t pid = launch(path, witness);
        if (i == 0)
            CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
        else if (i == 1)
            CHECK_INT(stop_within(path, -1, -1), RDAEMON_CONTROL_STOPPED);
        else
            CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_RUNNING);
        wait_for_state(pid, 'Z');
        check_query(path, RDAEMON_CONTROL_NOT_RUNNING, 0);
        CHECK_INT(signal_by(path, SIGTERM), RDAEMON_CONTROL_NOT_RUNNING);
        CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
        CHECK_INT(process_state(pid), 'Z');
    }
    pid_t old = launch(path, witness);
    pid_t pid = restart_by(&config, &worker);
    CHECK(pid > 0);
    CHECK_INT(process_state(old), 'Z');
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
}

TEST(a_zombie_that_nobody_reaps_has_ended) {
    in_pid_namespace(unreaped);
}

TEST(a_daemon_that_ignores_sigterm_is_killed_after_the_limit) {
    struct rdaemon_signal_action map = {.signal = SIGTERM, .action = RDAEMON_SIGNAL_IGNORE};
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    config.signal_map = &map;
    config.signal_map_len = 1;
    pid_t pid = launch_with(&config, &worker);
    double begin = now_ms();
    CHECK_INT(stop_within(path, 300, PATIENCE_MS), RDAEMON_CONTROL_KILLED);
    CHECK(now_ms() - begin >= 299);
    CHECK_INT(outcome.pid, pid);
    check_killed(pid, SIGKILL);
    CHECK_INT(witness->exits, 0);
    CHECK_STR(tree(scratch()), ""); /* the daemon could not remove it */
}

static int run_for_ever(void *context, const struct rdaemon_daemon *daemon) {
    (void)context, (void)daemon;
    gate_wait(gate_new());
    return 0;
}

TEST(a_daemon_that_goes_on_for_too_long_is_killed) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    witness->goes_on = true;
    worker.run = run_for_ever;
    pid_t pid = launch_with(&config, &worker);
    CHECK_INT(stop_within(path, 100, -1), RDAEMON_CONTROL_KILLED);
    check_killed(pid, SIGKILL);
    CHECK_INT(witness->terminates, 1);
    CHECK_INT(witness->exits, 0);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_stopped_daemon_runs_and_is_continued_to_be_stopped) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    pid_t pid = launch_with(&config, &worker);
    CHECK_INT(signal_by(path, SIGSTOP), RDAEMON_CONTROL_RUNNING);
    wait_for_state(pid, 'T');
    check_query(path, RDAEMON_CONTROL_RUNNING, pid);
    CHECK_INT(signal_by(path, SIGUSR1), RDAEMON_CONTROL_RUNNING);
    CHECK_INT(start_by(&config, &worker), -EEXIST);
    CHECK_INT(outcome.pid, pid);
    stop_well(path, pid);
    CHECK_INT(witness->user1, 1);
    CHECK_INT(witness->exits, 1);
}

/* ---- holders that are no daemon ---- */

static atomic_int *worker_pid;

static int run_with_a_worker(void *context, const struct rdaemon_daemon *daemon) {
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        for (;;)
            pause();
    }
    *worker_pid = pid;
    return run_until_told(context, daemon);
}

static pid_t launch_with_a_worker(const struct rdaemon_config *config) {
    struct rdaemon_worker worker = worker_of(witness);
    worker_pid = shared_memory(sizeof *worker_pid);
    worker.run = run_with_a_worker;
    pid_t pid = launch_with(config, &worker);
    until(&witness->runs, 1);
    return pid;
}

TEST(workers_of_a_dead_daemon_are_nobody_to_signal) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    pid_t pid = launch_with_a_worker(&config);
    check_query(path, RDAEMON_CONTROL_RUNNING, pid);
    kill(pid, SIGKILL);
    wait_for_exit(pid);
    check_query(path, RDAEMON_CONTROL_HELD, 0);
    CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_HELD);
    double begin = now_ms();
    CHECK_INT(stop_within(path, 200, 0), RDAEMON_CONTROL_HELD);
    CHECK(now_ms() - begin >= 199);
    CHECK_STR(tree(scratch()), "pid");
    CHECK_FAILS(start_by(&config, &worker), -EEXIST, RDAEMON_STEP_PIDFILE_OPEN, 0);
    CHECK_INT(outcome.pid, 0);
    CHECK_FAILS(restart_within(&config, &worker, 50, 50), -EEXIST, RDAEMON_STEP_PIDFILE_OPEN, 0);
    CHECK_INT(outcome.pid, 0);
    check_untouched(*worker_pid);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
}

TEST(workers_of_a_stopped_daemon_are_left_alone_and_do_not_hinder_the_next) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    pid_t pid = launch_with_a_worker(&config);
    stop_well(path, pid);
    CHECK_STR(tree(scratch()), "");
    /* The ending daemon had locked the directory against starts. */
    int directory = open(scratch(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(flock(directory, LOCK_EX | LOCK_NB), 0);
    close(directory);
    pid = launch(path, witness);
    check_answers(path, witness, pid);
    stop_well(path, pid);
    check_untouched(*worker_pid);
}

TEST(a_killed_daemon_is_reported_although_its_workers_hold_the_file) {
    struct rdaemon_signal_action map = {.signal = SIGTERM, .action = RDAEMON_SIGNAL_IGNORE};
    struct rdaemon_config config = config_of(scratch_path("pid"));
    config.signal_map = &map;
    config.signal_map_len = 1;
    pid_t pid = launch_with_a_worker(&config);
    CHECK_INT(stop_within(path, 0, PATIENCE_MS), RDAEMON_CONTROL_KILLED);
    check_killed(pid, SIGKILL);
    check_query(path, RDAEMON_CONTROL_HELD, 0);
    CHECK_STR(tree(scratch()), "pid"); /* or a start would not see them */
    check_untouched(*worker_pid);
}

static struct gate *worker_end;

static int run_with_a_worker_that_ends(void *context, const struct rdaemon_daemon *daemon) {
    if (fork() == 0) {
        gate_wait(worker_end);
        _exit(0);
    }
    return run_until_told(context, daemon);
}

/* As where the daemon may not remove its pidfile. */
TEST(restart_waits_for_workers_of_the_stopped_daemon) {
    enum { LONGER_THAN_A_START_MS = 500 };
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    atomic_int *restarted = shared_memory(sizeof *restarted);
    config.pidfile_options.flags = RDAEMON_PIDFILE_ONLY_EMPTY;
    worker.run = run_with_a_worker_that_ends;
    worker_end = gate_new();
    pid_t old = launch_with(&config, &worker);
    until(&witness->runs, 1);
    pid_t restarter = fork_child();
    if (restarter == 0) {
        *restarted = restart_by(&config, &worker);
        CHECK(*restarted > 0);
        _exit(0);
    }
    check_killed(old, SIGTERM);
    for (double begin = now_ms(); now_ms() - begin < LONGER_THAN_A_START_MS;)
        wait_for_sleep(restarter);
    gate_open(worker_end);
    CHECK_INT(wait_for_exit(restarter), 0);
    until(&witness->runs, 2);
    check_answers(path, witness, *restarted);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
    wait_for_exit(*restarted);
}

/* Such a lock has no process, and the kernel says -1: to kill(2) that is every process. */
static void hold_as_an_open_file(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    path = make_file("pid", "1\n");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_INT(flock(fd, LOCK_EX), 0);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &lock), 0);
    pid_t other = bystander(20);
    CHECK_INT(kernels_holder(path), -1);
    check_query(path, RDAEMON_CONTROL_HELD, 0);
    CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_HELD);
    CHECK_INT(stop_within(path, 0, 0), RDAEMON_CONTROL_HELD);
    check_untouched(other);
}

TEST(a_lock_of_no_process_is_nobody_to_signal) {
    in_pid_namespace(hold_as_an_open_file);
}

/* Its pid is 0 here: to kill(2) that is the caller's own group. */
static void ask_from_inside(void) {
    pid_t other = bystander(20);
    CHECK_INT(kernels_holder(path), 0);
    check_query(path, RDAEMON_CONTROL_HELD, 0);
    CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_HELD);
    CHECK_INT(stop_within(path, 0, 0), RDAEMON_CONTROL_HELD);
    check_untouched(other);
}

TEST(a_daemon_outside_of_the_pid_namespace_is_nobody_to_signal) {
    path = scratch_path("pid");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    IN_CHILD {
        in_pid_namespace(ask_from_inside);
    }
    CHECK_INT(witness->terminates, 0);
    check_answers(path, witness, pid);
    stop_well(path, pid);
}

/* It runs in the namespace, and this process outside sees it under another number. */
static struct gate *seen;
static atomic_int *inner_pid;

static void launch_inside(void) {
    pid_t pid = launch(path, witness);
    *inner_pid = pid;
    gate_wait(seen);
    check_killed(pid, SIGTERM);
}

TEST(a_daemon_inside_of_a_pid_namespace_is_controlled_from_outside) {
    config_of(scratch_path("pid"));
    seen = gate_new();
    inner_pid = shared_memory(sizeof *inner_pid);
    pid_t inside = fork_child();
    if (inside == 0) {
        in_pid_namespace(launch_inside);
        _exit(0);
    }
    while (*inner_pid == 0) {
        CHECK(is_alive(inside)); /* it may have skipped the case */
        usleep(1000);
    }
    CHECK_INT(query_by(path), RDAEMON_CONTROL_RUNNING);
    pid_t pid = outcome.pid;
    CHECK(pid != *inner_pid);
    CHECK_INT(signal_by(path, SIGUSR1), RDAEMON_CONTROL_RUNNING);
    until(&witness->user1, 1);
    CHECK_INT(witness->answered, *inner_pid);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
    CHECK_INT(outcome.pid, pid);
    gate_open(seen);
    CHECK_INT(wait_for_exit(inside), 0);
    CHECK_STR(tree(scratch()), "");
}

/* Which anybody has who may read the file. */
static pid_t hold_as_a_reader(short type, int operation, struct gate *end) {
    struct gate *ready = gate_new();
    pid_t pid = fork_child();
    if (pid == 0) {
        struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK_INT(fcntl(fd, F_SETLK, &lock), 0);
        CHECK_INT(flock(fd, operation), 0);
        gate_open(ready);
        gate_wait(end);
        _exit(0);
    }
    gate_wait(ready);
    return pid;
}

TEST(a_reader_of_the_file_cannot_pose_as_the_daemon) {
    static const int operations[] = {LOCK_UN, LOCK_SH, LOCK_EX};
    path = make_file("pid", "4000000\n");
    for (int i = 0; i < 3; i++) {
        struct gate *end = gate_new();
        pid_t reader = hold_as_a_reader(F_RDLCK, operations[i], end);
        int expected =
            operations[i] == LOCK_EX ? RDAEMON_CONTROL_HELD : RDAEMON_CONTROL_NOT_RUNNING;
        check_query(path, expected, 0);
        CHECK_INT(signal_by(path, SIGKILL), expected);
        if (operations[i] != LOCK_UN) { /* else the file would be removed */
            CHECK_INT(stop_within(path, 0, 0), expected);
            CHECK_STR(file_text(path), "4000000\n");
        }
        CHECK(is_alive(reader));
        gate_open(end);
        CHECK_INT(wait_for_exit(reader), 0);
    }
}

struct cleaner {
    struct gate *ready;
    int fd, result;
    atomic_bool done;
};

static void *clean(void *context) {
    static const long pauses[] = {SYS_nanosleep, SYS_clock_nanosleep};
    struct cleaner *cleaner = context;
    cleaner->fd = hold_syscalls(pauses, 2);
    gate_open(cleaner->ready);
    cleaner->result = stop_by(path);
    cleaner->done = true;
    usleep(1); /* which is held, too */
    return NULL;
}

TEST(a_reader_that_is_quick_does_not_keep_a_stale_file) {
    struct cleaner cleaner = {.ready = gate_new()};
    pthread_t thread;
    path = make_file("pid", "4000000\n");
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_INT(flock(reader, LOCK_SH), 0);
    CHECK_INT(pthread_create(&thread, NULL, clean, &cleaner), 0);
    gate_wait(cleaner.ready);
    struct held_call call = held_next(cleaner.fd);
    CHECK(!cleaner.done); /* it looks again */
    CHECK_STR(tree(scratch()), "pid");
    CHECK_INT(flock(reader, LOCK_UN), 0);
    held_release(cleaner.fd, &call);
    call = held_next(cleaner.fd);
    CHECK(cleaner.done);
    held_release(cleaner.fd, &call);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(cleaner.result, RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
}
