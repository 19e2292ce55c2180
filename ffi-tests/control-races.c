/* Controllers that race, in processes and in threads; and daemons that take their time to die. The
 * daemons find out themselves whether another one lives. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "controlled.h"
#include "pidfile.h"

enum {
    PROCESSES = 20,
    PROCESSES_MS = 30000,
    THREADS = 8,
    THREADS_MS = 3000,
    AT_MOST_MS = 120000, /* Linux starves a new session, for 20 s and more, where others are busy */
};

/* ---- everybody starts, stops and restarts ---- */

enum deed { START, RESTART, STOP, KILL, ASK, DEEDS };

static struct arena {
    atomic_int runs;
    atomic_int crowds; /* daemons that began to run while another one lived */
    atomic_int did[DEEDS];
    atomic_int started, refused, lost;              /* what became of START and RESTART */
    atomic_int results[RDAEMON_CONTROL_KILLED + 1]; /* of STOP */
    atomic_int longest_ms;
    double end;
} * arena;

/* So that every deed met every state. */
static bool enough_happened(void) {
    for (int i = 0; i < DEEDS; i++)
        if (arena->did[i] == 0)
            return false;
    return arena->runs > 50 && arena->results[RDAEMON_CONTROL_STOPPED] > 10 &&
           arena->results[RDAEMON_CONTROL_KILLED] > 0;
}

static void arena_new(int duration_ms) {
    arena = shared_memory(sizeof *arena);
    arena->end = now_ms() + duration_ms;
}

enum life { PLAIN, DEAF, BRIEF, SLOW, READY, LIVES };

struct being {
    enum life life;
    unsigned delay_us;
    volatile sig_atomic_t terminated;
};

static int live(void *context, const struct rdaemon_daemon *daemon) {
    struct being *being = context;
    arena->runs++;
    arena->crowds += !be_alone();
    if (being->life == READY) {
        usleep(being->delay_us);
        rdaemon_ready(daemon->ready_fd);
    }
    while (being->life != BRIEF && !being->terminated)
        usleep(1000);
    usleep(being->delay_us);
    return 0;
}

static int go_on_a_little(void *context) {
    struct being *being = context;
    being->terminated = 1;
    return being->life == SLOW;
}

static void start_or_restart(const char *path, enum deed deed, unsigned random) {
    static const struct rdaemon_signal_action deaf = {.signal = SIGTERM,
                                                      .action = RDAEMON_SIGNAL_IGNORE};
    struct being being = {.life = random % LIVES, .delay_us = random % 20011};
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = {.run = live, .on_terminate = go_on_a_little, .context = &being};
    if (being.life == READY)
        config.flags = RDAEMON_NOTIFY_READY;
    if (being.life == DEAF) {
        config.signal_map = &deaf;
        config.signal_map_len = 1;
    }
    int result = deed == START ? start_by(&config, &worker)
                               : restart_within(&config, &worker, random % 200, -1);
    if (result > 0) {
        close(made.pidfd);
        arena->started++;
    } else if (result == -EEXIST) {
        arena->refused++;
    } else if (result == -ESRCH) { /* it was stopped before it could report */
        arena->lost++;
    } else {
        FAIL("%s: %s, %s", deed == START ? "start" : "restart", rdaemon_step_name(outcome.step),
             error_name(result));
    }
}

static void do_something(const char *path, unsigned random) {
    static const enum deed deeds[] = {START, START, START, RESTART, RESTART,
                                      STOP,  STOP,  STOP,  KILL,    ASK};
    enum deed deed = deeds[random % 10];
    int result = 0;
    random /= 10;
    arena->did[deed]++;
    if (deed == START || deed == RESTART)
        start_or_restart(path, deed, random);
    else if (deed == STOP)
        arena->results[result = stop_within(path, random % 200, -1)]++;
    else
        result = deed == KILL ? signal_by(path, SIGKILL) : query_by(path);
    CHECK(result >= 0);
}

static void race(const char *path, unsigned seed) {
    while (now_ms() < arena->end || !enough_happened()) {
        double begin = now_ms();
        do_something(path, (unsigned)rand_r(&seed));
        int took = (int)(now_ms() - begin);
        if (took > arena->longest_ms)
            arena->longest_ms = took;
    }
}

