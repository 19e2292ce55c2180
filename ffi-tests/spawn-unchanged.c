/*
 * What a spawn leaves of the process that makes it: everything. Each step is made to fail on each
 * way of making a child, and afterwards the kernel's view of this process, errno, what threads keep
 * for themselves and the outputs are as they were; so they are after a success.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "failing.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

static const struct {
    const char *name;
    uint32_t flags;
} ways[] = {
    {"fast", 0},
    {"forked", RDAEMON_SPAWN_FORCE_FORK},
    {"detached", RDAEMON_SPAWN_DETACHED},
    {"detached, forked", RDAEMON_SPAWN_DETACHED | RDAEMON_SPAWN_FORCE_FORK},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* ---- what is looked at besides the snapshot ---- */

/* Of the calling thread, and of libc's memory of it. */
struct own {
    unsigned long long blocked, pending;
    int death_signal;
    stack_t signal_stack;
    char name[16];
    char files[4096];
    int lock; /* 0 when a mutex that checks its owner knows this thread */
    unsigned char local[64];
};

static _Thread_local unsigned char local[64];
static _Thread_local pthread_mutex_t mutex;

static void on_signal(int signal_number) {
    (void)signal_number;
}

/* A caller with habits, so that a change of any shows. */
static void be_particular(void) {
    static const int ignored[] = {SIGHUP, SIGUSR2, SIGPIPE};
    static char signal_stack[64 * 1024];
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_NODEFER};
    sigset_t set;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGCHLD, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 3);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    raise(SIGRTMIN + 3);
    umask(031);
    sigaltstack(&(stack_t){.ss_sp = signal_stack, .ss_size = sizeof signal_stack}, NULL);
    memset(local, 0x5a, sizeof local);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&mutex, &attributes);
    pthread_mutex_lock(&mutex);
}

static void look_at_own(struct own *own) {
    memset(own, 0, sizeof *own);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &own->blocked, 8);
    syscall(SYS_rt_sigpending, &own->pending, 8);
    prctl(PR_GET_PDEATHSIG, &own->death_signal);
    sigaltstack(NULL, &own->signal_stack);
    prctl(PR_GET_NAME, own->name);
    snprintf(own->files, sizeof own->files, "%s", tree(scratch()));
    own->lock = pthread_mutex_unlock(&mutex) || pthread_mutex_lock(&mutex);
    memcpy(own->local, local, sizeof local);
}

static void check_own(const struct own *before) {
    static struct own now;
    look_at_own(&now);
    CHECK_INT(now.blocked, before->blocked);
    CHECK_INT(now.pending, before->pending);
    CHECK_INT(now.death_signal, before->death_signal);
    CHECK(memcmp(&now.signal_stack, &before->signal_stack, sizeof(stack_t)) == 0);
    CHECK_STR(now.name, before->name);
    CHECK_STR(now.files, before->files);
    CHECK_INT(now.lock, 0);
    CHECK_INT(memcmp(now.local, before->local, sizeof local), 0);
    CHECK(sched_getcpu() >= 0);
}

/* ---- failures ---- */

static void fail_once(const struct failing_spawn *failing, const char *way_name,
                      const Config *config) {
    static struct snapshot before;
    static struct own own;
    struct spawned failed;
    many_options_pipe = 4711;
    snapshot_take(&before);
    look_at_own(&own);
    spawn(&failed, config);
    if (failed.result > 0)
        kill(failed.result, SIGKILL);
    if (failed.result != -failing->error || failed.status.step != failing->step)
        FAIL("%s, %s: %s, %s; expected %s, %s", failing->name, way_name,
             rdaemon_step_name(failed.status.step), error_name(failed.result),
             rdaemon_step_name(failing->step), error_name(-failing->error));
    CHECK_INT(failed.status.error, failed.result);
    CHECK_INT(failed.status.pid, 0);
    CHECK_INT(failed.status.signal, 0);
    CHECK_INT(many_options_pipe, 4711);
    if (!snapshot_same(&before))
        FAIL("%s, %s: this process has changed", failing->name, way_name);
    check_own(&own);
}

/* In a process of its own, as the cause may stay. */
static void fail_with(const struct failing_spawn *failing, const char *way_name, uint32_t flags) {
    Config config;
    be_particular();
    if (failing_config(failing, flags, &config)) {
        fail_once(failing, way_name, &config);
        fail_once(failing, way_name, &config);
    }
}

/* The table of steps, in the case's output. */
static void every_step_fails(int number) {
    for (const struct failing_spawn *f = failing_spawns; f->name; f++) {
        if ((ways[number].flags | f->needs) & f->excludes)
            continue;
        IN_CHILD {
            fail_with(f, ways[number].name, ways[number].flags);
        }
        NOTE("%-20s %-10s %s", rdaemon_step_name(f->step), error_name(-f->error), f->name);
    }
}

TEST(nothing_changes_when_a_step_fails) {
    every_step_fails(0);
}

