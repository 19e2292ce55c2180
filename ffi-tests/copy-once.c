/*
 * The double fork whose intermediate shares the memory of the original: what libc and the kernel
 * keep of a thread is right in the daemon, and nothing of the daemon is in the original.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

/* ---- who shares memory with whom: asked by handlers that fork(2) calls ---- */

static struct handlers {
    int prepared, in_parent, in_child;
    pid_t preparer, parent, child;
} handlers;

static void prepare(void) {
    handlers.prepared++;
    handlers.preparer = getpid();
}

static void in_parent(void) {
    handlers.in_parent++;
    handlers.parent = getpid();
}

static void in_child(void) {
    handlers.in_child++;
    handlers.child = getpid();
}

static void watch_forks(void) {
    CHECK_INT(pthread_atfork(prepare, in_parent, in_child), 0);
}

/* Forks twice, and ends the daemon with 0 after `life`; returns its pid. */
static pid_t fork_daemon(void (*life)(void)) {
    int pid = QUIET(rdaemon_double_fork(NULL));
    if (pid == 0) {
        life();
        fflush(NULL);
        _exit(0);
    }
    CHECK(pid > 0);
    return pid;
}

static void check_daemon(void (*life)(void)) {
    CHECK_INT(wait_for_exit(fork_daemon(life)), 0);
}

/* The intermediate's handlers have written here. */
static void check_copied_once(pid_t daemon) {
    CHECK(handlers.preparer != getpid() && handlers.preparer != daemon);
    CHECK_INT(handlers.parent, handlers.preparer);
    CHECK_INT(handlers.prepared, 1);
    CHECK_INT(handlers.in_parent, 1);
    CHECK_INT(handlers.in_child, 0);
}

/* This process has run handlers, and the intermediate others of its own. */
static void check_copied_twice(void) {
    CHECK_INT(handlers.preparer, getpid());
    CHECK_INT(handlers.parent, getpid());
    CHECK_INT(handlers.prepared, 1);
    CHECK_INT(handlers.in_child, 0);
}

static void nothing(void) {
}

static void no_life(const struct start *start) {
    (void)start;
}

static void start_watched(const struct rdaemon_config *config) {
    struct start here;
    watch_forks();
    start_well(&here, config, no_life);
    lived(&here);
}

static void require_copy_once(void) {
#if !defined(__x86_64__) && !defined(__aarch64__)
    SKIP_PLATFORM("the memory is copied twice here");
#endif
}

static void the_daemon_has_its_handlers(void) {
    CHECK_INT(handlers.in_child, 1);
    CHECK_INT(handlers.child, getpid());
    CHECK_INT(handlers.in_parent, 0);
    CHECK(handlers.preparer != getpid() && handlers.preparer != 0);
}

TEST(each_handler_of_pthread_atfork_runs_once) {
    require_copy_once();
    watch_forks();
    pid_t daemon = fork_daemon(the_daemon_has_its_handlers);
    check_copied_once(daemon);
    CHECK_INT(wait_for_exit(daemon), 0);
}

TEST(daemonize_copies_once) {
    require_copy_once();
    start_watched(NULL);
    CHECK(handlers.preparer != getpid());
    CHECK_INT(handlers.prepared, 1);
}

TEST(daemonize_copies_twice_on_demand) {
    start_watched(&(struct rdaemon_config){.flags = RDAEMON_CLASSIC_FORK});
    check_copied_twice();
}

TEST(with_a_time_limit_daemonize_copies_twice) {
    start_watched(&(struct rdaemon_config){.timeout_ms = 60000});
    check_copied_twice();
}

static void *wait_for_gate(void *gate) {
    gate_wait(gate);
    return NULL;
}

TEST(with_more_threads_the_memory_is_copied_twice) {
    struct gate *gate = gate_new();
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, wait_for_gate, gate), 0);
    watch_forks();
    pid_t daemon = fork_daemon(nothing);
    check_copied_twice();
    CHECK_INT(wait_for_exit(daemon), 0);
    gate_open(gate);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

