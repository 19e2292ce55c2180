/*
 * Programs started from threads, beside others that fork, change ids, cancel or end. What must
 * happen between two moments of a child is arranged by holding one of its system calls.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

#define MISSING "/nonexistent/rdaemon"

static int hook(void *context) {
    (void)context;
    return 0;
}

/* ---- a child held before exec ---- */

/* What another thread does while this one's child is in front of its execve. Atomic is what the
 * two threads tell each other while no lock, but only the held child, orders them. */
struct meanwhile {
    void (*deed)(struct meanwhile *meanwhile, pid_t child);
    pthread_t thread, caller;
    sem_t ready;
    int fd;
    pid_t caller_tid;
    atomic_int other, child;
    struct gate *end;
    atomic_bool returned; /* the spawn has */
    atomic_bool hooked;
};

static void *do_meanwhile(void *argument) {
    struct meanwhile *meanwhile = argument;
    while (sem_wait(&meanwhile->ready) != 0)
        ;
    struct held_call call = held_next(meanwhile->fd);
    meanwhile->child = call.pid;
    CHECK(!atomic_load(&meanwhile->returned));
    meanwhile->deed(meanwhile, call.pid);
    while (!held_release(meanwhile->fd, &call))
        call = held_next(meanwhile->fd);
    return NULL;
}

static void start_meanwhile(struct meanwhile *meanwhile,
                            void (*deed)(struct meanwhile *meanwhile, pid_t child)) {
    memset(meanwhile, 0, sizeof *meanwhile);
    meanwhile->deed = deed;
    meanwhile->caller = pthread_self();
    meanwhile->caller_tid = gettid();
    meanwhile->end = gate_new();
    CHECK_INT(sem_init(&meanwhile->ready, 0, 0), 0);
    CHECK_INT(pthread_create(&meanwhile->thread, NULL, do_meanwhile, meanwhile), 0);
    meanwhile->fd = hold_syscalls((const long[]){SYS_execve}, 1);
    sem_post(&meanwhile->ready);
}

static void end_meanwhile(struct meanwhile *meanwhile) {
    atomic_store(&meanwhile->returned, true);
    CHECK_INT(pthread_join(meanwhile->thread, NULL), 0);
    CHECK_INT(close(meanwhile->fd), 0);
}

/* ---- another thread forks ---- */

/* The other child has every fd that the spawn has open, and keeps them until it is told. */
static void fork_and_keep(struct meanwhile *meanwhile, pid_t child) {
    (void)child;
    meanwhile->other = fork_child();
    if (meanwhile->other == 0) {
        gate_wait(meanwhile->end);
        _exit(0);
    }
}

static struct spawned spawn_beside_fork(const Config *config) {
    struct meanwhile meanwhile;
    struct spawned spawned;
    start_meanwhile(&meanwhile, fork_and_keep);
    spawn(&spawned, config);
    /* The spawn has returned although the other child has its fds, and lives. */
    CHECK(process_state(meanwhile.other) != 'Z' && process_state(meanwhile.other) != 'X');
    end_meanwhile(&meanwhile);
    gate_open(meanwhile.end);
    CHECK_INT(wait_for_exit(meanwhile.other), 0);
    return spawned;
}

static void does_not_wait(uint32_t flags, const struct rdaemon_identity *identity) {
    Config config = {.flags = flags, .argv = STRINGS("/bin/true")};
    if (identity)
        config.identity = *identity;
    IN_CHILD {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        struct spawned spawned = spawn_beside_fork(&config);
        CHECK(spawned.result > 0);
        CHECK_INT(reap(&spawned), 0);
    }
    IN_CHILD {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        config.argv = STRINGS(MISSING);
        struct spawned spawned = spawn_beside_fork(&config);
        CHECK_INT(spawned.result, -ENOENT);
        CHECK_INT(spawned.status.step, RDAEMON_STEP_EXEC);
    }
}

TEST(a_spawn_does_not_wait_for_another_threads_child) {
    does_not_wait(0, NULL);
    does_not_wait(RDAEMON_SPAWN_PIDFD, NULL);
}

TEST(a_spawn_by_fork_does_not_wait_for_another_threads_child) {
    does_not_wait(RDAEMON_SPAWN_FORCE_FORK, NULL);
    does_not_wait(RDAEMON_SPAWN_FORCE_FORK | RDAEMON_SPAWN_PIDFD, NULL);
}

