/* Callers in every condition: closed standard fds, no spare fd, odd SIGCHLD handling, threads,
 * atexit handlers and unflushed stdio. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "controlled.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

/* ---- standard fds that are closed ---- */

static void has_sound_fds(const struct start *start) {
    const struct rdaemon_pidfile *pidfile = &start->daemon.pidfile;
    char expected[64];
    bool ascending = pidfile->fd < pidfile->directory_fd;
    snprintf(expected, sizeof expected, "0 1 2 %d %d",
             ascending ? pidfile->fd : pidfile->directory_fd,
             ascending ? pidfile->directory_fd : pidfile->fd);
    CHECK_STR(open_fds(0), expected);
    for (int fd = 0; fd < 3; fd++) {
        CHECK_STR(fd_target(0, fd), "/dev/null");
        CHECK(!fd_is_cloexec(fd));
    }
    CHECK(pidfile->fd >= 3 && pidfile->directory_fd >= 3);
}

/* In a child, because closing fd 2 would take the voice of the rest. */
static void start_with_closed(int subset) {
    IN_CHILD {
        struct rdaemon_config config = {.pidfile = scratch_path("pid")};
        struct start started;
        close_standard_fds(subset);
        start_well(&started, &config, has_sound_fds);
        CHECK(started.daemon.pidfd >= 3);
        close(started.daemon.pidfd);
        for (int fd = 3; fd < 20; fd++)
            CHECK(!fd_is_open(fd));
    }
    int status;
    CHECK(wait(&status) > 0);
    CHECK_INT(status, 0);
}

TEST(each_subset_of_closed_standard_fds_works) {
    for (int subset = 0; subset < 8; subset++)
        start_with_closed(subset);
}

static void fail_with_closed(int subset) {
    IN_CHILD {
        struct rdaemon_config config = {.pidfile = scratch_path("pid"),
                                        .working_directory = scratch_path("missing")};
        close_standard_fds(subset);
        start_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
    }
}

TEST(a_failure_leaves_each_subset_closed) {
    for (int subset = 0; subset < 8; subset++)
        fail_with_closed(subset);
}

