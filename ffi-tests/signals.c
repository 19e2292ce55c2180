#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "tap.h"

/* The kernel's own view, which includes the signals that libc keeps for itself. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};
enum { KERNEL_SIGNALS = 64, KERNEL_SET_SIZE = 8 };

static void (*kernel_handler(int signal_number))(int) {
    struct kernel_sigaction action;
    if (syscall(SYS_rt_sigaction, signal_number, NULL, &action, KERNEL_SET_SIZE) != 0)
        FAIL("rt_sigaction(%d): %s", signal_number, strerror(errno));
    return action.handler;
}

static bool is_reserved(int signal_number) {
    return signal_number > 31 && signal_number < SIGRTMIN;
}

static volatile sig_atomic_t last_signal, times;

static void record(int signal_number) {
    last_signal = signal_number;
    times++;
}

static int set_signal(int signal_number, uint32_t action, void (*handler)(int)) {
    const struct rdaemon_signal_action map[] = {
        {.signal = signal_number, .action = action, .handler = handler}};
    return QUIET(rdaemon_set_signals(map, 1, NULL, 0));
}

/* ---- reset_signals ---- */

TEST(rule_3_1_reset_makes_every_handler_default) {
    for (int i = 1; i <= KERNEL_SIGNALS; i++)
        signal(i, record);
    CHECK(signal_in(0, "SigCgt", SIGTERM) && signal_in(0, "SigCgt", SIGRTMAX));
    CHECK_INT(QUIET(rdaemon_reset_signals()), 0);
    CHECK_STR(status_field(0, "SigCgt"), "0000000000000000");
}

TEST(rule_3_1_reset_makes_every_ignored_signal_default) {
    for (int i = 1; i <= KERNEL_SIGNALS; i++)
        signal(i, SIG_IGN);
    CHECK(signal_in(0, "SigIgn", SIGPIPE) && signal_in(0, "SigIgn", SIGRTMIN));
    CHECK_INT(QUIET(rdaemon_reset_signals()), 0);
    CHECK_STR(status_field(0, "SigIgn"), "0000000000000000");
}

TEST(rule_3_1_reset_empties_the_mask) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    CHECK(signal_in(0, "SigBlk", SIGTERM) && signal_in(0, "SigBlk", SIGRTMAX));
    CHECK_INT(QUIET(rdaemon_reset_signals()), 0);
    CHECK_STR(status_field(0, "SigBlk"), "0000000000000000");
}

TEST(rule_3_1_reset_leaves_libc_its_own_signals) {
    struct kernel_sigaction ignore = {.handler = SIG_IGN};
    for (int i = 32; i < SIGRTMIN; i++)
        CHECK_INT(syscall(SYS_rt_sigaction, i, &ignore, NULL, KERNEL_SET_SIZE), 0);
    CHECK_INT(QUIET(rdaemon_reset_signals()), 0);
    for (int i = 32; i < SIGRTMIN; i++)
        CHECK(kernel_handler(i) == SIG_IGN);
}

TEST(reset_of_a_reset_process_changes_nothing) {
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(QUIET(rdaemon_reset_signals()), 0);
    CHECK(snapshot_same(&before));
}

