#include "rdaemon.h"

#include <sys/stat.h>

#include "probe.h"
#include "tap.h"

TEST(returns_the_previous_mask) {
    CHECK_INT(QUIET(rdaemon_umask(027)), 022);
    CHECK_INT(QUIET(rdaemon_umask(0)), 027);
    CHECK_INT(QUIET(rdaemon_umask(0777)), 0);
    CHECK_STR(status_field(0, "Umask"), "0777");
}

TEST(refuses_bits_that_are_no_permission) {
    CHECK_REFUSED(rdaemon_umask(01000), -EINVAL);
    CHECK_REFUSED(rdaemon_umask(UINT32_MAX), -EINVAL);
}