static void keeps_its_streams(const struct start *start) {
    (void)start;
    CHECK_STR(fd_target(0, 1), scratch_path("log"));
    CHECK(same_description(1, 2));
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(files_are_opened_around_each_subset) {
    for (int subset = 0; subset < 8; subset++) {
        IN_CHILD {
            struct rdaemon_config config = {
                .streams = {
                    {0},
                    {.action = RDAEMON_STREAM_FILE, .path = scratch_path("log")},
                    {.action = RDAEMON_STREAM_SAME_AS_STDOUT},
                }};
            close_standard_fds(subset);
            run_daemon(&config, keeps_its_streams);
        }
    }
}

/* ---- no spare fd ---- */

/* Some limit is enough; every lower one must fail before anything is forked or changed. */
static bool starts_below(rlim_t most_fds, int closed) {
    static struct snapshot before;
    struct rdaemon_config config = {
        .pidfile = scratch_path("pid"),
        .streams[1] = {.action = RDAEMON_STREAM_FILE, .path = scratch_path("log")}};
    struct rlimit limit;
    struct start started;
    adopt_orphans();
    close_standard_fds(closed);
    snapshot_take(&before);
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t usual = limit.rlim_cur;
    limit.rlim_cur = most_fds;
    setrlimit(RLIMIT_NOFILE, &limit);
    start(&started, &config, NULL);
    limit.rlim_cur = usual;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (started.result > 0) {
        lived(&started);
        return true;
    }
    CHECK_INT(started.result, -EMFILE);
    CHECK(started.status.step >= RDAEMON_STEP_OPEN_STDIO);
    CHECK(started.status.step <= RDAEMON_STEP_DOUBLE_FORK);
    CHECK(snapshot_same(&before));
    CHECK_STR(tree(scratch()), "");
    return false;
}

static void starve(int closed) {
    atomic_bool *well = shared_memory(sizeof *well);
    int failures = 0;
    for (rlim_t most = 0; most < 40 && !*well; most++) {
        IN_CHILD
            *well = starts_below(most, closed);
        failures += !*well;
        unlink(scratch_path("pid"));
        unlink(scratch_path("log"));
    }
    CHECK(*well);
    CHECK(failures >= 3);
}

TEST(without_a_spare_fd_nothing_is_forked) {
    starve(0);
}

TEST(without_a_spare_fd_but_with_closed_ones_nothing_is_forked) {
    for (int closed = 1; closed < 8; closed++)
        starve(closed);
}

/* ---- SIGCHLD ---- */

static void fails_and_succeeds(void) {
    struct rdaemon_config config = {.working_directory = scratch_path("missing")};
    struct start failed;
    double begin = now_ms();
    start(&failed, &config, NULL);
    CHECK_INT(failed.result, -ENOENT);
    CHECK_INT(failed.status.step, RDAEMON_STEP_CHDIR);
    CHECK(now_ms() - begin < 1000);
    start_well(&failed, NULL, live_on);
    kill(failed.result, SIGKILL);
}

/* A child of the case that has no subreaper's rights: what it leaves behind, the case reaps. */
static void reap_all(void) {
    int status;
    while (wait(&status) > 0)
        continue;
}

TEST(a_caller_may_ignore_sigchld) {
    IN_CHILD {
        signal(SIGCHLD, SIG_IGN);
        fails_and_succeeds();
        CHECK_INT(first_child_of(getpid()), 0);
    }
    reap_all();
}

static void reap_in_handler(int signal) {
    (void)signal;
    int saved = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    errno = saved;
}

TEST(a_callers_handler_may_reap_everything) {
    IN_CHILD {
        signal(SIGCHLD, reap_in_handler);
        for (int i = 0; i < 50; i++)
            fails_and_succeeds();
        CHECK_INT(first_child_of(getpid()), 0);
    }
    reap_all();
}

static void *reap_in_thread(void *stop) {
    while (!atomic_load((atomic_bool *)stop))
        waitpid(-1, NULL, 0);
    return NULL;
}

TEST(another_thread_may_reap_everything) {
    IN_CHILD {
        atomic_bool stop = false;
        pthread_t thread;
        CHECK_INT(pthread_create(&thread, NULL, reap_in_thread, &stop), 0);
        for (int i = 0; i < 50; i++)
            fails_and_succeeds();
        atomic_store(&stop, true);
        pthread_join(thread, NULL);
        CHECK_INT(first_child_of(getpid()), 0);
    }
    reap_all();
}

TEST(failures_without_pidfds_leave_no_zombie_to_a_subreaper) {
    struct rdaemon_config config = {.working_directory = scratch_path("missing")};
    struct start failed;
    adopt_orphans();
    deny_syscall(SYS_pidfd_open, ENOSYS);
    for (int i = 0; i < 300; i++) {
        start(&failed, &config, NULL);
        CHECK_INT(failed.result, -ENOENT);
        CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
        CHECK_INT(errno, ECHILD);
    }
}

static atomic_int sigchlds;

static void count_sigchld(int signal) {
    (void)signal;
    sigchlds++;
}

/* Handlers without SA_RESTART interrupt every call that the original waits in. */
static void *send_signals(void *stop) {
    while (!atomic_load((atomic_bool *)stop)) {
        kill(getpid(), SIGUSR1);
        struct timespec pause = {.tv_nsec = 100000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

TEST(interruptions_are_retried) {
    IN_CHILD {
        struct sigaction action = {.sa_handler = count_sigchld};
        atomic_bool stop = false;
        pthread_t thread;
        sigset_t only_usr1;
        CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
        CHECK_INT(sigaction(SIGCHLD, &action, NULL), 0);
        sigemptyset(&only_usr1);
        sigaddset(&only_usr1, SIGUSR1);
        pthread_sigmask(SIG_BLOCK, &only_usr1, NULL);
        CHECK_INT(pthread_create(&thread, NULL, send_signals, &stop), 0);
        pthread_sigmask(SIG_UNBLOCK, &only_usr1, NULL);
        for (int i = 0; i < 50; i++)
            fails_and_succeeds();
        atomic_store(&stop, true);
        pthread_join(thread, NULL);
        CHECK(sigchlds > 0);
    }
    reap_all();
}

/* ---- daemons that are slow to report ---- */

struct held_start {
    struct start start;
    struct rdaemon_config config;
    struct gate *ready;
    int fd;
    pid_t daemon;
};

static void *start_held(void *context) {
    static const long tells[] = {SYS_sendmsg};
    struct held_start *held = context;
    held->fd = hold_syscalls(tells, 1);
    gate_open(held->ready);
    start(&held->start, &held->config, NULL);
    return NULL;
}

/* Its report waits for longer than the library does for nobody; with a time limit for ever. */
static void start_slowly(struct held_start *held) {
    pthread_t thread;
    held->ready = gate_new();
    CHECK_INT(pthread_create(&thread, NULL, start_held, held), 0);
    gate_wait(held->ready);
    struct held_call report = held_next(held->fd);
    held->daemon = report.pid;
    if (held->config.timeout_ms == 0) {
        for (double begin = now_ms(); now_ms() < begin + 1500;)
            usleep(10000);
        held_release(held->fd, &report);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static void starts_slowly(void) {
    struct held_start held = {.fd = -1};
    start_slowly(&held);
    CHECK(held.start.result > 0);
}

/* The end of the intermediate is nobody's to see then. */
TEST(a_daemon_that_is_slow_to_report_is_waited_for_where_sigchld_is_ignored,
     .time_limit_ms = 20000) {
    IN_CHILD {
        signal(SIGCHLD, SIG_IGN);
        starts_slowly();
    }
    reap_all();
}

TEST(a_daemon_that_is_slow_to_report_is_waited_for_without_a_pidfd_of_it, .time_limit_ms = 20000) {
    IN_CHILD {
        signal(SIGCHLD, SIG_IGN);
        deny_syscall(SYS_pidfd_open, ENOSYS);
        starts_slowly();
    }
    reap_all();
}

static pid_t original;

static void die_unless_original(void) {
    if (getpid() != original)
        raise(SIGKILL);
}

/* The intermediate has not told the daemon's number then. */
static void kill_intermediate_after_its_fork(void) {
    original = getpid();
    CHECK_INT(pthread_atfork(NULL, die_unless_original, NULL), 0);
}

TEST(a_daemon_that_is_slow_to_report_is_waited_for_though_the_intermediate_was_killed,
     .time_limit_ms = 20000) {
    IN_CHILD {
        kill_intermediate_after_its_fork();
        starts_slowly();
    }
    reap_all();
}

TEST(a_daemon_that_takes_too_long_is_killed_though_the_intermediate_was_killed) {
    IN_CHILD {
        struct held_start held = {.config.timeout_ms = 300};
        kill_intermediate_after_its_fork();
        start_slowly(&held);
        CHECK_INT(held.start.result, -ETIMEDOUT);
        CHECK(!is_alive(held.daemon));
    }
    reap_all();
}

/* ---- threads ---- */

static void *allocate_and_print(void *stop) {
    while (!atomic_load((atomic_bool *)stop)) {
        free(malloc(1000));
        fprintf(stderr, "%s", "");
    }
    return NULL;
}

static void has_one_thread_and_a_working_libc(const struct start *start) {
    (void)start;
    CHECK_STR(status_field(0, "Threads"), "1");
    free(malloc(100000));
    CHECK_INT(raise(0), 0); /* uses the thread id that libc remembers */
    pthread_t thread;
    atomic_bool stop = true;
    CHECK_INT(pthread_create(&thread, NULL, allocate_and_print, &stop), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

TEST(a_caller_may_have_threads) {
    atomic_bool stop = false;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, allocate_and_print, &stop), 0);
    for (int i = 0; i < 50; i++)
        run_daemon(NULL, has_one_thread_and_a_working_libc);
    atomic_store(&stop, true);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}

static void unblocks_usr1(const struct start *start) {
    (void)start;
    CHECK(!signal_in(0, "SigBlk", SIGUSR1));
    CHECK(signal_in(0, "SigBlk", SIGUSR2));
}

static void *start_in_thread(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    run_daemon(NULL, unblocks_usr1);
    return NULL;
}

TEST(the_mask_is_that_of_the_calling_thread) {
    pthread_t thread;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    CHECK_INT(pthread_create(&thread, NULL, start_in_thread, NULL), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK(signal_in(0, "SigBlk", SIGUSR1));
}

/* ---- atexit handlers and unflushed stdio ---- */

static FILE *out;

static void say_goodbye(void) {
    fprintf(out, "goodbye\n");
}

/* What a program prints that does not flush, makes daemons, and exits by exit(3). */
static const char *output_of(void (*program)(const struct rdaemon_config *config),
                             const struct rdaemon_config *config) {
    static char text[1024];
    int pipe_fds[2];
    CHECK_INT(pipe(pipe_fds), 0);
    IN_CHILD {
        dup2(pipe_fds[1], STDOUT_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        out = fdopen(STDOUT_FILENO, "w"); /* a pipe: buffered until exit flushes it */
        CHECK_INT(atexit(say_goodbye), 0);
        fprintf(out, "once\n");
        program(config);
        exit(0);
    }
    close(pipe_fds[1]);
    reap_all(); /* the daemon, whose output is in the pipe by now */
    size_t length = 0;
    for (ssize_t got; (got = read(pipe_fds[0], text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    close(pipe_fds[0]);
    text[length] = '\0';
    return text;
}

static void print_result(int result) {
    fprintf(out, "%s\n", result < 0 ? "failed" : result > 0 ? "started" : "running");
}

static void start_and_print(const struct rdaemon_config *config) {
    int result = rdaemon_daemonize(config, sizeof *config, NULL, 0, NULL, 0);
    if (result == 0)
        _exit(0);
    print_result(result);
}

TEST(a_failed_start_flushes_and_runs_nothing_twice) {
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_INHERIT},
                                    .working_directory = scratch_path("missing")};
    CHECK_STR(output_of(start_and_print, &config), "once\nfailed\ngoodbye\n");
}

TEST(a_start_that_fails_late_flushes_and_runs_nothing_twice) {
    struct rdaemon_limit limit = {.resource = RLIMIT_NOFILE, .soft = 1 << 30, .hard = 1 << 30};
    struct rdaemon_config config = {
        .streams[1] = {.action = RDAEMON_STREAM_INHERIT}, .limits = &limit, .limits_len = 1};
    CHECK_STR(output_of(start_and_print, &config), "once\nfailed\ngoodbye\n");
}

TEST(a_successful_start_flushes_and_runs_nothing_twice) {
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_INHERIT}};
    CHECK_STR(output_of(start_and_print, &config), "once\nstarted\ngoodbye\n");
}

/* ---- cancellation ---- */

static void *start_while_cancelled(void *config) {
    CHECK_INT(pthread_cancel(pthread_self()), 0);
    int result = rdaemon_daemonize(config, sizeof(struct rdaemon_config), NULL, 0, NULL, 0);
    if (result == 0)
        _exit(0);
    print_result(result);
    CHECK_STR(open_fds(0), "0 1 2");
    pthread_testcancel();
    FAIL("the cancellation was lost");
}

static void be_cancelled_and_print(const struct rdaemon_config *config) {
    pthread_t thread;
    void *value = NULL;
    CHECK_INT(pthread_create(&thread, NULL, start_while_cancelled, (void *)config), 0);
    CHECK_INT(pthread_join(thread, &value), 0);
    CHECK(value == PTHREAD_CANCELED);
}

TEST(a_start_is_no_cancellation_point) {
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_INHERIT},
                                    .pidfile = scratch_path("pid")};
    CHECK_STR(output_of(be_cancelled_and_print, &config), "once\nstarted\ngoodbye\n");
}

TEST(a_start_that_fails_is_no_cancellation_point) {
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_INHERIT},
                                    .pidfile = scratch_path("pid"),
                                    .working_directory = scratch_path("missing")};
    CHECK_STR(output_of(be_cancelled_and_print, &config), "once\nfailed\ngoodbye\n");
    CHECK_STR(tree(scratch()), "");
}
