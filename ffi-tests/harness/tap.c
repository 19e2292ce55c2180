#include "tap.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "probe.h"

enum { EXIT_SKIP = 77, DEFAULT_TIME_LIMIT_MS = 60000 };

/* What the processes of a case tell the runner. */
struct results {
    atomic_int checks;
    atomic_int failures;
    atomic_int skips;
    atomic_bool platform; /* the skip is allowed even when everything is required */
    atomic_size_t length;
    char skip_reason[256];
    char scratch[PATH_MAX];
    char log[64 * 1024];
};

static struct results *results;
static struct test *tests, **last_test = &tests;
static struct helper *helpers;
static bool in_helper;

void register_test(struct test *test) {
    *last_test = test;
    last_test = &test->next;
}

void register_helper(struct helper *helper) {
    helper->next = helpers;
    helpers = helper;
}

/* ---- checks ---- */

static void append_log(const char *format, va_list arguments) {
    char line[2048];
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    if (length < 0)
        return;
    if ((size_t)length > sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    if (in_helper) {
        dprintf(STDERR_FILENO, "%.*s", length, line);
        return;
    }
    size_t start = atomic_fetch_add(&results->length, (size_t)length);
    if (start + (size_t)length <= sizeof results->log)
        memcpy(results->log + start, line, (size_t)length);
}

void note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append_log(format, arguments);
    va_end(arguments);
}

void fail(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    note("%s:%d: failed in process %d:", file, line, (int)getpid());
    append_log(format, arguments);
    va_end(arguments);
    atomic_fetch_add(&results->failures, 1);
    _exit(EXIT_FAILURE);
}

void skip(bool platform, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(results->skip_reason, sizeof results->skip_reason, format, arguments);
    va_end(arguments);
    atomic_store(&results->platform, platform);
    atomic_fetch_add(&results->skips, 1);
    _exit(EXIT_SKIP);
}

void check_true(const char *file, int line, const char *text, int passed) {
    atomic_fetch_add(&results->checks, 1);
    if (!passed)
        fail(file, line, "    %s is false", text);
}

/* A negative errno is easier to read with its meaning. */
static const char *meaning(intmax_t value) {
    static char text[2][64];
    static int turn;
    turn = !turn;
    text[turn][0] = '\0';
    if (value < 0 && value > -134)
        snprintf(text[turn], sizeof text[turn], " (%s)", strerror((int)-value));
    return text[turn];
}

void check_int(const char *file, int line, const char *text, intmax_t actual, intmax_t expected) {
    atomic_fetch_add(&results->checks, 1);
    if (actual != expected)
        fail(file, line, "    %s\n    actual:   %jd%s\n    expected: %jd%s", text, actual,
             meaning(actual), expected, meaning(expected));
}

void check_str(const char *file, int line, const char *text, const char *actual,
               const char *expected) {
    atomic_fetch_add(&results->checks, 1);
    if (strcmp(actual, expected) != 0)
        fail(file, line, "    %s\n    actual:   \"%.700s\"\n    expected: \"%.700s\"", text, actual,
             expected);
}

int check_errno(const char *file, int line, const char *text, int result) {
    check_int(file, line, text, errno, ERRNO_CANARY);
    return result;
}

/* ---- processes of a case ---- */

pid_t fork_child(void) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        FAIL("fork: %s", strerror(errno));
    return pid;
}

bool join(const char *file, int line, pid_t child) {
    int status = wait_for_exit(child);
    /* The child has already recorded its own failure or skip: no second verdict. */
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0 &&
        (atomic_load(&results->failures) > 0 || atomic_load(&results->skips) > 0))
        _exit(WEXITSTATUS(status));
    check_int(file, line, "wait status of the child", status, 0);
    return false;
}

void *shared_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    return memory;
}

struct gate {
    atomic_uint is_open;
};

struct gate *gate_new(void) {
    return shared_memory(sizeof(struct gate));
}

