/*
 * Signals while programs are started: a handler of this process never runs in a child, none of its
 * signals is lost, and each thread's mask stays. A spawn that fails is no child's end: no handler,
 * no other thread's waitpid and no disposition of SIGCHLD sees or disturbs it.
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
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "child.h"
#include "failing.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

#define MISSING "/nonexistent/rdaemon"

/* ---- a storm ---- */

enum { SPAWNERS = 4, SPAWNS = 120, IN_FLIGHT = 8, PER_SPAWN = 20 };

/* The senders count what they sent, the handler what came. */
static struct storm {
    pid_t process;
    atomic_bool over;
    sem_t spawns[2]; /* one for each sender, which else would leave the spawners no time */
    atomic_long from_process, from_thread; /* real-time signals: queued, so each must come */
    atomic_long came_from_process, came_from_thread, came_from_timers;
    atomic_long strangers; /* a handler ran in another process */
} * storm;

#define FROM_PROCESS (SIGRTMIN + 1)
#define FROM_THREAD (SIGRTMIN + 2)

static void on_storm(int signal_number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    atomic_long *came = signal_number == FROM_PROCESS  ? &storm->came_from_process
                        : signal_number == FROM_THREAD ? &storm->came_from_thread
                                                       : &storm->came_from_timers;
    if (syscall(SYS_getpid) != storm->process)
        came = &storm->strangers;
    atomic_fetch_add(came, 1);
}

/* Some restart system calls, some interrupt them. */
static void handle(int signal_number, int flags) {
    struct sigaction action = {.sa_sigaction = on_storm, .sa_flags = SA_SIGINFO | flags};
    CHECK_INT(sigaction(signal_number, &action, NULL), 0);
}

static void start_timers(void) {
    struct itimerval wall = {{0, 300}, {0, 300}}, processor = {{0, 1000}, {0, 1000}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec times = {{0, 400000}, {0, 400000}};
    timer_t timer;
    CHECK_INT(setitimer(ITIMER_REAL, &wall, NULL), 0);
    CHECK_INT(setitimer(ITIMER_PROF, &processor, NULL), 0);
    CHECK_INT(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_INT(timer_settime(timer, 0, &times, NULL), 0);
}

static void stop_timers(void) {
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL);
}

/* Sends some for each spawn that begins, not more than a few at a time. */
static void send_storm(int sender, bool (*send)(long number), atomic_long *sent,
                       const atomic_long *came) {
    while (sem_wait(&storm->spawns[sender]) == 0 && !atomic_load(&storm->over))
        for (int i = 0; i < PER_SPAWN; i++) {
            while (atomic_load(sent) - atomic_load(came) >= IN_FLIGHT)
                sched_yield();
            if (send(atomic_load(sent)))
                atomic_fetch_add(sent, 1);
        }
}

static bool send_from_process(long number) {
    return sigqueue(storm->process, FROM_PROCESS, (union sigval){.sival_int = (int)number}) == 0;
}

static pthread_t spawners[SPAWNERS];

/* By system call, as libc hides two of the signals. */
static unsigned long long own_mask(void) {
    unsigned long long mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    return mask;
}

static void block_all(void) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static bool send_from_thread(long number) {
    return pthread_kill(spawners[number % SPAWNERS], FROM_THREAD) == 0;
}

static void *run_sender(void *unused) {
    block_all();
    send_storm(1, send_from_thread, &storm->from_thread, &storm->came_from_thread);
    return unused;
}

static void run_sending_process(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    send_storm(0, send_from_process, &storm->from_process, &storm->came_from_process);
    _exit(0);
}

static int hook(void *context) {
    (void)context;
    return 0;
}

/* The ways to make a child, each with a program that ends well and with one that is missing. */
static void spawn_one(int kind) {
    static const uint32_t flags[] = {0, RDAEMON_SPAWN_FORCE_FORK, 0, RDAEMON_SPAWN_DETACHED};
    bool missing = kind & 1;
    kind = kind / 2 % 4;
    Config config = {
        .flags = flags[kind] | RDAEMON_SPAWN_PIDFD,
        .argv = missing ? STRINGS(MISSING) : STRINGS("/bin/true"),
        .hook = kind == 2 ? hook : NULL,
    };
    struct rdaemon_child child;
    struct rdaemon_status status;
    int result =
        rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), RDAEMON_SIZED(&status));
    if (missing) {
        CHECK_INT(result, -ENOENT);
        CHECK_INT(status.step, RDAEMON_STEP_EXEC);
        return;
    }
    CHECK(result > 0);
    CHECK_INT(wait_for_exit(result), 0);
    CHECK_INT(close(child.pidfd), 0);
}

