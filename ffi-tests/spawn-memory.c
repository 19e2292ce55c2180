/*
 * The memory that starting a program takes: a little of the caller's stack, and none besides. The
 * stack is measured by painting it; the heap by counting in the place of malloc, and mappings by
 * holding the system calls that make them.
 */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "failing.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

#define MISSING "/nonexistent/rdaemon"

/* ---- stack ---- */

enum { PAINTED = 64 * 1024, PAINT = 0xc5, RED_ZONE = 128, CHILD_MOST = 4096 };

/* What the comments of the functions tell. */
enum {
    SPAWN_MOST = 16 * 1024,
    COMMUNICATE_MOST = 18 * 1024,
    RUN_MOST = 32 * 1024,
    FIND_COMMAND_MOST = 5 * 1024,
};

/* Another thread looks at the stack of this one while its system call is held. */
static struct painter {
    pthread_t thread;
    sem_t ready;
    int fd;
    pid_t caller;
    unsigned char *top, *bottom; /* what is painted */
    size_t before, child;        /* bytes used: down from the top until the child is made, and by
                                    the child from there */
    const unsigned char *birth;  /* the stack pointer when the child is made */
} painter;

static size_t depth(const unsigned char *from) {
    const unsigned char *p = painter.bottom;
    while (p < from && *p == PAINT)
        p++;
    return (size_t)(from - p);
}

/* The stack pointer of a thread in a system call: the last but one number. */
static const unsigned char *stack_pointer(pid_t tid) {
    char path[64];
    unsigned long pointer = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)tid);
    if (access(path, R_OK) != 0)
        SKIP_PLATFORM("%s: %s", path, strerror(errno));
    if (sscanf(file_text(path), "%*s %*s %*s %*s %*s %*s %*s %lx", &pointer) != 1)
        FAIL("%s: %s", path, file_text(path));
    return (const unsigned char *)pointer;
}

static void at_birth(void) {
    painter.birth = stack_pointer(painter.caller);
    CHECK(painter.birth > painter.bottom && painter.birth < painter.top);
    painter.before = depth(painter.top);
    memset(painter.bottom, PAINT, (size_t)(painter.birth - RED_ZONE - painter.bottom));
}

/* What the child has used until its end, or its exec. */
static void at_end(void) {
    size_t used = depth(painter.birth);
    if (used > painter.child)
        painter.child = used;
}

/* As long as the process lives, whose end is held too. */
static void *paint(void *unused) {
    while (sem_wait(&painter.ready) != 0)
        ;
    for (;;) {
        struct held_call call = held_next(painter.fd);
        if (call.pid != painter.caller)
            at_end();
        else if (call.number != SYS_exit_group)
            at_birth();
        held_release(painter.fd, &call);
    }
    return unused;
}

/* After a first spawn, which may try out more than the later ones. */
static void start_painter(void) {
    static const long calls[] = {SYS_clone3, SYS_clone, SYS_execve, SYS_exit, SYS_exit_group};
    Config config = {.argv = STRINGS("/bin/true")};
    struct spawned first;
    spawn_well(&first, &config);
    CHECK_INT(reap(&first), 0);
    painter.caller = gettid();
    CHECK_INT(sem_init(&painter.ready, 0, 0), 0);
    CHECK_INT(pthread_create(&painter.thread, NULL, paint, NULL), 0);
    painter.fd = hold_syscalls(calls, sizeof calls / sizeof *calls);
    sem_post(&painter.ready);
}

static __attribute__((noinline)) void paint_below(void) {
    volatile unsigned char area[PAINTED];
    for (size_t i = 0; i < sizeof area; i++)
        area[i] = PAINT;
    painter.bottom = (unsigned char *)area + 1024; /* what this frame itself needs lies around */
    painter.top = (unsigned char *)area + sizeof area;
}

static __attribute__((noinline)) int
spawn_painted(const Config *config, struct rdaemon_child *child, struct rdaemon_status *status) {
    paint_below();
    painter.birth = NULL;
    painter.before = painter.child = 0;
    return rdaemon_spawn(RDAEMON_SIZED(config), child, sizeof *child, status, sizeof *status);
}

/* All that a child on shared memory can be asked to do. */
static void fast_options(Config *config) {
    static const char *const paths[] = {MISSING, "/dev/null/x", "/bin/true", NULL};
    many_options(config, 0);
    config->paths = paths;
    if (geteuid() == 0)
        config->chroot_directory = "/";
}

