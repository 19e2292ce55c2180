/*
 * tap.h: the test runner. Each case runs in a forked child of its own; results are TAP on stdout.
 *
 *     #include "rdaemon.h"
 *     #include "tap.h"
 *
 *     TEST(setsid_makes_a_leader) {
 *         CHECK_INT(rdaemon_setsid(), getpid());
 *     }
 *
 * Write no main() and no list of cases: TEST registers itself. A case passes when it made at least
 * one check, no check failed in any process of the case, it ended with status 0, and it left no
 * living process behind, unless it was skipped.
 *
 * A failed check ends the process it failed in. Results live in memory shared by the runner and
 * every process forked below it, because the code under test may close every descriptor, change
 * the root and drop every privilege: checks work in the daemon just as they do in the case.
 *
 * A case starts with fd 0 on /dev/null, 1 and 2 on stderr and nothing else open, no signal blocked
 * or handled, umask 022, and as a child subreaper: it can wait for any process below it.
 *
 * Usage: program [substring of the names of the cases to run]
 *
 * RDAEMON_SKIPS is a file of lines "program case reason": each of these cases is a SKIP_PLATFORM,
 * and must exist. RDAEMON_PATIENCE is how many times as long as they say time limits are.
 */
#ifndef TAP_H
#define TAP_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

struct test {
    const char *name;
    void (*run)(void);
    int time_limit_ms;  /* 0: a minute */
    bool leaves_strays; /* processes that outlive the case are killed without a word */
    const char *listed; /* the reason that RDAEMON_SKIPS has */
    struct test *next;
};

/* Defines a case: TEST(name) { ... } or TEST(name, .time_limit_ms = 30000) { ... } */
#define TEST(test_name, ...)                                                                       \
    static void test_name(void);                                                                   \
    __attribute__((constructor)) static void test_name##_register(void) {                          \
        static struct test test = {.name = #test_name, .run = test_name, __VA_ARGS__};             \
        register_test(&test);                                                                      \
    }                                                                                              \
    static void test_name(void)

struct helper {
    const char *name;
    int (*run)(char **arguments);
    struct helper *next;
};

/*
 * Defines a program inside the program, for cases that need an execve: HELPER(name) { ... } returns
 * the exit status and sees the NULL-terminated `arguments`. Its failed checks go to stderr and
 * make it exit with 1.
 */
#define HELPER(helper_name)                                                                        \
    static int helper_name(char **arguments);                                                      \
    __attribute__((constructor)) static void helper_name##_register(void) {                        \
        static struct helper helper = {.name = #helper_name, .run = helper_name};                  \
        register_helper(&helper);                                                                  \
    }                                                                                              \
    static int helper_name(__attribute__((unused)) char **arguments)

/* Replaces this process by the named helper: EXEC_HELPER(name, "argument", ...) */
#define EXEC_HELPER(helper_name, ...)                                                              \
    exec_helper((char *[]){"helper", "--helper", #helper_name, ##__VA_ARGS__, NULL})

#define LENGTH(array) (sizeof(array) / sizeof *(array))

#define CHECK(condition) check_true(__FILE__, __LINE__, #condition, (condition) ? 1 : 0)
#define CHECK_INT(actual, expected)                                                                \
    check_int(__FILE__, __LINE__, #actual, (intmax_t)(actual), (intmax_t)(expected))
#define CHECK_STR(actual, expected) check_str(__FILE__, __LINE__, #actual, (actual), (expected))

/* Evaluates to `call`, after checking that it left errno as it was. */
#define QUIET(call) (errno = ERRNO_CANARY, check_errno(__FILE__, __LINE__, #call, (call)))
#define ERRNO_CANARY 4242

#define FAIL(...) fail(__FILE__, __LINE__, __VA_ARGS__)

/* Ends the case without a verdict. RDAEMON_REQUIRE_ALL=1 makes a failure of it. */
#define SKIP(...) skip(false, __VA_ARGS__)

/* The same for what this platform can never offer: allowed even under RDAEMON_REQUIRE_ALL=1. */
#define SKIP_PLATFORM(...) skip(true, __VA_ARGS__)

#define REQUIRE_ROOT()                                                                             \
    do {                                                                                           \
        if (geteuid() != 0)                                                                        \
            SKIP("needs root");                                                                    \
    } while (0)

/* Adds a diagnostic line to the output of the case, from any of its processes. */
#define NOTE(...) note(__VA_ARGS__)

/* Runs the block that follows in a forked child and checks that it reaches its end. */
#define IN_CHILD                                                                                   \
    for (pid_t child_ = fork_child(); child_ == 0 || join(__FILE__, __LINE__, child_); _exit(0))

void register_test(struct test *test);
void register_helper(struct helper *helper);
void check_true(const char *file, int line, const char *text, int passed);
void check_int(const char *file, int line, const char *text, intmax_t actual, intmax_t expected);
void check_str(const char *file, int line, const char *text, const char *actual,
               const char *expected);
int check_errno(const char *file, int line, const char *text, int result);
_Noreturn void fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void skip(bool platform, const char *format, ...) __attribute__((format(printf, 2, 3)));
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void exec_helper(char **arguments);

/* fork(), with a failure being a failed check and stdio flushed before. */
pid_t fork_child(void);
/* Waits for a child that must exit with 0; always false, which is what IN_CHILD needs. */
bool join(const char *file, int line, pid_t child);

/* Zeroed memory that this process shares with those it forks from now on. */
void *shared_memory(size_t size);

/* A gate between processes, which no sweep of descriptors closes. It opens once and stays open. */
struct gate;
struct gate *gate_new(void);
void gate_open(struct gate *gate);
void gate_wait(struct gate *gate);

/* The case's own directory, mode 0755, made on first use and removed by the runner. */
const char *scratch(void);
/* A path below it; the text is valid until the eighth call after this one. */
const char *scratch_path(const char *name);

#endif
