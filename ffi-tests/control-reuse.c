/* Pids that go to another process, at any moment: nobody gets a signal but the daemon. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "controlled.h"
#include "sandbox.h"
#include "trace.h"

static const char *path;
static struct witness *witness;

static struct rdaemon_config config_of(const char *pidfile) {
    path = pidfile;
    witness = witness_new();
    return (struct rdaemon_config){.pidfile = pidfile};
}

/* ---- a reused pid ---- */

/* The daemon is killed, and another process has its pid. */
static pid_t reuse(pid_t daemon) {
    kill(daemon, SIGKILL);
    wait_for_exit(daemon);
    return bystander(daemon);
}

static void ask_signal_stop_and_restart(void) {
    struct rdaemon_config config = config_of(scratch_path("pid"));
    struct rdaemon_worker worker = worker_of(witness);
    pid_t other = reuse(launch(path, witness));
    CHECK_STR(tree(scratch()), "pid");
    check_query(path, RDAEMON_CONTROL_NOT_RUNNING, 0);
    CHECK_INT(signal_by(path, SIGTERM), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_INT(stop_within(path, 0, 0), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
    check_untouched(other);
    other = reuse(launch(path, witness));
    pid_t pid = restart_by(&config, &worker);
    CHECK(pid > 0);
    close(made.pidfd);
    check_answers(path, witness, pid);
    stop_well(path, pid);
    check_untouched(other);
}

TEST(a_process_with_the_pid_of_a_dead_daemon_is_nobody) {
    in_pid_namespace(ask_signal_stop_and_restart);
}

/* ---- at each moment of a call ---- */

enum fate {
    DIES,    /* the daemon is killed, and reaped */
    REUSED,  /* another process has its pid */
    REPLACED /* and another daemon runs */
};

static const long held_calls[] = {SYS_fcntl,    SYS_flock, SYS_pidfd_open, SYS_pidfd_send_signal,
                                  SYS_unlinkat, SYS_ppoll};

struct controller {
    int (*call)(void);
    struct gate *ready;
    int fd;
    int result;
    struct rdaemon_status outcome;
    atomic_bool done;
};

static void *control(void *context) {
    struct controller *controller = context;
    controller->fd = hold_syscalls(held_calls, sizeof held_calls / sizeof *held_calls);
    gate_open(controller->ready);
    controller->result = controller->call();
    controller->outcome = outcome;
    controller->done = true;
    return NULL;
}

/* The next of its calls that waits for leave; false when there is none any more. */
static bool next_held(struct controller *controller, struct held_call *call) {
    struct pollfd held = {.fd = controller->fd, .events = POLLIN};
    while (!controller->done) {
        if (poll(&held, 1, 5) == 1 && held.revents & POLLIN) {
            *call = held_next(controller->fd);
            return true;
        }
    }
    return false;
}

static struct moment {
    enum fate fate;
    struct witness *witness; /* of the daemon that replaces the other */
    pid_t daemon, bystander, replacement;
    long number; /* of the call that waited meanwhile */
} moment;

static void meddle(void) {
    kill(moment.daemon, SIGKILL);
    wait_for_exit(moment.daemon);
    if (moment.fate != DIES)
        moment.bystander = bystander(moment.daemon);
    if (moment.fate == REPLACED) {
        struct rdaemon_config config = {.pidfile = path};
        struct rdaemon_worker worker = worker_of(moment.witness);
        pid_t pid = start_by(&config, &worker);
        CHECK(pid > 0 || pid == -EEXIST); /* while the stale file is locked for its removal */
        moment.replacement = pid > 0 ? pid : 0;
        if (pid > 0)
            close(made.pidfd);
    }
}

/* Makes the call; after `index` of its system calls there is a moment. False: it has made fewer. */
static bool call_and_meddle(struct controller *controller, int index) {
    pthread_t thread;
    struct held_call call;
    bool meddled = false;
    controller->ready = gate_new();
    controller->done = false;
    CHECK_INT(pthread_create(&thread, NULL, control, controller), 0);
    gate_wait(controller->ready);
    for (int i = 0; next_held(controller, &call); i++) {
        if (i == index) {
            moment.number = call.number;
            meddle();
            meddled = true;
        }
        held_release(controller->fd, &call);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    close(controller->fd);
    return meddled;
}

/* The daemon that came meanwhile has got what the call says it has, or nothing. */
static void check_replacement(const struct controller *controller) {
    if (moment.replacement == 0)
        return;
    if (controller->result == RDAEMON_CONTROL_STOPPED ||
        controller->result == RDAEMON_CONTROL_KILLED) {
        if (controller->outcome.pid == moment.replacement) {
            CHECK(!is_alive(moment.replacement));
            wait_for_exit(moment.replacement);
            return;
        }
    } else if (controller->outcome.pid == moment.replacement) {
        until(&moment.witness->user1, 1);
    } else {
        CHECK_INT(moment.witness->user1, 0);
    }
    CHECK_INT(moment.witness->terminates, 0);
    check_answers(path, moment.witness, moment.replacement);
    stop_well(path, moment.replacement);
}

static void check_result(const struct controller *controller) {
    int result = controller->result;
    if (result < 0)
        FAIL("at %s: %s", trace_call_name(moment.number), error_name(result));
    if (result != RDAEMON_CONTROL_NOT_RUNNING && controller->outcome.pid != moment.daemon &&
        controller->outcome.pid != moment.replacement)
        FAIL("at %s: pid %d is neither %d nor %d", trace_call_name(moment.number),
             controller->outcome.pid, moment.daemon, moment.replacement);
    if (moment.number == SYS_pidfd_open && moment.replacement == 0)
        CHECK_INT(result, RDAEMON_CONTROL_NOT_RUNNING);
    if (moment.number == SYS_pidfd_open && moment.replacement != 0)
        CHECK_INT(controller->outcome.pid, moment.replacement);
}

static void at_each_moment(int (*call)(void), bool deaf) {
    struct rdaemon_signal_action map = {.signal = SIGTERM, .action = RDAEMON_SIGNAL_IGNORE};
    struct controller controller = {.call = call};
    int opened = 0, sent = 0, moments = 0;
    for (int fate = DIES; fate <= REPLACED; fate++) {
        bool meddled = true;
        for (int i = 0; meddled; i++) {
            struct rdaemon_config config = config_of(scratch_path("pid"));
            struct rdaemon_worker worker = worker_of(witness);
            config.signal_map = deaf ? &map : NULL;
            config.signal_map_len = deaf;
            moment = (struct moment){.fate = fate, .witness = witness_new()};
            moment.daemon = launch_with(&config, &worker);
            meddled = call_and_meddle(&controller, i);
            if (meddled) {
                check_result(&controller);
                moments++;
                opened += moment.number == SYS_pidfd_open;
                sent += moment.number == SYS_pidfd_send_signal;
            } else {
                CHECK(controller.outcome.pid == moment.daemon);
                kill(moment.daemon, SIGKILL);
                wait_for_exit(moment.daemon);
            }
            if (moment.bystander)
                check_untouched(moment.bystander);
            check_replacement(&controller);
            CHECK_INT(first_child_of(1), 0);
            if (stop_by(path) != RDAEMON_CONTROL_NOT_RUNNING)
                FAIL("something runs");
        }
    }
    NOTE("%d moments", moments);
    CHECK(opened >= 3);
    CHECK(sent >= 3);
}

static int user1(void) {
    return signal_by(path, SIGUSR1);
}

static int stop_it(void) {
    return stop_by(path);
}

static int kill_it(void) {
    return stop_within(path, 0, PATIENCE_MS);
}

static void signal_at_each_moment(void) {
    at_each_moment(user1, false);
}

static void stop_at_each_moment(void) {
    at_each_moment(stop_it, false);
}

static void kill_at_each_moment(void) {
    at_each_moment(kill_it, true);
}

TEST(a_pid_that_is_reused_at_any_moment_of_signal) {
    in_pid_namespace(signal_at_each_moment);
}

TEST(a_pid_that_is_reused_at_any_moment_of_stop) {
    in_pid_namespace(stop_at_each_moment);
}

TEST(a_pid_that_is_reused_at_any_moment_of_a_stop_that_kills) {
    in_pid_namespace(kill_at_each_moment);
}

/* ---- a daemon that dies while it starts ---- */

static int daemonize(void) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_YES};
    int pid = rdaemon_daemonize(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&outcome));
    if (pid == 0)
        _exit(0);
    return pid;
}

