/* The end of a worker: at_exit once, the pidfile gone, and the exit status or the signal. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"
#include "worker.h"

/* ---- on SIGTERM ---- */

TEST(rule_8_5_sigterm_ends_a_worker_without_on_terminate) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.on_terminate = NULL;
    kill(start_worker(&started, &config, &worker), SIGTERM);
    worker_killed_by(&started, SIGTERM);
}

TEST(rule_8_5_on_terminate_answers_0_and_the_worker_ends) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    kill(start_worker(&started, &config, &worker), SIGTERM);
    worker_killed_by(&started, SIGTERM);
    CHECK_INT(atomic_load(&tally->terminates), 1);
}

static void goes_on_until_run_returns(int answer) {
    struct rdaemon_worker worker = new_worker(run_until_stage_1);
    struct rdaemon_config config = worker_config();
    struct start started;
    atomic_store(&tally->go_on, answer);
    pid_t pid = start_worker(&started, &config, &worker);
    kill(pid, SIGTERM);
    await(&tally->terminates, 1);
    kill(pid, SIGUSR1);
    await(&tally->user1, 1);
    CHECK_INT(atomic_load(&tally->exits), 0);
    CHECK_STR(tree(scratch()), "pid");
    bump(&tally->stage);
    worker_exited(&started, 7);
}

TEST(rule_8_5_on_terminate_answers_otherwise_and_run_goes_on_and_returns) {
    goes_on_until_run_returns(1);
    goes_on_until_run_returns(-1);
}

TEST(a_later_sigterm_may_end_what_went_on_at_first) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    atomic_store(&tally->go_on, 1);
    pid_t pid = start_worker(&started, &config, &worker);
    kill(pid, SIGTERM);
    await(&tally->terminates, 1);
    atomic_store(&tally->go_on, 0);
    kill(pid, SIGTERM);
    worker_killed_by(&started, SIGTERM);
    CHECK_INT(atomic_load(&tally->terminates), 2);
}

static volatile sig_atomic_t wants_to_return;

static int wants_an_end(void *context) {
    (void)context;
    wants_to_return = 1;
    return 1;
}

static int runs_until_told_by_sigterm(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    begin_run(context);
    while (!wants_to_return)
        sigsuspend(&before);
    return 11;
}

TEST(a_worker_that_is_told_by_sigterm_ends_with_the_result_of_run) {
    struct rdaemon_worker worker = new_worker(runs_until_told_by_sigterm);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.on_terminate = wants_an_end;
    kill(start_worker(&started, &config, &worker), SIGTERM);
    worker_exited(&started, 11);
}

/* ---- SIGTERM at the wrong moment ---- */

static void exit_amid_sigterm(void *context) {
    struct tally *own = context;
    raise(SIGTERM);
    kill(getpid(), SIGTERM);
    bump(&own->stage); /* it was not ended in the middle */
    tally->file_was = access(tally->pidfile, F_OK) == 0 ? 1 : -1;
    bump(&own->exits);
    raise(SIGTERM);
}

static int returns_6(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    return 6;
}

TEST(at_exit_runs_once_though_sigterm_comes_during_it_after_run) {
    struct rdaemon_worker worker = new_worker(returns_6);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.at_exit = exit_amid_sigterm;
    start_worker(&started, &config, &worker);
    worker_exited_or_killed(&started, 6, SIGTERM);
    CHECK_INT(atomic_load(&tally->stage), 1);
}

TEST(at_exit_runs_once_though_sigterm_comes_during_it_by_sigterm) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.at_exit = exit_amid_sigterm;
    kill(start_worker(&started, &config, &worker), SIGTERM);
    worker_killed_by(&started, SIGTERM);
    CHECK_INT(atomic_load(&tally->stage), 1);
    CHECK_INT(atomic_load(&tally->terminates), 1);
}

static void sends_sigterm_at_exit(void) {
    raise(SIGUSR1);
    raise(SIGUSR2);
    kill(getpid(), SIGTERM);
}

static int returns_6_and_sends_sigterm(void *context, const struct rdaemon_daemon *daemon) {
    atexit(sends_sigterm_at_exit);
    return returns_6(context, daemon);
}

TEST(no_hook_runs_after_at_exit_though_signals_come_during_exit) {
    struct rdaemon_worker worker = new_worker(returns_6_and_sends_sigterm);
    struct rdaemon_config config = worker_config();
    struct start started;
    start_worker(&started, &config, &worker);
    worker_exited(&started, 6);
    CHECK_INT(atomic_load(&tally->terminates), 0);
    CHECK_INT(atomic_load(&tally->user1), 0);
    CHECK_INT(atomic_load(&tally->user2), 0);
}

