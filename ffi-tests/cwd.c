#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

static void check_cwd(const char *expected) {
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd));
    CHECK_STR(cwd, expected);
}

TEST(absolute_and_relative_paths) {
    char *real = realpath(scratch(), NULL);
    CHECK_INT(mkdir(scratch_path("below"), 0755), 0);
    CHECK_INT(QUIET(rdaemon_chdir(scratch())), 0);
    check_cwd(real);
    CHECK_INT(QUIET(rdaemon_chdir("below")), 0);
    CHECK_INT(QUIET(rdaemon_chdir("..")), 0);
    check_cwd(real);
    CHECK_INT(QUIET(rdaemon_chdir("/")), 0);
    check_cwd("/");
}

TEST(failures_change_nothing) {
    char too_long[PATH_MAX + 1];
    memset(too_long, '/', PATH_MAX);
    too_long[PATH_MAX] = '\0';
    close(open(scratch_path("file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    CHECK_REFUSED(rdaemon_chdir(scratch_path("none")), -ENOENT);
    CHECK_REFUSED(rdaemon_chdir(scratch_path("file")), -ENOTDIR);
    CHECK_REFUSED(rdaemon_chdir(""), -ENOENT);
    CHECK_REFUSED(rdaemon_chdir(too_long), -ENAMETOOLONG);
    CHECK_REFUSED(rdaemon_chdir(NULL), -EINVAL);
}

TEST(directory_without_permission) {
    CHECK_INT(mkdir(scratch_path("closed"), 0), 0);
    become_user();
    CHECK_REFUSED(rdaemon_chdir(scratch_path("closed")), -EACCES);
}
