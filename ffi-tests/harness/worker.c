#include "worker.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "tap.h"

/* ---- counts ---- */

void bump(Count *count) {
    atomic_fetch_add(count, 1);
    syscall(SYS_futex, count, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void await(Count *count, int at_least) {
    for (int now; (now = atomic_load(count)) < at_least;)
        syscall(SYS_futex, count, FUTEX_WAIT, now, NULL, NULL, 0);
}

/* ---- hooks ---- */

struct tally *tally;

static void called(void *context, Count *count) {
    if (context != tally || getpid() != atomic_load(&tally->daemon))
        bump(&tally->strangers);
    bump(count);
}

static void count_user1(void *context) {
    called(context, &tally->user1);
}

static void count_user2(void *context) {
    called(context, &tally->user2);
}

static int count_terminate(void *context) {
    int answer = atomic_load(&tally->go_on); /* before the case can know of the call */
    called(context, &tally->terminates);
    return answer;
}

/* Without opening it: that would end the process lock. */
static bool pidfile_is_whole(void) {
    struct stat file;
    return stat(tally->pidfile, &file) == 0 && file.st_size > 0;
}

static void count_exit(void *context) {
    if (tally->pidfile[0])
        atomic_store(&tally->file_was, pidfile_is_whole() ? 1 : -1);
    called(context, &tally->exits);
}

struct rdaemon_worker new_worker(int (*run)(void *context, const struct rdaemon_daemon *daemon)) {
    tally = shared_memory(sizeof *tally);
    snprintf(tally->pidfile, sizeof tally->pidfile, "%s", scratch_path("pid"));
    struct rdaemon_worker worker = {
        .run = run,
        .on_user1 = count_user1,
        .on_user2 = count_user2,
        .on_terminate = count_terminate,
        .at_exit = count_exit,
        .context = tally,
    };
    return worker;
}

void begin_run(void *context) {
    CHECK(context == tally);
    atomic_store(&tally->daemon, getpid());
    bump(&tally->runs);
}

int run_on(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    for (;;)
        pause();
}

int run_until_stage_1(void *context, const struct rdaemon_daemon *daemon) {
    (void)daemon;
    begin_run(context);
    await(&tally->stage, 1);
    return 7;
}

/* ---- starts and ends ---- */

struct rdaemon_config worker_config(void) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", scratch_path("pid"));
    struct rdaemon_config config = {.pidfile = path};
    return config;
}

int call_start(struct start *start, const struct rdaemon_config *config,
               const struct rdaemon_worker *worker) {
    memset(start, 0xa5, sizeof *start);
    start->result = QUIET(rdaemon_control_start(
        config, config ? sizeof *config : 0, worker, worker ? sizeof *worker : 0,
        RDAEMON_SIZED(&start->daemon), RDAEMON_SIZED(&start->status)));
    CHECK(start->result != 0);
    CHECK_INT(start->status.error, start->result < 0 ? start->result : 0);
    return start->result;
}

pid_t start_worker(struct start *start, const struct rdaemon_config *config,
                   const struct rdaemon_worker *worker) {
    if (call_start(start, config, worker) < 0)
        FAIL("the start failed: %s, %s", rdaemon_step_name(start->status.step),
             error_name(start->result));
    CHECK_INT(start->status.step, RDAEMON_STEP_NONE);
    CHECK_INT(start->status.pid, start->result);
    CHECK_INT(start->daemon.pid, start->result);
    CHECK_INT(start->daemon.detached, 1);
    CHECK(start->daemon.pidfd >= 3 && fd_is_cloexec(start->daemon.pidfd));
    CHECK_INT(start->daemon.ready_fd, -1);
    CHECK_INT(start->daemon.pidfile.fd, -1);
    CHECK_INT(start->daemon.pidfile.directory_fd, -1);
    await(&tally->runs, 1);
    CHECK_INT(atomic_load(&tally->daemon), start->result);
    return start->result;
}

int worker_end(struct start *start) {
    int status = wait_for_exit(start->result);
    if (start->daemon.pidfd >= 0)
        CHECK_INT(close(start->daemon.pidfd), 0);
    start->daemon.pidfd = -1;
    CHECK_INT(atomic_load(&tally->strangers), 0);
    return status;
}

static void check_end(void) {
    CHECK_INT(atomic_load(&tally->exits), 1);
    if (tally->pidfile[0]) {
        CHECK_INT(atomic_load(&tally->file_was), 1);
        CHECK(access(tally->pidfile, F_OK) != 0 && errno == ENOENT);
    }
}

void worker_exited(struct start *start, int status) {
    int how = worker_end(start);
    CHECK(WIFEXITED(how));
    CHECK_INT(WEXITSTATUS(how), status);
    check_end();
}

void worker_killed_by(struct start *start, int signal_number) {
    int how = worker_end(start);
    CHECK(WIFSIGNALED(how));
    CHECK_INT(WTERMSIG(how), signal_number);
    CHECK(!WCOREDUMP(how));
    check_end();
}

void worker_exited_or_killed(struct start *start, int status, int signal_number) {
    siginfo_t info;
    CHECK_INT(waitid(P_PID, (id_t)start->result, &info, WEXITED | WNOWAIT), 0);
    if (info.si_code == CLD_EXITED)
        worker_exited(start, status);
    else
        worker_killed_by(start, signal_number);
}
