/* Signals as an fd: rdaemon_signals_open and rdaemon_signals_next. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "program.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"
#include "worker.h"

#define OPEN(...)                                                                                  \
    open_signals((const int32_t[]){__VA_ARGS__}, LENGTH(((const int32_t[]){__VA_ARGS__})))

static struct rdaemon_signal got;

static int open_signals(const int32_t *signals, size_t count) {
    int fd = QUIET(rdaemon_signals_open(signals, count));
    if (fd < 0)
        FAIL("signals_open: %s", error_name(fd));
    return fd;
}

static int next_signal(int fd, int timeout_ms) {
    memset(&got, 0xa5, sizeof got);
    int signal = QUIET(rdaemon_signals_next(fd, timeout_ms, RDAEMON_SIZED(&got)));
    if (signal > 0) {
        CHECK_INT(got.signal, signal);
        CHECK_INT(got.reserved[0] | got.reserved[1], 0);
    } else {
        CHECK_INT(got.signal, (int32_t)0xa5a5a5a5);
    }
    return signal;
}

static void nothing_more(int fd) {
    CHECK_INT(next_signal(fd, 0), -ETIMEDOUT);
}

/* All that can be caught, but those that a case sends for other reasons. */
static size_t all_signals(int32_t *signals) {
    size_t count = 0;
    for (int i = 1; i <= SIGRTMAX; i++)
        if (i != SIGKILL && i != SIGSTOP && (i < 32 || i >= SIGRTMIN))
            signals[count++] = i;
    return count;
}

/* ---- what is told ---- */

TEST(rule_3_4_every_kind_of_signal_is_told) {
    int32_t signals[64];
    size_t count = all_signals(signals);
    int fd = open_signals(signals, count);
    CHECK(count > 50);
    for (size_t i = 0; i < count; i++) {
        CHECK_INT(kill(getpid(), signals[i]), 0);
        CHECK_INT(next_signal(fd, 0), signals[i]);
        CHECK_INT(got.code, SI_USER);
        CHECK_INT(got.pid, getpid());
        CHECK_INT(got.uid, getuid());
        nothing_more(fd);
    }
}

TEST(the_sender_is_told) {
    REQUIRE_ROOT();
    int fd = OPEN(SIGHUP);
    pid_t parent = getpid(), sender = fork_child();
    if (sender == 0) {
        CHECK_INT(setreuid(TEST_UID, (uid_t)-1), 0);
        CHECK_INT(kill(parent, SIGHUP), 0);
        _exit(0);
    }
    CHECK_INT(next_signal(fd, -1), SIGHUP);
    CHECK_INT(got.pid, sender);
    CHECK_INT(got.uid, TEST_UID);
    CHECK_INT(wait_for_exit(sender), 0);
}

TEST(a_queued_value_is_told) {
    int fd = OPEN(SIGRTMIN, SIGUSR1);
    static const int values[] = {0, 1, -1, INT_MAX, INT_MIN};
    for (size_t i = 0; i < LENGTH(values); i++) {
        CHECK_INT(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = values[i]}), 0);
        CHECK_INT(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = values[i]}), 0);
    }
    CHECK_INT(next_signal(fd, 0), SIGUSR1); /* of a kind that does not queue, the first */
    CHECK_INT(got.value, 0);
    for (size_t i = 0; i < LENGTH(values); i++) {
        CHECK_INT(next_signal(fd, 0), SIGRTMIN);
        CHECK_INT(got.value, values[i]);
        CHECK_INT(got.code, SI_QUEUE);
        CHECK_INT(got.pid, getpid());
    }
    nothing_more(fd);
}

static void check_child(int fd, pid_t pid, int code, int status) {
    CHECK_INT(next_signal(fd, -1), SIGCHLD);
    CHECK_INT(got.pid, pid);
    CHECK_INT(got.code, code);
    CHECK_INT(got.status, status);
    CHECK_INT(got.uid, getuid());
}

