#include "rdaemon.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

static bool can_open(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

TEST(chroot_enters_the_new_root) {
    REQUIRE_ROOT();
    struct stat inside, root, cwd;
    CHECK_INT(stat(scratch(), &inside), 0);
    CHECK_INT(QUIET(rdaemon_chroot(scratch())), 0);
    CHECK_INT(stat("/", &root), 0);
    CHECK_INT(stat(".", &cwd), 0);
    CHECK_INT(root.st_ino, inside.st_ino);
    CHECK_INT(cwd.st_ino, inside.st_ino);
}

TEST(chroot_leaves_no_way_out_by_the_working_directory) {
    REQUIRE_ROOT();
    CHECK_INT(chdir("/usr/bin"), 0);
    CHECK(can_open("../../etc/passwd"));
    CHECK_INT(QUIET(rdaemon_chroot(scratch())), 0);
    CHECK(!can_open("../../etc/passwd"));
    CHECK(!can_open("../../../../../../../../etc/passwd"));
    CHECK(!can_open("/etc/passwd"));
}

TEST(chroot_to_a_relative_path) {
    REQUIRE_ROOT();
    CHECK_INT(mkdir(scratch_path("jail"), 0755), 0);
    CHECK_INT(mkdir(scratch_path("jail/here"), 0755), 0);
    CHECK_INT(chdir(scratch()), 0);
    CHECK_INT(QUIET(rdaemon_chroot("jail")), 0);
    CHECK(can_open("/here"));
    CHECK(can_open("here"));
}

TEST(chroot_failures_change_nothing) {
    REQUIRE_ROOT();
    close(open(scratch_path("file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    CHECK_REFUSED(rdaemon_chroot(scratch_path("none")), -ENOENT);
    CHECK_REFUSED(rdaemon_chroot(scratch_path("file")), -ENOTDIR);
    CHECK_REFUSED(rdaemon_chroot(""), -ENOENT);
    CHECK_REFUSED(rdaemon_chroot(NULL), -EINVAL);
}

TEST(chroot_without_the_right) {
    CHECK(scratch());
    become_user();
    CHECK_REFUSED(rdaemon_chroot(scratch()), -EPERM);
}
