/* The signals of a daemon: its mask and dispositions are the caller's, but for what the map says.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

static unsigned long long expected_blocked, expected_ignored, expected_caught;

static void expect_the_callers(void) {
    expected_blocked = signals_in(0, "SigBlk");
    expected_ignored = signals_in(0, "SigIgn");
    expected_caught = signals_in(0, "SigCgt");
}

static void has_the_signals(const struct start *start) {
    (void)start;
    CHECK_INT(signals_in(0, "SigBlk"), expected_blocked);
    CHECK_INT(signals_in(0, "SigIgn"), expected_ignored);
    CHECK_INT(signals_in(0, "SigCgt"), expected_caught);
}

static void on_signal(int signal) {
    (void)signal;
}

/* A caller with habits: a mask, an ignored signal, handlers, a handler for SIGCHLD too. */
static void be_particular(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_NODEFER};
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    expect_the_callers();
}

/* ---- what stays ---- */

static void keeps_the_action(const struct start *start) {
    has_the_signals(start);
    struct sigaction action;
    CHECK_INT(sigaction(SIGUSR2, NULL, &action), 0);
    CHECK(action.sa_handler == on_signal);
    CHECK((action.sa_flags & (SA_RESTART | SA_NODEFER)) == (SA_RESTART | SA_NODEFER));
    CHECK(sigismember(&action.sa_mask, SIGUSR1));
    CHECK_INT(sigaction(SIGCHLD, NULL, &action), 0);
    CHECK(action.sa_handler == on_signal);
}

TEST(the_default_map_ignores_terminal_stops_and_leaves_the_rest) {
    be_particular();
    expected_ignored |= SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU) | SIGNAL_BIT(SIGTSTP);
    run_daemon(NULL, keeps_the_action);
}

TEST(without_a_pidfile_sigterm_stays_the_callers) {
    expect_the_callers();
    CHECK(!(expected_caught & SIGNAL_BIT(SIGTERM)));
    expected_ignored |= SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU) | SIGNAL_BIT(SIGTSTP);
    run_daemon(NULL, has_the_signals);
}

TEST(with_a_pidfile_sigterm_terminates) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid")};
    expect_the_callers();
    expected_ignored |= SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU) | SIGNAL_BIT(SIGTSTP);
    expected_caught |= SIGNAL_BIT(SIGTERM);
    run_daemon(&config, has_the_signals);
}

TEST(keep_signals_keeps_every_disposition) {
    struct rdaemon_config config = {.flags = RDAEMON_KEEP_SIGNALS, .pidfile = scratch_path("pid")};
    be_particular();
    run_daemon(&config, keeps_the_action);
}

/* ---- reset ---- */

TEST(reset_makes_every_disposition_default_and_empties_the_mask) {
    struct rdaemon_config config = {.flags = RDAEMON_RESET_SIGNALS | RDAEMON_KEEP_SIGNALS};
    be_particular();
    expected_blocked = expected_ignored = expected_caught = 0;
    run_daemon(&config, has_the_signals);
    CHECK(signal_in(0, "SigBlk", SIGUSR1));
    CHECK(signal_in(0, "SigIgn", SIGPIPE));
}

TEST(the_map_applies_after_the_reset) {
    struct rdaemon_config config = {.flags = RDAEMON_RESET_SIGNALS, .pidfile = scratch_path("pid")};
    be_particular();
    expected_blocked = 0;
    expected_ignored = SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU) | SIGNAL_BIT(SIGTSTP);
    expected_caught = SIGNAL_BIT(SIGTERM);
    run_daemon(&config, has_the_signals);
}

static void *do_nothing(void *unused) {
    return unused;
}

TEST(reset_leaves_the_signals_of_libc_alone) {
    struct rdaemon_config config = {.flags = RDAEMON_RESET_SIGNALS | RDAEMON_KEEP_SIGNALS};
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, do_nothing, NULL), 0);
    pthread_cancel(thread); /* installs the handler for 32 */
    CHECK_INT(pthread_join(thread, NULL), 0);
    expect_the_callers();
    if (!(expected_caught & (SIGNAL_BIT(32) | SIGNAL_BIT(33))))
        SKIP_PLATFORM("this libc has no signals of its own");
    expected_caught &= SIGNAL_BIT(32) | SIGNAL_BIT(33);
    expected_ignored = 0;
    run_daemon(&config, has_the_signals);
}

