/* Waiting for a program, signalling and stopping it. */
#include "rdaemon.h"

#include <limits.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "program.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

/* ---- the programs ---- */

HELPER(exit_with) {
    return atoi(arguments[0]);
}

HELPER(die_of) {
    struct rlimit most = {strtoul(arguments[1], NULL, 10), strtoul(arguments[1], NULL, 10)};
    int signal_number = atoi(arguments[0]);
    CHECK_INT(setrlimit(RLIMIT_CORE, &most), 0);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return 99;
}

static void exit_with_3(int signal_number) {
    (void)signal_number;
    _exit(3);
}

static sigset_t sigterm_alone(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    return set;
}

/* Says a word when it is set up, and lives until a signal ends it. */
HELPER(live) {
    if (strcmp(arguments[0], "deaf to SIGTERM") == 0)
        signal(SIGTERM, SIG_IGN);
    bool exits = strcmp(arguments[0], "exit on SIGTERM") == 0;
    sigset_t set = sigterm_alone();
    int arrived;
    if (exits)
        sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK_INT(write(STDOUT_FILENO, "!", 1), 1);
    /* Not by a handler, which ThreadSanitizer would put off. */
    if (exits && sigwait(&set, &arrived) == 0)
        return 3;
    while (pause() < 0)
        continue;
    return 99;
}

HELPER(live_until_the_valve_opens) {
    await_valve();
    return atoi(arguments[0]);
}

/* ---- what the cases are made of ---- */

static uint32_t spawn_flags;

static struct rdaemon_child begin(const char *helper, const char *argument) {
    Config config = {.paths = STRINGS("/proc/self/exe"),
                     .argv = STRINGS("helper", "--helper", helper, argument),
                     .flags = spawn_flags,
                     .streams[1] = PIPE};
    struct rdaemon_child child = begin_program(&config);
    CHECK((child.pidfd >= 0) == ((spawn_flags & RDAEMON_SPAWN_PIDFD) != 0));
    return child;
}

static struct rdaemon_child begin_life(const char *manner) {
    struct rdaemon_child child = begin("live", manner);
    CHECK_INT(word_of(&child, 1), '!');
    return child;
}

static struct rdaemon_child begin_death(int signal_number, const char *core_limit) {
    char number[16];
    snprintf(number, sizeof number, "%d", signal_number);
    Config config = {THE_HELPER(die_of, number, core_limit), .flags = spawn_flags};
    return begin_program(&config);
}

static int wait_for(struct rdaemon_child *child, int timeout_ms, struct rdaemon_exit *ended) {
    memset(ended, 0xa5, sizeof *ended);
    int result = QUIET(rdaemon_child_wait(RDAEMON_SIZED(child), timeout_ms, RDAEMON_SIZED(ended)));
    if (result != 0)
        for (size_t i = 0; i < sizeof *ended; i++)
            CHECK_INT(((unsigned char *)ended)[i], 0xa5);
    return result;
}

static int stop(struct rdaemon_child *child, int term_timeout_ms, struct rdaemon_exit *ended) {
    memset(ended, 0xa5, sizeof *ended);
    return QUIET(
        rdaemon_child_stop(RDAEMON_SIZED(child), term_timeout_ms, -1, RDAEMON_SIZED(ended)));
}

static int send(const struct rdaemon_child *child, int signal_number) {
    return QUIET(rdaemon_child_signal(RDAEMON_SIZED(child), signal_number));
}

/* Only by the kernel's own means, as the library is what is tested. */
static void slay_child(struct rdaemon_child *child) {
    CHECK_INT(kill(child->pid, SIGKILL), 0);
    killed_by(child, SIGKILL);
    nothing_is_left(child);
}

static void times_out(struct rdaemon_child *child, int timeout_ms) {
    struct rdaemon_exit ended;
    double begun = now_ms();
    CHECK_INT(wait_for(child, timeout_ms, &ended), -ETIMEDOUT);
    double took = now_ms() - begun;
    CHECK(took >= timeout_ms);
    CHECK(took < timeout_ms + 3000);
}

/* ---- with a pidfd, and where there is none or less ---- */