TEST(a_detached_spawn_does_not_wait_for_another_threads_child) {
    does_not_wait(RDAEMON_SPAWN_DETACHED, NULL);
    does_not_wait(RDAEMON_SPAWN_DETACHED | RDAEMON_SPAWN_FORCE_FORK, NULL);
}

TEST(a_spawn_that_changes_ids_does_not_wait_for_another_threads_child) {
    REQUIRE_ROOT();
    static const struct rdaemon_identity identity = {
        .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = TEST_UID, .gid = TEST_GID};
    does_not_wait(0, &identity);
    does_not_wait(RDAEMON_SPAWN_DETACHED, &identity);
}

/* With a hook the success of a spawn may have to wait, but never its failure. */
TEST(a_failure_after_a_hook_does_not_wait_for_another_threads_child) {
    Config config = {.argv = STRINGS(MISSING), .hook = hook};
    struct spawned spawned = spawn_beside_fork(&config);
    CHECK_INT(spawned.result, -ENOENT);
    CHECK_INT(spawned.status.step, RDAEMON_STEP_EXEC);
}

/* ---- threads that spawn at once ---- */

enum { THREADS = 8, ROUNDS = 12 };

/* Tells its fds on standard output, and lives until the end of standard input. */
HELPER(tell_fds_and_wait) {
    char byte;
    const char *fds = open_fds(0);
    if (write(STDOUT_FILENO, fds, strlen(fds) + 1) < 0)
        return 1;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return 0;
}

struct together {
    int number;
    uint32_t flags;
    pthread_barrier_t *barrier;
};

static void read_exactly(int fd, const char *text) {
    char got[128] = "";
    size_t length = 0;
    for (ssize_t count; length == 0 || got[length - 1] != '\0'; length += (size_t)count) {
        count = read(fd, got + length, sizeof got - length);
        if (count <= 0)
            FAIL("the program told \"%s\" of its fds", got);
    }
    CHECK_STR(got, text);
}

/* All programs live when the first loses its input: it ends only if no other has a copy of that. */
static void *spawn_together(void *argument) {
    const struct together *together = argument;
    Config config = {.flags = together->flags,
                     THE_HELPER(tell_fds_and_wait),
                     .streams = {{.action = RDAEMON_STREAM_PIPE},
                                 {.action = RDAEMON_STREAM_PIPE},
                                 {.action = RDAEMON_STREAM_NULL}}};
    for (int round = 0; round < ROUNDS; round++) {
        struct rdaemon_child child;
        struct rdaemon_exit end;
        struct rdaemon_status status;
        char byte;
        pthread_barrier_wait(together->barrier);
        int result =
            rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), RDAEMON_SIZED(&status));
        CHECK(result > 0);
        read_exactly(child.fds[1], "0 1 2");
        pthread_barrier_wait(together->barrier);
        for (int turn = 0; turn < THREADS; turn++) {
            if ((turn + round) % THREADS == together->number) {
                CHECK_INT(close(child.fds[0]), 0);
                CHECK_INT(read(child.fds[1], &byte, 1), 0);
                child.fds[0] = -1;
                CHECK_INT(rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end)), 0);
                CHECK_INT(end.wait_status, 0);
                CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
            }
            pthread_barrier_wait(together->barrier);
        }
    }
    return NULL;
}

