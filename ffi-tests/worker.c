/* What a controller starts: run, its result, and the word that it is ready. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"
#include "worker.h"

/* ---- run ---- */

static int sees_its_daemon(void *context, const struct rdaemon_daemon *daemon) {
    struct stat file;
    begin_run(context);
    CHECK_INT(daemon->pid, getpid());
    CHECK_INT(daemon->detached, 1);
    CHECK_INT(daemon->pidfd, -1);
    CHECK_INT(daemon->ready_fd, -1);
    CHECK_INT(daemon->pidfile.writer, getpid());
    CHECK_STR(daemon->pidfile.name, "pid");
    CHECK_INT(fstat(daemon->pidfile.fd, &file), 0);
    CHECK_INT(daemon->pidfile.inode, file.st_ino);
    CHECK(getsid(0) != getpid());
    CHECK_STR(fd_target(0, 0), "/dev/null");
    CHECK_STR(status_field(0, "SigBlk"), "0000000000000000");
    return 0;
}

TEST(run_has_its_context_and_its_daemon) {
    struct rdaemon_worker worker = new_worker(sees_its_daemon);
    struct rdaemon_config config = worker_config();
    struct start started;
    start_worker(&started, &config, &worker);
    worker_exited(&started, 0);
    CHECK_INT(atomic_load(&tally->runs), 1);
}

TEST(the_pidfile_holds_the_pid_when_the_start_returns) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    char line[32];
    snprintf(line, sizeof line, "%d\n", start_worker(&started, &config, &worker));
    CHECK_STR(file_text(config.pidfile), line);
    CHECK_INT(pidfd_pid(started.daemon.pidfd), started.result);
    kill(started.result, SIGTERM);
    worker_killed_by(&started, SIGTERM);
}

static int result_wanted;

static int returns_what_is_wanted(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    return result_wanted;
}

TEST(rule_8_4_the_result_of_run_is_the_exit_status) {
    static const int results[] = {0, 1, 3, 127, 255, 256 + 5, -1};
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        struct rdaemon_worker worker = new_worker(returns_what_is_wanted);
        struct rdaemon_config config = worker_config();
        struct start started;
        result_wanted = results[i];
        start_worker(&started, &config, &worker);
        worker_exited(&started, results[i] & 0xff);
        CHECK_INT(atomic_load(&tally->terminates), 0);
    }
}

static Count *handlers_called, *handler_saw;

static void at_exit_of_the_process(void) {
    bump(handlers_called);
    if (getpid() == atomic_load(&tally->daemon) && atomic_load(&tally->exits) == 1 &&
        access(tally->pidfile, F_OK) != 0)
        bump(handler_saw);
}

static int leaves_text_in_buffers(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    CHECK_INT(atexit(at_exit_of_the_process), 0);
    FILE *file = fopen(scratch_path("own"), "w");
    CHECK(file && fputs("kept", file) >= 0);
    CHECK(printf("printed") > 0);
    return 0;
}

TEST(the_end_is_that_of_exit_with_handlers_and_flushed_streams) {
    struct rdaemon_worker worker = new_worker(leaves_text_in_buffers);
    struct rdaemon_config config = worker_config();
    struct start started;
    handlers_called = shared_memory(sizeof *handlers_called);
    handler_saw = shared_memory(sizeof *handler_saw);
    config.streams[1] =
        (struct rdaemon_stream){.action = RDAEMON_STREAM_FILE, .path = scratch_path("out")};
    CHECK_INT(atexit(at_exit_of_the_process), 0); /* the original's, which the daemon inherits */
    start_worker(&started, &config, &worker);
    worker_exited(&started, 0);
    CHECK_STR(file_text(scratch_path("own")), "kept");
    CHECK_STR(file_text(scratch_path("out")), "printed");
    CHECK_INT(atomic_load(handlers_called), 2); /* and not once more in the process between */
    CHECK_INT(atomic_load(handler_saw), 2);     /* the hook had run, and the pidfile was gone */
}

TEST(every_hook_but_run_may_be_missing) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    struct rdaemon_config config = worker_config();
    worker = (struct rdaemon_worker){.run = worker.run, .context = worker.context};
    struct start started;
    start_worker(&started, &config, &worker);
    bump(&tally->stage);
    CHECK_INT(WEXITSTATUS(worker_end(&started)), 7);
    CHECK_STR(tree(scratch()), "");
    tally->stage = tally->runs = 0;
    start_worker(&started, &config, &worker);
    kill(started.result, SIGTERM);
    CHECK_INT(worker_end(&started), SIGTERM);
    CHECK_STR(tree(scratch()), "");
}

TEST(the_outputs_may_be_missing) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    struct rdaemon_config config = worker_config();
    struct start started = {.daemon.pidfd = -1};
    started.result = QUIET(
        rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker), NULL, 0, NULL, 0));
    CHECK(started.result > 0);
    CHECK_STR(open_fds(0), "0 1 2");
    bump(&tally->stage);
    worker_exited(&started, 7);
}