void gate_open(struct gate *gate) {
    atomic_store(&gate->is_open, 1);
    syscall(SYS_futex, &gate->is_open, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void gate_wait(struct gate *gate) {
    while (!atomic_load(&gate->is_open))
        syscall(SYS_futex, &gate->is_open, FUTEX_WAIT, 0, NULL, NULL, 0);
}

void exec_helper(char **arguments) {
    execv("/proc/self/exe", arguments);
    FAIL("execv: %s", strerror(errno));
}

static int run_helper(char **arguments) {
    in_helper = true;
    for (struct helper *helper = helpers; helper; helper = helper->next)
        if (strcmp(helper->name, arguments[0]) == 0)
            return helper->run(arguments + 1);
    fprintf(stderr, "no helper named %s\n", arguments[0]);
    return EXIT_FAILURE;
}

const char *scratch(void) {
    if (results->scratch[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/rdaemon-test-XXXXXX", parent ? parent : "/tmp");
        if (!mkdtemp(path) || chmod(path, 0755) != 0)
            FAIL("%s: %s", path, strerror(errno));
        strcpy(results->scratch, path);
    }
    return results->scratch;
}

const char *scratch_path(const char *name) {
    static char paths[8][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    if (snprintf(path, PATH_MAX, "%s/%s", scratch(), name) >= PATH_MAX)
        FAIL("the path of %s is too long", name);
    return path;
}

/* ---- the runner ---- */

static _Noreturn void bail_out(const char *what) {
    printf("Bail out! %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

/* By system call, as libc keeps its hands over 32 and 33, which posix_spawn leaves ignored. But
 * when the runner has a thread, a sanitizer's, they have libc's handlers, and need them. */
static void reset_signals(void) {
    static const unsigned long all_default[8], no_signal[2];
    for (int signal_number = 1; signal_number <= 64; signal_number++) {
        unsigned long now[8] = {0};
        if (signal_number == 32 || signal_number == 33)
            syscall(SYS_rt_sigaction, signal_number, NULL, now, 8);
        if (now[0] <= (unsigned long)SIG_IGN)
            syscall(SYS_rt_sigaction, signal_number, all_default, NULL, 8);
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, no_signal, NULL, 8);
}

/* The known state that every case starts from, whatever started the runner. */
static void clean_slate(void) {
    reset_signals();
    umask(022);
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    if (syscall(SYS_close_range, 3, ~0U, 0) != 0)
        for (int fd = 3; fd < 1024; fd++)
            close(fd);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static _Noreturn void run_case(const struct test *test) {
    if (test->listed)
        SKIP_PLATFORM("%s", test->listed);
    clean_slate();
    test->run();
    _exit(EXIT_SUCCESS);
}

/* Returns whether the process ended in time; it is dead and reaped in any case. Without a pidfd, as
 * valgrind has none. */
static bool wait_with_limit(pid_t pid, int limit_ms, int *status) {
    struct timespec now, end;
    sigset_t child_ended;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_ended, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += limit_ms / 1000 + 1;
    for (;;) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= end.tv_sec)
            break;
        sigtimedwait(&child_ended, NULL, &(struct timespec){.tv_sec = end.tv_sec - now.tv_sec});
    }
    kill(pid, SIGKILL);
    waitpid(pid, status, 0);
    return false;
}

/* Kills and reaps everything the case left behind; returns how many were still alive. */
static int sweep_strays(void) {
    int alive = 0;
    for (pid_t child; (child = first_child_of(getpid())) > 0;) {
        alive += process_state(child) != 'Z';
        kill(child, SIGKILL); /* a zombie, too, may have threads that live */
        waitpid(child, NULL, __WALL);
    }
    return alive;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static void print_log(void) {
    size_t length = atomic_load(&results->length);
    if (length > sizeof results->log)
        length = sizeof results->log;
    for (char *line = results->log, *end = line + length; line < end;) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t size = newline ? (size_t)(newline - line) : (size_t)(end - line);
        printf("# %.*s\n", (int)size, line);
        line += size + 1;
    }
}

/* Prints what is wrong with a case that ended with `status`; returns whether anything is. */
static bool went_wrong(const struct test *test, bool in_time, int status, int strays) {
    bool wrong = atomic_load(&results->failures) > 0;
    if (!in_time)
        wrong = printf("# time limit exceeded\n");
    else if (WIFSIGNALED(status))
        wrong =
            printf("# killed by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_SKIP && !wrong)
        wrong = printf("# exited with %d\n", WEXITSTATUS(status));
    if (strays > 0 && !test->leaves_strays && atomic_load(&results->skips) == 0)
        wrong = printf("# left %d living processes behind\n", strays);
    if (atomic_load(&results->checks) == 0 && atomic_load(&results->skips) == 0)
        wrong = printf("# made no check\n");
    return wrong;
}

static bool report(const struct test *test, int number, bool in_time, int status, int strays) {
    const char *all = getenv("RDAEMON_REQUIRE_ALL");
    bool require_all = all && strcmp(all, "1") == 0 && !atomic_load(&results->platform);
    bool skipped =
        atomic_load(&results->skips) > 0 || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP);
    bool wrong = went_wrong(test, in_time, status, strays) || (skipped && require_all);
    print_log();
    printf("%s %d - %s", wrong ? "not ok" : "ok", number, test->name);
    if (skipped)
        printf(wrong ? " (skipped: %s)" : " # SKIP %s", results->skip_reason);
    putchar('\n');
    return !wrong;
}

static int time_limit_ms(const struct test *test) {
    const char *patience = getenv("RDAEMON_PATIENCE");
    int limit = test->time_limit_ms ? test->time_limit_ms : DEFAULT_TIME_LIMIT_MS;
    return patience ? limit * atoi(patience) : limit;
}

static bool run_test(const struct test *test, int number) {
    int status;
    memset(results, 0, sizeof *results);
    pid_t pid = fork_child();
    if (pid == 0)
        run_case(test);
    bool in_time = wait_with_limit(pid, time_limit_ms(test), &status);
    int strays = sweep_strays();
    if (results->scratch[0])
        nftw(results->scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return report(test, number, in_time, status, strays);
}

static void mark_as_listed(const char *name, const char *reason) {
    struct test *test = tests;
    while (test && strcmp(test->name, name) != 0)
        test = test->next;
    if (!test) {
        printf("Bail out! %s is listed, and is no case\n", name);
        exit(EXIT_FAILURE);
    }
    test->listed = strdup(reason);
}

static void read_skips(const char *path) {
    char line[512], program[64], name[128], reason[256];
    FILE *list = fopen(path, "re");
    if (!list)
        bail_out(path);
    while (fgets(line, sizeof line, list))
        if (sscanf(line, "%63s %127s %255[^\n]", program, name, reason) == 3 &&
            strcmp(program, program_invocation_short_name) == 0)
            mark_as_listed(name, reason);
    fclose(list);
}

int main(int argc, char **argv) {
    results =
        mmap(NULL, sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED)
        bail_out("mmap");
    if (argc > 2 && strcmp(argv[1], "--helper") == 0)
        return run_helper(argv + 2);
    if (getenv("RDAEMON_SKIPS"))
        read_skips(getenv("RDAEMON_SKIPS"));

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int number = 0, failed = 0;
    for (struct test *test = tests; test; test = test->next)
        if (argc < 2 || strstr(test->name, argv[1]))
            failed += !run_test(test, ++number);
    printf("1..%d\n", number);
    if (number == 0)
        printf("Bail out! no case was run\n");
    return failed > 0 || number == 0;
}