static void spawn_from_threads(uint32_t flags) {
    struct together together[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        together[i] = (struct together){i, flags, &barrier};
        CHECK_INT(pthread_create(&threads[i], NULL, spawn_together, &together[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_INT(waitpid(-1, NULL, __WALL), -1);
}

TEST(no_pipe_end_leaks_into_a_program_of_another_thread, .time_limit_ms = 30000) {
    spawn_from_threads(0);
}

TEST(no_pipe_end_leaks_where_fds_are_kept, .time_limit_ms = 30000) {
    spawn_from_threads(RDAEMON_SPAWN_KEEP_FDS);
}

TEST(no_pipe_end_leaks_into_a_forked_program_of_another_thread, .time_limit_ms = 30000) {
    spawn_from_threads(RDAEMON_SPAWN_FORCE_FORK | RDAEMON_SPAWN_KEEP_FDS);
}

/* ---- ids that change meanwhile ---- */

static atomic_bool ids_over;
static atomic_long ids_changes;

/* Libc tells every thread of each change, and waits for it. */
static void *change_ids(void *unused) {
    while (!atomic_load(&ids_over)) {
        CHECK_INT(setresuid(getuid(), geteuid(), geteuid()), 0);
        CHECK_INT(setresgid(getgid(), getegid(), getegid()), 0);
        atomic_fetch_add(&ids_changes, 1);
    }
    return unused;
}

static void *spawn_while_ids_change(void *argument) {
    static const uint32_t flags[] = {0, RDAEMON_SPAWN_FORCE_FORK, RDAEMON_SPAWN_DETACHED, 0};
    (void)argument;
    for (int i = 0; i < 120; i++) {
        Config config = {
            .flags = flags[i % 4],
            .argv = i & 4 ? STRINGS("/bin/true") : STRINGS(MISSING),
            .hook = i % 4 == 3 ? hook : NULL,
        };
        struct rdaemon_child child;
        int result = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0);
        if (i & 4) {
            CHECK(result > 0);
            CHECK_INT(wait_for_exit(result), 0);
            CHECK(child.pidfd < 0 || close(child.pidfd) == 0);
        } else
            CHECK_INT(result, -ENOENT);
    }
    return NULL;
}

TEST(spawns_and_changes_of_ids_do_not_wait_for_each_other, .time_limit_ms = 30000) {
    pthread_t changer, spawners[3];
    CHECK_INT(pthread_create(&changer, NULL, change_ids, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_create(&spawners[i], NULL, spawn_while_ids_change, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_join(spawners[i], NULL), 0);
    atomic_store(&ids_over, true);
    CHECK_INT(pthread_join(changer, NULL), 0);
    NOTE("%ld changes of ids", atomic_load(&ids_changes));
    CHECK(atomic_load(&ids_changes) > 0);
}

/* The change begins while the caller has all signals blocked, and ends after that. */
static void *change_ids_once(void *unused) {
    CHECK_INT(setresuid(getuid(), geteuid(), geteuid()), 0);
    return unused;
}

static pthread_t ids_changer;

static void begin_to_change_ids(struct meanwhile *meanwhile, pid_t child) {
    (void)child;
    CHECK_INT(pthread_create(&ids_changer, NULL, change_ids_once, NULL), 0);
    /* Until the caller has libc's signal for it. Without a libc that sends one there is nothing. */
    char path[64];
    for (int i = 0; i < 10000; i++) {
        snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)meanwhile->caller_tid);
        const char *pending = strstr(file_text(path), "SigPnd:");
        if (pending && strtoull(pending + 7, NULL, 16) != 0)
            return;
        sched_yield();
    }
    NOTE("no signal of libc came");
}

TEST(a_change_of_ids_that_begins_during_a_spawn_ends_after_it) {
    struct meanwhile meanwhile;
    struct spawned spawned;
    Config config = {.argv = STRINGS("/bin/true")};
    start_meanwhile(&meanwhile, begin_to_change_ids);
    spawn_well(&spawned, &config);
    end_meanwhile(&meanwhile);
    CHECK_INT(pthread_join(ids_changer, NULL), 0);
    CHECK_INT(reap(&spawned), 0);
}

/* ---- cancellation ---- */

static bool reached;

struct cancelled {
    uint32_t flags;
    bool hooked;
};

static void *spawn_cancelled(void *argument) {
    const struct cancelled *how = argument;
    Config config = {.flags = how->flags,
                     .argv = STRINGS("/bin/cat"),
                     .hook = how->hooked ? hook : NULL,
                     .streams = {{.action = RDAEMON_STREAM_PIPE},
                                 {.action = RDAEMON_STREAM_FILE, .path = scratch_path("output")},
                                 {.action = RDAEMON_STREAM_PIPE}}};
    struct rdaemon_communication communication = {.input = "text", .input_len = 4};
    struct rdaemon_child child;
    struct rdaemon_exit end;
    CHECK_INT(pthread_cancel(pthread_self()), 0);
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0) > 0);
    CHECK_INT(rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&communication), -1), 0);
    int waited = rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end));
    CHECK_INT(waited, how->flags & RDAEMON_SPAWN_DETACHED ? -ECHILD : 0);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    config.argv = STRINGS(MISSING);
    CHECK_INT(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0), -ENOENT);
    if (!(how->flags & RDAEMON_SPAWN_DETACHED)) {
        memset(config.streams, 0, sizeof config.streams);
        config.streams[1].action = RDAEMON_STREAM_NULL;
        config.argv = STRINGS("/bin/cat");
        struct rdaemon_communication again = {.input = "text", .input_len = 4};
        CHECK_INT(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&again), -1,
                              RDAEMON_SIZED(&end), NULL, 0),
                  0);
    }
    reached = true;
    pthread_testcancel();
    FAIL("the thread was not cancelled");
}

