#include "rdaemon.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

static void check_core_limit(rlim_t expected) {
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_CORE, &limit), 0);
    CHECK_INT(limit.rlim_cur, expected);
    CHECK_INT(limit.rlim_max, expected);
}

TEST(rule_7_4_core_limit_is_1_soft_and_hard) {
    CHECK_INT(QUIET(rdaemon_prevent_core(0)), 0);
    check_core_limit(1);
    CHECK_INT(prctl(PR_GET_DUMPABLE), 1);
}

TEST(rule_7_4_undumpable_by_flag) {
    CHECK_INT(QUIET(rdaemon_prevent_core(RDAEMON_PREVENT_CORE_UNDUMPABLE)), 0);
    check_core_limit(1);
    CHECK_INT(prctl(PR_GET_DUMPABLE), 0);
}

TEST(rule_7_4_twice_is_the_same) {
    CHECK_INT(QUIET(rdaemon_prevent_core(0)), 0);
    CHECK_INT(QUIET(rdaemon_prevent_core(0)), 0);
    check_core_limit(1);
}

HELPER(has_core_limit_1) {
    check_core_limit(1);
    return 0;
}

TEST(rule_7_4_limit_survives_exec) {
    IN_CHILD {
        CHECK_INT(rdaemon_prevent_core(0), 0);
        EXEC_HELPER(has_core_limit_1);
    }
}

/* Whether a process that crashes, after preventing it or not, dumps core. */
static bool dumps_core(bool prevented) {
    pid_t pid = fork_child();
    if (pid == 0) {
        struct rlimit limit;
        getrlimit(RLIMIT_CORE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_CORE, &limit);
        CHECK_INT(chdir(scratch()), 0);
        if (prevented)
            CHECK_INT(rdaemon_prevent_core(0), 0);
        abort();
    }
    int status = wait_for_exit(pid);
    CHECK(WIFSIGNALED(status));
    return WCOREDUMP(status);
}

TEST(rule_7_4_crash_dumps_nothing) {
    scratch();
    if (!dumps_core(false))
        SKIP("no core is dumped here anyway");
    CHECK(!dumps_core(true));
}

static void lose_right_to_raise(void) {
    struct rlimit none = {0, 0};
    CHECK_INT(setrlimit(RLIMIT_CORE, &none), 0);
    become_user();
}

TEST(rule_7_4_hard_limit_0_leaves_0_and_undumpable) {
    lose_right_to_raise();
    CHECK_INT(QUIET(rdaemon_prevent_core(0)), 0);
    check_core_limit(0);
    CHECK_INT(prctl(PR_GET_DUMPABLE), 0);
}

TEST(rule_7_4_root_raises_a_hard_limit_of_0) {
    struct rlimit none = {0, 0}, one = {1, 1};
    REQUIRE_ROOT();
    CHECK_INT(setrlimit(RLIMIT_CORE, &none), 0);
    if (setrlimit(RLIMIT_CORE, &one) != 0)
        SKIP_PLATFORM("root may not raise limits here");
    CHECK_INT(setrlimit(RLIMIT_CORE, &none), 0);
    CHECK_INT(QUIET(rdaemon_prevent_core(0)), 0);
    check_core_limit(1);
}

TEST(refuses_unknown_flags) {
    for (int bit = 1; bit < 32; bit++)
        CHECK_REFUSED(rdaemon_prevent_core(1U << bit), -EINVAL);
    CHECK_REFUSED(rdaemon_prevent_core(RDAEMON_PREVENT_CORE_UNDUMPABLE | 2U), -EINVAL);
}