TEST(reset_delivers_what_was_blocked) {
    pid_t pid = fork_child();
    if (pid == 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGTERM);
        rdaemon_reset_signals();
        _exit(0);
    }
    int status = wait_for_exit(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* ---- set_signals ---- */

TEST(rule_3_3_default_ignore_and_handler) {
    for (int i = 1; i <= SIGRTMAX; i++) {
        if (i == SIGKILL || i == SIGSTOP || is_reserved(i))
            continue;
        CHECK_INT(set_signal(i, RDAEMON_SIGNAL_IGNORE, NULL), 0);
        CHECK(kernel_handler(i) == SIG_IGN);
        CHECK_INT(set_signal(i, RDAEMON_SIGNAL_HANDLER, record), 0);
        CHECK(kernel_handler(i) == record);
        CHECK_INT(set_signal(i, RDAEMON_SIGNAL_DEFAULT, NULL), 0);
        CHECK(kernel_handler(i) == SIG_DFL);
    }
}

TEST(rule_3_3_handler_gets_its_signal_every_time) {
    CHECK_INT(set_signal(SIGUSR1, RDAEMON_SIGNAL_HANDLER, record), 0);
    CHECK_INT(set_signal(SIGRTMAX, RDAEMON_SIGNAL_HANDLER, record), 0);
    raise(SIGUSR1);
    CHECK_INT(last_signal, SIGUSR1);
    raise(SIGRTMAX);
    CHECK_INT(last_signal, SIGRTMAX);
    raise(SIGUSR1);
    CHECK_INT(times, 3);
}

TEST(rule_3_1_set_signals_changes_only_what_the_map_says) {
    static const struct rdaemon_signal_action map[] = {
        {.signal = SIGTTIN, .action = RDAEMON_SIGNAL_IGNORE},
        {.signal = SIGHUP, .action = RDAEMON_SIGNAL_HANDLER, .handler = record},
    };
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, record);
    CHECK_INT(QUIET(rdaemon_set_signals(map, LENGTH(map), NULL, 0)), 0);
    for (int i = 1; i <= KERNEL_SIGNALS; i++) {
        CHECK_INT(signal_in(0, "SigIgn", i), i == SIGPIPE || i == SIGTTIN);
        CHECK_INT(signal_in(0, "SigCgt", i), i == SIGHUP || i == SIGCHLD);
        CHECK_INT(signal_in(0, "SigBlk", i), i == SIGUSR2);
    }
}

TEST(set_signals_of_an_empty_map_changes_nothing) {
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(QUIET(rdaemon_set_signals(NULL, 0, NULL, 0)), 0);
    CHECK(snapshot_same(&before));
}

/* ---- RDAEMON_SIGNAL_TERMINATE ---- */

static void check_killed_by(pid_t pid, int signal_number) {
    int status = wait_for_exit(pid);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), signal_number);
}

/* Opens and writes the pidfile, and terminates by these signals from now on. */
static struct rdaemon_pidfile terminate_with_pidfile(const char *path) {
    const struct rdaemon_signal_action map[] = {
        {.signal = SIGTERM, .action = RDAEMON_SIGNAL_TERMINATE},
        {.signal = SIGINT, .action = RDAEMON_SIGNAL_TERMINATE},
        {.signal = SIGRTMIN, .action = RDAEMON_SIGNAL_TERMINATE},
    };
    struct rdaemon_pidfile pidfile;
    CHECK_INT(rdaemon_pidfile_open(path, NULL, 0, RDAEMON_SIZED(&pidfile), NULL, 0), 0);
    CHECK_INT(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)), 0);
    CHECK_INT(QUIET(rdaemon_set_signals(map, LENGTH(map), RDAEMON_SIZED(&pidfile))), 0);
    return pidfile;
}

TEST(rule_3_3_terminate_without_a_pidfile_kills_by_the_signal) {
    pid_t pid = fork_child();
    if (pid == 0) {
        CHECK_INT(set_signal(SIGTERM, RDAEMON_SIGNAL_TERMINATE, NULL), 0);
        raise(SIGTERM);
        _exit(0);
    }
    check_killed_by(pid, SIGTERM);
}

TEST(rule_3_3_terminate_removes_the_pidfile_and_kills_by_the_signal) {
    const int signals[] = {SIGTERM, SIGINT, SIGRTMIN};
    const char *path = scratch_path("pid");
    for (size_t i = 0; i < LENGTH(signals); i++) {
        pid_t pid = fork_child();
        if (pid == 0) {
            terminate_with_pidfile(path);
            CHECK(access(path, F_OK) == 0);
            raise(signals[i]);
            _exit(0);
        }
        check_killed_by(pid, signals[i]);
        CHECK(access(path, F_OK) != 0);
    }
}

TEST(rule_3_3_terminate_by_a_signal_from_outside) {
    const char *path = scratch_path("pid");
    struct gate *ready = gate_new();
    pid_t pid = fork_child();
    if (pid == 0) {
        terminate_with_pidfile(path);
        gate_open(ready);
        for (;;)
            pause();
    }
    gate_wait(ready);
    CHECK_INT(kill(pid, SIGTERM), 0);
    check_killed_by(pid, SIGTERM);
    CHECK(access(path, F_OK) != 0);
}