static void check_depth(const char *what) {
    CHECK(painter.birth != NULL);

    NOTE("%s: the call used %zu bytes of stack, its child %zu", what, painter.before,
         painter.child);
    CHECK(painter.before > 0 && painter.child > 0);
    CHECK(painter.child <= CHILD_MOST);
    CHECK(painter.before <= SPAWN_MOST);
}

TEST(a_child_uses_little_of_its_callers_stack) {
    Config config, plain = {.argv = STRINGS("/bin/true")};
    struct rdaemon_child child;
    struct rdaemon_status status;
    fast_options(&config);
    start_painter();

    int pid = spawn_painted(&plain, &child, &status);
    CHECK(pid > 0);
    CHECK_INT(wait_for_exit(pid), 0);
    check_depth("a plain spawn");

    pid = spawn_painted(&config, &child, &status);
    CHECK(pid > 0);
    CHECK_INT(wait_for_exit(pid), 0);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    check_depth("every option");

    plain.flags = RDAEMON_SPAWN_DETACHED;
    pid = spawn_painted(&plain, &child, &status);
    CHECK(pid > 0);
    CHECK_INT(wait_for_exit(pid), 0);
    check_depth("detached");

    config.argv = config.paths = STRINGS(MISSING);
    CHECK_INT(spawn_painted(&config, &child, &status), -ENOENT);
    check_depth("a missing program");

    config.working_directory = MISSING;
    CHECK_INT(spawn_painted(&config, &child, &status), -ENOENT);
    CHECK_INT(status.step, RDAEMON_STEP_CHDIR);
    check_depth("a missing directory");
}

/* The fall-backs of a child, which have to look for its fds themselves. */
TEST(a_child_uses_little_of_its_callers_stack_without_close_range) {
    Config config;
    struct rdaemon_child child;
    struct rdaemon_status status;
    fast_options(&config);
    deny_syscall(SYS_close_range, ENOSYS);
    start_painter();
    int pid = spawn_painted(&config, &child, &status);
    CHECK(pid > 0);
    CHECK_INT(wait_for_exit(pid), 0);
    check_depth("without close_range");
}

/* Evaluates to the call's result, after checking how much of the stack it used. */
#define USES_AT_MOST(most, call)                                                                   \
    ({                                                                                             \
        paint_below();                                                                             \
        int result_ = (call);                                                                      \
        size_t used_ = depth(painter.top);                                                         \
        NOTE("%zu bytes of stack: %.*s", used_, (int)strcspn(#call, "("), #call);                  \
        CHECK(used_ > 0 && used_ <= (most));                                                       \
        result_;                                                                                   \
    })

TEST(the_calls_use_the_stack_that_their_comments_tell) {
    static char output[64];
    char path[256];
    Config config = {.argv = STRINGS("/bin/cat")}, missing = {.argv = STRINGS(MISSING)};
    struct rdaemon_communication communication = {
        .flags = RDAEMON_COMMUNICATE_UNTIL_EXIT | RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES,
        .input = "text",
        .input_len = 4,
        .outputs = {{.buffer = output, .size = sizeof output}, {0}}};
    struct rdaemon_communication again = communication;
    struct rdaemon_child child;
    struct rdaemon_exit end;
    CHECK(rdaemon_find_command("sh", NULL, path, sizeof path) > 0); /* binds symbols */
    int length = USES_AT_MOST(FIND_COMMAND_MOST,
                              rdaemon_find_command("sh", "/nonexistent:/bin", path, sizeof path));
    CHECK(length > 0);
    for (int i = 0; i < 3; i++)
        config.streams[i].action = RDAEMON_STREAM_PIPE;
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0) > 0);
    int result =
        USES_AT_MOST(COMMUNICATE_MOST, rdaemon_communicate(RDAEMON_SIZED(&child),
                                                           RDAEMON_SIZED(&communication), 10000));
    CHECK_INT(result, RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    result = USES_AT_MOST(RUN_MOST, rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&again),
                                                10000, RDAEMON_SIZED(&end), NULL, 0));
    CHECK_INT(result, 0);
    CHECK_STR(output, "text");
    IN_CHILD {
        result = USES_AT_MOST(SPAWN_MOST, rdaemon_exec(RDAEMON_SIZED(&missing), NULL, 0));
        CHECK_INT(result, -ENOENT);
    }
}

/* ---- heap ---- */

static atomic_long heap_calls;

#ifdef __GLIBC__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