static void with_a_pidfd(void) {
    spawn_flags = RDAEMON_SPAWN_PIDFD;
}

static void without_a_pidfd(void) {
    spawn_flags = 0;
}

static void where_pidfd_open_is_denied(void) {
    deny_syscall(SYS_pidfd_open, ENOSYS);
}

/* As in Linux 5.3. */
static void where_waitid_knows_no_pidfds(void) {
    enum { A_PIDFD = 3 };
    spawn_flags = RDAEMON_SPAWN_PIDFD;
    deny_syscall_arg(SYS_waitid, 0, A_PIDFD, EINVAL);
}

#define TEST_EACH(name)                                                                            \
    static void name(void);                                                                        \
    TEST(name##_with_a_pidfd) {                                                                    \
        with_a_pidfd();                                                                            \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_without_a_pidfd) {                                                                 \
        without_a_pidfd();                                                                         \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_where_pidfd_open_is_denied) {                                                      \
        where_pidfd_open_is_denied();                                                              \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_where_waitid_knows_no_pidfds) {                                                    \
        where_waitid_knows_no_pidfds();                                                            \
        name();                                                                                    \
    }                                                                                              \
    static void name(void)

/* ---- time limits ---- */

TEST_EACH(a_program_that_runs_times_out) {
    struct rdaemon_child child = begin_life("");
    times_out(&child, 0);
    times_out(&child, 1);
    times_out(&child, 40);
    CHECK(process_state(child.pid) != 'X');
    slay_child(&child);
}

TEST_EACH(a_wait_without_a_limit_ends_with_the_program) {
    struct valve valve = valve_new();
    Config config = {THE_HELPER(live_until_the_valve_opens, "5"), .flags = spawn_flags,
                     GATE_MAP(valve)};
    struct rdaemon_child child = begin_program(&config);
    times_out(&child, 10);
    valve_open(&valve);
    exited_with(&child, 5);
    CHECK_INT(process_state(child.pid), 'X');
    nothing_is_left(&child);
}

TEST_EACH(a_long_limit_does_not_delay) {
    static const int limits[] = {60000, INT_MAX};
    for (size_t i = 0; i < LENGTH(limits); i++) {
        struct rdaemon_child child = begin("exit_with", "6");
        struct rdaemon_exit ended;
        CHECK_INT(wait_for(&child, limits[i], &ended), 0);
        check_exit(&ended, RDAEMON_EXIT_EXITED, 6);
        nothing_is_left(&child);
    }
}

TEST_EACH(a_zombie_is_reaped_without_waiting) {
    struct rdaemon_child child = begin("exit_with", "7");
    struct rdaemon_exit ended;
    wait_for_state(child.pid, 'Z');
    CHECK_INT(wait_for(&child, 0, &ended), 0);
    check_exit(&ended, RDAEMON_EXIT_EXITED, 7);
    CHECK_INT(process_state(child.pid), 'X');
    nothing_is_left(&child);
}

TEST_EACH(a_stopped_program_has_not_ended) {
    struct rdaemon_child child = begin_life("");
    CHECK_INT(send(&child, SIGSTOP), 0);
    wait_for_state(child.pid, 'T');
    times_out(&child, 0);
    times_out(&child, 30);
    CHECK_INT(send(&child, SIGCONT), 0);
    times_out(&child, 30);
    slay_child(&child);
}

TEST_EACH(interrupted_waits_last_as_long_as_asked) {
    struct rdaemon_child child = begin_life("");
    begin_signal_storm();
    times_out(&child, 100);
    CHECK(signals_of_the_storm() > 10);
    end_signal_storm();
    slay_child(&child);
}

static struct valve storm_valve;

static void open_the_valve_at_the_end(int signal_number) {
    static int count;
    (void)signal_number;
    if (++count == 50)
        valve_open(&storm_valve);
}