/* ---- the map ---- */

static volatile sig_atomic_t handled;

static void count(int signal) {
    handled = handled * 100 + signal;
}

static void obeys_the_map(const struct start *start) {
    has_the_signals(start);
    raise(SIGHUP);
    CHECK_INT(handled, SIGHUP);
    raise(SIGINT);
    CHECK_INT(handled, SIGHUP);
}

TEST(the_map_sets_default_ignore_and_handler) {
    struct rdaemon_signal_action map[] = {
        {.signal = SIGPIPE, .action = RDAEMON_SIGNAL_DEFAULT},
        {.signal = SIGINT, .action = RDAEMON_SIGNAL_IGNORE},
        {.signal = SIGHUP, .action = RDAEMON_SIGNAL_HANDLER, .handler = count},
    };
    struct rdaemon_config config = {.signal_map = map, .signal_map_len = 3};
    be_particular();
    expected_ignored &= ~(SIGNAL_BIT(SIGPIPE) | SIGNAL_BIT(SIGHUP));
    expected_ignored |= SIGNAL_BIT(SIGINT);
    expected_caught |= SIGNAL_BIT(SIGHUP);
    run_daemon(&config, obeys_the_map);
}

TEST(a_map_replaces_the_default_map) {
    struct rdaemon_signal_action map[] = {{.signal = SIGINT, .action = RDAEMON_SIGNAL_IGNORE}};
    struct rdaemon_config config = {
        .signal_map = map, .signal_map_len = 1, .pidfile = scratch_path("pid")};
    expect_the_callers();
    expected_ignored |= SIGNAL_BIT(SIGINT);
    run_daemon(&config, has_the_signals);
}

TEST(the_last_entry_for_a_signal_wins) {
    struct rdaemon_signal_action map[] = {{.signal = SIGINT, .action = RDAEMON_SIGNAL_IGNORE},
                                          {.signal = SIGINT, .action = RDAEMON_SIGNAL_DEFAULT}};
    struct rdaemon_config config = {.signal_map = map, .signal_map_len = 2};
    expect_the_callers();
    run_daemon(&config, has_the_signals);
}

TEST(any_signal_may_terminate) {
    struct rdaemon_signal_action map[] = {
        {.signal = SIGQUIT, .action = RDAEMON_SIGNAL_TERMINATE},
        {.signal = SIGRTMIN, .action = RDAEMON_SIGNAL_TERMINATE},
    };
    struct rdaemon_config config = {
        .signal_map = map, .signal_map_len = 2, .pidfile = scratch_path("pid")};
    const int signals[] = {SIGQUIT, SIGRTMIN};
    for (int i = 0; i < 2; i++) {
        struct start started;
        pid_t pid = start_well(&started, &config, live_on);
        CHECK_INT(kill(pid, signals[i]), 0);
        int status = wait_for_exit(pid);
        CHECK(WIFSIGNALED(status));
        CHECK_INT(WTERMSIG(status), signals[i]);
        CHECK_STR(tree(scratch()), "");
    }
}

TEST(a_terminating_signal_that_the_caller_blocks_stays_blocked) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid")};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    expect_the_callers();
    expected_ignored |= SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU) | SIGNAL_BIT(SIGTSTP);
    expected_caught |= SIGNAL_BIT(SIGTERM);
    run_daemon(&config, has_the_signals);
}

/* ---- the original ---- */

TEST(the_original_keeps_its_mask_and_dispositions) {
    struct rdaemon_config config = {.flags = RDAEMON_RESET_SIGNALS, .pidfile = scratch_path("pid")};
    be_particular();
    run_daemon(&config, NULL);
    has_the_signals(NULL);
}