TEST(the_end_of_a_child_is_told) {
    int fd = OPEN(SIGCHLD);
    pid_t exits = fork_child();
    if (exits == 0)
        _exit(7);
    check_child(fd, exits, CLD_EXITED, 7);
    CHECK_INT(WEXITSTATUS(wait_for_exit(exits)), 7); /* nobody has reaped it */
    pid_t dies = fork_child();
    if (dies == 0)
        live_on(NULL);
    kill(dies, SIGSTOP);
    check_child(fd, dies, CLD_STOPPED, SIGSTOP);
    kill(dies, SIGKILL);
    check_child(fd, dies, CLD_KILLED, SIGKILL);
    wait_for_exit(dies);
    nothing_more(fd);
}

TEST(an_ignored_signal_is_told_all_the_same) {
    signal(SIGUSR1, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    int fd = OPEN(SIGUSR1, SIGHUP, SIGURG);
    raise(SIGUSR1);
    CHECK_INT(next_signal(fd, 0), SIGUSR1);
    kill(getpid(), SIGHUP);
    CHECK_INT(next_signal(fd, 0), SIGHUP);
    kill(getpid(), SIGURG); /* which the default ignores */
    CHECK_INT(next_signal(fd, 0), SIGURG);
}

TEST(an_ignored_sigchld_is_told_all_the_same) {
    signal(SIGCHLD, SIG_IGN);
    OPEN(SIGUSR1);
    CHECK(signal_in(0, "SigIgn", SIGCHLD)); /* it is not meant */
    int fd = OPEN(SIGUSR1, SIGCHLD);
    CHECK(!signal_in(0, "SigIgn", SIGCHLD));
    pid_t child = fork_child();
    if (child == 0)
        _exit(3);
    check_child(fd, child, CLD_EXITED, 3);
    CHECK_INT(WEXITSTATUS(wait_for_exit(child)), 3);
}

static void must_not_run(int signal) {
    FAIL("the handler of signal %d ran", signal);
}

TEST(a_signal_that_is_told_runs_no_handler) {
    signal(SIGTERM, must_not_run);
    int fd = OPEN(SIGTERM);
    kill(getpid(), SIGTERM);
    CHECK_INT(next_signal(fd, 0), SIGTERM);
}

/* ---- bursts ---- */

enum { SENDERS = 4, ROUNDS = 50 };

static const int kinds[] = {SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGTERM, SIGWINCH, SIGALRM, SIGURG};

static void send_burst(pid_t to, int sender) {
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < LENGTH(kinds); i++)
            CHECK_INT(kill(to, kinds[(i + (size_t)sender) % LENGTH(kinds)]), 0);
        for (int queued = SIGRTMIN; queued < SIGRTMIN + 3; queued++)
            CHECK_INT(sigqueue(to, queued, (union sigval){.sival_int = sender << 16 | round}), 0);
    }
}

/* Of the kinds that queue nothing is lost, and each sender's come in their order; of the others at
 * least one of each kind comes. */
static void survives_a_burst(bool all_before_the_first_look) {
    int32_t signals[64];
    int seen[65] = {0}, latest[3][SENDERS];
    memset(latest, -1, sizeof latest);
    int fd = open_signals(signals, all_signals(signals));
    pid_t senders[SENDERS], parent = getpid();
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = fork_child();
        if (senders[i] == 0) {
            send_burst(parent, i);
            _exit(0);
        }
    }
    if (all_before_the_first_look)
        for (int i = 0; i < SENDERS; i++)
            CHECK_INT(wait_for_exit(senders[i]), 0);
    int ended = all_before_the_first_look ? SENDERS : 0;
    for (int signal; (signal = next_signal(fd, ended == SENDERS ? 0 : 5000)) > 0;) {
        seen[signal]++;
        while (ended < SENDERS && waitpid(-1, NULL, WNOHANG) > 0)
            ended++;
        if (signal >= SIGRTMIN) {
            int *before = &latest[signal - SIGRTMIN][got.value >> 16];
            CHECK_INT(got.value & 0xffff, *before + 1);
            *before = got.value & 0xffff;
        }
    }
    CHECK_INT(ended, SENDERS);
    for (size_t i = 0; i < LENGTH(kinds); i++)
        CHECK(seen[kinds[i]] >= 1);
    CHECK(seen[SIGCHLD] >= 1);
    for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
        CHECK_INT(seen[i], i < SIGRTMIN + 3 ? SENDERS * ROUNDS : 0);
}