struct spawner {
    int number;
    pthread_barrier_t *begin, *done, *calm;
};

/* Lives until no signal is sent any more, as signals for this thread must not outlive it. */
static void *spawn_many(void *argument) {
    const struct spawner *spawner = argument;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 4 + spawner->number);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    unsigned long long mask = own_mask();
    pthread_barrier_wait(spawner->begin);
    for (int i = 0; i < SPAWNS; i++) {
        sem_post(&storm->spawns[0]);
        sem_post(&storm->spawns[1]);
        spawn_one(i + spawner->number);
        CHECK_INT(own_mask(), mask);
    }
    pthread_barrier_wait(spawner->done);
    pthread_barrier_wait(spawner->calm);
    CHECK_INT(own_mask(), mask);
    return NULL;
}

static void check_storm(void) {
    NOTE("signals: %ld from a process, %ld from a thread, %ld from timers",
         atomic_load(&storm->from_process), atomic_load(&storm->from_thread),
         atomic_load(&storm->came_from_timers));
    CHECK_INT(atomic_load(&storm->strangers), 0);
    CHECK_INT(atomic_load(&storm->came_from_process), atomic_load(&storm->from_process));
    CHECK_INT(atomic_load(&storm->came_from_thread), atomic_load(&storm->from_thread));
    CHECK(atomic_load(&storm->from_process) > SPAWNERS);
    CHECK(atomic_load(&storm->from_thread) > SPAWNERS);
    CHECK(atomic_load(&storm->came_from_timers) > SPAWNERS);
}

TEST(a_storm_runs_no_handler_in_a_child_and_loses_none, .time_limit_ms = 60000) {
    struct spawner arguments[SPAWNERS];
    pthread_barrier_t begin, done, calm;
    pthread_t sender;
    storm = shared_memory(sizeof *storm);
    storm->process = getpid();
    CHECK_INT(sem_init(&storm->spawns[0], true, 0), 0);
    CHECK_INT(sem_init(&storm->spawns[1], true, 0), 0);
    handle(SIGALRM, SA_RESTART);
    handle(SIGPROF, 0);
    handle(SIGUSR1, 0);
    handle(FROM_PROCESS, 0);
    handle(FROM_THREAD, SA_RESTART);
    pthread_barrier_init(&begin, NULL, SPAWNERS + 1);
    pthread_barrier_init(&done, NULL, SPAWNERS + 1);
    pthread_barrier_init(&calm, NULL, SPAWNERS + 1);
    for (int i = 0; i < SPAWNERS; i++) {
        arguments[i] = (struct spawner){i, &begin, &done, &calm};
        CHECK_INT(pthread_create(&spawners[i], NULL, spawn_many, &arguments[i]), 0);
    }
    pid_t process = fork_child();
    if (process == 0)
        run_sending_process();
    CHECK_INT(pthread_create(&sender, NULL, run_sender, NULL), 0);
    start_timers();
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&done);
    stop_timers();
    atomic_store(&storm->over, true);
    sem_post(&storm->spawns[0]);
    sem_post(&storm->spawns[1]);
    CHECK_INT(pthread_join(sender, NULL), 0);
    CHECK_INT(wait_for_exit(process), 0);
    pthread_barrier_wait(&calm);
    for (int i = 0; i < SPAWNERS; i++)
        CHECK_INT(pthread_join(spawners[i], NULL), 0);
    getppid(); /* a pending signal comes before a system call returns */
    check_storm();
}

/* ---- a storm that reaches the children ---- */

static struct group { atomic_int spawns, killed, well, refused; } * group;

