#include "controlled.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "sandbox.h"
#include "start.h"

_Thread_local struct rdaemon_status outcome;
_Thread_local struct rdaemon_daemon made;

enum { UNTOUCHED = -77 };

/* ---- calls ---- */

static void consider(int result) {
    CHECK_INT(outcome.error, result < 0 ? result : 0);
    CHECK_INT(outcome.step != RDAEMON_STEP_NONE, result < 0);
    if (outcome.step != RDAEMON_STEP_CONFIG)
        CHECK_INT(outcome.subject, RDAEMON_STEP_NONE);
    if (result >= 0)
        CHECK_INT(outcome.signal, 0);
}

/* Of query, signal and stop: a pid goes with a daemon. */
static int consider_control(int result) {
    consider(result);
    if (result >= 0)
        CHECK_INT(outcome.pid > 0, result == RDAEMON_CONTROL_RUNNING ||
                                       result == RDAEMON_CONTROL_STOPPED ||
                                       result == RDAEMON_CONTROL_KILLED);
    return result;
}

int query_by(const char *pidfile) {
    int pidfd = UNTOUCHED;
    memset(&outcome, 0xa5, sizeof outcome);
    int result = QUIET(rdaemon_control_query(pidfile, &pidfd, RDAEMON_SIZED(&outcome)));
    if (result == RDAEMON_CONTROL_RUNNING) {
        CHECK(pidfd >= 3 && fd_is_cloexec(pidfd));
        pid_t pid = pidfd_pid(pidfd);
        CHECK(pid == outcome.pid || pid == -1);
        close(pidfd);
    } else {
        CHECK_INT(pidfd, result < 0 ? UNTOUCHED : -1);
    }
    return consider_control(result);
}

int signal_by(const char *pidfile, int signal) {
    memset(&outcome, 0xa5, sizeof outcome);
    return consider_control(
        QUIET(rdaemon_control_signal(pidfile, signal, RDAEMON_SIZED(&outcome))));
}

int stop_within(const char *pidfile, int term_timeout_ms, int kill_timeout_ms) {
    memset(&outcome, 0xa5, sizeof outcome);
    return consider_control(QUIET(
        rdaemon_control_stop(pidfile, term_timeout_ms, kill_timeout_ms, RDAEMON_SIZED(&outcome))));
}

int stop_by(const char *pidfile) {
    return stop_within(pidfile, PATIENCE_MS, PATIENCE_MS);
}

static int consider_start(int result) {
    static struct rdaemon_daemon untouched;
    memset(&untouched, 0xa5, sizeof untouched);
    consider(result);
    if (result < 0) {
        CHECK_INT(memcmp(&made, &untouched, sizeof made), 0);
    } else {
        CHECK(result > 0);
        CHECK_INT(outcome.pid, result);
        CHECK_INT(made.pid, result);
    }
    return result;
}

int start_by(const struct rdaemon_config *config, const struct rdaemon_worker *worker) {
    memset(&outcome, 0xa5, sizeof outcome);
    memset(&made, 0xa5, sizeof made);
    return consider_start(
        QUIET(rdaemon_control_start(RDAEMON_SIZED(config), RDAEMON_SIZED(worker),
                                    RDAEMON_SIZED(&made), RDAEMON_SIZED(&outcome))));
}

int restart_within(const struct rdaemon_config *config, const struct rdaemon_worker *worker,
                   int term_timeout_ms, int kill_timeout_ms) {
    memset(&outcome, 0xa5, sizeof outcome);
    memset(&made, 0xa5, sizeof made);
    return consider_start(QUIET(
        rdaemon_control_restart(RDAEMON_SIZED(config), RDAEMON_SIZED(worker), term_timeout_ms,
                                kill_timeout_ms, RDAEMON_SIZED(&made), RDAEMON_SIZED(&outcome))));
}

int restart_by(const struct rdaemon_config *config, const struct rdaemon_worker *worker) {
    return restart_within(config, worker, PATIENCE_MS, PATIENCE_MS);
}

/* ---- the daemon ---- */

struct witness *witness_new(void) {
    struct witness *witness = shared_memory(sizeof *witness);
    witness->end = gate_new();
    return witness;
}

int run_until_told(void *context, const struct rdaemon_daemon *daemon) {
    struct witness *witness = context;
    CHECK_INT(daemon->pid, getpid());
    witness->pid = getpid();
    witness->runs++;
    gate_wait(witness->end);
    return witness->result;
}

static void on_user1(void *context) {
    struct witness *witness = context;
    witness->answered = getpid();
    witness->user1++;
}

static void on_user2(void *context) {
    ((struct witness *)context)->user2++;
}

static int on_terminate(void *context) {
    struct witness *witness = context;
    witness->terminates++;
    if (witness->goes_on)
        gate_open(witness->end);
    return witness->goes_on;
}

static void at_exit(void *context) {
    ((struct witness *)context)->exits++;
}

struct rdaemon_worker worker_of(struct witness *witness) {
    return (struct rdaemon_worker){.run = run_until_told,
                                   .on_user1 = on_user1,
                                   .on_user2 = on_user2,
                                   .on_terminate = on_terminate,
                                   .at_exit = at_exit,
                                   .context = witness};
}

