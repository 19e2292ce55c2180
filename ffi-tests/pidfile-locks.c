#include "rdaemon.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pidfile.h"
#include "probe.h"
#include "sandbox.h"
#include "tap.h"

static int64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

TEST(rule_4_4_held_by_a_running_daemon) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK(snapshot_same(&before));
    CHECK_INT(status.step, RDAEMON_STEP_PIDFILE_OPEN);
    CHECK_INT(status.error, -EEXIST);
    CHECK_INT(status.pid, holder.pid);
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, holder.pid);
    end_holder(holder);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, holder.pid);
}

TEST(rule_4_4_held_by_a_starting_daemon) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, false);
    check_state(path, RDAEMON_PIDFILE_HELD, 0, 0);
    int64_t start = milliseconds();
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK(milliseconds() - start >= 99);
    CHECK_INT(status.pid, 0);
    end_holder(holder);
}

/* Asleep between two looks, it has found the file locked; ended, it has not waited. */
static void wait_until_it_waits(pid_t starter) {
    long number;
    do {
        char path[64], text[256];
        snprintf(path, sizeof path, "/proc/%d/syscall", (int)starter);
        FILE *file = fopen(path, "r");
        if (file == NULL || fgets(text, sizeof text, file) == NULL)
            FAIL("the starter has ended");
        fclose(file);
        number = strtol(text, NULL, 10);
    } while (number != SYS_nanosleep && number != SYS_clock_nanosleep);
}

TEST(rule_4_4_starter_waits_for_a_holder_that_gives_up) {
    const char *path = scratch_path("pid");
    CHECK_INT(open_pidfile(path), 0);
    pid_t starter = fork_child();
    if (starter == 0) {
        close_pidfile();
        CHECK_INT(open_pidfile(path), 0);
        _exit(0);
    }
    wait_until_it_waits(starter);
    CHECK_INT(close_pidfile(), 0);
    CHECK_INT(wait_for_exit(starter), 0);
}

/* A start that has waited for the end of a daemon has its patience still. */
TEST(rule_4_4_patience_begins_when_the_file_is_found_locked) {
    const char *path = scratch_path("pid");
    double *locked = shared_memory(sizeof *locked);
    int directory = open(scratch(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(flock(directory, LOCK_SH), 0);
    double begin = now_ms();
    pid_t starter = fork_child();
    if (starter == 0) {
        close(directory);
        CHECK_INT(open_pidfile(path), -EEXIST);
        CHECK_INT(status.pid, 0);
        CHECK(now_ms() - *locked >= 99);
        _exit(0);
    }
    wait_until_it_waits(starter);
    while (now_ms() < begin + 200)
        usleep(10000);
    int file = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
    CHECK_INT(flock(file, LOCK_EX | LOCK_NB), 0);
    *locked = now_ms();
    CHECK_INT(flock(directory, LOCK_UN), 0);
    CHECK_INT(wait_for_exit(starter), 0);
}

TEST(rule_4_4_starter_learns_the_pid_of_a_holder_that_gets_ready) {
    const char *path = scratch_path("pid");
    CHECK_INT(open_pidfile(path), 0);
    pid_t starter = fork_child();
    if (starter == 0) {
        close_pidfile();
        CHECK_INT(open_pidfile(path), -EEXIST);
        CHECK_INT(status.pid, getppid());
        _exit(0);
    }
    wait_until_it_waits(starter);
    CHECK_INT(write_pidfile(), 0);
    CHECK_INT(wait_for_exit(starter), 0);
}

TEST(rule_4_3_only_workers_remain) {
    const char *path = scratch_path("pid");
    struct gate *end = gate_new();
    pid_t *worker = shared_memory(sizeof *worker);
    pid_t daemon = fork_child();
    if (daemon == 0) {
        hold(path);
        pid_t pid = fork_child();
        if (pid == 0)
            gate_wait(end);
        else
            *worker = pid;
        _exit(0);
    }
    CHECK_INT(wait_for_exit(daemon), 0);
    check_state(path, RDAEMON_PIDFILE_HELD, 0, daemon);
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK_INT(status.pid, 0);
    gate_open(end);
    CHECK_INT(wait_for_exit(*worker), 0);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, daemon);
}

TEST(rule_4_3_number_in_the_file_proves_nothing) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    write_file(path, "1\n", 2);
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, 1);
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK_INT(status.pid, holder.pid);
    end_holder(holder);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, 1);
}

TEST(rule_4_3_killed_daemon_leaves_a_free_file) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    kill(holder.pid, SIGKILL);
    wait_for_exit(holder.pid);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, holder.pid);
    hold(path);
    CHECK_STR(file_text(path), own_line());
}

/* What happens to the path between the open and the flock of a starter, once. */
static void (*meanwhile)(void);

static long lock_after_meanwhile(const long *arguments) {
    if (meanwhile)
        meanwhile();
    meanwhile = NULL;
    /* Without LOCK_NB the call is not answered here again; nobody holds the lock. */
    return flock((int)arguments[0], LOCK_EX) == 0 ? 0 : -errno;
}

static void replace_file(void) {
    rename(scratch_path("new"), scratch_path("pid"));
}

