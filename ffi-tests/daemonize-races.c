/* Many starts of one pidfile at once, and questions asked during a thousand starts. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"
#include "traced.h"

/* ---- one winner ---- */

enum { STARTERS = 50, ROUNDS = 20 };

static struct attempt {
    int result;
    int step;
    int pid;
} * attempts;

static void attempt(struct attempt *attempt, const struct rdaemon_config *config, int gate) {
    struct start started;
    char byte;
    while (read(gate, &byte, 1) > 0) /* until the case opens it by closing the other end */
        continue;
    start(&started, config, live_on);
    attempt->step = started.status.step;
    attempt->pid = started.status.pid;
    attempt->result = started.result;
    _exit(EXIT_SUCCESS);
}

static void let_them_all_start(const struct rdaemon_config *config) {
    int gate[2];
    pid_t starters[STARTERS];
    CHECK_INT(pipe2(gate, O_CLOEXEC), 0);
    for (int i = 0; i < STARTERS; i++) {
        starters[i] = fork_child();
        if (starters[i] == 0) {
            close(gate[1]);
            attempt(&attempts[i], config, gate[0]);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < STARTERS; i++)
        CHECK_INT(wait_for_exit(starters[i]), 0);
}

static pid_t the_only_winner(void) {
    pid_t winner = 0;
    for (int i = 0; i < STARTERS; i++) {
        if (attempts[i].result > 0) {
            CHECK_INT(winner, 0);
            winner = attempts[i].result;
        }
    }
    CHECK(winner > 0);
    return winner;
}

/* Returns how many were told the winner's pid, rather than that it is starting. */
static int check_losers(pid_t winner) {
    int told = 0;
    for (int i = 0; i < STARTERS; i++) {
        if (attempts[i].result > 0)
            continue;
        CHECK_INT(attempts[i].result, -EEXIST);
        CHECK_INT(attempts[i].step, RDAEMON_STEP_PIDFILE_OPEN);
        CHECK(attempts[i].pid == 0 || attempts[i].pid == winner);
        told += attempts[i].pid == winner;
    }
    return told;
}

TEST(of_fifty_starts_at_once_one_wins, .time_limit_ms = 120000) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid")};
    struct rdaemon_pidfile_state state;
    int told = 0;
    attempts = shared_memory(STARTERS * sizeof *attempts);
    for (int round = 0; round < ROUNDS; round++) {
        memset(attempts, 0, STARTERS * sizeof *attempts);
        let_them_all_start(&config);
        pid_t winner = the_only_winner();
        told += check_losers(winner);
        CHECK_INT(rdaemon_pidfile_read(config.pidfile, RDAEMON_SIZED(&state)),
                  RDAEMON_PIDFILE_RUNNING);
        CHECK_INT(state.pid, winner);
        CHECK_INT(state.written, winner);
        CHECK_INT(first_child_of(getpid()), winner);
        /* Every other round ends with a file that is removed, the others with a stale one. */
        kill(winner, round % 2 ? SIGKILL : SIGTERM);
        wait_for_exit(winner);
    }
    NOTE("%d of %d losers were told the winner's pid", told, ROUNDS * (STARTERS - 1));
    CHECK(told > 0);
}

/* ---- questions disturb no start ---- */

enum { STARTS = 1000 };

static struct questions {
    atomic_bool stop;
    atomic_int asked, free, held, running;
    atomic_int living; /* the daemon that certainly runs, or 0 */
} * questions;

static void ask(const char *path) {
    struct rdaemon_pidfile_state state;
    int before = questions->living;
    int kind = rdaemon_pidfile_read(path, RDAEMON_SIZED(&state));
    int after = questions->living;
    if (kind < 0)
        FAIL("a question was answered with %s", error_name(kind));
    CHECK_INT(state.pid > 0, kind == RDAEMON_PIDFILE_RUNNING);
    if (before > 0 && before == after) { /* it ran all the while */
        CHECK_INT(kind, RDAEMON_PIDFILE_RUNNING);
        CHECK_INT(state.pid, before);
    }
    questions->asked++;
    questions->free += kind == RDAEMON_PIDFILE_FREE;
    questions->held += kind == RDAEMON_PIDFILE_HELD;
    questions->running += kind == RDAEMON_PIDFILE_RUNNING;
}