/* One signal at some moment of every third spawn. */
static void send_to_group(void) {
    unsigned moment = 0;
    signal(SIGUSR1, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK_INT(setpgid(0, 0), 0);
    for (int next = 1; !atomic_load(&storm->over); next += 3) {
        while (atomic_load(&group->spawns) < next && !atomic_load(&storm->over))
            sched_yield();
        moment = (moment * 5 + 3) % 256;
        for (unsigned i = 0; i < moment; i++)
            getppid();
        kill(-storm->process, SIGUSR1);
        atomic_fetch_add(&storm->from_process, 1);
    }
    _exit(0);
}

static void *spawn_in_group(void *unused) {
    for (int i = 0; i < SPAWNS; i++) {
        bool missing = i & 1;
        Config config = {
            .flags = i & 2 ? RDAEMON_SPAWN_FORCE_FORK : 0,
            .argv = missing ? STRINGS(MISSING) : STRINGS("/bin/true"),
        };
        atomic_fetch_add(&group->spawns, 1);
        int result = rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, NULL, 0);
        if (missing && result == -ENOENT) {
            atomic_fetch_add(&group->refused, 1);
            continue;
        }
        CHECK(result > 0);
        int status = wait_for_exit(result);
        if (WIFSIGNALED(status))
            CHECK_INT(WTERMSIG(status), SIGUSR1);
        else
            CHECK(status == 0 && !missing);
        atomic_fetch_add(WIFSIGNALED(status) ? &group->killed : &group->well, 1);
    }
    return unused;
}

/* A signal to the whole group may end a child between its mask and its exec, which nobody can tell
 * from an end right after; it never runs the parent's handler there. */
TEST(a_storm_on_the_process_group_runs_no_handler_in_a_child, .time_limit_ms = 60000) {
    pthread_t threads[SPAWNERS];
    group = shared_memory(sizeof *group);
    storm = shared_memory(sizeof *storm);
    CHECK_INT(setpgid(0, 0), 0);
    storm->process = getpid();
    handle(SIGUSR1, SA_RESTART);
    pid_t process = fork_child();
    if (process == 0)
        send_to_group();
    for (int i = 0; i < SPAWNERS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, spawn_in_group, NULL), 0);
    for (int i = 0; i < SPAWNERS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    atomic_store(&storm->over, true);
    CHECK_INT(wait_for_exit(process), 0);
    NOTE("%ld signals: %d programs were killed, %d ended well, %d were missing",
         atomic_load(&storm->from_process), atomic_load(&group->killed), atomic_load(&group->well),
         atomic_load(&group->refused));
    CHECK_INT(atomic_load(&storm->strangers), 0);
    CHECK(atomic_load(&storm->came_from_timers) > 0);
    CHECK(atomic_load(&group->killed) > 0);
    CHECK(atomic_load(&group->well) > 0);
    CHECK(atomic_load(&group->refused) > 0);
}

/* ---- signals for one child ---- */

/* Sends each child a signal at its first steps and at its last. */
static struct {
    sem_t ready;
    int fd, signal_number;
    pid_t caller;
    atomic_int sent, unblocked;
} aim;

static void *signal_children(void *unused) {
    while (sem_wait(&aim.ready) != 0)
        ;
    for (;;) {
        struct held_call call = held_next(aim.fd);
        /* A handler that ran in the caller meanwhile would run on the stack that the child is on.
         */
        if (call.pid != aim.caller && !signal_in(aim.caller, "SigBlk", aim.signal_number))
            atomic_fetch_add(&aim.unblocked, 1);
        if (call.pid != aim.caller && kill(call.pid, aim.signal_number) == 0)
            atomic_fetch_add(&aim.sent, 1);
        held_release(aim.fd, &call);
    }
    return unused;
}

static int status_when_signalled(const Config *config, int signal_number) {
    pthread_t thread;
    struct spawned spawned;
    storm = shared_memory(sizeof *storm);
    storm->process = aim.caller = getpid();
    handle(signal_number, SA_RESTART);
    aim.signal_number = signal_number;
    CHECK_INT(sem_init(&aim.ready, 0, 0), 0);
    CHECK_INT(pthread_create(&thread, NULL, signal_children, NULL), 0);
    aim.fd = hold_syscalls((const long[]){SYS_close_range, SYS_execve}, 2);
    sem_post(&aim.ready);
    spawn_well(&spawned, config);
    int status = reap(&spawned);
    CHECK_INT(atomic_load(&storm->strangers), 0);
    CHECK(atomic_load(&aim.sent) > 0);
    if (!config->hook)
        CHECK_INT(atomic_load(&aim.unblocked), 0);
    return status;
}

