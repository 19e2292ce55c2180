#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

/* Opens everything from 3 to `last`. */
static void open_to(int last) {
    for (int fd = 3; fd <= last; fd++)
        if (dup2(STDIN_FILENO, fd) != fd)
            FAIL("dup2 to %d: %s", fd, strerror(errno));
}

static void set_nofile(rlim_t soft, rlim_t hard) {
    struct rlimit limit = {soft, hard};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static rlim_t hard_nofile(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max;
}

static int close_from(int lowest) {
    return QUIET(rdaemon_close_fds(lowest, NULL, 0, 0));
}

static int keep_only(const int32_t *keep, size_t length) {
    return QUIET(rdaemon_close_fds(3, keep, length, 0));
}

static void forget_close_range(void) {
    deny_syscall(SYS_close_range, ENOSYS);
}

/* ---- which descriptors ---- */

TEST(everything_from_the_lowest_on_is_closed) {
    open_to(9);
    CHECK_INT(close_from(5), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 4");
    CHECK_INT(close_from(3), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(lowest_0_closes_the_standard_ones_too) {
    open_to(5);
    CHECK_INT(close_from(0), 0);
    CHECK_STR(open_fds(0), "");
}

TEST(lowest_beyond_all_closes_nothing) {
    open_to(5);
    CHECK_INT(close_from(INT_MAX), 0);
    CHECK_INT(close_from(6), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 4 5");
}

TEST(nothing_to_close_is_no_error) {
    CHECK_INT(close_from(3), 0);
    CHECK_INT(close_from(3), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(rule_2_1_keep_list_in_any_order_with_any_values) {
    static const int32_t keep[] = {7,     3,       7,       -1,    INT_MIN, INT_MAX, 100000,
                                   65536, 1 << 30, INT_MAX, 65535, 5,       131072,  9};
    open_to(12);
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 5 7 9");
}

TEST(rule_2_1_ascending_keep_list_with_repeats) {
    static const int32_t keep[] = {-5, -1, 0, 3, 3, 3, 4, 8, 8, 70000, INT_MAX, INT_MAX};
    open_to(12);
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 4 8");
}

TEST(rule_2_1_descending_keep_list) {
    static const int32_t keep[] = {INT_MAX, 11, 9, 9, 4, 2, -1};
    open_to(12);
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 4 9 11");
}

TEST(rule_2_1_every_small_keep_list) {
    open_to(7);
    /* Each list is three numbers of 2 to 8: ascending, descending, repeated, below, beyond. */
    for (int code = 0; code < 7 * 7 * 7; code++) {
        int32_t keep[] = {2 + code % 7, 2 + code / 7 % 7, 2 + code / 49};
        char expected[32] = "0 1 2";
        for (int fd = 3; fd <= 7; fd++)
            if (fd == keep[0] || fd == keep[1] || fd == keep[2])
                sprintf(expected + strlen(expected), " %d", fd);
        CHECK_INT(keep_only(keep, 3), 0);
        CHECK_STR(open_fds(0), expected);
        open_to(7);
    }
}

TEST(rule_2_1_keep_list_of_descriptors_that_are_not_open) {
    static const int32_t keep[] = {6, 4};
    open_to(5);
    close(4);
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(rule_2_1_empty_keep_list) {
    static const int32_t none[1];
    open_to(5);
    CHECK_INT(keep_only(none, 0), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(rule_2_1_keep_list_is_not_modified) {
    int32_t keep[] = {9, 3, 9, -1, 5}, copy[LENGTH(keep)];
    memcpy(copy, keep, sizeof copy);
    open_to(12);
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_INT(memcmp(copy, keep, sizeof copy), 0);
}

/* ---- many descriptors ---- */

enum { KEPT = 9998, OPENED = 3 + 2 * KEPT };

static void shuffle(int32_t *numbers, size_t count) {
    uint32_t random = 1;
    for (size_t i = count - 1; i > 0; i--) {
        random = random * 1664525 + 1013904223;
        size_t other = random % (i + 1);
        int32_t number = numbers[i];
        numbers[i] = numbers[other];
        numbers[other] = number;
    }
}

/* Opens OPENED descriptors and lists every second one; `expected` is what then remains. */
static const char *open_many(int32_t *keep) {
    static char expected[8 * OPENED];
    if (hard_nofile() < OPENED)
        SKIP("needs a limit of %d descriptors", OPENED);
    set_nofile(OPENED, hard_nofile());
    open_to(OPENED - 1);
    int length = sprintf(expected, "0 1 2");
    for (int i = 0; i < KEPT; i++) {
        keep[i] = 3 + 2 * i;
        length += sprintf(expected + length, " %d", keep[i]);
    }
    return expected;
}

static int32_t many[10000];

TEST(rule_2_1_thousands_kept_ascending) {
    const char *expected = open_many(many);
    CHECK_INT(keep_only(many, KEPT), 0);
    CHECK_STR(open_fds(0), expected);
}

TEST(rule_2_1_thousands_kept_shuffled) {
    const char *expected = open_many(many);
    shuffle(many, KEPT);
    CHECK_INT(keep_only(many, KEPT), 0);
    CHECK_STR(open_fds(0), expected);
}

TEST(rule_2_1_ten_thousand_kept_shuffled_with_repeats) {
    const char *expected = open_many(many);
    memcpy(many + KEPT, many, sizeof many - KEPT * sizeof *many);
    shuffle(many, LENGTH(many));
    CHECK_INT(keep_only(many, LENGTH(many)), 0);
    CHECK_STR(open_fds(0), expected);
}

TEST(rule_2_2_thousands_kept_without_close_range) {
    const char *expected = open_many(many);
    shuffle(many, KEPT);
    forget_close_range();
    CHECK_INT(keep_only(many, KEPT), 0);
    CHECK_STR(open_fds(0), expected);
}

static void sweep_across_windows(void) {
    static const int32_t numbers[] = {131072, 3, 65536, 131071, 65535, 4, 65537};
    if (hard_nofile() < 140000)
        SKIP_PLATFORM("needs a limit of 140000 descriptors");
    set_nofile(140000, hard_nofile());
    for (size_t i = 0; i < LENGTH(numbers); i++)
        for (int fd = numbers[i]; fd < numbers[i] + 8; fd++)
            dup2(STDIN_FILENO, fd);
    CHECK_INT(keep_only(numbers, LENGTH(numbers)), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 4 65535 65536 65537 131071 131072");
}

TEST(rule_2_1_keep_list_across_windows) {
    sweep_across_windows();
}

TEST(rule_2_2_keep_list_across_windows_without_close_range) {
    forget_close_range();
    sweep_across_windows();
}

/* ---- limits ---- */

TEST(rule_2_2_descriptors_above_a_lowered_limit) {
    static const int32_t keep[] = {800, 20};
    open_to(900);
    set_nofile(64, 64);
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 20 800");
}

TEST(rule_2_2_descriptors_above_a_lowered_limit_without_close_range) {
    static const int32_t keep[] = {800, 20};
    open_to(900);
    set_nofile(64, 64);
    forget_close_range();
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 20 800");
}

static void use_every_fd(void) {
    set_nofile(64, 64);
    open_to(63);
    CHECK_INT(dup(0), -1);
}

TEST(rule_2_2_no_spare_descriptor) {
    use_every_fd();
    CHECK_INT(close_from(3), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(rule_2_2_no_spare_descriptor_without_close_range) {
    static const int32_t keep[] = {63, 3};
    use_every_fd();
    forget_close_range();
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 63");
}

TEST(rule_2_2_every_descriptor_kept_without_close_range) {
    int32_t keep[64];
    static struct snapshot before;
    for (int fd = 0; fd < 64; fd++)
        keep[fd] = fd;
    use_every_fd();
    forget_close_range();
    CHECK_INT(keep_only(keep, 64), 0);
    for (int fd = 0; fd < 64; fd++)
        CHECK(fd_is_open(fd));
    close(63);
    snapshot_take(&before);
    CHECK_INT(keep_only(keep, 64), 0);
    CHECK(snapshot_same(&before));
}

TEST(rule_2_2_no_spare_descriptor_and_cloexec_without_close_range) {
    use_every_fd();
    forget_close_range();
    CHECK_INT(QUIET(rdaemon_close_fds(3, NULL, 0, RDAEMON_CLOSE_FDS_CLOEXEC)), 0);
    for (int fd = 0; fd < 64; fd++)
        CHECK_INT(fd_is_cloexec(fd), fd >= 3);
}

/* ---- the ways of closing ---- */

static const int denials[] = {ENOSYS, EPERM, EINVAL, EBADF};
static const int32_t kept[] = {300, 4, 300, -1, INT_MAX, 77};

TEST(rule_2_2_any_error_of_close_range_falls_back) {
    for (size_t i = 0; i < LENGTH(denials); i++)
        IN_CHILD {
            open_to(400);
            deny_syscall(SYS_close_range, denials[i]);
            CHECK_INT(keep_only(kept, LENGTH(kept)), 0);
            CHECK_STR(open_fds(0), "0 1 2 4 77 300");
        }
}

TEST(rule_2_2_any_error_of_close_range_falls_back_for_cloexec) {
    for (size_t i = 0; i < LENGTH(denials); i++)
        IN_CHILD {
            open_to(400);
            deny_syscall(SYS_close_range, denials[i]);
            CHECK_INT(QUIET(rdaemon_close_fds(3, kept, LENGTH(kept), RDAEMON_CLOSE_FDS_CLOEXEC)),
                      0);
            for (int fd = 0; fd <= 400; fd++)
                CHECK_INT(fd_is_cloexec(fd), fd > 2 && fd != 4 && fd != 77 && fd != 300);
        }
}

TEST(rule_2_2_close_range_that_knows_no_cloexec) {
    open_to(9);
    deny_syscall_arg(SYS_close_range, 2, 4 /* CLOSE_RANGE_CLOEXEC */, EINVAL);
    CHECK_INT(QUIET(rdaemon_close_fds(3, NULL, 0, RDAEMON_CLOSE_FDS_CLOEXEC)), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 4 5 6 7 8 9");
    for (int fd = 0; fd <= 9; fd++)
        CHECK_INT(fd_is_cloexec(fd), fd > 2);
}

static void check_kept_to(int last) {
    for (int fd = 0; fd <= last; fd++)
        CHECK_INT(fd_is_open(fd), fd <= 2 || fd == 4 || fd == 77 || fd == 300);
}

TEST(rule_2_2_hidden_proc_falls_back_to_a_loop) {
    hide_proc();
    open_to(400);
    forget_close_range();
    CHECK_INT(keep_only(kept, LENGTH(kept)), 0);
    check_kept_to(400);
}

TEST(rule_2_2_hidden_proc_needs_no_loop_with_close_range) {
    hide_proc();
    open_to(400);
    set_nofile(64, 64);
    CHECK_INT(keep_only(kept, LENGTH(kept)), 0);
    check_kept_to(400);
}

TEST(rule_2_2_loop_marks_cloexec) {
    hide_proc();
    open_to(9);
    forget_close_range();
    CHECK_INT(QUIET(rdaemon_close_fds(5, NULL, 0, RDAEMON_CLOSE_FDS_CLOEXEC)), 0);
    for (int fd = 0; fd <= 9; fd++)
        CHECK_INT(fd_is_cloexec(fd), fd >= 5);
}

TEST(rule_2_2_directory_in_the_place_of_proc_is_not_believed) {
    hide_proc();
    CHECK_INT(mkdir("/proc/self", 0755), 0);
    CHECK_INT(mkdir("/proc/self/fd", 0755), 0);
    open_to(400);
    forget_close_range();
    CHECK_INT(keep_only(kept, LENGTH(kept)), 0);
    check_kept_to(400);
}

static rlim_t fake_soft_limit;

/* Answers prlimit64 as a system would whose hard limit is 2^30. */
static long answer_huge_limit(const long *arguments) {
    struct rlimit *limit = (struct rlimit *)arguments[3];
    if (limit)
        *limit = (struct rlimit){fake_soft_limit, 1 << 30};
    return 0;
}

static void fake_limit(rlim_t soft) {
    struct rlimit limit;
    fake_soft_limit = soft;
    answer_syscall_arg(SYS_prlimit64, 1, RLIMIT_NOFILE, answer_huge_limit);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_INT(limit.rlim_max, 1 << 30);
}

TEST(rule_2_2_proc_works_whatever_the_limit) {
    static const int32_t keep[] = {8, 5};
    open_to(9);
    fake_limit(1 << 30);
    forget_close_range();
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 5 8");
}

TEST(rule_2_2_proc_works_without_a_spare_descriptor_whatever_the_limit) {
    static const int32_t keep[] = {63, 3};
    use_every_fd();
    fake_limit(64);
    forget_close_range();
    CHECK_INT(keep_only(keep, LENGTH(keep)), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 63");
}

TEST(rule_2_2_loop_fails_rather_than_spin) {
    open_to(9);
    hide_proc();
    fake_limit(1 << 30);
    forget_close_range();
    CHECK(QUIET(rdaemon_close_fds(3, NULL, 0, 0)) < 0);
}

TEST(rule_2_3_close_is_not_retried) {
    forget_close_range();
    open_to(9);
    deny_syscall(SYS_close, EINTR);
    CHECK_INT(close_from(3), 0);
}

/* ---- close-on-exec ---- */

TEST(cloexec_marks_instead_of_closing) {
    static const int32_t keep[] = {6, 4};
    open_to(8);
    fcntl(6, F_SETFD, FD_CLOEXEC);
    CHECK_INT(QUIET(rdaemon_close_fds(3, keep, LENGTH(keep), RDAEMON_CLOSE_FDS_CLOEXEC)), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 4 5 6 7 8");
    /* 6 was marked before, and kept means left alone. */
    for (int fd = 0; fd <= 8; fd++)
        CHECK_INT(fd_is_cloexec(fd), fd >= 3 && fd != 4);
}

/* ---- refusals ---- */

TEST(refuses_negative_lowest) {
    open_to(5);
    CHECK_REFUSED(rdaemon_close_fds(-1, NULL, 0, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_close_fds(INT_MIN, NULL, 0, 0), -EINVAL);
}

TEST(refuses_unknown_flags) {
    open_to(5);
    for (int bit = 1; bit < 32; bit++)
        CHECK_REFUSED(rdaemon_close_fds(3, NULL, 0, 1U << bit), -EINVAL);
    CHECK_REFUSED(rdaemon_close_fds(3, NULL, 0, RDAEMON_CLOSE_FDS_CLOEXEC | 2U), -EINVAL);
}

TEST(refuses_missing_keep_list) {
    open_to(5);
    CHECK_REFUSED(rdaemon_close_fds(3, NULL, 1, 0), -EINVAL);
}
