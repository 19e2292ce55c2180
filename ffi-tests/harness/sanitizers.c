/*
 * What AddressSanitizer and ThreadSanitizer are to leave alone where these programs are built with
 * them. Here, as some run without an environment.
 *
 * The cases compare signal dispositions, signal stacks and limits with what they have set. Leaks
 * are looked for at exit(3) only, by ptrace(2), and of a library that never allocates. A process
 * that a threaded one has forked may have threads.
 */

const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__tsan_default_suppressions(void);

#define BOTH                                                                                       \
    "exitcode=99:disable_coredump=0:use_sigaltstack=0:handle_segv=0:handle_sigbus=0:"              \
    "handle_sigfpe=0:handle_sigill=0:handle_abort=0"

const char *__asan_default_options(void) {
    return BOTH ":detect_leaks=0";
}

const char *__tsan_default_options(void) {
    return BOTH ":die_after_fork=0:atexit_sleep_ms=0:report_thread_leaks=0";
}

#define RACE(name) "race:^" name "$\nrace:^__interceptor_" name "$\n"

/* The library closes fds by raw system calls, which ThreadSanitizer does not see: to it a number
 * that another thread gets next is one that two threads have at once. */
const char *__tsan_default_suppressions(void) {
    return RACE("pipe2") RACE("socketpair") RACE("socket") RACE("fcntl") RACE("close");
}