static void on_each_way(void (*check)(const Config *config)) {
    static const struct {
        uint32_t flags;
        bool hooked, no_clone3;
    } each[] = {
        {0, false, false},
        {0, false, true},
        {RDAEMON_SPAWN_FORCE_FORK, false, false},
        {RDAEMON_SPAWN_FORCE_FORK, false, true},
        {0, true, false},
        {RDAEMON_SPAWN_DETACHED, false, false},
        {RDAEMON_SPAWN_DETACHED, false, true},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        IN_CHILD {
            Config config = {.flags = each[i].flags,
                             .argv = STRINGS("/bin/true"),
                             .hook = each[i].hooked ? hook : NULL};
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            if (each[i].no_clone3)
                deny_syscall(SYS_clone3, ENOSYS);
            check(&config);
        }
}

static void survives(const Config *config) {
    CHECK_INT(status_when_signalled(config, SIGURG), 0);
}

TEST(a_signal_that_means_nothing_to_a_child_runs_no_handler_there) {
    on_each_way(survives);
}

static void dies(const Config *config) {
    int status = status_when_signalled(config, SIGUSR1);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), SIGUSR1);
}

TEST(a_signal_that_ends_a_child_runs_no_handler_there) {
    on_each_way(dies);
}

/* A signal that is pending while the hook runs meets no handler there, nor after it. */
static int raise_in_hook(void *context) {
    (void)context;
    raise(SIGUSR1);
    raise(SIGUSR2);
    return 0;
}

TEST(a_signal_raised_in_the_hook_runs_no_handler) {
    storm = shared_memory(sizeof *storm);
    storm->process = getpid();
    handle(SIGUSR1, 0);
    handle(SIGUSR2, 0);
    Config config = {.argv = STRINGS("/bin/true"), .hook = raise_in_hook};
    struct spawned spawned;
    spawn_well(&spawned, &config);
    int status = reap(&spawned);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGUSR1 || WTERMSIG(status) == SIGUSR2);
    CHECK_INT(atomic_load(&storm->strangers), 0);
    CHECK_INT(atomic_load(&storm->came_from_timers), 0);
}

/* ---- failures, and who watches children ---- */

static const uint32_t watched_ways[] = {
    0,
    RDAEMON_SPAWN_FORCE_FORK,
    RDAEMON_SPAWN_DETACHED,
    RDAEMON_SPAWN_DETACHED | RDAEMON_SPAWN_FORCE_FORK,
};
enum { WATCHED_WAYS = sizeof watched_ways / sizeof *watched_ways, TIMES = 20 };

static volatile sig_atomic_t ends;

static void on_end(int signal_number) {
    (void)signal_number;
    ends++;
}

static void fail_unseen(const struct failing_spawn *failing, uint32_t flags) {
    Config config;
    struct spawned failed;
    if (!failing_config(failing, flags, &config))
        return;
    for (int i = 0; i < TIMES; i++) {
        spawn(&failed, &config);
        if (failed.result != -failing->error || failed.status.step != failing->step)
            FAIL("%s: %s, %s", failing->name, rdaemon_step_name(failed.status.step),
                 error_name(failed.result));
        if (ends != 0)
            FAIL("%s raised SIGCHLD", failing->name);
    }
}

/*
 * Runs the block for each step on each way, with `failing` and `flags`, in a process of its own.
 * The hook is left out: it needs the fork(2) of libc, whose child may be seen.
 */
#define EACH_FAILURE                                                                               \
    for (int way_ = 0; way_ < WATCHED_WAYS; way_++)                                                \
        for (const struct failing_spawn *failing = failing_spawns; failing->name; failing++)       \
            for (uint32_t flags = watched_ways[way_], once_ = failing->step != RDAEMON_STEP_HOOK;  \
                 once_; once_ = 0)                                                                 \
                IN_CHILD