pid_t launch_with(const struct rdaemon_config *config, const struct rdaemon_worker *worker) {
    int pid = start_by(config, worker);
    if (pid < 0)
        FAIL("the start failed: %s, %s", rdaemon_step_name(outcome.step), error_name(pid));
    close(made.pidfd);
    return pid;
}

pid_t launch(const char *pidfile, struct witness *witness) {
    struct rdaemon_config config = {.pidfile = pidfile};
    struct rdaemon_worker worker = worker_of(witness);
    int before = witness->runs;
    pid_t pid = launch_with(&config, &worker);
    until(&witness->runs, before + 1);
    return pid;
}

void check_query(const char *pidfile, int result, pid_t pid) {
    CHECK_INT(query_by(pidfile), result);
    CHECK_INT(outcome.pid, pid);
}

void check_answers(const char *pidfile, struct witness *witness, pid_t pid) {
    int before = witness->user1;
    check_query(pidfile, RDAEMON_CONTROL_RUNNING, pid);
    CHECK_INT(signal_by(pidfile, SIGUSR1), RDAEMON_CONTROL_RUNNING);
    CHECK_INT(outcome.pid, pid);
    until(&witness->user1, before + 1);
    CHECK_INT(witness->answered, pid);
}

void stop_well(const char *pidfile, pid_t pid) {
    CHECK_INT(stop_by(pidfile), RDAEMON_CONTROL_STOPPED);
    CHECK_INT(outcome.pid, pid);
    CHECK(!is_alive(pid));
    wait_for_exit(pid);
}

/* ---- looking ---- */

void check_killed(pid_t pid, int signal) {
    int wait_status = wait_for_exit(pid);
    CHECK(WIFSIGNALED(wait_status));
    CHECK_INT(WTERMSIG(wait_status), signal);
}

void until(const atomic_int *counter, int value) {
    while (*counter < value)
        sched_yield();
}

void wait_for_sleep(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
    for (;;) {
        const char *text = file_text(path);
        long number = strtol(text, NULL, 10);
        if (number == SYS_nanosleep || number == SYS_clock_nanosleep)
            return;
        if (!is_alive(pid))
            FAIL("the process ended, and did not wait");
        sched_yield();
    }
}

bool is_alive(pid_t pid) {
    char state = process_state(pid);
    return state != 'X' && state != 'Z';
}

/* ---- being alone ---- */

enum { LOW_FD = 0, HIGH_FD = 900, END_MS = 5000 };

/* Whether the lock was free; then it is the process's, at `fd` or above. */
static bool take(const char *name, int fd) {
    int file = open(scratch_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0)
        FAIL("%s: %s", name, strerror(errno));
    if (fd == LOW_FD ? dup2(file, fd) != fd : fcntl(file, F_DUPFD_CLOEXEC, fd) < fd)
        FAIL("dup: %s", strerror(errno));
    bool free = flock(file, LOCK_EX | LOCK_NB) == 0;
    close(file);
    return free;
}

/* The lock at `fd` is that of a process that is about to end. */
static void inherit(int fd) {
    double begin = now_ms();
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (now_ms() - begin > END_MS)
            FAIL("a process keeps one lock, and gave up the other");
        usleep(500);
    }
}

bool be_alone(void) {
    bool low = take("alone.low", LOW_FD), high = take("alone.high", HIGH_FD);
    if (!low && high)
        inherit(LOW_FD);
    if (low && !high)
        inherit(HIGH_FD);
    return low || high;
}

/* ---- slow deaths ---- */

void hold_end(pid_t pid) {
    if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL) != 0)
        SKIP_PLATFORM("ptrace: %s", strerror(errno));
}

void await_end(pid_t pid) {
    for (;;) {
        int status;
        if (waitpid(pid, &status, __WALL) != pid)
            FAIL("waitpid: %s", strerror(errno));
        if (!WIFSTOPPED(status))
            FAIL("the process ended with wait status %x", status);
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
            return;
        bool group_stop = status >> 16 != 0;
        ptrace(PTRACE_CONT, pid, 0, group_stop ? 0L : (long)WSTOPSIG(status));
    }
}

void let_end(pid_t pid) {
    CHECK_INT(ptrace(PTRACE_CONT, pid, 0, 0), 0);
}

/* ---- pids ---- */

void in_pid_namespace(void (*body)(void)) {
    scratch(); /* the names in it are those of this process */
    enter_mount_namespace();
    if (unshare(CLONE_NEWPID) != 0)
        SKIP("needs a pid namespace: %s", strerror(errno));
    IN_CHILD {
        if (mount("proc", "/proc", "proc", 0, NULL) != 0)
            SKIP("needs a /proc of the pid namespace: %s", strerror(errno));
        CHECK_INT(getpid(), 1);
        body();
    }
}

pid_t bystander(pid_t pid) {
    pid_t wanted = pid;
    struct clone_args arguments = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted, .set_tid_size = 1};
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t made_pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (made_pid == 0)
        for (;;)
            pause();
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (made_pid < 0)
        SKIP_PLATFORM("clone3 with a chosen pid: %s", strerror(errno));
    CHECK_INT(made_pid, pid);
    return made_pid;
}

void check_untouched(pid_t pid) {
    CHECK(is_alive(pid));
    CHECK_STR(status_field(pid, "SigPnd"), "0000000000000000");
    CHECK_STR(status_field(pid, "ShdPnd"), "0000000000000000");
    kill(pid, SIGKILL);
    wait_for_exit(pid);
}