void *malloc(size_t size) {
    atomic_fetch_add(&heap_calls, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    atomic_fetch_add(&heap_calls, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    atomic_fetch_add(&heap_calls, 1);
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
    atomic_fetch_add(&heap_calls, 1);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    *memory = memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

void free(void *memory) {
    atomic_fetch_add(&heap_calls, 1);
    __libc_free(memory);
}
#endif

static void require_counting(void) {
    long before = atomic_load(&heap_calls);
    void *volatile memory = malloc(16);
    free(memory);
    if (atomic_load(&heap_calls) == before)
        SKIP_PLATFORM("this libc's malloc cannot be replaced so");
    CHECK_INT(atomic_load(&heap_calls), before + 2);
}

/* Maps that the calls make, seen by another thread, as the programs make some too. */
static struct {
    pthread_t thread;
    sem_t ready;
    int fd;
    pid_t caller;
    atomic_int count;
} maps;

static void *count_maps(void *unused) {
    while (sem_wait(&maps.ready) != 0)
        ;
    for (;;) {
        struct held_call call = held_next(maps.fd);
        bool is_over = call.pid == maps.caller && call.number == SYS_getpgid;
        if (call.pid == maps.caller && !is_over)
            atomic_fetch_add(&maps.count, 1);
        held_release(maps.fd, &call);
        if (is_over)
            return unused;
    }
}

static void start_counting_maps(void) {
    static const long calls[] = {SYS_mmap, SYS_brk, SYS_mremap, SYS_getpgid};
    maps.caller = gettid();
    CHECK_INT(sem_init(&maps.ready, 0, 0), 0);
    CHECK_INT(pthread_create(&maps.thread, NULL, count_maps, NULL), 0);
    maps.fd = hold_syscalls(calls, 4);
    sem_post(&maps.ready);
}

static void end_counting_maps(void) {
    CHECK(getpgid(0) >= 0);
    CHECK_INT(pthread_join(maps.thread, NULL), 0);
    CHECK_INT(close(maps.fd), 0);
}

/* Checks that the call takes neither heap nor a map, and has the result. */
#define TAKES_NOTHING(call, result)                                                                \
    do {                                                                                           \
        long heap_ = atomic_load(&heap_calls);                                                     \
        int maps_ = atomic_load(&maps.count);                                                      \
        int result_ = QUIET(call);                                                                 \
        CHECK_INT(atomic_load(&heap_calls), heap_);                                                \
        CHECK_INT(atomic_load(&maps.count), maps_);                                                \
        CHECK_INT(result_ > 0 ? 1 : result_, result);                                              \
    } while (0)

static int hook(void *context) {
    (void)context;
    return 0;
}

static int sink(void *context, const char *bytes, size_t length) {
    (void)bytes;
    *(size_t *)context += length;
    return 0;
}

static struct rdaemon_child child;
static struct rdaemon_status status;
static struct rdaemon_exit end;

#define SPAWN(config)                                                                              \
    rdaemon_spawn(RDAEMON_SIZED(config), RDAEMON_SIZED(&child), RDAEMON_SIZED(&status))

static void spawn_each_way(void) {
    static const uint32_t ways[] = {0, RDAEMON_SPAWN_FORCE_FORK, RDAEMON_SPAWN_DETACHED, 0};
    for (int i = 0; i < 4; i++) {
        Config config;
        many_options(&config, ways[i]);
        config.hook = i == 3 ? hook : NULL;
        TAKES_NOTHING(SPAWN(&config), 1);
        CHECK_INT(close(many_options_pipe), 0);
        if (ways[i] & RDAEMON_SPAWN_DETACHED)
            CHECK_INT(wait_for_exit(child.pid), 0);
        else
            TAKES_NOTHING(rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end)), 0);
        TAKES_NOTHING(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
        CHECK_INT(unlink(scratch_path("output")), 0);
        config.working_directory = MISSING;
        TAKES_NOTHING(SPAWN(&config), -ENOENT);
        config.working_directory = NULL;
        config.argv = STRINGS(MISSING);
        TAKES_NOTHING(SPAWN(&config), -ENOENT);
        config.flags |= 1U << 31;
        TAKES_NOTHING(SPAWN(&config), -EINVAL);
    }
}

static void change_ids(void) {
    Config config = {.argv = STRINGS("/bin/true"),
                     .identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID,
                                  .uid = geteuid() == 0 ? TEST_UID : geteuid(),
                                  .gid = geteuid() == 0 ? TEST_GID : getegid()}};
    if (geteuid() != 0)
        config.identity.flags |= RDAEMON_IDENTITY_KEEP_GROUPS;
    TAKES_NOTHING(SPAWN(&config), 1);
    TAKES_NOTHING(rdaemon_child_wait(RDAEMON_SIZED(&child), 10000, RDAEMON_SIZED(&end)), 0);
    TAKES_NOTHING(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
}

static void signal_and_stop(void) {
    Config config = {.flags = RDAEMON_SPAWN_PIDFD,
                     .argv = STRINGS("/bin/cat"),
                     .streams[0].action = RDAEMON_STREAM_PIPE};
    TAKES_NOTHING(SPAWN(&config), 1);
    TAKES_NOTHING(rdaemon_child_wait(RDAEMON_SIZED(&child), 0, RDAEMON_SIZED(&end)), -ETIMEDOUT);
    TAKES_NOTHING(rdaemon_child_wait(RDAEMON_SIZED(&child), 1, RDAEMON_SIZED(&end)), -ETIMEDOUT);
    TAKES_NOTHING(rdaemon_child_signal(RDAEMON_SIZED(&child), SIGCONT), 0);
    TAKES_NOTHING(rdaemon_child_stop(RDAEMON_SIZED(&child), -1, -1, RDAEMON_SIZED(&end)), 0);
    TAKES_NOTHING(rdaemon_child_signal(RDAEMON_SIZED(&child), SIGCONT), -ESRCH);
    TAKES_NOTHING(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
}

static void communicate(void) {
    static char input[200 * 1024], output[150 * 1024];
    size_t taken = 0;
    Config config = {.argv = STRINGS("/bin/sh", "-c", "tee /dev/stderr"),
                     .streams = {{.action = RDAEMON_STREAM_PIPE},
                                 {.action = RDAEMON_STREAM_PIPE},
                                 {.action = RDAEMON_STREAM_PIPE}}};
    struct rdaemon_communication communication = {
        .flags = RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES | RDAEMON_COMMUNICATE_UNTIL_EXIT,
        .input = input,
        .input_len = sizeof input,
        .outputs = {{.buffer = output, .size = sizeof output}, {.sink = sink, .context = &taken}}};
    memset(input, 'x', sizeof input);
    TAKES_NOTHING(SPAWN(&config), 1);
    TAKES_NOTHING(rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&communication), -1), 1);
    communication.outputs[0].len = 0;
    TAKES_NOTHING(rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&communication), -1), 0);
    CHECK_INT(taken, sizeof input);
    TAKES_NOTHING(rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end)), 0);
    TAKES_NOTHING(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
}