TEST_EACH(interrupted_waits_end_with_the_program) {
    storm_valve = valve_new();
    Config config = {THE_HELPER(live_until_the_valve_opens, "4"), .flags = spawn_flags,
                     GATE_MAP(storm_valve)};
    struct rdaemon_child child = begin_program(&config);
    struct sigaction action = {.sa_handler = open_the_valve_at_the_end};
    begin_signal_storm();
    sigaction(SIGALRM, &action, NULL);
    exited_with(&child, 4);
    end_signal_storm();
    nothing_is_left(&child);
}

TEST_EACH(a_wait_leaves_the_caller_as_it_was) {
    static struct snapshot before;
    struct rdaemon_child child = begin_life("");
    signal(SIGCHLD, exit_with_3);
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGCHLD);
    sigprocmask(SIG_BLOCK, &some, NULL);
    snapshot_take(&before);
    times_out(&child, 0);
    times_out(&child, 20);
    CHECK(snapshot_same(&before));
    slay_child(&child);
    CHECK_INT(sigpending(&some), 0);
    CHECK(sigismember(&some, SIGCHLD));
}

/* ---- how it ended ---- */

TEST_EACH(an_exit_status_arrives_whole) {
    static const char *const codes[] = {"0", "1", "42", "127", "128", "137", "255"};
    for (size_t i = 0; i < LENGTH(codes); i++) {
        struct rdaemon_child child = begin("exit_with", codes[i]);
        exited_with(&child, atoi(codes[i]));
        nothing_is_left(&child);
    }
}

TEST_EACH(the_signal_that_ended_it_is_named) {
    const int signals[] = {SIGHUP, SIGABRT, SIGKILL, SIGSEGV, SIGPIPE, SIGTERM, SIGSYS, SIGRTMAX};
    for (size_t i = 0; i < LENGTH(signals); i++) {
        struct rdaemon_child child = begin_death(signals[i], "0");
        killed_by(&child, signals[i]);
        nothing_is_left(&child);
    }
}

static bool cores_are_dumped(void) {
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    pid_t pid = fork_child();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &most);
        abort();
    }
    return WCOREDUMP(wait_for_exit(pid));
}

TEST_EACH(a_core_dump_is_told) {
    CHECK_INT(chdir(scratch()), 0);
    if (!cores_are_dumped())
        SKIP_PLATFORM("this machine dumps no cores here");
    struct rdaemon_exit ended;
    struct rdaemon_child child = begin_death(SIGQUIT, "1000000000");
    CHECK_INT(wait_for(&child, -1, &ended), 0);
    check_exit(&ended, RDAEMON_EXIT_DUMPED, SIGQUIT);
    nothing_is_left(&child);
}

TEST_EACH(how_it_ended_need_not_be_told) {
    struct rdaemon_child child = begin("exit_with", "8");
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&child), -1, NULL, 0)), 0);
    exited_with(&child, 8);
    nothing_is_left(&child);
}

TEST_EACH(the_status_is_kept) {
    static const int timeouts[] = {0, -1, 100};
    struct rdaemon_child child = begin("exit_with", "9");
    struct rdaemon_exit first, again;
    CHECK_INT(wait_for(&child, -1, &first), 0);
    for (int closed = 0; closed < 2; closed++) {
        for (size_t i = 0; i < LENGTH(timeouts); i++) {
            CHECK_INT(wait_for(&child, timeouts[i], &again), 0);
            CHECK(memcmp(&first, &again, sizeof first) == 0);
        }
        CHECK_INT(stop(&child, 1000, &again), 0);
        CHECK(memcmp(&first, &again, sizeof first) == 0);
        nothing_is_left(&child);
    }
}

TEST_EACH(a_closed_handle_can_still_be_waited_for) {
    struct valve valve = valve_new();
    Config config = {THE_HELPER(live_until_the_valve_opens, "2"), .flags = spawn_flags,
                     .streams = {PIPE, PIPE, PIPE}, GATE_MAP(valve)};
    struct rdaemon_child child = begin_program(&config);
    CHECK_INT(QUIET(rdaemon_child_close(RDAEMON_SIZED(&child))), 0);
    CHECK_INT(QUIET(rdaemon_child_close(RDAEMON_SIZED(&child))), 0);
    times_out(&child, 10);
    CHECK_INT(send(&child, 0), 0);
    valve_open(&valve);
    exited_with(&child, 2);
    nothing_is_left(&child);
}