/* Reaps the racers, and the daemons that they made and ended, until nobody but a last daemon is
 * left. */
static void reap_until_the_end(int racers) {
    while (racers > 0) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        CHECK(pid > 0);
        /* A racer that has failed has said so; a daemon ends by 0, or a signal. */
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            racers--;
        else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            FAIL("process %d exited with %d", (int)pid, WEXITSTATUS(status));
    }
}

static void check_arena(const char *path) {
    NOTE("%d daemons: %d were started, %d refused, %d lost", arena->runs, arena->started,
         arena->refused, arena->lost);
    NOTE("stop: %d found none, %d ended one, %d killed one, %d met a held file",
         arena->results[RDAEMON_CONTROL_NOT_RUNNING], arena->results[RDAEMON_CONTROL_STOPPED],
         arena->results[RDAEMON_CONTROL_KILLED], arena->results[RDAEMON_CONTROL_HELD]);
    NOTE("the longest call took %d ms", arena->longest_ms);
    int last = stop_within(path, 0, -1);
    CHECK(last == RDAEMON_CONTROL_NOT_RUNNING || last == RDAEMON_CONTROL_STOPPED ||
          last == RDAEMON_CONTROL_KILLED);
    CHECK_INT(arena->crowds, 0);
    while (waitpid(-1, NULL, 0) > 0) /* all of them have ended: a last one would hang here */
        continue;
    CHECK_STR(tree(scratch()), "alone.high alone.low");
}

TEST(twenty_processes_never_have_two_daemons, .time_limit_ms = PROCESSES_MS + AT_MOST_MS) {
    const char *path = scratch_path("pid");
    arena_new(PROCESSES_MS);
    for (int i = 0; i < PROCESSES; i++) {
        if (fork_child() == 0) {
            race(path, (unsigned)i);
            _exit(77);
        }
    }
    reap_until_the_end(PROCESSES);
    check_arena(path);
}

static const char *threads_path;

static void *race_in_a_thread(void *context) {
    race(threads_path, (unsigned)(uintptr_t)context);
    return NULL;
}

TEST(threads_of_one_process_never_have_two_daemons, .time_limit_ms = THREADS_MS + AT_MOST_MS) {
    threads_path = scratch_path("pid");
    arena_new(THREADS_MS);
    if (fork_child() == 0) {
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            CHECK_INT(
                pthread_create(&threads[i], NULL, race_in_a_thread, (void *)(uintptr_t)(100 + i)),
                0);
        for (int i = 0; i < THREADS; i++)
            CHECK_INT(pthread_join(threads[i], NULL), 0);
        _exit(77);
    }
    reap_until_the_end(1);
    check_arena(threads_path);
}

/* ---- who wins ---- */

static struct contender {
    struct witness *witness;
    const char *path;
    struct gate *go;
    pthread_t thread;
    bool restarts;
    int result, pid;
} * contenders;

static void contend(struct contender *contender) {
    struct rdaemon_config config = {.pidfile = contender->path};
    struct rdaemon_worker worker = worker_of(contender->witness);
    gate_wait(contender->go);
    contender->result =
        contender->restarts ? restart_by(&config, &worker) : start_by(&config, &worker);
    contender->pid = outcome.pid;
    if (contender->result > 0)
        close(made.pidfd);
}

static void *contend_in_a_thread(void *context) {
    contend(context);
    return NULL;
}

static void contenders_new(int count, const char *path, bool restarts) {
    struct gate *go = gate_new();
    contenders = shared_memory((size_t)count * sizeof *contenders);
    for (int i = 0; i < count; i++)
        contenders[i] = (struct contender){
            .witness = witness_new(), .path = path, .go = go, .restarts = restarts};
}