static struct rdaemon_pidfile own_pidfile;

static void sets_signals_and_sends_sigterm(void) {
    struct rdaemon_signal_action line = {.signal = SIGHUP, .action = RDAEMON_SIGNAL_TERMINATE};
    CHECK_INT(rdaemon_set_signals(&line, 1, RDAEMON_SIZED(&own_pidfile)), 0);
    raise(SIGTERM);
    raise(SIGHUP);
}

static int returns_6_and_sets_signals(void *context, const struct rdaemon_daemon *daemon) {
    own_pidfile = daemon->pidfile;
    atexit(sets_signals_and_sends_sigterm);
    return returns_6(context, daemon);
}

TEST(at_exit_runs_once_though_signals_are_set_and_come_during_exit) {
    struct rdaemon_worker worker = new_worker(returns_6_and_sets_signals);
    struct rdaemon_config config = worker_config();
    struct start started;
    start_worker(&started, &config, &worker);
    worker_exited_or_killed(&started, 6, SIGTERM);
}

static void user1_amid_sigterm(void *context) {
    struct tally *own = context;
    kill(getpid(), SIGTERM);
    CHECK_INT(atomic_load(&own->exits), 0); /* not in the middle of this */
    bump(&own->user1);
}

TEST(sigterm_during_a_hook_ends_the_worker_after_it) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.on_user1 = user1_amid_sigterm;
    kill(start_worker(&started, &config, &worker), SIGUSR1);
    worker_killed_by(&started, SIGTERM);
    CHECK_INT(atomic_load(&tally->user1), 1);
}

static int terminate_amid_sigterm(void *context) {
    struct tally *own = context;
    if (atomic_load(&own->terminates) == 0)
        kill(getpid(), SIGTERM);
    bump(&own->terminates);
    return 0;
}

TEST(sigterm_during_on_terminate_ends_the_worker_once) {
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started;
    worker.on_terminate = terminate_amid_sigterm;
    kill(start_worker(&started, &config, &worker), SIGTERM);
    worker_killed_by(&started, SIGTERM);
}

/* A signal that has its default does nothing to process 1 of a namespace, as in a container. */
TEST(sigterm_ends_a_worker_that_is_process_1) {
    REQUIRE_ROOT();
    struct rdaemon_worker worker = new_worker(run_on);
    struct rdaemon_config config = worker_config();
    struct start started = {.daemon.pidfd = -1};
    config.detach = RDAEMON_DETACH_NO;
    if (unshare(CLONE_NEWPID) != 0)
        SKIP("needs a pid namespace: %s", strerror(errno));
    started.result = fork_child();
    if (started.result == 0) {
        call_start(&started, &config, &worker);
        FAIL("the start returned %s", error_name(started.result));
    }
    await(&tally->runs, 1);
    CHECK_INT(atomic_load(&tally->daemon), 1);
    kill(started.result, SIGTERM);
    int how = worker_end(&started);
    CHECK(WIFEXITED(how));
    CHECK(WEXITSTATUS(how) != 0);
    CHECK_INT(atomic_load(&tally->exits), 1);
    CHECK_STR(tree(scratch()), "");
}

/* ---- another daemon at the end ---- */

/* What each of the two counts in. */
static struct tally *first, *second;
static void (*way_to_end)(pid_t pid);

static void count_the_end(void *context) {
    bump(&((struct tally *)context)->exits);
}

static void starts_the_second(void) {
    struct rdaemon_worker worker = {
        .run = run_until_stage_1, .at_exit = count_the_end, .context = second};
    struct rdaemon_config config = worker_config();
    struct start started;
    if (getpid() != atomic_load(&first->daemon))
        return; /* the second one has inherited this, too */
    tally = second;
    way_to_end(start_worker(&started, &config, &worker));
}

static int is_succeeded(void *context, const struct rdaemon_daemon *daemon) {
    CHECK_INT(atexit(starts_the_second), 0);
    return returns_6(context, daemon);
}

static void terminate(pid_t pid) {
    kill(pid, SIGTERM);
}

static void let_return(pid_t pid) {
    (void)pid;
    bump(&tally->stage);
}

/* That the first one is at its end does not mean that the second one is. */
static struct start second_that(void (*ends)(pid_t pid)) {
    struct rdaemon_config config = worker_config();
    struct start started;
    way_to_end = ends;
    new_worker(NULL);
    second = tally;
    atomic_store(&second->file_was, 1);
    struct rdaemon_worker worker = new_worker(is_succeeded);
    first = tally;
    start_worker(&started, &config, &worker);
    int how = worker_end(&started);
    CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 6);
    CHECK_INT(atomic_load(&first->exits), 1);
    tally = second;
    started.result = atomic_load(&second->daemon);
    return started;
}