static pid_t ask_in_a_tight_loop(const char *path) {
    pid_t pid = fork_child();
    if (pid == 0) {
        while (!questions->stop)
            ask(path);
        _exit(EXIT_SUCCESS);
    }
    return pid;
}

TEST(a_tight_loop_of_questions_makes_no_start_fail, .time_limit_ms = 120000) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid")};
    questions = shared_memory(sizeof *questions);
    pid_t asker = ask_in_a_tight_loop(config.pidfile);
    for (int i = 0; i < STARTS; i++) {
        struct start started;
        pid_t pid = start_well(&started, &config, live_on);
        questions->living = pid;
        if (i % 100 == 0) /* so that some questions do meet a running daemon */
            for (int asked = questions->asked; questions->asked < asked + 3;)
                CHECK(process_state(asker) != 'Z');
        questions->living = 0;
        slay(&started);
    }
    questions->stop = true;
    CHECK_INT(wait_for_exit(asker), 0);
    NOTE("%d questions during %d starts: %d running, %d starting, %d free", questions->asked,
         STARTS, questions->running, questions->held, questions->free);
    CHECK(questions->running > 0);
    CHECK(questions->asked > STARTS / 10);
}

TEST(a_start_right_after_a_death_succeeds) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid")};
    for (int i = 0; i < 200; i++) {
        struct start started;
        pid_t pid = start_well(&started, &config, live_on);
        CHECK_INT(kill(pid, i % 2 ? SIGKILL : SIGTERM), 0);
        wait_for_exit(pid);
        close(started.daemon.pidfd);
    }
}

TEST(a_start_right_after_a_failure_succeeds) {
    struct rdaemon_config bad = {.pidfile = scratch_path("pid"),
                                 .working_directory = scratch_path("missing")};
    struct rdaemon_config good = {.pidfile = bad.pidfile};
    for (int i = 0; i < 100; i++) {
        struct start failed;
        start(&failed, &bad, NULL);
        CHECK_INT(failed.result, -ENOENT);
        run_daemon(&good, NULL);
    }
}

/* ---- a pidfile that is replaced under the hands of a start ---- */

static struct rdaemon_pidfile *held;

static void tell_the_pidfile(const struct start *start) {
    *held = start->daemon.pidfile;
}

static void replace_the_pidfile(void *context) {
    const struct traced *traced = context;
    unlink(traced->config.pidfile);
    make_file("pid", "");
}

/* From the opening up to the lock; what happens later only a removal can notice. */
TEST(a_file_that_was_replaced_before_it_was_locked_is_not_the_pidfile, .time_limit_ms = 60000) {
    struct traced traced;
    struct stat file;
    held = shared_memory(sizeof *held);
    traced_init(&traced);
    traced.life = tell_the_pidfile;
    int calls = traced_calls(&traced, TRACE_ORIGINAL);
    traced.request.action = TRACE_DO;
    traced.request.role = TRACE_ORIGINAL;
    traced.request.deed = replace_the_pidfile;
    for (int i = 1; i <= calls && traced.trace.acted_on != SYS_flock; i++) {
        traced.request.index = i;
        traced_run(&traced);
        CHECK(traced_answered(&traced, 2000));
        CHECK_INT(stat(traced.config.pidfile, &file), 0);
        if (held->inode != file.st_ino)
            FAIL("%s: another file was taken for the pidfile", traced_where(&traced));
    }
    CHECK_INT(traced.trace.acted_on, SYS_flock);
}