static void remove_file(void) {
    unlink(scratch_path("pid"));
}

static void check_open_while(void (*event)(void)) {
    const char *path = scratch_path("pid");
    write_file(path, "1\n", 2);
    write_file(scratch_path("new"), "2\n", 2);
    meanwhile = event;
    answer_syscall_arg(SYS_flock, 1, LOCK_EX | LOCK_NB, lock_after_meanwhile);
    CHECK_INT(open_pidfile(path), 0);
    CHECK(!meanwhile);
    CHECK_INT(stat_of(path).st_ino, pidfile.inode);
    CHECK_INT(write_pidfile(), 0);
    CHECK_STR(file_text(path), own_line());
}

TEST(rule_4_2_file_that_is_replaced_before_it_is_locked) {
    check_open_while(replace_file);
}

TEST(rule_4_2_file_that_is_removed_before_it_is_locked) {
    check_open_while(remove_file);
}

/* Several starters at once: each success must be alone, and must hold the file that the path
 * names, although winners remove the file while others open it. */
static void start_over_and_over(const char *path, int rounds, atomic_int *holders) {
    for (int won = 0; won < rounds;) {
        int result = open_pidfile(path);
        if (result == -EEXIST)
            continue;
        CHECK_INT(result, 0);
        CHECK_INT(atomic_fetch_add(holders, 1), 0);
        CHECK_INT(write_pidfile(), 0);
        CHECK_INT(stat_of(path).st_ino, pidfile.inode);
        CHECK_STR(file_text(path), own_line());
        atomic_fetch_sub(holders, 1);
        if (won++ % 2)
            CHECK_INT(remove_pidfile(), 0);
        CHECK_INT(close_pidfile(), 0);
    }
}

TEST(rule_4_2_racing_starters, .time_limit_ms = 60000) {
    enum { STARTERS = 4, ROUNDS = 200 };
    const char *path = scratch_path("pid");
    atomic_int *holders = shared_memory(sizeof *holders);
    pid_t starters[STARTERS];
    for (int i = 0; i < STARTERS; i++)
        if ((starters[i] = fork_child()) == 0) {
            start_over_and_over(path, ROUNDS, holders);
            _exit(0);
        }
    for (int i = 0; i < STARTERS; i++)
        CHECK_INT(wait_for_exit(starters[i]), 0);
}

/* Lets two processes begin each round together. */
static void meet(atomic_int *arrivals, int round) {
    atomic_fetch_add(arrivals, 1);
    while (atomic_load(arrivals) < 2 * round)
        sched_yield();
}

TEST(rule_4_3_readers_disturb_no_starter) {
    enum { ROUNDS = 2000 };
    const char *path = scratch_path("pid");
    atomic_int *arrivals = shared_memory(sizeof *arrivals);
    pid_t reader = fork_child();
    for (int round = 1; round <= ROUNDS; round++) {
        meet(arrivals, round);
        if (reader == 0) {
            CHECK(read_pidfile(path) >= 0);
        } else {
            CHECK_INT(open_pidfile(path), 0);
            CHECK_INT(close_pidfile(), 0);
        }
    }
    if (reader == 0)
        _exit(0);
    CHECK_INT(wait_for_exit(reader), 0);
}

TEST(rule_4_3_reading_a_running_daemon_takes_no_lock) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    deny_syscall(SYS_flock, EIO);
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, holder.pid);
    end_holder(holder);
}

TEST(rule_4_3_readers_disturb_no_reader) {
    const char *path = scratch_path("pid");
    write_file(path, "12\n", 3);
    int other = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_INT(flock(other, LOCK_SH), 0); /* as a reader does for a moment */
    check_state(path, RDAEMON_PIDFILE_FREE, 0, 12);
}

/* ---- locks of those who may only read the file ---- */

/* Another user, if this is root, who holds a read lock until he is killed. */
static pid_t start_read_locker(const char *path, int command) {
    struct gate *locked = gate_new();
    pid_t reader = fork_child();
    if (reader == 0) {
        struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
        become_user();
        CHECK_INT(fcntl(open(path, O_RDONLY | O_CLOEXEC), command, &lock), 0);
        gate_open(locked);
        live_on(NULL);
    }
    gate_wait(locked);
    return reader;
}

static void check_read_locker(int command) {
    const char *path = scratch_path("pid");
    write_file(path, "12\n", 3);
    pid_t reader = start_read_locker(path, command);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, 12);
    CHECK_INT(open_pidfile(path), 0);
    int result = write_pidfile();
    CHECK(result == -EAGAIN || result == -EACCES);
    CHECK_STR(file_text(path), "");
    CHECK_INT(close_pidfile(), 0);
    kill(reader, SIGKILL);
    wait_for_exit(reader);
    hold(path);
    check_state_from_outside(path, RDAEMON_PIDFILE_RUNNING, getpid(), getpid());
}

TEST(rule_4_3_read_lock_makes_no_holder) {
    check_read_locker(F_SETLK);
}

TEST(rule_4_3_read_lock_of_a_description_makes_no_holder) {
    check_read_locker(F_OFD_SETLK);
}