TEST(rule_3_3_terminate_needs_the_callers_pidfile_no_longer) {
    const char *path = scratch_path("pid");
    pid_t pid = fork_child();
    if (pid == 0) {
        struct rdaemon_pidfile pidfile = terminate_with_pidfile(path);
        memset(&pidfile, 0xff, sizeof pidfile);
        CHECK_INT(chdir("/"), 0);
        raise(SIGTERM);
        _exit(0);
    }
    check_killed_by(pid, SIGTERM);
    CHECK(access(path, F_OK) != 0);
}

TEST(rule_4_7_terminated_worker_leaves_the_pidfile) {
    const char *path = scratch_path("pid");
    terminate_with_pidfile(path);
    pid_t worker = fork_child();
    if (worker == 0) {
        raise(SIGTERM);
        _exit(0);
    }
    check_killed_by(worker, SIGTERM);
    struct rdaemon_pidfile_state state;
    IN_CHILD {
        CHECK_INT(rdaemon_pidfile_read(path, RDAEMON_SIZED(&state)), RDAEMON_PIDFILE_RUNNING);
        CHECK_INT(state.pid, getppid());
        CHECK_INT(state.written, getppid());
    }
}

TEST(rule_3_3_a_later_map_forgets_the_pidfile) {
    const char *path = scratch_path("pid");
    pid_t pid = fork_child();
    if (pid == 0) {
        terminate_with_pidfile(path);
        CHECK_INT(set_signal(SIGTERM, RDAEMON_SIGNAL_DEFAULT, NULL), 0);
        raise(SIGTERM);
        _exit(0);
    }
    check_killed_by(pid, SIGTERM);
    CHECK_INT(access(path, F_OK), 0);
}

/* ---- refusals: nothing is applied, not even what stands before the bad entry ---- */

static void check_second_refused(struct rdaemon_signal_action bad) {
    const struct rdaemon_signal_action map[] = {
        {.signal = SIGUSR1, .action = RDAEMON_SIGNAL_IGNORE}, bad};
    CHECK_REFUSED(rdaemon_set_signals(map, LENGTH(map), NULL, 0), -EINVAL);
}

TEST(rule_3_3_refuses_signals_out_of_range) {
    static const int signals[] = {0, -1, 65, 1000, INT_MAX, INT_MIN};
    for (size_t i = 0; i < LENGTH(signals); i++)
        for (uint32_t action = 0; action <= RDAEMON_SIGNAL_TERMINATE; action++)
            check_second_refused((struct rdaemon_signal_action){
                .signal = signals[i], .action = action, .handler = record});
}

TEST(rule_3_3_refuses_kill_and_stop_and_libcs_own) {
    for (int i = 1; i <= KERNEL_SIGNALS; i++)
        if (i == SIGKILL || i == SIGSTOP || is_reserved(i))
            for (uint32_t action = 0; action <= RDAEMON_SIGNAL_TERMINATE; action++)
                check_second_refused((struct rdaemon_signal_action){
                    .signal = i, .action = action, .handler = record});
}

TEST(refuses_unknown_actions) {
    check_second_refused((struct rdaemon_signal_action){.signal = SIGHUP, .action = 4});
    check_second_refused((struct rdaemon_signal_action){.signal = SIGHUP, .action = UINT32_MAX});
}

TEST(rule_3_3_refuses_to_terminate_by_a_signal_that_does_not) {
    static const int signals[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU};
    for (size_t i = 0; i < LENGTH(signals); i++)
        check_second_refused((struct rdaemon_signal_action){.signal = signals[i],
                                                            .action = RDAEMON_SIGNAL_TERMINATE});
}

TEST(refuses_a_missing_handler) {
    check_second_refused(
        (struct rdaemon_signal_action){.signal = SIGHUP, .action = RDAEMON_SIGNAL_HANDLER});
}

TEST(refuses_a_missing_map) {
    CHECK_REFUSED(rdaemon_set_signals(NULL, 1, NULL, 0), -EINVAL);
}