TEST_EACH(a_partly_closed_handle_is_closed) {
    Config config = {THE_HELPER(exit_with, "0"), .flags = spawn_flags,
                     .streams = {PIPE, PIPE, PIPE}};
    struct rdaemon_child child = begin_program(&config);
    close(child.fds[1]);
    child.fds[1] = -1;
    exited_with(&child, 0);
    nothing_is_left(&child);
}

/* ---- a status that somebody else has ---- */

static void its_status_is_unknown(struct rdaemon_child *child) {
    static const int timeouts[] = {-1, 0, 100};
    struct rdaemon_exit ended;
    for (size_t i = 0; i < LENGTH(timeouts); i++)
        CHECK_INT(wait_for(child, timeouts[i], &ended), -ECHILD);
    CHECK_INT(send(child, 0), -ESRCH);
    CHECK_INT(send(child, SIGKILL), -ESRCH);
    CHECK_INT(stop(child, 1000, &ended), -ECHILD);
    nothing_is_left(child);
}

TEST_EACH(where_sigchld_is_ignored_the_status_is_unknown) {
    signal(SIGCHLD, SIG_IGN);
    struct rdaemon_child child = begin_life("");
    times_out(&child, 0);
    times_out(&child, 30);
    CHECK_INT(kill(child.pid, SIGKILL), 0);
    its_status_is_unknown(&child);
}

TEST_EACH(where_children_leave_no_zombies_the_status_is_unknown) {
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    sigaction(SIGCHLD, &action, NULL);
    struct rdaemon_child child = begin_life("");
    times_out(&child, 30);
    CHECK_INT(kill(child.pid, SIGKILL), 0);
    its_status_is_unknown(&child);
}

TEST_EACH(what_another_wait_took_is_unknown) {
    struct rdaemon_child child = begin("exit_with", "1");
    int status;
    CHECK_INT(waitpid(-1, &status, 0), child.pid);
    CHECK_INT(status, 1 << 8);
    its_status_is_unknown(&child);
}

static atomic_int taken;

static void *take_any_child(void *nothing) {
    int status;
    pid_t pid = waitpid(-1, &status, 0);
    if (pid > 0)
        atomic_store(&taken, pid);
    return nothing;
}

/* Which of the two gets it is anybody's guess, but never both, and never neither. */
TEST_EACH(a_status_goes_to_one_of_two_waits) {
    for (int i = 0; i < 30; i++) {
        struct rdaemon_exit ended;
        pthread_t thread;
        atomic_store(&taken, 0);
        struct rdaemon_child child = begin("exit_with", "1");
        CHECK_INT(pthread_create(&thread, NULL, take_any_child, NULL), 0);
        int result = wait_for(&child, -1, &ended);
        CHECK_INT(pthread_join(thread, NULL), 0);
        CHECK_INT(result, atomic_load(&taken) ? -ECHILD : 0);
        if (result == 0)
            check_exit(&ended, RDAEMON_EXIT_EXITED, 1);
        nothing_is_left(&child);
    }
}

/* Adopted by this case, or else by the runner. */
static struct rdaemon_child begin_detached(bool adopt) {
    Config config = {THE_HELPER(live, ""), .flags = RDAEMON_SPAWN_DETACHED, .streams[1] = PIPE};
    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, adopt), 0);
    struct rdaemon_child child = begin_program(&config);
    CHECK(child.pidfd >= 0);
    CHECK_INT(word_of(&child, 1), '!');
    return child;
}

TEST(a_detached_program_is_waited_for_but_its_status_is_unknown) {
    struct rdaemon_child child = begin_detached(false);
    times_out(&child, 0);
    times_out(&child, 30);
    CHECK_INT(send(&child, 0), 0);
    CHECK_INT(send(&child, SIGTERM), 0);
    its_status_is_unknown(&child);
}

TEST(a_detached_program_is_stopped) {
    struct rdaemon_child child = begin_detached(false);
    struct rdaemon_exit ended;
    CHECK_INT(stop(&child, 5000, &ended), -ECHILD);
    its_status_is_unknown(&child);
}

