/*
 * Daemons and programs that some threads start while others allocate, print, change ids, fork and
 * use a lock that handlers of pthread_atfork(3) look after. Nobody waits for ever, and in the
 * daemon all of that works too.
 *
 * RDAEMON_ROUNDS is how often something is started: 1000.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "crew.h"
#include "probe.h"
#include "rdaemon.h"
#include "tap.h"

enum { CALLERS = 4, OTHERS = 5 };

static atomic_bool over;
static atomic_long rounds_begun;
static long rounds;
static FILE *sink;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- what needs a lock ---- */

static void take_lock(void) {
    pthread_mutex_lock(&lock);
}

static void give_lock(void) {
    pthread_mutex_unlock(&lock);
}

static void allocate_some(unsigned *seed) {
    char *volatile memory = malloc((size_t)(rand_r(seed) % 300000) + 1);
    memory[0] = 1;
    free(memory);
}

static void print_some(void) {
    fprintf(sink, "%d of %s\n", 1, "these");
    FILE *another = fopen("/dev/null", "we");
    CHECK(another && fclose(another) == 0);
}

static void change_ids(void) {
    CHECK_INT(setresuid(getuid(), geteuid(), geteuid()), 0);
    CHECK_INT(setresgid(getgid(), getegid(), getegid()), 0);
}

static void use_all_locks(void) {
    unsigned seed = (unsigned)getpid();
    allocate_some(&seed);
    print_some();
    change_ids();
    take_lock();
    give_lock();
}

/* ---- the other threads ---- */

static void keep_allocating(struct hand *hand) {
    for (; !over; take_turn(hand, "malloc"))
        allocate_some(&hand->seed);
}

static void keep_printing(struct hand *hand) {
    for (; !over; take_turn(hand, "fprintf"))
        print_some();
}

static void keep_changing_ids(struct hand *hand) {
    for (; !over; take_turn(hand, "setresuid"))
        change_ids();
}

static void keep_locking(struct hand *hand) {
    for (; !over; take_turn(hand, "mutex")) {
        take_lock();
        allocate_some(&hand->seed);
        give_lock();
    }
}

static void keep_forking(struct hand *hand) {
    for (; !over; take_turn(hand, "fork")) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            use_all_locks();
            _exit(0);
        }
        CHECK_INT(wait_for_exit(child), 0);
    }
}

/* ---- the callers ---- */

static int hook(void *context) {
    (void)context;
    return 0;
}

static void spawn_one(uint32_t flags, const char *program, int (*its_hook)(void *)) {
    struct rdaemon_spawn_config config = {
        .flags = flags, .argv = (const char *const[]){program, NULL}, .hook = its_hook};
    struct rdaemon_child child;
    int result = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0);
    if (program[1] == 'n') {
        CHECK_INT(result, -ENOENT);
        return;
    }
    CHECK(result > 0);
    CHECK_INT(wait_for_exit(result), 0);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
}

#define PROGRAM "/bin/true"
#define NO_PROGRAM "/nonexistent/rdaemon"

static void spawn_shared(long round) {
    spawn_one(0, round & 8 ? PROGRAM : NO_PROGRAM, NULL);
}

static void spawn_on_a_copy(long round) {
    spawn_one(RDAEMON_SPAWN_FORCE_FORK, round & 8 ? PROGRAM : NO_PROGRAM, NULL);
}

static void spawn_with_hook(long round) {
    spawn_one(0, round & 8 ? PROGRAM : NO_PROGRAM, hook);
}

static void spawn_detached(long round) {
    spawn_one(RDAEMON_SPAWN_DETACHED, round & 8 ? PROGRAM : NO_PROGRAM, NULL);
}

static void in_the_daemon_or_after(int result) {
    CHECK(result >= 0);
    if (result == 0) {
        use_all_locks();
        _exit(0);
    }
    CHECK_INT(wait_for_exit(result), 0);
}

static void double_fork(long round) {
    (void)round;
    in_the_daemon_or_after(rdaemon_double_fork(NULL));
}

static void daemonize(long round) {
    (void)round;
    in_the_daemon_or_after(rdaemon_daemonize(NULL, 0, NULL, 0, NULL, 0));
}

static int run(void *context, const struct rdaemon_daemon *daemon) {
    (void)context, (void)daemon;
    use_all_locks();
    return 0;
}

/* A pidfile of its own: what another thread forks meanwhile holds that. */
static void control_start(long round) {
    char path[512];
    snprintf(path, sizeof path, "%s/%ld", scratch(), round);
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = {.run = run};
    int result =
        rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker), NULL, 0, NULL, 0);
    CHECK(result > 0);
    CHECK_INT(wait_for_exit(result), 0);
    CHECK(access(path, F_OK) != 0);
}

static const struct {
    const char *name;
    void (*start)(long round);
} ways[] = {
    {"spawn on shared memory", spawn_shared},
    {"spawn on a copy", spawn_on_a_copy},
    {"spawn with a hook", spawn_with_hook},
    {"spawn detached", spawn_detached},
    {"double_fork", double_fork},
    {"daemonize", daemonize},
    {"control_start", control_start},
};
enum { WAYS = sizeof ways / sizeof *ways };

static void keep_starting(struct hand *hand) {
    for (long round; (round = rounds_begun++) < rounds;) {
        take_turn(hand, ways[round % WAYS].name);
        ways[round % WAYS].start(round);
    }
}

/* The limit is no verdict: who is stuck is known long before. */
TEST(no_thread_waits_for_ever, .time_limit_ms = 3600000) {
    struct hand callers[CALLERS] = {{0}};
    struct hand others[OTHERS] = {
        {.name = "allocates", .work = keep_allocating},
        {.name = "prints", .work = keep_printing},
        {.name = "changes ids", .work = keep_changing_ids},
        {.name = "locks", .work = keep_locking},
        {.name = "forks", .work = keep_forking},
    };
    rounds = setting("RDAEMON_ROUNDS", 1000);
    scratch();
    sink = fopen("/dev/null", "we");
    CHECK(sink);
    CHECK_INT(pthread_atfork(take_lock, give_lock, give_lock), 0);
    for (int i = 0; i < CALLERS; i++)
        callers[i] = (struct hand){.name = "starts", .work = keep_starting};
    crew_start(others, OTHERS);
    crew_start(callers, CALLERS);
    crew_join(callers, CALLERS);
    over = true;
    crew_join(others, OTHERS);
    for (int i = 0; i < OTHERS; i++) {
        NOTE("%s: %ld times", others[i].name, atomic_load(&others[i].turns));
        CHECK(others[i].turns > 0);
    }
    NOTE("%ld rounds of starts", rounds);
    CHECK(fclose(sink) == 0);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_INT(waitpid(-1, NULL, __WALL), -1);
}