TEST(rule_3_4_a_burst_loses_no_kind_and_no_queued_signal) {
    survives_a_burst(true);
}

TEST(rule_3_4_a_burst_that_is_read_meanwhile_loses_none_either) {
    survives_a_burst(false);
}

static int shared_fd;
static Count *taken;

static void *takes_its_share(void *unused) {
    struct rdaemon_signal mine;
    int signal;
    while ((signal = rdaemon_signals_next(shared_fd, -1, RDAEMON_SIZED(&mine))) == SIGRTMIN)
        bump(taken);
    CHECK_INT(signal, SIGRTMIN + 1);
    return unused;
}

TEST(of_several_threads_one_gets_the_signal_and_the_others_wait_on) {
    pthread_t threads[4];
    taken = shared_memory(sizeof *taken);
    shared_fd = OPEN(SIGRTMIN, SIGRTMIN + 1);
    for (size_t i = 0; i < LENGTH(threads); i++)
        CHECK_INT(pthread_create(&threads[i], NULL, takes_its_share, NULL), 0);
    for (int i = 1; i <= 300; i++) {
        CHECK_INT(kill(getpid(), SIGRTMIN), 0);
        if (i % 3 == 0)
            await(taken, i);
    }
    for (size_t i = 0; i < LENGTH(threads); i++)
        CHECK_INT(kill(getpid(), SIGRTMIN + 1), 0);
    for (size_t i = 0; i < LENGTH(threads); i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(atomic_load(taken), 300);
}

/* ---- the mask ---- */

static unsigned long long blocked(pid_t thread) {
    return strtoull(status_field(thread, "SigBlk"), NULL, 16);
}

static void *tells_its_mask(void *until) {
    atomic_store(taken, gettid());
    bump(taken + 1);
    await(taken + 2, 1);
    return until;
}

TEST(exactly_these_signals_are_blocked_in_addition_in_this_thread) {
    sigset_t set;
    pthread_t thread;
    taken = shared_memory(3 * sizeof *taken);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN + 3);
    CHECK_INT(pthread_create(&thread, NULL, tells_its_mask, NULL), 0);
    await(taken + 1, 1);
    sigprocmask(SIG_SETMASK, &set, NULL);
    unsigned long long expected = blocked(0) | SIGNAL_BIT(SIGHUP) | SIGNAL_BIT(SIGTERM);
    int fd = OPEN(SIGHUP, SIGTERM, SIGHUP);
    CHECK_INT(blocked(0), expected);
    CHECK_INT(blocked(atomic_load(taken)), 0);
    int other = OPEN(SIGINT, SIGRTMAX);
    expected |= SIGNAL_BIT(SIGINT) | SIGNAL_BIT(SIGRTMAX);
    CHECK_INT(blocked(0), expected);
    close(fd);
    close(other);
    CHECK_INT(blocked(0), expected);
    bump(taken + 2);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

TEST(an_fd_tells_its_own_signals_alone) {
    int hup = OPEN(SIGHUP), term = OPEN(SIGTERM);
    raise(SIGTERM);
    nothing_more(hup);
    CHECK_INT(next_signal(term, 0), SIGTERM);
}

/* ---- the fd ---- */

TEST(the_fd_is_above_2_cloexec_and_non_blocking) {
    for (unsigned closed = 0; closed < 8; closed++)
        IN_CHILD {
            for (int i = 0; i < 3; i++)
                if (closed >> i & 1)
                    close(i);
            int fd = OPEN(SIGHUP);
            CHECK(fd >= 3);
            CHECK(fd_is_cloexec(fd));
            CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
            for (int i = 0; i < 3; i++)
                CHECK_INT(fd_is_open(i), !(closed >> i & 1));
            raise(SIGHUP);
            CHECK_INT(next_signal(fd, 0), SIGHUP);
        }
}

static bool readable(int fd) {
    struct pollfd look = {.fd = fd, .events = POLLIN};
    return poll(&look, 1, 0) == 1 && look.revents == POLLIN;
}

TEST(the_fd_is_readable_when_a_signal_is_pending) {
    int fd = OPEN(SIGHUP, SIGTERM);
    CHECK(!readable(fd));
    raise(SIGHUP);
    raise(SIGTERM);
    CHECK(readable(fd));
    CHECK_INT(next_signal(fd, -1), SIGHUP);
    CHECK(readable(fd));
    CHECK_INT(next_signal(fd, -1), SIGTERM);
    CHECK(!readable(fd));
}

TEST(a_signal_that_was_pending_before_is_told) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGINT);
    int fd = OPEN(SIGINT);
    CHECK_INT(next_signal(fd, 0), SIGINT);
}