TEST(a_detached_program_is_left_for_a_subreaper_to_reap) {
    struct rdaemon_child child = begin_detached(true);
    struct rdaemon_exit ended;
    CHECK_INT(send(&child, SIGKILL), 0);
    CHECK_INT(wait_for(&child, -1, &ended), -ECHILD);
    CHECK_INT(process_state(child.pid), 'Z');
    CHECK_INT(wait_for_exit(child.pid), SIGKILL);
    nothing_is_left(&child);
}

/* ---- signals ---- */

TEST_EACH(signals_arrive) {
    struct rdaemon_child child = begin_life("exit on SIGTERM");
    CHECK_INT(send(&child, 0), 0);
    CHECK_INT(send(&child, SIGTERM), 0);
    exited_with(&child, 3);
    nothing_is_left(&child);
}

static void *wait_without_a_limit(void *child) {
    killed_by(child, SIGTERM);
    return NULL;
}

TEST_EACH(signals_arrive_while_another_thread_waits) {
    struct rdaemon_child child = begin_life(""), copy = child;
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, wait_without_a_limit, &child), 0);
    CHECK_INT(send(&copy, 0), 0);
    CHECK_INT(send(&copy, SIGTERM), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(send(&child, 0), -ESRCH);
    if (copy.pidfd >= 0)
        CHECK_INT(send(&copy, 0), -ESRCH);
    nothing_is_left(&child);
}

TEST_EACH(a_zombie_is_there_to_be_signalled) {
    struct rdaemon_child child = begin("exit_with", "0");
    wait_for_state(child.pid, 'Z');
    CHECK_INT(send(&child, 0), 0);
    CHECK_INT(send(&child, SIGTERM), 0);
    exited_with(&child, 0);
    CHECK_INT(send(&child, 0), -ESRCH);
    nothing_is_left(&child);
}

TEST_EACH(signals_that_do_not_exist_are_refused) {
    static const int signals[] = {-1, -SIGTERM, 65, 1000, INT_MIN, INT_MAX};
    struct rdaemon_child child = begin_life("");
    for (size_t i = 0; i < LENGTH(signals); i++)
        CHECK_INT(send(&child, signals[i]), -EINVAL);
    times_out(&child, 0);
    slay_child(&child);
}

TEST_EACH(a_program_of_another_user_is_not_signalled) {
    REQUIRE_ROOT();
    struct valve valve = valve_new();
    Config config = {THE_HELPER(live_until_the_valve_opens, "1"), .flags = spawn_flags,
                     GATE_MAP(valve)};
    struct rdaemon_child child = begin_program(&config);
    become_user();
    struct rdaemon_exit ended;
    CHECK_INT(send(&child, 0), -EPERM);
    CHECK_INT(send(&child, SIGTERM), -EPERM);
    CHECK_INT(stop(&child, 1000, &ended), -EPERM);
    valve_open(&valve);
    exited_with(&child, 1);
    nothing_is_left(&child);
}

/* Makes a process with the number of one that has ended. */
static pid_t reuse(pid_t pid) {
    struct clone_args arguments = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
    pid_t made = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (made == 0)
        for (;;)
            pause();
    if (made < 0 && (errno == EPERM || errno == ENOSYS))
        SKIP("needs root or CAP_CHECKPOINT_RESTORE: %s", strerror(errno));
    if (made < 0 && errno == EEXIST)
        SKIP("somebody was faster to reuse the pid");
    CHECK_INT(made, pid);
    return made;
}

static void the_reused_pid_is_left_alone(struct rdaemon_child *child, int result) {
    struct rdaemon_exit ended;
    pid_t innocent = reuse(child->pid);
    CHECK_INT(send(child, 0), -ESRCH);
    CHECK_INT(send(child, SIGKILL), -ESRCH);
    CHECK_INT(stop(child, 0, &ended), result);
    CHECK_INT(wait_for(child, 0, &ended), result);
    CHECK_INT(kill(innocent, SIGTERM), 0);
    CHECK_INT(wait_for_exit(innocent), SIGTERM);
    nothing_is_left(child);
}