TEST(a_daemon_that_another_one_starts_at_its_end_dies_of_sigterm) {
    struct start started = second_that(terminate);
    worker_killed_by(&started, SIGTERM);
}

TEST(a_daemon_that_another_one_starts_at_its_end_ends_when_run_returns) {
    struct start started = second_that(let_return);
    worker_exited(&started, 7);
}

/* ---- the pidfile ---- */

/* Both ways of ending: run's return, and SIGTERM. The file must be in the state of `left`. */
static void leaves(struct rdaemon_config config, const char *left) {
    for (int by_signal = 0; by_signal < 2; by_signal++) {
        struct rdaemon_worker worker = new_worker(run_until_stage_1);
        struct start started;
        tally->pidfile[0] = '\0';
        pid_t pid = start_worker(&started, &config, &worker);
        if (by_signal)
            kill(pid, SIGTERM);
        else
            bump(&tally->stage);
        if (by_signal)
            worker_killed_by(&started, SIGTERM);
        else
            worker_exited(&started, 7);
        CHECK_STR(tree(scratch()), left);
        if (strstr(left, "pid"))
            CHECK_STR(file_text(config.pidfile), "");
    }
}

TEST(rule_4_7_a_worker_removes_its_pidfile_after_chdir) {
    struct rdaemon_config config = worker_config();
    config.working_directory = make_directory("d", 0755);
    leaves(config, "d/");
    config.pidfile = "relative"; /* to the caller's directory */
    CHECK_INT(chdir(scratch()), 0);
    leaves(config, "d/");
}

TEST(rule_4_7_a_worker_removes_its_pidfile_from_inside_a_jail) {
    REQUIRE_ROOT();
    struct rdaemon_config config = worker_config();
    config.chroot_directory = make_directory("jail", 0755);
    leaves(config, "jail/");
}

static struct rdaemon_identity nobody_special(void) {
    return (struct rdaemon_identity){
        .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = TEST_UID, .gid = TEST_GID};
}

TEST(rule_4_7_a_worker_removes_its_pidfile_without_privileges_from_a_directory_of_its_own) {
    REQUIRE_ROOT();
    struct rdaemon_config config = worker_config();
    config.identity = nobody_special();
    config.pidfile = "run/pid";
    CHECK_INT(chdir(scratch()), 0);
    CHECK_INT(chown(make_directory("run", 0755), TEST_UID, TEST_GID), 0);
    leaves(config, "run/");
    config.chroot_directory = make_directory("jail", 0755);
    leaves(config, "jail/ run/");
}

TEST(rule_4_7_where_the_removal_is_denied_the_pidfile_is_left_empty) {
    REQUIRE_ROOT();
    struct rdaemon_config config = worker_config();
    config.identity = nobody_special();
    leaves(config, "pid");
    config.chroot_directory = make_directory("jail", 0755);
    leaves(config, "jail/ pid");
}

TEST(a_pidfile_that_is_only_to_be_emptied_is_emptied) {
    struct rdaemon_config config = worker_config();
    config.pidfile_options.flags = RDAEMON_PIDFILE_ONLY_EMPTY;
    leaves(config, "pid");
}

TEST(rule_4_7_another_file_in_the_pidfiles_place_is_left_alone) {
    for (int by_signal = 0; by_signal < 2; by_signal++) {
        struct rdaemon_worker worker = new_worker(run_until_stage_1);
        struct rdaemon_config config = worker_config();
        struct start started;
        pid_t pid = start_worker(&started, &config, &worker);
        CHECK_INT(unlink(config.pidfile), 0);
        make_file("pid", "not mine\n");
        if (by_signal)
            kill(pid, SIGTERM);
        else
            bump(&tally->stage);
        int how = worker_end(&started);
        CHECK(by_signal ? how == SIGTERM : WEXITSTATUS(how) == 7);
        CHECK_INT(atomic_load(&tally->exits), 1);
        CHECK_STR(file_text(config.pidfile), "not mine\n");
        CHECK_INT(unlink(config.pidfile), 0);
    }
}

static bool sweeps; /* or it removes and closes a copy of its handle */