/* ---- time ---- */

TEST(a_time_limit_of_0_does_not_wait) {
    int fd = OPEN(SIGHUP);
    double begin = now_ms();
    for (int i = 0; i < 1000; i++)
        nothing_more(fd);
    CHECK(now_ms() - begin < 1000);
}

TEST(a_time_limit_is_kept) {
    int fd = OPEN(SIGHUP);
    double begin = now_ms();
    CHECK_INT(next_signal(fd, 100), -ETIMEDOUT);
    double took = now_ms() - begin;
    CHECK(took >= 99 && took < 1500);
}

TEST(a_wait_ends_with_the_signal) {
    int fd = OPEN(SIGHUP);
    pid_t waiter = getpid();
    static const int limits[] = {-1, INT_MAX};
    for (size_t i = 0; i < LENGTH(limits); i++) {
        pid_t sender = fork_child();
        if (sender == 0) {
            wait_for_state(waiter, 'S');
            kill(waiter, SIGHUP);
            _exit(0);
        }
        CHECK_INT(next_signal(fd, limits[i]), SIGHUP);
        CHECK_INT(wait_for_exit(sender), 0);
    }
}

TEST(other_signals_handlers_do_not_end_a_wait_nor_prolong_it) {
    int fd = OPEN(SIGHUP);
    begin_signal_storm();
    double begin = now_ms();
    CHECK_INT(next_signal(fd, 200), -ETIMEDOUT);
    double took = now_ms() - begin;
    CHECK(took >= 199 && took < 1500);
    CHECK(signals_of_the_storm() > 10);
    pid_t waiter = getpid(), sender = fork_child();
    if (sender == 0) {
        kill(waiter, SIGHUP);
        _exit(0);
    }
    CHECK_INT(next_signal(fd, -1), SIGHUP);
    end_signal_storm();
    wait_for_exit(sender);
}

/* ---- refusals ---- */

static int open_quietly(int32_t first, int32_t second) {
    return rdaemon_signals_open((const int32_t[]){first, second}, 2);
}

TEST(an_empty_list_is_refused) {
    static const int32_t one = SIGHUP;
    CHECK_REFUSED(rdaemon_signals_open(NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_signals_open(NULL, 1), -EINVAL);
    CHECK_REFUSED(rdaemon_signals_open(&one, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_signals_open(&one, SIZE_MAX), -EINVAL);
}

TEST(what_is_no_signal_or_cannot_be_caught_is_refused) {
    static const int32_t bad[] = {0, -1, 65, 1000, INT_MAX, INT_MIN, SIGKILL, SIGSTOP, 32, 33};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        if (bad[i] == 33 && SIGRTMIN == 33)
            continue;
        CHECK_REFUSED(open_quietly(bad[i], SIGHUP), -EINVAL);
        CHECK_REFUSED(open_quietly(SIGHUP, bad[i]), -EINVAL);
    }
}

TEST(without_a_free_fd_nothing_is_blocked) {
    sigset_t now;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, 3}), 0);
    CHECK_INT(QUIET(open_quietly(SIGHUP, SIGTERM)), -EMFILE);
    CHECK_INT(sigprocmask(SIG_BLOCK, NULL, &now), 0);
    CHECK(!sigismember(&now, SIGHUP) && !sigismember(&now, SIGTERM));
}

TEST(where_the_system_call_is_denied_nothing_is_blocked) {
    deny_syscall(SYS_signalfd4, EPERM);
    CHECK_REFUSED(open_quietly(SIGHUP, SIGTERM), -EPERM);
}

static int next_of(int fd, int timeout_ms) {
    return rdaemon_signals_next(fd, timeout_ms, RDAEMON_SIZED(&got));
}