TEST_EACH(rule_6_1_no_signal_follows_the_reap) {
    struct rdaemon_child child = begin("exit_with", "0");
    exited_with(&child, 0);
    the_reused_pid_is_left_alone(&child, 0);
}

TEST_EACH(rule_6_1_no_signal_follows_the_news_of_a_reap) {
    struct rdaemon_exit ended;
    struct rdaemon_child child = begin("exit_with", "0");
    CHECK_INT(waitpid(-1, NULL, 0), child.pid);
    CHECK_INT(wait_for(&child, -1, &ended), -ECHILD);
    the_reused_pid_is_left_alone(&child, -ECHILD);
}

TEST(rule_6_1_a_pidfd_makes_the_reap_of_another_harmless) {
    with_a_pidfd();
    struct rdaemon_child child = begin("exit_with", "0");
    CHECK_INT(waitpid(-1, NULL, 0), child.pid);
    the_reused_pid_is_left_alone(&child, -ECHILD);
}

/* To kill(2) and waitpid(2) these mean whole groups of processes. */
TEST(a_handle_without_a_process_is_refused) {
    static const int pids[] = {0, -1, -2, INT_MIN};
    deny_syscall_arg(SYS_kill, 0, 0, EXFULL);
    for (size_t i = 0; i < LENGTH(pids); i++)
        deny_syscall_arg(SYS_kill, 0, (uint32_t)pids[i], EXFULL);
    pid_t other = fork_child();
    if (other == 0)
        _exit(0);
    wait_for_state(other, 'Z');
    for (size_t i = 0; i < LENGTH(pids); i++) {
        struct rdaemon_child child = {.pid = pids[i], .pidfd = -1, .fds = {-1, -1, -1}};
        struct rdaemon_exit ended;
        int results[] = {send(&child, 0), wait_for(&child, 0, &ended), stop(&child, 0, &ended)};
        for (size_t j = 0; j < LENGTH(results); j++)
            CHECK_INT(results[j], -EINVAL);
        CHECK_INT(process_state(other), 'Z');
    }
    CHECK_INT(wait_for_exit(other), 0);
}

/* Though its fds are those of standard input, of which none may be closed or read. */
TEST(a_zeroed_handle_can_be_closed_and_nothing_else) {
    struct rdaemon_child child = {0};
    CHECK_REFUSED(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    CHECK_REFUSED(rdaemon_child_signal(RDAEMON_SIZED(&child), 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_wait(RDAEMON_SIZED(&child), 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_stop(RDAEMON_SIZED(&child), 0, 0, NULL, 0), -EINVAL);
}

/* A number that is no fd is ready for ever: not to be waited on in a loop. */
TEST(a_pidfd_that_the_caller_has_closed_is_told) {
    struct rdaemon_child child;
    struct rdaemon_spawn_config config = {.flags = RDAEMON_SPAWN_PIDFD,
                                          .argv = (const char *[]){"/bin/sleep", "100", NULL}};
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0) > 0);
    CHECK_INT(close(child.pidfd), 0);
    CHECK_INT(rdaemon_child_wait(RDAEMON_SIZED(&child), 1000, NULL, 0), -EBADF);
    child.pidfd = -1;
    CHECK_INT(rdaemon_child_stop(RDAEMON_SIZED(&child), -1, -1, NULL, 0), 0);
}

TEST(a_detached_program_is_not_known_without_its_pidfd) {
    struct rdaemon_child child;
    struct rdaemon_spawn_config config = {.flags = RDAEMON_SPAWN_DETACHED,
                                          .argv = (const char *[]){"/bin/sleep", "100", NULL}};
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0) > 0);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    CHECK_INT(rdaemon_child_wait(RDAEMON_SIZED(&child), 0, NULL, 0), -EBADF);
    CHECK_INT(rdaemon_child_signal(RDAEMON_SIZED(&child), SIGKILL), -EBADF);
    CHECK_INT(kill(child.pid, SIGKILL), 0);
    CHECK_INT(wait_for_exit(child.pid), SIGKILL);
}

/* ---- stop ---- */