/* Whoever is cancelled in the library would leave fds, a child and a blocked signal. */
TEST(a_cancelled_thread_ends_after_the_calls_not_in_them) {
    static const struct cancelled hows[] = {{0, false},
                                            {RDAEMON_SPAWN_PIDFD, false},
                                            {RDAEMON_SPAWN_FORCE_FORK, false},
                                            {0, true},
                                            {RDAEMON_SPAWN_DETACHED, false}};
    for (size_t i = 0; i < sizeof hows / sizeof *hows; i++)
        IN_CHILD {
            pthread_t thread;
            void *result;
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            scratch();
            CHECK_INT(pthread_create(&thread, NULL, spawn_cancelled, (void *)&hows[i]), 0);
            CHECK_INT(pthread_join(thread, &result), 0);
            CHECK(result == PTHREAD_CANCELED);
            CHECK(reached);
            CHECK_STR(open_fds(0), "0 1 2");
            if (hows[i].flags & RDAEMON_SPAWN_DETACHED)
                CHECK(wait(NULL) > 0);
            CHECK_INT(waitpid(-1, NULL, __WALL), -1);
        }
}

static void cancel_the_caller(struct meanwhile *meanwhile, pid_t child) {
    (void)child;
    CHECK_INT(pthread_cancel(meanwhile->caller), 0);
}

static void *spawn_and_be_cancelled(void *argument) {
    static struct meanwhile meanwhile;
    Config config = {.flags = *(const uint32_t *)argument, .argv = STRINGS("/bin/true")};
    int old;
    start_meanwhile(&meanwhile, cancel_the_caller);
    int result = rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, NULL, 0);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    CHECK(result > 0);
    CHECK_INT(wait_for_exit(result), 0);
    end_meanwhile(&meanwhile);
    reached = true;
    pthread_setcancelstate(old, &old);
    pthread_testcancel();
    FAIL("the thread was not cancelled");
}

TEST(a_thread_cancelled_during_a_spawn_ends_after_it) {
    static uint32_t flags[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    for (int i = 0; i < 2; i++)
        IN_CHILD {
            pthread_t thread;
            void *result;
            CHECK_INT(pthread_create(&thread, NULL, spawn_and_be_cancelled, &flags[i]), 0);
            CHECK_INT(pthread_join(thread, &result), 0);
            CHECK(result == PTHREAD_CANCELED);
            CHECK(reached);
        }
}

/* ---- an alternate signal stack ---- */

static char signal_stack[128 * 1024];
static const Config *volatile on_stack_config;
static volatile int on_stack_result;
static volatile bool on_stack;

static void spawn_in_handler(int signal_number) {
    char here;
    (void)signal_number;
    on_stack = &here > signal_stack && &here < signal_stack + sizeof signal_stack;
    if (on_stack_config)
        on_stack_result = rdaemon_spawn(RDAEMON_SIZED(on_stack_config), NULL, 0, NULL, 0);
}

static void same_signal_stack(const stack_t *before) {
    stack_t now;
    CHECK_INT(sigaltstack(NULL, &now), 0);
    CHECK(now.ss_sp == before->ss_sp && now.ss_size == before->ss_size &&
          now.ss_flags == before->ss_flags);
}

TEST(a_signal_stack_is_kept_and_may_be_spawned_from) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    struct sigaction action = {.sa_handler = spawn_in_handler, .sa_flags = SA_ONSTACK};
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    CHECK_INT(sigaltstack(&stack, NULL), 0);
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    for (int i = 0; i < 2; i++) {
        Config config = {.flags = ways[i], .argv = STRINGS("/bin/true")};
        struct spawned spawned;
        spawn_well(&spawned, &config);
        CHECK_INT(reap(&spawned), 0);
        same_signal_stack(&stack);
        on_stack_config = &config;
        raise(SIGUSR1);
        CHECK(on_stack);
        CHECK(on_stack_result > 0);
        CHECK_INT(wait_for_exit(on_stack_result), 0);
        same_signal_stack(&stack);
        config.argv = STRINGS(MISSING);
        raise(SIGUSR1);
        CHECK_INT(on_stack_result, -ENOENT);
        same_signal_stack(&stack);
        on_stack_config = NULL;
        on_stack = false;
        raise(SIGUSR1);
        CHECK(on_stack);
    }
}