TEST(nothing_changes_when_a_step_of_a_forked_child_fails) {
    every_step_fails(1);
}

TEST(nothing_changes_when_a_step_of_a_detached_child_fails) {
    every_step_fails(2);
}

TEST(nothing_changes_when_a_step_of_a_detached_and_forked_child_fails) {
    every_step_fails(3);
}

static void *idle(void *begun) {
    gate_open(begun);
    for (;;)
        pause();
    return NULL;
}

TEST(nothing_changes_when_a_step_fails_in_a_process_with_threads) {
    for (int number = 0; number < WAYS; number++)
        for (const struct failing_spawn *f = failing_spawns; f->name; f++)
            IN_CHILD {
                struct gate *begun = gate_new();
                pthread_t thread;
                CHECK_INT(pthread_create(&thread, NULL, idle, begun), 0);
                gate_wait(begun);
                fail_with(f, ways[number].name, ways[number].flags);
            }
}

TEST(nothing_changes_when_the_limit_of_processes_is_reached) {
    REQUIRE_ROOT();
    for (int number = 0; number < WAYS; number++)
        IN_CHILD {
            const struct failing_spawn failing = {
                .name = "limit", .step = RDAEMON_STEP_FORK, .error = EAGAIN};
            Config config;
            uid_t uid = lonely_uid();
            be_particular();
            many_options(&config, ways[number].flags);
            CHECK_INT(chown(scratch(), uid, (gid_t)-1), 0);
            CHECK_INT(setresuid(uid, uid, uid), 0);
            CHECK_INT(prctl(PR_SET_DUMPABLE, 1), 0);
            CHECK_INT(setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 1}), 0);
            fail_once(&failing, ways[number].name, &config);
        }
}

TEST(nothing_changes_when_the_config_is_refused) {
    Config config;
    static struct snapshot before;
    static struct own own;
    struct spawned refused;
    be_particular();
    many_options(&config, RDAEMON_SPAWN_PROCESS_GROUP | RDAEMON_SPAWN_SETSID);
    snapshot_take(&before);
    look_at_own(&own);
    spawn(&refused, &config);
    CHECK_INT(refused.result, -EINVAL);
    CHECK_INT(refused.status.step, RDAEMON_STEP_CONFIG);
    CHECK(snapshot_same(&before));
    check_own(&own);
}

/* A file that was there is not removed. */
TEST(a_failure_leaves_a_file_that_was_there) {
    for (int number = 0; number < WAYS; number++)
        IN_CHILD {
            Config config;
            many_options(&config, ways[number].flags);
            config.streams[1].path = make_file("output", "old");
            config.working_directory = "/nonexistent/rdaemon";
            spawn_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
            CHECK_STR(file_text(scratch_path("output")), "old");
        }
}

/* ---- successes ---- */

static int let_it_go(void *context) {
    (void)context;
    return 0;
}

/* What the call itself gives is taken away first. */
static void end_child(struct spawned *spawned) {
    CHECK_INT(close(many_options_pipe), 0);
    int status = reap(spawned);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(unlink(scratch_path("output")), 0);
}

static void succeed(const Config *config) {
    static struct snapshot before;
    static struct own own;
    struct spawned spawned;
    for (int i = 0; i < 2; i++) {
        snapshot_take(&before);
        look_at_own(&own);
        spawn_well(&spawned, config);
        end_child(&spawned);
        CHECK(snapshot_same(&before));
        check_own(&own);
    }
}

TEST(nothing_changes_when_a_spawn_succeeds) {
    for (int number = 0; number < WAYS; number++)
        IN_CHILD {
            Config config;
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            be_particular();
            many_options(&config, ways[number].flags);
            succeed(&config);
            config.hook = let_it_go;
            succeed(&config);
        }
}

TEST(nothing_changes_when_a_spawn_changes_the_ids) {
    REQUIRE_ROOT();
    for (int number = 0; number < WAYS; number++)
        IN_CHILD {
            Config config;
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            be_particular();
            many_options(&config, ways[number].flags);
            config.identity.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID;
            config.identity.uid = TEST_UID;
            config.identity.gid = TEST_GID;
            CHECK_INT(prctl(PR_GET_DUMPABLE), 1);
            succeed(&config);
            CHECK_INT(prctl(PR_GET_DUMPABLE), 1);
        }
}

TEST(a_passed_fd_stays_cloexec_in_the_parent) {
    for (int number = 0; number < WAYS; number++) {
        Config config;
        struct spawned spawned;
        many_options(&config, ways[number].flags);
        int fd = config.pass_fds[0];
        CHECK(fd_is_cloexec(fd));
        spawn_well(&spawned, &config);
        CHECK(fd_is_cloexec(fd));
        end_child(&spawned);
        CHECK_INT(fcntl(fd, F_SETFD, 0), 0);
        spawn_well(&spawned, &config);
        CHECK(!fd_is_cloexec(fd));
        end_child(&spawned);
        CHECK_INT(fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
    }
}