TEST_EACH(rule_6_5_stop_asks_first) {
    struct rdaemon_exit ended;
    struct rdaemon_child child = begin_life("");
    CHECK_INT(stop(&child, 10000, &ended), 0);
    check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGTERM);
    nothing_is_left(&child);
}

TEST_EACH(rule_6_5_stop_lets_a_program_end_in_its_own_way) {
    static const int timeouts[] = {10000, -1};
    for (size_t i = 0; i < LENGTH(timeouts); i++) {
        struct rdaemon_exit ended;
        struct rdaemon_child child = begin_life("exit on SIGTERM");
        CHECK_INT(stop(&child, timeouts[i], &ended), 0);
        check_exit(&ended, RDAEMON_EXIT_EXITED, 3);
        nothing_is_left(&child);
    }
}

TEST_EACH(rule_6_5_stop_kills_a_program_that_ignores_sigterm) {
    static const int timeouts[] = {0, 60};
    for (size_t i = 0; i < LENGTH(timeouts); i++) {
        struct rdaemon_exit ended;
        struct rdaemon_child child = begin_life("deaf to SIGTERM");
        double begun = now_ms();
        CHECK_INT(stop(&child, timeouts[i], &ended), 0);
        double took = now_ms() - begun;
        CHECK(took >= timeouts[i] && took < timeouts[i] + 3000);
        check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGKILL);
        nothing_is_left(&child);
    }
}

TEST_EACH(interrupted_stops_give_the_program_its_time) {
    struct rdaemon_exit ended;
    struct rdaemon_child child = begin_life("deaf to SIGTERM");
    begin_signal_storm();
    double begun = now_ms();
    CHECK_INT(stop(&child, 100, &ended), 0);
    CHECK(now_ms() - begun >= 100);
    CHECK(signals_of_the_storm() > 10);
    end_signal_storm();
    check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGKILL);
    nothing_is_left(&child);
}

TEST_EACH(stop_wakes_a_stopped_program) {
    static const char *const manners[] = {"", "exit on SIGTERM"};
    for (size_t i = 0; i < LENGTH(manners); i++) {
        struct rdaemon_exit ended;
        struct rdaemon_child child = begin_life(manners[i]);
        CHECK_INT(kill(child.pid, SIGSTOP), 0);
        wait_for_state(child.pid, 'T');
        CHECK_INT(stop(&child, -1, &ended), 0);
        if (i == 0)
            check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGTERM);
        else
            check_exit(&ended, RDAEMON_EXIT_EXITED, 3);
        nothing_is_left(&child);
    }
}

TEST_EACH(stop_kills_a_stopped_program_that_ignores_sigterm) {
    struct rdaemon_exit ended;
    struct rdaemon_child child = begin_life("deaf to SIGTERM");
    CHECK_INT(kill(child.pid, SIGSTOP), 0);
    wait_for_state(child.pid, 'T');
    CHECK_INT(stop(&child, 20, &ended), 0);
    check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGKILL);
    nothing_is_left(&child);
}

TEST_EACH(stop_tells_how_a_program_ended_before) {
    struct rdaemon_exit ended;
    struct rdaemon_child child = begin("exit_with", "11");
    wait_for_state(child.pid, 'Z');
    CHECK_INT(stop(&child, 0, &ended), 0);
    check_exit(&ended, RDAEMON_EXIT_EXITED, 11);
    nothing_is_left(&child);
}

TEST_EACH(the_time_for_the_kill_may_be_over_at_once) {
    struct rdaemon_child child = begin_life("deaf to SIGTERM");
    int result = QUIET(rdaemon_child_stop(RDAEMON_SIZED(&child), 0, 0, NULL, 0));
    CHECK(result == 0 || result == -ETIMEDOUT);
    killed_by(&child, SIGKILL);
    nothing_is_left(&child);
}

/* ---- many ---- */