TEST(a_failure_raises_no_sigchld) {
    EACH_FAILURE {
        signal(SIGCHLD, on_end);
        fail_unseen(failing, flags);
        CHECK_INT(ends, 0);
    }
}

TEST(a_failure_raises_no_blocked_sigchld) {
    EACH_FAILURE {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        CHECK_INT(sigprocmask(SIG_BLOCK, &set, NULL), 0);
        fail_unseen(failing, flags);
        CHECK_INT(sigpending(&set), 0);
        CHECK(!sigismember(&set, SIGCHLD));
    }
}

TEST(a_failure_is_told_where_sigchld_is_ignored) {
    EACH_FAILURE {
        signal(SIGCHLD, SIG_IGN);
        fail_unseen(failing, flags);
        CHECK_INT(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    }
}

TEST(a_failure_is_told_where_children_do_not_become_zombies) {
    EACH_FAILURE {
        struct sigaction action = {.sa_handler = on_end, .sa_flags = SA_NOCLDWAIT};
        CHECK_INT(sigaction(SIGCHLD, &action, NULL), 0);
        fail_unseen(failing, flags);
        CHECK_INT(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    }
}

/* Another thread that waits for any child. There is one that stays to the end, as it would not wait
 * otherwise. */
struct watcher {
    pthread_t thread;
    struct gate *end;
    pid_t sitter, seen;
};

static void *watch_children(void *argument) {
    struct watcher *watcher = argument;
    do
        watcher->seen = waitpid(-1, NULL, 0);
    while (watcher->seen < 0 && errno == EINTR);
    return NULL;
}

static void start_watcher(struct watcher *watcher) {
    watcher->end = gate_new();
    watcher->sitter = fork_child();
    if (watcher->sitter == 0) {
        gate_wait(watcher->end);
        _exit(0);
    }
    CHECK_INT(pthread_create(&watcher->thread, NULL, watch_children, watcher), 0);
}

static void end_watcher(struct watcher *watcher) {
    gate_open(watcher->end);
    CHECK_INT(pthread_join(watcher->thread, NULL), 0);
    CHECK_INT(watcher->seen, watcher->sitter);
}

TEST(a_failure_is_not_seen_by_another_threads_waitpid) {
    EACH_FAILURE {
        struct watcher watcher;
        start_watcher(&watcher);
        fail_unseen(failing, flags);
        end_watcher(&watcher);
    }
}

/* Whoever takes the child's end, the error arrives. */
static void fail_in_hook(void) {
    for (const struct failing_spawn *f = failing_spawns; f->name; f++)
        for (int i = 0; f->step == RDAEMON_STEP_HOOK && i < TIMES; i++) {
            Config config;
            struct spawned failed;
            CHECK(failing_config(f, 0, &config));
            spawn(&failed, &config);
            CHECK_INT(failed.result, -f->error);
            CHECK_INT(failed.status.step, RDAEMON_STEP_HOOK);
        }
}

static void *take_ends(void *over) {
    while (!atomic_load((atomic_bool *)over))
        if (waitpid(-1, NULL, WNOHANG | __WALL) < 0)
            sched_yield();
    return NULL;
}

TEST(a_failing_hook_is_told_whatever_happens_to_sigchld) {
    static atomic_bool over;
    struct sigaction action = {.sa_handler = on_end, .sa_flags = SA_NOCLDWAIT};
    pthread_t thread;
    signal(SIGCHLD, on_end);
    fail_in_hook();
    signal(SIGCHLD, SIG_IGN);
    fail_in_hook();
    CHECK_INT(sigaction(SIGCHLD, &action, NULL), 0);
    fail_in_hook();
    signal(SIGCHLD, SIG_DFL);
    CHECK_INT(pthread_create(&thread, NULL, take_ends, &over), 0);
    fail_in_hook();
    atomic_store(&over, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(waitpid(-1, NULL, __WALL), -1);
}

TEST(a_failure_left_to_the_caller_is_seen) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        IN_CHILD {
            Config config = {.flags = ways[i] | RDAEMON_SPAWN_NO_REAP, .argv = STRINGS(MISSING)};
            struct spawned failed;
            int status;
            signal(SIGCHLD, on_end);
            spawn(&failed, &config);
            CHECK_INT(failed.result, -ENOENT);
            CHECK_INT(failed.status.step, RDAEMON_STEP_EXEC);
            CHECK(failed.status.pid > 0);
            CHECK_INT(waitpid(-1, &status, 0), failed.status.pid);
            CHECK(WIFEXITED(status));
            CHECK_INT(ends, 1);
            CHECK_INT(waitpid(-1, NULL, __WALL), -1);
        }
}

/* ---- successes ---- */

static siginfo_t last_end;

static void note_end(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)context;
    last_end = *info;
    ends++;
}

/* A program that runs until its standard input ends. */
static Config until_told(uint32_t flags) {
    static const char *const argv[] = {"/bin/cat", NULL};
    return (Config){.flags = flags, .argv = argv, .streams[0].action = RDAEMON_STREAM_PIPE};
}

TEST(a_program_raises_one_sigchld_at_its_end) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK, 0, RDAEMON_SPAWN_NO_REAP};
    struct sigaction action = {.sa_sigaction = note_end, .sa_flags = SA_SIGINFO};
    CHECK_INT(sigaction(SIGCHLD, &action, NULL), 0);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int times = 0; times < 3; times++) {
            Config config = until_told(ways[i]);
            struct spawned spawned;
            config.hook = i == 2 ? hook : NULL;
            ends = 0;
            pid_t pid = spawn_well(&spawned, &config);
            CHECK_INT(ends, 0);
            CHECK_INT(close(spawned.child.fds[0]), 0);
            spawned.child.fds[0] = -1;
            CHECK_INT(reap(&spawned), 0);
            CHECK_INT(ends, 1);
            CHECK_INT(last_end.si_pid, pid);
            CHECK_INT(last_end.si_code, CLD_EXITED);
            CHECK_INT(last_end.si_status, 0);
        }
}