/* The signal is pending while the child is made, and its handler runs once the spawn is over. */
static void signal_the_caller(struct meanwhile *meanwhile, pid_t child) {
    (void)child;
    CHECK_INT(pthread_kill(meanwhile->caller, SIGUSR1), 0);
}

TEST(a_signal_that_waits_for_the_spawn_is_handled_on_its_stack) {
    struct sigaction action = {.sa_handler = spawn_in_handler, .sa_flags = SA_ONSTACK};
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    Config config = {.argv = STRINGS("/bin/true")};
    struct meanwhile meanwhile;
    struct spawned spawned;
    CHECK_INT(sigaltstack(&stack, NULL), 0);
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    start_meanwhile(&meanwhile, signal_the_caller);
    spawn_well(&spawned, &config);
    CHECK(on_stack);
    end_meanwhile(&meanwhile);
    CHECK_INT(reap(&spawned), 0);
    same_signal_stack(&stack);
}

/* ---- a child that is stopped or killed before exec ---- */

/* The state of one thread of this process. */
static char thread_state(pid_t tid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    return strrchr(file_text(path), ')')[2];
}

/* Not even a signal ends its wait: but for a hook's it is that for a vfork. */
static void stop_for_a_while(struct meanwhile *meanwhile, pid_t child) {
    CHECK_INT(kill(child, SIGSTOP), 0);
    wait_for_state(child, 'T');
    while (thread_state(meanwhile->caller_tid) == 'R')
        sched_yield();
    CHECK_INT(thread_state(meanwhile->caller_tid), meanwhile->hooked ? 'S' : 'D');
    CHECK(!atomic_load(&meanwhile->returned));
    CHECK_INT(kill(child, SIGCONT), 0);
}

static const struct {
    uint32_t flags;
    bool hooked;
} interrupted[] = {
    {0, false}, {RDAEMON_SPAWN_FORCE_FORK, false}, {RDAEMON_SPAWN_DETACHED, false}, {0, true}};
enum { INTERRUPTED = sizeof interrupted / sizeof *interrupted };

TEST(a_child_stopped_before_exec_keeps_its_caller_waiting) {
    for (int i = 0; i < INTERRUPTED; i++)
        IN_CHILD {
            Config config = {.flags = interrupted[i].flags,
                             .argv = STRINGS("/bin/true"),
                             .hook = interrupted[i].hooked ? hook : NULL};
            struct meanwhile meanwhile;
            struct spawned spawned;
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            start_meanwhile(&meanwhile, stop_for_a_while);
            meanwhile.hooked = interrupted[i].hooked;
            spawn_well(&spawned, &config);
            end_meanwhile(&meanwhile);
            CHECK_INT(reap(&spawned), 0);
        }
}

/* Nobody lets go of a call whose process has been killed. */
static void *kill_meanwhile(void *argument) {
    struct meanwhile *meanwhile = argument;
    while (sem_wait(&meanwhile->ready) != 0)
        ;
    pid_t child = held_next(meanwhile->fd).pid;
    CHECK_INT(kill(child, SIGSTOP), 0);
    wait_for_state(child, 'T');
    CHECK_INT(kill(child, SIGKILL), 0);
    return NULL;
}

TEST(a_child_killed_before_exec_frees_its_caller_and_counts_as_started) {
    for (int i = 0; i < INTERRUPTED; i++)
        IN_CHILD {
            Config config = {.flags = interrupted[i].flags,
                             .argv = STRINGS("/bin/true"),
                             .hook = interrupted[i].hooked ? hook : NULL};
            struct meanwhile meanwhile = {0};
            struct spawned spawned;
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            CHECK_INT(sem_init(&meanwhile.ready, 0, 0), 0);
            CHECK_INT(pthread_create(&meanwhile.thread, NULL, kill_meanwhile, &meanwhile), 0);
            meanwhile.fd = hold_syscalls((const long[]){SYS_execve}, 1);
            sem_post(&meanwhile.ready);
            spawn_well(&spawned, &config);
            CHECK_INT(pthread_join(meanwhile.thread, NULL), 0);
            int status = reap(&spawned);
            CHECK(WIFSIGNALED(status));
            CHECK_INT(WTERMSIG(status), SIGKILL);
        }
}