TEST(rule_8_4_a_second_start_is_refused_with_the_running_pid) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    struct rdaemon_config config = worker_config();
    struct start started, second;
    static struct snapshot before;
    pid_t pid = start_worker(&started, &config, &worker);
    snapshot_take(&before);
    CHECK_INT(call_start(&second, &config, &worker), -EEXIST);
    CHECK_INT(second.status.step, RDAEMON_STEP_PIDFILE_OPEN);
    CHECK_INT(second.status.pid, pid);
    CHECK(snapshot_same(&before));
    CHECK_INT(atomic_load(&tally->runs), 1);
    bump(&tally->stage);
    worker_exited(&started, 7);
}

TEST(a_start_that_fails_runs_nothing_and_leaves_nothing) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    static struct snapshot before;
    config.working_directory = scratch_path("missing");
    snapshot_take(&before);
    CHECK_INT(call_start(&started, &config, &worker), -ENOENT);
    CHECK_INT(started.status.step, RDAEMON_STEP_CHDIR);
    CHECK(snapshot_same(&before));
    CHECK_STR(tree(scratch()), "");
    CHECK_INT(atomic_load(&tally->runs) + atomic_load(&tally->exits), 0);
}

/* ---- without a new process ---- */

static int runs_in_place(void *context, const struct rdaemon_daemon *daemon) {
    begin_run(context);
    CHECK_INT(daemon->pid, getpid());
    CHECK_INT(daemon->detached, 0);
    CHECK_INT(daemon->ready_fd, -1);
    CHECK_INT(rdaemon_ready(daemon->ready_fd), 0);
    await(&tally->stage, 1);
    return 9;
}

/* A child becomes the daemon, which run shares: the start does not return there. */
static void start_in_place(struct start *started, const struct rdaemon_config *config,
                           const struct rdaemon_worker *worker) {
    started->daemon.pidfd = -1;
    started->result = fork_child();
    if (started->result == 0) {
        char evidence[16];
        snprintf(evidence, sizeof evidence, "%d", (int)getpid());
        if (config->detach == RDAEMON_DETACH_AUTO)
            setenv("SYSTEMD_EXEC_PID", evidence, 1);
        call_start(started, config, worker);
        FAIL("the start returned %s", error_name(started->result));
    }
    await(&tally->runs, 1);
    CHECK_INT(atomic_load(&tally->daemon), started->result);
}

static void ends_in_place(uint32_t detach, uint32_t flags) {
    struct rdaemon_worker worker = new_worker(runs_in_place);
    struct rdaemon_config config = worker_config();
    struct start started;
    config.detach = detach;
    config.flags = flags;
    start_in_place(&started, &config, &worker);
    bump(&tally->stage);
    worker_exited(&started, 9);
    worker = new_worker(runs_in_place);
    start_in_place(&started, &config, &worker);
    kill(started.result, SIGTERM);
    worker_killed_by(&started, SIGTERM);
    CHECK_INT(atomic_load(&tally->terminates), 1);
}

TEST(a_process_that_does_not_detach_runs_it_in_place_and_ends) {
    ends_in_place(RDAEMON_DETACH_NO, 0);
}

TEST(a_process_that_a_manager_started_runs_it_in_place) {
    ends_in_place(RDAEMON_DETACH_AUTO, 0);
}

TEST(ready_means_nothing_to_a_process_that_does_not_detach) {
    ends_in_place(RDAEMON_DETACH_NO, RDAEMON_NOTIFY_READY);
}

TEST(a_failure_in_place_is_returned) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    config.detach = RDAEMON_DETACH_NO;
    config.working_directory = scratch_path("missing");
    IN_CHILD {
        struct start started;
        CHECK_INT(call_start(&started, &config, &worker), -ENOENT);
        CHECK_INT(started.status.step, RDAEMON_STEP_CHDIR);
    }
    CHECK_INT(atomic_load(&tally->runs), 0);
}

/* ---- with RDAEMON_NOTIFY_READY ---- */

enum { WITHOUT_A_WORD = 2, NOT_IN_TIME, DEAF, KILLED };

static Count *has_said;
static int word; /* what run says: 1 for ready, an error, or nothing, as one of the above */

static int says_its_word(void *context, const struct rdaemon_daemon *daemon) {
    begin_run(context);
    CHECK(daemon->ready_fd >= 3);
    await(&tally->stage, 1);
    bump(has_said);
    if (word < 0)
        CHECK_INT(rdaemon_fail(daemon->ready_fd, word), 0);
    else
        CHECK_INT(rdaemon_ready(daemon->ready_fd), 0);
    return 4;
}