TEST(an_fd_that_is_not_open_is_refused) {
    CHECK_REFUSED(next_of(-1, 0), -EBADF);
    CHECK_REFUSED(next_of(-1, -1), -EBADF);
    CHECK_REFUSED(next_of(INT_MIN, 0), -EBADF);
    CHECK_REFUSED(next_of(999, 100), -EBADF);
    CHECK_REFUSED(next_of(INT_MAX, 0), -EBADF);
}

TEST(a_time_limit_below_minus_1_is_refused) {
    int fd = OPEN(SIGHUP);
    raise(SIGHUP);
    CHECK_REFUSED(next_of(fd, -2), -EINVAL);
    CHECK_REFUSED(next_of(fd, INT_MIN), -EINVAL);
    CHECK_INT(next_signal(fd, 0), SIGHUP);
}

TEST(an_fd_of_another_kind_is_refused) {
    char text[128];
    int ends[2];
    memset(text, 'x', sizeof text);
    CHECK_INT(pipe2(ends, O_NONBLOCK), 0);
    CHECK_INT(write(ends[1], text, sizeof text), sizeof text);
    const int fds[] = {open("/dev/null", O_RDONLY), eventfd(1, EFD_NONBLOCK),
                       open("/dev/zero", O_RDONLY), ends[0]};
    for (size_t i = 0; i < LENGTH(fds); i++)
        CHECK_INT(next_signal(fds[i], 0), -EINVAL);
}

TEST(a_pipe_is_refused_at_once_and_keeps_what_is_in_it) {
    char text[128];
    int ends[2], left;
    memset(text, 'x', sizeof text);
    CHECK_INT(pipe(ends), 0);
    CHECK_INT(write(ends[1], text, sizeof text), sizeof text);
    CHECK_REFUSED(next_of(ends[0], 0), -EINVAL);
    CHECK_INT(ioctl(ends[0], FIONREAD, &left), 0);
    CHECK_INT(left, sizeof text);
    CHECK_INT(read(ends[0], text, sizeof text), sizeof text);
    CHECK_REFUSED(next_of(ends[0], 0), -EINVAL); /* empty, and a read would wait */
    CHECK_REFUSED(next_of(ends[0], -1), -EINVAL);
}

/* ---- versions ---- */

TEST(a_struct_of_another_version_is_filled_as_far_as_it_goes) {
    int fd = OPEN(SIGRTMIN);
    struct {
        struct rdaemon_signal signal;
        uint32_t new_field;
    } grown = {.new_field = 1};
    int32_t shorter[3] = {-1, -1, -1};
    for (int i = 0; i < 3; i++)
        CHECK_INT(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}), 0);
    CHECK_INT(QUIET(rdaemon_signals_next(fd, 0, NULL, 0)), SIGRTMIN);
    CHECK_INT(QUIET(rdaemon_signals_next(fd, 0, &grown.signal, sizeof grown)), SIGRTMIN);
    CHECK_INT(grown.signal.value, 1);
    CHECK_INT(grown.new_field, 0);
    CHECK_INT(
        QUIET(rdaemon_signals_next(fd, 0, (struct rdaemon_signal *)shorter, 2 * sizeof *shorter)),
        SIGRTMIN);
    CHECK_INT(shorter[0], SIGRTMIN);
    CHECK_INT(shorter[1], SI_QUEUE);
    CHECK_INT(shorter[2], -1);
}

/* ---- in a worker ---- */

static int serves_by_an_event_loop(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    int fd = OPEN(SIGTERM, SIGHUP, SIGUSR1);
    begin_run(context);
    for (int signal; (signal = next_signal(fd, -1)) != SIGTERM;)
        bump(&tally->stage);
    return 3;
}

TEST(a_worker_with_an_event_loop_gets_its_signals_there_and_ends_by_its_own_return) {
    struct rdaemon_worker worker = new_worker(serves_by_an_event_loop);
    struct rdaemon_config config = worker_config();
    struct start started;
    pid_t pid = start_worker(&started, &config, &worker);
    kill(pid, SIGHUP);
    await(&tally->stage, 1);
    kill(pid, SIGUSR1);
    await(&tally->stage, 2);
    kill(pid, SIGTERM);
    worker_exited(&started, 3);
    CHECK_INT(tally->user1 + tally->terminates, 0);
}
