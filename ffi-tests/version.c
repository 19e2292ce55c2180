#include "rdaemon.h"

#include <stdio.h>

#include "probe.h"
#include "tap.h"

TEST(number_is_made_of_its_parts) {
    CHECK_INT(RDAEMON_VERSION_NUMBER, RDAEMON_VERSION_MAJOR * 1000000 +
                                          RDAEMON_VERSION_MINOR * 1000 + RDAEMON_VERSION_PATCH);
}

TEST(library_is_the_version_of_the_header) {
    CHECK_INT(rdaemon_version(), RDAEMON_VERSION_NUMBER);
}

TEST(string_is_made_of_the_parts) {
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", RDAEMON_VERSION_MAJOR, RDAEMON_VERSION_MINOR,
             RDAEMON_VERSION_PATCH);
    CHECK_STR(rdaemon_version_string(), text);
}

TEST(asking_changes_nothing) {
    static struct snapshot before;
    errno = ERRNO_CANARY;
    snapshot_take(&before);
    rdaemon_version();
    rdaemon_version_string();
    CHECK_INT(errno, ERRNO_CANARY);
    CHECK(snapshot_same(&before));
}