static void *opens_stage_1(void *unused) {
    await(&tally->runs, 1);
    bump(&tally->stage);
    return unused;
}

/* Lets run go on by another process, as this one is in the call. */
static void open_stage_1_elsewhere(void) {
    if (fork_child() == 0) {
        opens_stage_1(NULL);
        _exit(0);
    }
}

/* Starts it for readiness in a process that is nobody's subreaper, so that it is the case that
 * learns how the daemon ended, also of one that did not get ready. */
static struct start start_to_be_ready(struct rdaemon_worker worker, int timeout_ms,
                                      bool with_daemon) {
    struct start *start = shared_memory(sizeof *start);
    IN_CHILD {
        struct rdaemon_config config = worker_config();
        config.flags = RDAEMON_NOTIFY_READY;
        config.timeout_ms = timeout_ms;
        if (with_daemon)
            call_start(start, &config, &worker);
        else
            start->result = rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                                  NULL, 0, RDAEMON_SIZED(&start->status));
        if (start->result > 0 && with_daemon) {
            CHECK_INT(start->daemon.ready_fd, -1);
            CHECK(start->daemon.pidfd >= 3);
            CHECK_INT(close(start->daemon.pidfd), 0);
        }
        CHECK_STR(open_fds(0), "0 1 2");
    }
    start->daemon.pidfd = -1;
    return *start;
}

static struct start said(int what, bool with_daemon) {
    struct rdaemon_worker worker = new_worker(says_its_word);
    word = what;
    has_said = shared_memory(sizeof *has_said);
    open_stage_1_elsewhere();
    struct start started = start_to_be_ready(worker, 0, with_daemon);
    CHECK_INT(atomic_load(has_said), 1);
    return started;
}

TEST(the_start_returns_once_the_daemon_is_ready) {
    struct start started = said(1, true);
    CHECK(started.result > 0);
    CHECK_INT(started.status.step, RDAEMON_STEP_NONE);
    worker_exited(&started, 4);
}

TEST(a_start_awaits_readiness_also_without_a_place_for_the_daemon) {
    struct start started = said(1, false);
    CHECK(started.result > 0);
    worker_exited(&started, 4);
}

/* After a start that failed once run had begun: how the daemon ended. */
static int end_of_the_failed(const struct start *failed) {
    pid_t pid = atomic_load(&tally->daemon);
    CHECK_INT(failed->status.step, RDAEMON_STEP_READY);
    CHECK_INT(process_state(pid), 'Z');
    CHECK_STR(tree(scratch()), "");
    return wait_for_exit(pid);
}

TEST(a_daemon_that_says_that_it_failed_fails_the_start) {
    struct start started = said(-EADDRINUSE, true);
    CHECK_INT(started.result, -EADDRINUSE);
    int how = end_of_the_failed(&started); /* by itself, or as it was told to */
    CHECK((WIFEXITED(how) && WEXITSTATUS(how) == 4) || how == SIGTERM);
    CHECK_INT(atomic_load(&tally->exits), 1);
}

static int says_nothing(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    if (word == KILLED)
        raise(SIGKILL);
    if (word == WITHOUT_A_WORD)
        return 5;
    for (;;)
        pause();
}

static struct start not_said(int how, int timeout_ms) {
    struct rdaemon_worker worker = new_worker(says_nothing);
    word = how;
    atomic_store(&tally->go_on, how == DEAF);
    return start_to_be_ready(worker, timeout_ms, true);
}

TEST(a_daemon_that_ends_before_it_is_ready_fails_the_start) {
    struct start started = not_said(WITHOUT_A_WORD, 0);
    CHECK_INT(started.result, -ESRCH);
    int how = end_of_the_failed(&started);
    CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 5);
    CHECK_INT(atomic_load(&tally->exits), 1);
}

TEST(a_daemon_that_is_killed_before_it_is_ready_fails_the_start) {
    struct start started = not_said(KILLED, 0);
    CHECK_INT(started.result, -ESRCH);
    CHECK_INT(end_of_the_failed(&started), SIGKILL);
    CHECK_INT(atomic_load(&tally->exits), 0);
}

TEST(the_signal_that_killed_it_is_told_to_its_reaper) {
    struct rdaemon_worker worker = new_worker(says_nothing);
    struct rdaemon_config config = worker_config();
    struct start started;
    config.flags |= RDAEMON_NOTIFY_READY;
    word = KILLED;
    CHECK_INT(call_start(&started, &config, &worker), -ESRCH);
    CHECK_INT(started.status.signal, SIGKILL);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
}

static int gives_its_channel_up(void *context, const struct rdaemon_daemon *daemon) {
    CHECK_INT(close(daemon->ready_fd), 0);
    return run_on(context, daemon);
}

