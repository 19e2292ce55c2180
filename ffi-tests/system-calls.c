/*
 * How many system calls a default daemonize makes, in each process: docs/system-calls.md tells what
 * each is for, so none is added unseen.
 */
#include <features.h>
#include <stdlib.h>

#include "tap.h"
#include "traced.h"

/* libc makes some of them. */
static void require_known_libc(void) {
#if !defined(__GLIBC__) || !__GLIBC_PREREQ(2, 35)
    SKIP_PLATFORM("counted with glibc 2.35 and later");
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP_PLATFORM("the sanitizer makes more");
#elif !defined(__x86_64__) && !defined(__aarch64__)
    SKIP_PLATFORM("the memory is copied twice here");
#endif
}

static void check_calls(uint32_t flags, const int expected[TRACE_OTHER]) {
    struct traced traced;
    require_known_libc();
    unsetenv("LISTEN_PID");
    unsetenv("SYSTEMD_EXEC_PID");
    traced_init(&traced);
    traced.config = (struct rdaemon_config){.flags = flags};
    for (int role = TRACE_ORIGINAL; role < TRACE_OTHER; role++)
        CHECK_INT(traced_calls(&traced, role), expected[role]);
}

TEST(a_default_daemonize_makes_as_many_calls_as_its_list_has) {
    check_calls(0, (const int[]){22, 3, 24});
}

TEST(with_the_classic_fork_it_makes_as_many_calls_as_its_list_has) {
    check_calls(RDAEMON_CLASSIC_FORK, (const int[]){22, 4, 23});
}