static void live_through_one(int round) {
    struct rdaemon_exit ended;
    struct rdaemon_child child;
    spawn_flags = round % 2 ? RDAEMON_SPAWN_PIDFD : 0;
    switch (round % 4) {
    case 0:
        child = begin("exit_with", "13");
        exited_with(&child, 13);
        break;
    case 1:
        child = begin_death(SIGUSR2, "0");
        killed_by(&child, SIGUSR2);
        break;
    case 2:
        child = begin_life("exit on SIGTERM");
        CHECK_INT(stop(&child, -1, &ended), 0);
        check_exit(&ended, RDAEMON_EXIT_EXITED, 3);
        break;
    default:
        child = begin_life("deaf to SIGTERM");
        CHECK_INT(wait_for(&child, 0, &ended), -ETIMEDOUT);
        CHECK_INT(stop(&child, 0, &ended), 0);
        check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGKILL);
    }
    nothing_is_left(&child);
}

TEST(two_processes_at_work_leave_nothing, .time_limit_ms = 30000) {
    enum { PROCESSES = 2, ROUNDS = 60 };
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork_child();
        if (pids[i] == 0) {
            for (int round = 0; round < ROUNDS; round++)
                live_through_one(round);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++)
        CHECK_INT(wait_for_exit(pids[i]), 0);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_INT(first_child_of(getpid()), 0);
}

static void *begin_and_wait(void *code) {
    for (int round = 0; round < 40; round++) {
        Config config = {THE_HELPER(exit_with, code), .flags = round % 2 ? RDAEMON_SPAWN_PIDFD : 0,
                         .streams[1] = PIPE};
        struct rdaemon_child child = begin_program(&config);
        exited_with(&child, atoi(code));
        CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    }
    return NULL;
}

TEST(threads_get_the_status_of_their_own_programs, .time_limit_ms = 30000) {
    static char codes[][4] = {"21", "22", "23"};
    pthread_t threads[LENGTH(codes)];
    for (size_t i = 0; i < LENGTH(codes); i++)
        CHECK_INT(pthread_create(&threads[i], NULL, begin_and_wait, codes[i]), 0);
    for (size_t i = 0; i < LENGTH(codes); i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_INT(first_child_of(getpid()), 0);
}

/* ---- bad input ---- */

TEST(bad_input_is_refused) {
    with_a_pidfd();
    struct rdaemon_child child = begin_life("");
    CHECK_REFUSED(rdaemon_child_wait(NULL, 0, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_wait(NULL, sizeof child, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_wait(&child, sizeof child - 1, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_wait(RDAEMON_SIZED(&child), -2, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_wait(RDAEMON_SIZED(&child), INT_MIN, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_signal(NULL, 0, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_signal(&child, sizeof child - 1, SIGKILL), -EINVAL);
    CHECK_REFUSED(rdaemon_child_stop(NULL, 0, 0, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_stop(&child, sizeof child - 1, 0, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_stop(RDAEMON_SIZED(&child), -2, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_stop(RDAEMON_SIZED(&child), 0, -2, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_close(NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_child_close(&child, sizeof child - 1), -EINVAL);
    times_out(&child, 0);
    slay_child(&child);
}

TEST(a_handle_of_a_later_version_is_taken_if_it_asks_for_nothing_new) {
    struct {
        struct rdaemon_child child;
        uint32_t later[4];
    } grown = {0};
    struct rdaemon_exit ended;
    with_a_pidfd();
    grown.child = begin_life("");
    grown.later[3] = 1;
    CHECK_REFUSED(rdaemon_child_wait((void *)&grown, sizeof grown, 0, NULL, 0), -E2BIG);
    CHECK_REFUSED(rdaemon_child_signal((void *)&grown, sizeof grown, SIGKILL), -E2BIG);
    CHECK_REFUSED(rdaemon_child_stop((void *)&grown, sizeof grown, 0, 0, NULL, 0), -E2BIG);
    CHECK_REFUSED(rdaemon_child_close((void *)&grown, sizeof grown), -E2BIG);
    grown.later[3] = 0;
    CHECK_INT(QUIET(rdaemon_child_signal((void *)&grown, sizeof grown, SIGKILL)), 0);
    CHECK_INT(QUIET(rdaemon_child_wait((void *)&grown, sizeof grown, -1, RDAEMON_SIZED(&ended))),
              0);
    check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGKILL);
    nothing_is_left(&grown.child);
}