TEST(the_signal_that_the_start_itself_has_sent_is_not_told_as_the_cause) {
    struct rdaemon_worker worker = new_worker(gives_its_channel_up);
    struct rdaemon_config config = worker_config();
    struct start started;
    config.flags |= RDAEMON_NOTIFY_READY;
    CHECK_INT(call_start(&started, &config, &worker), -ESRCH);
    CHECK_INT(started.status.step, RDAEMON_STEP_READY);
    CHECK_INT(started.status.signal, 0);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_INT(atomic_load(&tally->exits), 1);
}

TEST(the_time_limit_counts_for_readiness_and_terminates_the_daemon) {
    double begin = now_ms();
    struct start started = not_said(NOT_IN_TIME, 300);
    double took = now_ms() - begin;
    CHECK_INT(started.result, -ETIMEDOUT);
    CHECK_INT(end_of_the_failed(&started), SIGTERM);
    CHECK_INT(atomic_load(&tally->terminates), 1);
    CHECK_INT(atomic_load(&tally->exits), 1);
    CHECK(took >= 299 && took < 3000);
}

TEST(a_daemon_that_does_not_heed_that_is_killed) {
    double begin = now_ms();
    struct start started = not_said(DEAF, 100);
    CHECK_INT(started.result, -ETIMEDOUT);
    CHECK_INT(end_of_the_failed(&started), SIGKILL);
    CHECK_INT(atomic_load(&tally->terminates), 1);
    CHECK_INT(atomic_load(&tally->exits), 0);
    CHECK(now_ms() - begin < 5000);
}

/* ---- refusals ---- */

static void refused(const struct rdaemon_config *config, const struct rdaemon_worker *worker,
                    size_t worker_size, int error, int subject) {
    static struct snapshot before;
    struct rdaemon_status status;
    snapshot_take(&before);
    CHECK_INT(QUIET(rdaemon_control_start(config, config ? sizeof *config : 0, worker, worker_size,
                                          NULL, 0, RDAEMON_SIZED(&status))),
              error);
    CHECK_INT(status.error, error);
    CHECK_INT(status.step, RDAEMON_STEP_CONFIG);
    if (subject != RDAEMON_STEP_NONE)
        CHECK_INT(status.subject, subject);
    CHECK(snapshot_same(&before));
    CHECK_STR(tree(scratch()), "");
    CHECK_INT(atomic_load(&tally->runs), 0);
}

TEST(a_worker_without_run_is_refused) {
    struct rdaemon_worker worker = new_worker(NULL);
    struct rdaemon_config config = worker_config();
    refused(&config, &worker, sizeof worker, -EINVAL, 0);
    refused(&config, NULL, 0, -EINVAL, 0);
    refused(&config, NULL, sizeof worker, -EINVAL, 0);
}

TEST(a_worker_of_another_version_is_read_as_far_as_it_is_known) {
    struct {
        struct rdaemon_worker worker;
        uintptr_t new_field;
    } grown = {.worker = new_worker(run_until_stage_1), .new_field = 1};
    struct rdaemon_config config = worker_config();
    struct start started = {.daemon.pidfd = -1};
    refused(&config, &grown.worker, sizeof grown, -E2BIG, 0);
    refused(&config, &grown.worker, sizeof grown.worker - 1, -EINVAL, 0);
    grown.new_field = 0;
    started.result = rdaemon_control_start(RDAEMON_SIZED(&config), &grown.worker, sizeof grown,
                                           NULL, 0, NULL, 0);
    CHECK(started.result > 0);
    bump(&tally->stage);
    worker_exited(&started, 7);
}

TEST(a_start_without_a_pidfile_is_refused) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = {0};
    refused(&config, &worker, sizeof worker, -EINVAL, RDAEMON_STEP_PIDFILE_OPEN);
    refused(NULL, &worker, sizeof worker, -EINVAL, RDAEMON_STEP_PIDFILE_OPEN);
}

TEST(a_config_is_refused_as_by_daemonize) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    config.umask = 01000;
    refused(&config, &worker, sizeof worker, -EINVAL, RDAEMON_STEP_UMASK);
}

TEST(a_signal_with_a_hook_has_no_line_in_the_map) {
    static const int signals[] = {SIGUSR1, SIGUSR2};
    for (int i = 0; i < 2; i++)
        for (uint32_t action = RDAEMON_SIGNAL_DEFAULT; action <= RDAEMON_SIGNAL_TERMINATE;
             action++) {
            struct rdaemon_worker worker = new_worker(run_on);
            struct rdaemon_config config = worker_config();
            if (action == RDAEMON_SIGNAL_HANDLER)
                continue;
            config.signal_map =
                &(struct rdaemon_signal_action){.signal = signals[i], .action = action};
            config.signal_map_len = 1;
            refused(&config, &worker, sizeof worker, -EINVAL, RDAEMON_STEP_SET_SIGNALS);
        }
}