TEST(of_threads_that_start_at_once_one_wins, .time_limit_ms = AT_MOST_MS) {
    const char *path = scratch_path("pid");
    for (int round = 0; round < 20; round++) {
        contenders_new(THREADS, path, false);
        for (int i = 0; i < THREADS; i++)
            CHECK_INT(
                pthread_create(&contenders[i].thread, NULL, contend_in_a_thread, &contenders[i]),
                0);
        gate_open(contenders[0].go);
        struct contender *winner = NULL;
        for (int i = 0; i < THREADS; i++) {
            CHECK_INT(pthread_join(contenders[i].thread, NULL), 0);
            if (contenders[i].result > 0) {
                CHECK(winner == NULL);
                winner = &contenders[i];
            } else {
                CHECK_INT(contenders[i].result, -EEXIST);
            }
        }
        CHECK(winner != NULL);
        for (int i = 0; i < THREADS; i++)
            CHECK(contenders[i].pid == winner->result ||
                  (contenders[i].pid == 0 && &contenders[i] != winner));
        until(&winner->witness->runs, 1);
        for (int i = 0; i < THREADS; i++)
            CHECK_INT(contenders[i].witness->runs, &contenders[i] == winner);
        check_answers(path, winner->witness, winner->result);
        CHECK_INT(first_child_of(getpid()), winner->result);
        stop_well(path, winner->result);
    }
}

TEST(the_last_restart_decides_the_configuration, .time_limit_ms = AT_MOST_MS) {
    const char *path = scratch_path("pid");
    enum { CONTENDERS = 10, ROUNDS = 10 };
    pid_t pid = launch(path, witness_new());
    for (int round = 0; round < ROUNDS; round++) {
        pid_t processes[CONTENDERS];
        contenders_new(CONTENDERS, path, true);
        for (int i = 0; i < CONTENDERS; i++) {
            processes[i] = fork_child();
            if (processes[i] == 0) {
                contend(&contenders[i]);
                _exit(0);
            }
        }
        gate_open(contenders[0].go);
        for (int i = 0; i < CONTENDERS; i++)
            CHECK_INT(wait_for_exit(processes[i]), 0);
        CHECK_INT(query_by(path), RDAEMON_CONTROL_RUNNING);
        CHECK(outcome.pid != pid); /* every one of them has stopped that */
        pid = outcome.pid;
        struct contender *last = NULL;
        for (int i = 0; i < CONTENDERS; i++) {
            CHECK(contenders[i].result > 0 || contenders[i].result == -EEXIST);
            if (contenders[i].result == pid)
                last = &contenders[i];
        }
        CHECK(last != NULL);
        check_answers(path, last->witness, pid);
        for (pid_t dead; (dead = waitpid(-1, NULL, WNOHANG)) > 0;)
            CHECK(dead != pid);
        CHECK_INT(first_child_of(getpid()), pid);
    }
    stop_well(path, pid);
}

/* ---- slow deaths ---- */

static struct witness *next;
static atomic_bool *was_alone;

static int run_alone(void *context, const struct rdaemon_daemon *daemon) {
    *was_alone = be_alone();
    return run_until_told(context, daemon);
}

static pid_t launch_the_slow_one(const char *path) {
    struct rdaemon_config config = {.pidfile = path};
    struct witness *witness = witness_new();
    struct rdaemon_worker worker = worker_of(witness);
    worker.run = run_alone;
    was_alone = shared_memory(sizeof *was_alone);
    next = witness_new();
    pid_t pid = launch_with(&config, &worker);
    until(&witness->runs, 1);
    CHECK(*was_alone);
    return pid;
}

/* In another process; 0 when it is refused. */
static pid_t begin_the_next(const char *path, bool restarts, atomic_int *result) {
    pid_t starter = fork_child();
    if (starter == 0) {
        struct rdaemon_config config = {.pidfile = path};
        struct rdaemon_worker worker = worker_of(next);
        worker.run = run_alone;
        int pid = restarts ? restart_by(&config, &worker) : start_by(&config, &worker);
        *result = pid;
        CHECK(pid > 0 || pid == -EEXIST);
        _exit(0);
    }
    return starter;
}

/* What is tried for that long while the old daemon is about to end. */
static void nothing_runs_meanwhile(pid_t dying, pid_t starter) {
    double begin = now_ms();
    do {
        CHECK(is_alive(dying));
        CHECK(is_alive(starter));
        CHECK_INT(next->runs, 0);
        usleep(1000);
    } while (now_ms() - begin < 300);
}

static void the_next_runs(const char *path, pid_t starter, const atomic_int *result) {
    CHECK_INT(wait_for_exit(starter), 0);
    CHECK(*result > 0);
    until(&next->runs, 1);
    CHECK(*was_alone);
    check_answers(path, next, *result);
    stop_well(path, *result);
    CHECK_STR(tree(scratch()), "alone.high alone.low");
}