/* libc may take its locks for ever once there was a thread. */
TEST(after_the_other_threads_libc_says_how_often_it_is_copied) {
    require_copy_once();
    struct gate *gate = gate_new();
    pthread_t thread;
    gate_open(gate);
    CHECK_INT(pthread_create(&thread, NULL, wait_for_gate, gate), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    while (strtol(status_field(0, "Threads"), NULL, 10) > 1)
        sched_yield(); /* the kernel's part of it may take a moment longer */
    bool once = __libc_single_threaded;
    watch_forks();
    pid_t daemon = fork_daemon(nothing);
    if (once)
        check_copied_once(daemon);
    else
        check_copied_twice();
    CHECK_INT(wait_for_exit(daemon), 0);
}

TEST(where_a_filter_refuses_unshare_it_is_copied_once) {
    require_copy_once();
    deny_syscall(SYS_unshare, EPERM);
    start_watched(NULL);
    CHECK(handlers.preparer != getpid());
    CHECK_INT(handlers.prepared, 1);
}

TEST(where_a_filter_refuses_unshare_it_is_copied_twice_with_more_threads) {
    struct gate *gate = gate_new();
    pthread_t thread;
    deny_syscall(SYS_unshare, EPERM);
    CHECK_INT(pthread_create(&thread, NULL, wait_for_gate, gate), 0);
    start_watched(NULL);
    check_copied_twice();
    gate_open(gate);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static atomic_int child_signals;

static void count(int signal) {
    (void)signal;
    child_signals++;
}

static void wait_to_be_killed(void) {
    pause();
}

TEST(no_sigchld_tells_of_an_intermediate_that_shares_the_memory) {
    require_copy_once();
    signal(SIGCHLD, count);
    pid_t daemon = fork_daemon(wait_to_be_killed);
    CHECK_INT(child_signals, 0);
    kill(daemon, SIGKILL);
    wait_for_exit(daemon);
}

/* ---- the memory ---- */

static int global = 1;

TEST(the_daemon_writes_in_memory_of_its_own) {
    volatile int local = 1;
    char *allocated = strdup("before");
    struct gate *written = gate_new(), *looked = gate_new();
    int pid = rdaemon_double_fork(NULL);
    if (pid == 0) {
        global = local = 2;
        strcpy(allocated, "daemon");
        gate_open(written);
        gate_wait(looked);
        CHECK(global == 2 && local == 2 && strcmp(allocated, "daemon") == 0);
        _exit(0);
    }
    gate_wait(written);
    CHECK(global == 1 && local == 1 && strcmp(allocated, "before") == 0);
    global = local = 3;
    strcpy(allocated, "caller");
    gate_open(looked);
    CHECK_INT(wait_for_exit(pid), 0);
    free(allocated);
}

/* Frames above the call are whole in both processes, and what was saved of them leads back. */
static int fork_below(jmp_buf back, int depth) {
    volatile char frame[512];
    memset((char *)frame, depth, sizeof frame);
    int result = depth == 0 ? rdaemon_double_fork(NULL) : fork_below(back, depth - 1);
    for (size_t i = 0; i < sizeof frame; i++)
        CHECK_INT(frame[i], depth);
    if (depth == 10)
        longjmp(back, result == 0 ? 1 : result);
    return result;
}

TEST(both_return_through_their_frames_and_jump_out_of_them) {
    jmp_buf back;
    int result = setjmp(back);
    if (result == 0)
        fork_below(back, 10);
    if (result == 1)
        _exit(0);
    CHECK_INT(wait_for_exit(result), 0);
}

static void allocate(void) {
    void *blocks[64] = {0};
    for (unsigned i = 0; i < 20000; i++) {
        unsigned at = i * 7919 % 64;
        free(blocks[at]);
        blocks[at] = malloc(i * 31 % 9000 + 1);
        CHECK(blocks[at] != NULL);
        memset(blocks[at], (int)i, i * 31 % 9000 + 1);
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
}

TEST(both_allocate) {
    allocate();
    pid_t daemon = fork_daemon(allocate);
    allocate();
    CHECK_INT(wait_for_exit(daemon), 0);
}

TEST(both_print) {
    FILE *file = fopen(scratch_path("text"), "ae");
    CHECK(file != NULL);
    int pid = rdaemon_double_fork(NULL);
    fprintf(file, "%s", pid == 0 ? "daemon\n" : "caller\n");
    fclose(file);
    if (pid == 0)
        _exit(0);
    CHECK_INT(wait_for_exit(pid), 0);
    const char *text = file_text(scratch_path("text"));
    CHECK(strcmp(text, "daemon\ncaller\n") == 0 || strcmp(text, "caller\ndaemon\n") == 0);
}

/* ---- the thread ---- */

static void on_each_cpu(void (*check)(int cpu)) {
    cpu_set_t all, one;
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
        check(cpu);
    }
    CHECK_INT(sched_setaffinity(0, sizeof all, &all), 0);
}

static void check_libc(int cpu) {
    unsigned kernels;
    CHECK_INT(syscall(SYS_getcpu, &kernels, NULL, NULL), 0);
    CHECK_INT(kernels, cpu);
    CHECK_INT(sched_getcpu(), cpu);
}

static void the_cpu_is_right(void) {
    on_each_cpu(check_libc);
}

static void require_two_cpus(void) {
    cpu_set_t all;
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    if (CPU_COUNT(&all) < 2)
        SKIP_PLATFORM("there is one CPU");
}

TEST(libc_knows_the_cpu_of_the_daemon) {
    require_two_cpus();
    check_daemon(the_cpu_is_right);
    the_cpu_is_right();
}

static void make_another(void) {
    the_cpu_is_right();
    fork_daemon(the_cpu_is_right);
}

TEST(libc_knows_the_cpu_of_a_daemon_s_daemon) {
    require_two_cpus();
    fork_daemon(make_another);
    for (int ended = 0; ended < 2; ended++) {
        int status;
        CHECK(waitpid(-1, &status, 0) > 0);
        CHECK_INT(status, 0);
    }
}

#ifdef SYS_rseq
#if defined(__x86_64__)
#define SIGNATURE 0x53053053
#else
#define SIGNATURE 0xd428bc00
#endif

static struct { uint32_t words[8]; } own_area __attribute__((aligned(32)));

enum { CPU = 1 };

static void check_own_area(int cpu) {
    CHECK_INT(((volatile uint32_t *)own_area.words)[CPU], cpu);
}

static void the_own_area_tells_the_cpu(void) {
    on_each_cpu(check_own_area);
}

HELPER(fork_with_an_area_of_its_own) {
    if (syscall(SYS_rseq, &own_area, sizeof own_area, 0, SIGNATURE) != 0)
        return errno == ENOSYS ? 77 : 1;
    watch_forks();
    pid_t daemon = fork_daemon(the_own_area_tells_the_cpu);
    check_copied_twice();
    return waitpid(daemon, NULL, 0) == daemon || errno == ECHILD ? 0 : 2;
}

/* As an allocator does that keeps memory for each CPU. */
TEST(where_another_than_libc_has_registered_an_rseq_area_the_memory_is_copied_twice) {
    require_copy_once();
    pid_t child = fork_child();
    if (child == 0) {
        setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
        EXEC_HELPER(fork_with_an_area_of_its_own);
    }
    int status = wait_for_exit(child), daemon = 0;
    if (status == 77 << 8)
        SKIP_PLATFORM("no rseq(2)");
    CHECK_INT(status, 0);
    while (waitpid(-1, &daemon, 0) > 0)
        CHECK_INT(daemon, 0);
}
#endif

static const struct kind {
    const char *name;
    int type, protocol, robust;
} kinds[] = {
    {"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {"recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
    {"error-checking", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED},
#endif
    {"robust", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST},
    {"inheriting", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED},
    {"robust inheriting", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST},
};

static void mutex_of(const struct kind *kind, pthread_mutex_t *mutex) {
    pthread_mutexattr_t attributes;
    CHECK_INT(pthread_mutexattr_init(&attributes), 0);
    CHECK_INT(pthread_mutexattr_settype(&attributes, kind->type), 0);
    CHECK_INT(pthread_mutexattr_setprotocol(&attributes, kind->protocol), 0);
    CHECK_INT(pthread_mutexattr_setrobust(&attributes, kind->robust), 0);
    CHECK_INT(pthread_mutex_init(mutex, &attributes), 0);
}

static void *lock_and_end(void *mutex) {
    CHECK_INT(pthread_mutex_lock(mutex), 0);
    return NULL;
}

static void *expect_it_is_taken(void *mutex) {
    CHECK_INT(pthread_mutex_trylock(mutex), EBUSY);
    return NULL;
}

static void in_a_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, run, argument), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static pthread_mutex_t mutexes[sizeof kinds / sizeof kinds[0]];

static void every_mutex_works(void) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        pthread_mutex_t *mutex = &mutexes[i];
        CHECK_INT(pthread_mutex_lock(mutex), 0);
        in_a_thread(expect_it_is_taken, mutex);
        if (kinds[i].type == PTHREAD_MUTEX_RECURSIVE) {
            CHECK_INT(pthread_mutex_lock(mutex), 0);
            CHECK_INT(pthread_mutex_unlock(mutex), 0);
        } else if (kinds[i].type == PTHREAD_MUTEX_ERRORCHECK) {
            CHECK_INT(pthread_mutex_lock(mutex), EDEADLK);
        }
        CHECK_INT(pthread_mutex_unlock(mutex), 0);
        if (kinds[i].robust == PTHREAD_MUTEX_ROBUST) {
            in_a_thread(lock_and_end, mutex);
            CHECK_INT(pthread_mutex_lock(mutex), EOWNERDEAD);
            CHECK_INT(pthread_mutex_consistent(mutex), 0);
            CHECK_INT(pthread_mutex_unlock(mutex), 0);
        }
    }
}