/* Its own file gets the number of the pidfile's fd. */
static int loses_its_pidfile(void *context, const struct rdaemon_daemon *daemon) {
    struct rdaemon_pidfile copy = daemon->pidfile;
    if (sweeps) {
        CHECK_INT(rdaemon_close_fds(3, NULL, 0, 0), 0);
    } else {
        CHECK_INT(rdaemon_pidfile_remove(RDAEMON_SIZED(&copy)), 0);
        CHECK_INT(rdaemon_pidfile_close(RDAEMON_SIZED(&copy)), 0);
    }
    int fd = open(scratch_path("data"), O_RDWR);
    CHECK(fd >= 0);
    if (fd != daemon->pidfile.fd)
        CHECK_INT(dup2(fd, daemon->pidfile.fd), daemon->pidfile.fd);
    begin_run(context);
    await(&tally->stage, 1);
    return 7;
}

TEST(a_file_that_has_got_the_number_of_the_pidfiles_fd_is_left_alone) {
    for (int i = 0; i < 8; i++) {
        struct rdaemon_worker worker = new_worker(loses_its_pidfile);
        struct rdaemon_config config = worker_config();
        struct start started;
        const char *data = make_file("data", "precious\n");
        int own = open(data, O_RDWR);
        if (i & 4) /* another process has a lock on it, as the daemon had on its pidfile */
            CHECK_INT(fcntl(own, F_SETLK, &(struct flock){.l_type = F_WRLCK}), 0);
        sweeps = i & 1;
        pid_t pid = start_worker(&started, &config, &worker);
        if (i & 2)
            kill(pid, SIGTERM);
        else
            bump(&tally->stage);
        int how = worker_end(&started);
        CHECK(i & 2 ? how == SIGTERM : WEXITSTATUS(how) == 7);
        CHECK_INT(atomic_load(&tally->exits), 1);
        close(own);
        CHECK_STR(file_text(data), "precious\n");
    }
}

/* Answers system calls as NFS does, whose server takes a process's flock for a process lock of
 * somebody's. */
static void serve_nfs(int fd, const char *pidfile) {
    static const struct statfs nfs = {.f_type = 0x6969};
    static const struct flock taken = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    for (;;) {
        struct held_call call = held_next(fd);
        const char *file = fd_target(call.pid, (int)call.arguments[0]);
        if (!file || strcmp(file, pidfile) != 0)
            held_release(fd, &call);
        else if (call.number == SYS_fstatfs)
            held_answer(fd, &call, 0, call.arguments[1], &nfs, sizeof nfs);
        else if (call.arguments[1] == F_GETLK)
            held_answer(fd, &call, 0, call.arguments[2], &taken, sizeof taken);
        else if (call.arguments[1] == F_SETLK)
            held_answer(fd, &call, -EAGAIN, 0, NULL, 0);
        else
            held_release(fd, &call);
    }
}

TEST(on_nfs_the_hooks_run_and_the_pidfile_is_removed) {
    static const long calls[] = {SYS_fcntl, SYS_fstatfs};
    for (int by_signal = 0; by_signal < 2; by_signal++) {
        struct rdaemon_worker worker = new_worker(run_until_stage_1);
        struct rdaemon_config config = worker_config();
        struct start started;
        IN_CHILD {
            adopt_orphans();
            int fd = hold_syscalls(calls, 2);
            pid_t server = fork_child();
            if (server == 0)
                serve_nfs(fd, config.pidfile);
            pid_t pid = start_worker(&started, &config, &worker);
            if (by_signal) {
                kill(pid, SIGUSR1);
                kill(pid, SIGTERM);
                worker_killed_by(&started, SIGTERM);
                CHECK_INT(atomic_load(&tally->user1), 1);
                CHECK_INT(atomic_load(&tally->terminates), 1);
            } else {
                bump(&tally->stage);
                worker_exited(&started, 7);
            }
            kill(server, SIGKILL);
            wait_for_exit(server);
        }
    }
}

static int leaves_a_worker_behind(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    if (fork() == 0) {
        await(&tally->stage, 1);
        _exit(0);
    }
    begin_run(context);
    return 6;
}

TEST(a_next_start_succeeds_though_a_forked_process_of_the_last_one_lives) {
    struct rdaemon_worker worker = new_worker(leaves_a_worker_behind);
    struct rdaemon_config config = worker_config();
    struct start started;
    start_worker(&started, &config, &worker);
    worker_exited(&started, 6); /* the file is gone, and the lock with its inode */
    struct tally *first = tally;
    worker = new_worker(returns_6);
    start_worker(&started, &config, &worker);
    worker_exited(&started, 6);
    bump(&first->stage);
    while (wait(NULL) > 0)
        ;
}