static void run(void) {
    static char output[16];
    Config config = {.argv = STRINGS("/bin/cat")};
    struct rdaemon_communication communication = {
        .input = "text", .input_len = 4, .outputs[0] = {.buffer = output, .size = sizeof output}};
    TAKES_NOTHING(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&communication), -1,
                              RDAEMON_SIZED(&end), RDAEMON_SIZED(&status)),
                  0);
    CHECK_STR(output, "text");
    config.argv = STRINGS("/bin/sleep", "100");
    TAKES_NOTHING(rdaemon_run(RDAEMON_SIZED(&config), NULL, 0, 1, RDAEMON_SIZED(&end),
                              RDAEMON_SIZED(&status)),
                  -ETIMEDOUT);
}

static void look_up(void) {
    char path[256];
    const char *argv[16];
    TAKES_NOTHING(rdaemon_find_command("sh", NULL, path, sizeof path), 1);
    TAKES_NOTHING(rdaemon_find_command("sh", "/nonexistent:/bin", path, sizeof path), 1);
    TAKES_NOTHING(rdaemon_find_command("no such command", NULL, path, sizeof path), -ENOENT);
    TAKES_NOTHING(rdaemon_sudo_argv("root", STRINGS("true"), argv, 16), 1);
}

/* In a process of its own, as it would replace this one. */
static void execute(void) {
    IN_CHILD {
        Config config = {.argv = STRINGS(MISSING)};
        maps.caller = gettid();
        long heap = atomic_load(&heap_calls);
        CHECK_INT(rdaemon_exec(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status)), -ENOENT);
        CHECK_INT(atomic_load(&heap_calls), heap);
    }
}

TEST(no_call_takes_memory) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    Config config;
    many_options(&config, 0); /* makes what it needs for good */
    require_counting();
    start_counting_maps();
    void *volatile block = malloc(4 << 20);
    free(block);
    CHECK(atomic_load(&maps.count) > 0);
    spawn_each_way();
    change_ids();
    signal_and_stop();
    communicate();
    run();
    look_up();
    execute();
    end_counting_maps();
}