/* ---- a detached program whose maker is killed ---- */

static struct {
    sem_t ready;
    int fd;
    long number;
    struct held_call call;
} maker;

/* The process between is the one that calls setsid, or the parent of the one that calls execve. */
static void *kill_maker(void *unused) {
    while (sem_wait(&maker.ready) != 0)
        ;
    maker.call = held_next(maker.fd);
    bool is_maker = maker.number == SYS_setsid;
    pid_t pid = is_maker ? maker.call.pid : (pid_t)stat_field(maker.call.pid, 4);
    CHECK(pid != getpid());
    CHECK_INT(kill(pid, SIGKILL), 0);
    return unused;
}

/* Either the program is started, and is the caller's to know, or nothing of it is left. */
static void check_without_maker(uint32_t flags, long number) {
    Config config = {.flags = flags | RDAEMON_SPAWN_DETACHED, .argv = STRINGS("/bin/true")};
    struct spawned spawned;
    pthread_t thread;
    char fds[64];
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    maker.number = number;
    CHECK_INT(sem_init(&maker.ready, 0, 0), 0);
    CHECK_INT(pthread_create(&thread, NULL, kill_maker, NULL), 0);
    maker.fd = hold_syscalls(&number, 1);
    snprintf(fds, sizeof fds, "%s", open_fds(0));
    sem_post(&maker.ready);
    spawn(&spawned, &config);
    CHECK_INT(pthread_join(thread, NULL), 0);
    if (spawned.result > 0) {
        CHECK_INT(spawned.result, maker.call.pid);
        CHECK(held_release(maker.fd, &maker.call));
        CHECK_INT(reap(&spawned), 0);
    }
    CHECK_STR(open_fds(0), fds);
    int status;
    while (waitpid(-1, &status, __WALL) > 0) /* as init would */
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(nothing_is_left_when_the_maker_of_a_detached_program_is_killed_at_first) {
    for (int forked = 0; forked < 2; forked++)
        IN_CHILD {
            check_without_maker(forked ? RDAEMON_SPAWN_FORCE_FORK : 0, SYS_setsid);
        }
}

TEST(nothing_is_left_when_the_maker_of_a_detached_program_is_killed_at_last) {
    for (int forked = 0; forked < 2; forked++)
        IN_CHILD {
            check_without_maker(forked ? RDAEMON_SPAWN_FORCE_FORK : 0, SYS_execve);
        }
}

/* ---- the death signal ---- */

static struct rdaemon_child mortal;

static void *spawn_mortal(void *argument) {
    Config config = {.flags = *(const uint32_t *)argument,
                     .argv = STRINGS("/bin/cat"),
                     .streams[0].action = RDAEMON_STREAM_PIPE,
                     .death_signal = SIGUSR2};
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&mortal), NULL, 0) > 0);
    return NULL;
}

/* Not that of the process, which goes on: its end of the pipe keeps the program from ending. */
TEST(the_death_signal_comes_with_the_end_of_the_spawning_thread) {
    static uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        CHECK_INT(pthread_create(&thread, NULL, spawn_mortal, &ways[i]), 0);
        CHECK_INT(pthread_join(thread, NULL), 0);
        int status = wait_for_exit(mortal.pid);
        CHECK(WIFSIGNALED(status));
        CHECK_INT(WTERMSIG(status), SIGUSR2);
        CHECK_INT(close(mortal.fds[0]), 0);
    }
}

static void *return_at_once(void *unused) {
    return unused;
}

TEST(the_death_signal_does_not_come_with_the_end_of_another_thread) {
    static uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        spawn_mortal(&ways[i]);
        CHECK_INT(pthread_create(&thread, NULL, return_at_once, NULL), 0);
        CHECK_INT(pthread_join(thread, NULL), 0);
        CHECK_INT(close(mortal.fds[0]), 0);
        CHECK_INT(wait_for_exit(mortal.pid), 0);
    }
}