/* When the caller opens a pidfd of it, its pid is another process's. */
static void start_and_meddle(void) {
    struct controller controller = {.call = daemonize, .ready = gate_new()};
    pthread_t thread;
    struct held_call call;
    moment = (struct moment){.fate = REUSED};
    CHECK_INT(pthread_create(&thread, NULL, control, &controller), 0);
    gate_wait(controller.ready);
    while (next_held(&controller, &call)) {
        pid_t opened = call.number == SYS_pidfd_open ? (pid_t)call.arguments[0] : 0;
        if (opened == call.pid)
            continue; /* the daemon's own, for its report, which it will not live to make */
        if (opened != 0) {
            moment.daemon = opened;
            meddle();
        }
        held_release(controller.fd, &call);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    close(controller.fd);
    CHECK_INT(controller.result, -ESRCH);
    CHECK(moment.bystander != 0);
    check_untouched(moment.bystander);
}

TEST(a_pid_that_is_reused_while_a_daemon_starts) {
    in_pid_namespace(start_and_meddle);
}

/* ---- where no pidfd is to be had ---- */

/* The number alone is not enough to signal by. */
static void nobody_is_signalled(int error, int step) {
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = worker_of(witness);
    CHECK_FAILS(signal_by(path, SIGUSR1), error, step, 0);
    CHECK_FAILS(stop_within(path, 100, 100), error, step, 0);
    CHECK_FAILS(restart_within(&config, &worker, 100, 100), error, step, 0);
}

TEST(a_system_without_pidfds_signals_nobody) {
    config_of(scratch_path("pid"));
    pid_t pid = launch(path, witness);
    IN_CHILD {
        deny_syscall(SYS_pidfd_send_signal, ENOSYS);
        check_query(path, RDAEMON_CONTROL_RUNNING, pid);
        nobody_is_signalled(-ENOSYS, RDAEMON_STEP_SIGNAL);
    }
    IN_CHILD {
        deny_syscall(SYS_pidfd_open, ENOSYS);
        CHECK_FAILS(query_by(path), -ENOSYS, RDAEMON_STEP_PIDFILE_READ, 0);
        nobody_is_signalled(-ENOSYS, RDAEMON_STEP_PIDFILE_READ);
    }
    CHECK_INT(witness->user1, 0);
    CHECK_INT(witness->terminates, 0);
    check_answers(path, witness, pid);
    stop_well(path, pid);
}

TEST(a_filter_that_denies_pidfds_is_no_want_of_rights) {
    config_of(scratch_path("pid"));
    pid_t pid = launch(path, witness);
    IN_CHILD {
        deny_syscall(SYS_pidfd_open, EPERM);
        CHECK_FAILS(query_by(path), -ENOSYS, RDAEMON_STEP_PIDFILE_READ, 0);
        nobody_is_signalled(-ENOSYS, RDAEMON_STEP_PIDFILE_READ);
    }
    check_answers(path, witness, pid);
    stop_well(path, pid);
}

static void limit_fds(rlim_t limit) {
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){limit, limit}), 0);
}

/* Without their probes, which need fds themselves. */
static void ask_and_signal(int expected) {
    CHECK_INT(QUIET(rdaemon_control_query(path, NULL, RDAEMON_SIZED(&outcome))), expected);
    CHECK_INT(QUIET(rdaemon_control_signal(path, 0, RDAEMON_SIZED(&outcome))), expected);
    CHECK_INT(outcome.step, expected < 0 ? RDAEMON_STEP_PIDFILE_READ : RDAEMON_STEP_NONE);
}

TEST(a_process_without_fds_to_spare_signals_nobody) {
    config_of(scratch_path("pid"));
    pid_t pid = launch(path, witness);
    for (rlim_t limit = 3; limit <= 5; limit++) {
        IN_CHILD {
            limit_fds(limit);
            ask_and_signal(limit < 5 ? -EMFILE : RDAEMON_CONTROL_RUNNING);
            if (limit < 5)
                CHECK_INT(QUIET(rdaemon_control_stop(path, 100, 100, NULL, 0)), -EMFILE);
        }
    }
    CHECK_INT(witness->terminates, 0);
    check_answers(path, witness, pid);
    stop_well(path, pid);
}
