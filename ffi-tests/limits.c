#include "rdaemon.h"

#include <limits.h>
#include <sys/resource.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

static int set_limits(const struct rdaemon_limit *limits, size_t length) {
    return QUIET(rdaemon_set_limits(limits, length));
}

static void check_limit(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit limit;
    CHECK_INT(getrlimit(resource, &limit), 0);
    CHECK_INT(limit.rlim_cur, soft);
    CHECK_INT(limit.rlim_max, hard);
}

TEST(soft_and_hard_are_set) {
    const struct rdaemon_limit limits[] = {
        {.resource = RLIMIT_NOFILE, .soft = 40, .hard = 50},
        {.resource = RLIMIT_CORE, .soft = 0, .hard = 0},
    };
    CHECK_INT(set_limits(limits, LENGTH(limits)), 0);
    check_limit(RLIMIT_NOFILE, 40, 50);
    check_limit(RLIMIT_CORE, 0, 0);
}

TEST(unlimited_is_the_systems_infinity) {
    struct rlimit before;
    getrlimit(RLIMIT_CPU, &before);
    if (before.rlim_max != RLIM_INFINITY)
        REQUIRE_ROOT();
    const struct rdaemon_limit limits[] = {
        {.resource = RLIMIT_CPU, .soft = 3600, .hard = RDAEMON_UNLIMITED}};
    const struct rdaemon_limit unlimited[] = {
        {.resource = RLIMIT_CPU, .soft = RDAEMON_UNLIMITED, .hard = RDAEMON_UNLIMITED}};
    CHECK_INT(set_limits(limits, 1), 0);
    check_limit(RLIMIT_CPU, 3600, RLIM_INFINITY);
    CHECK_INT(set_limits(unlimited, 1), 0);
    check_limit(RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY);
}

TEST(values_beyond_32_bits) {
    const uint64_t huge = (uint64_t)1 << 40;
    const struct rdaemon_limit limits[] = {{.resource = RLIMIT_FSIZE, .soft = huge, .hard = huge}};
    CHECK_INT(set_limits(limits, 1), 0);
    check_limit(RLIMIT_FSIZE, huge, huge);
}

TEST(every_resource_can_be_set_to_what_it_is) {
    static struct snapshot before;
    struct rdaemon_limit limits[RLIM_NLIMITS];
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        getrlimit(i, &limit);
        limits[i] = (struct rdaemon_limit){
            .resource = i,
            .soft = limit.rlim_cur == RLIM_INFINITY ? RDAEMON_UNLIMITED : limit.rlim_cur,
            .hard = limit.rlim_max == RLIM_INFINITY ? RDAEMON_UNLIMITED : limit.rlim_max};
    }
    snapshot_take(&before);
    CHECK_INT(set_limits(limits, LENGTH(limits)), 0);
    CHECK(snapshot_same(&before));
}

TEST(no_limits_is_no_error) {
    CHECK_INT(set_limits(NULL, 0), 0);
}

/* ---- refusals: nothing is applied, not even what stands before the bad entry ---- */

static void check_second_refused(struct rdaemon_limit bad, int error) {
    const struct rdaemon_limit limits[] = {{.resource = RLIMIT_FSIZE, .soft = 40, .hard = 50}, bad};
    CHECK_REFUSED(rdaemon_set_limits(limits, LENGTH(limits)), error);
}

TEST(refuses_unknown_resources) {
    static const int unknown[] = {-1, RLIM_NLIMITS, 100, INT_MAX, INT_MIN};
    for (size_t i = 0; i < LENGTH(unknown); i++)
        check_second_refused((struct rdaemon_limit){.resource = unknown[i]}, -EINVAL);
}

TEST(refuses_soft_above_hard) {
    check_second_refused((struct rdaemon_limit){.resource = RLIMIT_CORE, .soft = 2, .hard = 1},
                         -EINVAL);
    check_second_refused(
        (struct rdaemon_limit){.resource = RLIMIT_CORE, .soft = RDAEMON_UNLIMITED, .hard = 1},
        -EINVAL);
}

TEST(refuses_reserved_field) {
    check_second_refused((struct rdaemon_limit){.resource = RLIMIT_CORE, .reserved = 1}, -EINVAL);
}

TEST(refuses_missing_list) {
    CHECK_REFUSED(rdaemon_set_limits(NULL, 1), -EINVAL);
}

TEST(raising_without_the_right_is_an_error) {
    const struct rdaemon_limit lower[] = {{.resource = RLIMIT_NOFILE, .soft = 40, .hard = 50}};
    const struct rdaemon_limit raise[] = {{.resource = RLIMIT_NOFILE, .soft = 51, .hard = 51}};
    CHECK_INT(set_limits(lower, 1), 0);
    become_user();
    CHECK_REFUSED(rdaemon_set_limits(raise, 1), -EPERM);
}
