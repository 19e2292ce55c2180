/* What the runner must see: each case's name says how it must end. */

#include <signal.h>
#include <sys/syscall.h>

#include "probe.h"
#include "tap.h"

TEST(ok_check) {
    CHECK(scratch());
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(not_ok_check) {
    CHECK_INT(2, 3);
}

TEST(not_ok_check_in_a_grandchild_without_descriptors) {
    pid_t *grandchild = shared_memory(sizeof *grandchild), child = fork_child();
    if (child == 0) {
        pid_t pid = fork_child();
        if (pid == 0) {
            syscall(SYS_close_range, 0, ~0U, 0);
            CHECK_STR("a", "b");
        }
        *grandchild = pid;
        _exit(0);
    }
    CHECK_INT(wait_for_exit(child), 0);
    CHECK_INT(wait_for_exit(*grandchild), 256);
}

TEST(not_ok_check_in_a_child) {
    IN_CHILD {
        CHECK(0);
    }
}

TEST(not_ok_time_limit, .time_limit_ms = 50) {
    CHECK(1);
    for (;;)
        pause();
}

TEST(not_ok_stray) {
    CHECK(1);
    if (fork_child() == 0)
        for (;;)
            pause();
}

TEST(ok_expected_stray, .leaves_strays = true) {
    CHECK(1);
    if (fork_child() == 0)
        for (;;)
            pause();
}

TEST(not_ok_no_check) {
}

TEST(not_ok_crash) {
    CHECK(1);
    raise(SIGSEGV);
}

TEST(not_ok_exit) {
    CHECK(1);
    _exit(3);
}

TEST(not_ok_errno) {
    QUIET((errno = 3));
}

TEST(not_ok_changed_state) {
    static struct snapshot before;
    snapshot_take(&before);
    dup(0);
    CHECK(snapshot_same(&before));
}

TEST(skip_reason) {
    SKIP("a reason");
}

TEST(skip_in_a_child) {
    IN_CHILD {
        SKIP("a reason");
    }
}

TEST(platform_skip) {
    SKIP_PLATFORM("a reason");
}

HELPER(end_with_argument) {
    CHECK_STR(arguments[0], "0");
    return arguments[0][0] - '0';
}

TEST(ok_helper) {
    IN_CHILD {
        EXEC_HELPER(end_with_argument, "0");
    }
}

TEST(not_ok_check_in_a_helper) {
    IN_CHILD {
        EXEC_HELPER(end_with_argument, "1");
    }
}