TEST(a_daemon_that_has_removed_its_pidfile_and_still_lives_holds_off_a_start) {
    const char *path = scratch_path("pid");
    atomic_int *result = shared_memory(sizeof *result);
    pid_t old = launch_the_slow_one(path);
    hold_end(old);
    kill(old, SIGTERM);
    await_end(old);
    CHECK_STR(tree(scratch()), "alone.high alone.low");
    pid_t starter = begin_the_next(path, false, result);
    wait_for_sleep(starter);
    nothing_runs_meanwhile(old, starter);
    let_end(old);
    wait_for_exit(old);
    the_next_runs(path, starter, result);
}

static struct gate *may_exit;
static atomic_int *exits;

static void exit_slowly(void) {
    ++*exits;
    gate_wait(may_exit);
}

static int run_into_a_slow_exit(void *context, const struct rdaemon_daemon *daemon) {
    CHECK_INT(atexit(exit_slowly), 0);
    return run_alone(context, daemon);
}

TEST(so_does_one_whose_run_has_returned) {
    const char *path = scratch_path("pid");
    struct rdaemon_config config = {.pidfile = path};
    struct witness *witness = witness_new();
    struct rdaemon_worker worker = worker_of(witness);
    atomic_int *result = shared_memory(sizeof *result);
    worker.run = run_into_a_slow_exit;
    was_alone = shared_memory(sizeof *was_alone);
    exits = shared_memory(sizeof *exits);
    may_exit = gate_new();
    next = witness_new();
    pid_t old = launch_with(&config, &worker);
    gate_open(witness->end);
    until(exits, 1);
    CHECK_STR(tree(scratch()), "alone.high alone.low");
    pid_t starter = begin_the_next(path, false, result);
    wait_for_sleep(starter);
    nothing_runs_meanwhile(old, starter);
    gate_open(may_exit);
    CHECK_INT(wait_for_exit(old), 0);
    the_next_runs(path, starter, result);
}

TEST(a_restart_waits_until_the_old_daemon_has_ended) {
    const char *path = scratch_path("pid");
    atomic_int *result = shared_memory(sizeof *result);
    pid_t old = launch_the_slow_one(path);
    hold_end(old);
    pid_t starter = begin_the_next(path, true, result);
    await_end(old);
    CHECK_STR(tree(scratch()), "alone.high alone.low");
    nothing_runs_meanwhile(old, starter);
    let_end(old);
    wait_for_exit(old);
    the_next_runs(path, starter, result);
}

TEST(a_daemon_that_is_being_killed_and_still_lives_is_named_to_a_start) {
    const char *path = scratch_path("pid");
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = worker_of(witness_new());
    pid_t old = launch_the_slow_one(path);
    hold_end(old);
    kill(old, SIGKILL);
    await_end(old);
    CHECK_FAILS(start_by(&config, &worker), -EEXIST, RDAEMON_STEP_PIDFILE_OPEN, 0);
    CHECK_INT(outcome.pid, old);
    check_query(path, RDAEMON_CONTROL_RUNNING, old);
    let_end(old);
    wait_for_exit(old);
    pid_t pid = launch(path, next);
    stop_well(path, pid);
}

TEST(stop_returns_when_the_daemon_has_ended_not_when_its_pidfile_is_gone) {
    const char *path = scratch_path("pid");
    pid_t old = launch_the_slow_one(path);
    hold_end(old);
    pid_t stopper = fork_child();
    if (stopper == 0) {
        CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
        CHECK(!is_alive(old));
        _exit(0);
    }
    await_end(old);
    nothing_runs_meanwhile(old, stopper);
    let_end(old);
    wait_for_exit(old);
    CHECK_INT(wait_for_exit(stopper), 0);
}

/* Whoever may read a directory can lock it. */
TEST(a_lock_on_the_directory_holds_nobody_off_for_ever) {
    const char *path = scratch_path("pid");
    int fd = open(scratch(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(flock(fd, LOCK_EX), 0);
    double begin = now_ms();
    pid_t pid = launch(path, witness_new());
    stop_well(path, pid);
    CHECK(now_ms() - begin < 5000);
    close(fd);
    CHECK_STR(tree(scratch()), "");
}