TEST(a_program_is_seen_by_another_threads_waitpid) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        IN_CHILD {
            Config config = until_told(ways[i] | RDAEMON_SPAWN_PIDFD);
            struct rdaemon_exit end;
            struct watcher watcher;
            struct spawned spawned;
            pid_t pid = spawn_well(&spawned, &config);
            CHECK_INT(pthread_create(&watcher.thread, NULL, watch_children, &watcher), 0);
            CHECK_INT(close(spawned.child.fds[0]), 0);
            CHECK_INT(pthread_join(watcher.thread, NULL), 0);
            CHECK_INT(watcher.seen, pid);
            CHECK_INT(
                QUIET(rdaemon_child_wait(RDAEMON_SIZED(&spawned.child), -1, RDAEMON_SIZED(&end))),
                -ECHILD);
        }
}

TEST(a_program_ends_unseen_where_sigchld_is_ignored) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int pidfd = 0; pidfd < 2; pidfd++)
            IN_CHILD {
                Config config = until_told(ways[i] | (pidfd ? RDAEMON_SPAWN_PIDFD : 0));
                struct rdaemon_exit end;
                struct spawned spawned;
                signal(SIGCHLD, SIG_IGN);
                spawn_well(&spawned, &config);
                CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&spawned.child), 0,
                                                   RDAEMON_SIZED(&end))),
                          -ETIMEDOUT);
                CHECK_INT(close(spawned.child.fds[0]), 0);
                CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&spawned.child), -1,
                                                   RDAEMON_SIZED(&end))),
                          -ECHILD);
            }
}

/* Whose child it is becomes the subreaper's business: here the runner's. */
TEST(a_detached_program_raises_no_sigchld_in_its_starter) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK};
    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    signal(SIGCHLD, on_end);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        Config config = until_told(ways[i] | RDAEMON_SPAWN_DETACHED);
        struct spawned spawned;
        spawn_well(&spawned, &config);
        CHECK_INT(waitpid(-1, NULL, WNOHANG | __WALL), -1);
        CHECK_INT(close(spawned.child.fds[0]), 0);
        struct pollfd end = {.fd = spawned.child.pidfd, .events = POLLIN};
        CHECK_INT(poll(&end, 1, -1), 1);
        CHECK_INT(ends, 0);
    }
}