TEST(every_kind_of_mutex_works_in_both) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        mutex_of(&kinds[i], &mutexes[i]);
    check_daemon(every_mutex_works);
    every_mutex_works();
}

/* Robust mutexes in shared memory: the kernel must have the list of the daemon's. */
static pthread_mutex_t *shared_mutex;

static void die_with_the_mutex(void) {
    CHECK_INT(pthread_mutex_lock(shared_mutex), 0);
}

TEST(a_robust_mutex_of_a_dead_daemon_is_told_so) {
    pthread_mutexattr_t attributes;
    shared_mutex = shared_memory(sizeof *shared_mutex);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    CHECK_INT(pthread_mutex_init(shared_mutex, &attributes), 0);
    check_daemon(die_with_the_mutex);
    CHECK_INT(pthread_mutex_lock(shared_mutex), EOWNERDEAD);
}

static __thread int own = 1;
static __thread volatile sig_atomic_t signalled;

static void note_signal(int signal) {
    (void)signal;
    signalled = gettid();
}

static void *be_a_thread(void *main_thread) {
    CHECK_INT(own, 1);
    own = 3;
    CHECK(gettid() != getpid());
    CHECK(!pthread_equal(pthread_self(), *(pthread_t *)main_thread));
    signal(SIGUSR1, note_signal);
    CHECK_INT(pthread_kill(pthread_self(), SIGUSR1), 0);
    CHECK_INT(signalled, gettid());
    return &own;
}

static void threads_work(void) {
    pthread_t self = pthread_self(), threads[8];
    CHECK_INT(gettid(), getpid());
    own = 2;
    signal(SIGUSR1, note_signal);
    CHECK_INT(pthread_kill(self, SIGUSR1), 0);
    CHECK_INT(signalled, getpid());
    for (int i = 0; i < 8; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, be_a_thread, &self), 0);
    for (int i = 0; i < 8; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(own, 2);
}

TEST(threads_that_are_made_afterwards_work_in_both) {
    check_daemon(threads_work);
    own = 1;
    threads_work();
}
