#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "pidfile.h"
#include "probe.h"
#include "sandbox.h"
#include "tap.h"

/* ---- what is not a pidfile ---- */

TEST(rule_4_8_symlink) {
    const char *path = scratch_path("pid"), *target = scratch_path("target");
    write_file(target, "precious", 8);
    CHECK_INT(symlink(target, path), 0);
    check_open_refused(path, -ELOOP);
    check_read_refused(path, -ELOOP);
    CHECK_STR(file_text(target), "precious");
}

TEST(rule_4_8_dangling_symlink) {
    const char *path = scratch_path("pid"), *target = scratch_path("target");
    CHECK_INT(symlink(target, path), 0);
    check_open_refused(path, -ELOOP);
    CHECK(!exists(target));
}

TEST(rule_4_8_symlink_on_the_way_is_followed) {
    CHECK_INT(mkdir(scratch_path("run"), 0755), 0);
    CHECK_INT(symlink("run", scratch_path("var")), 0);
    CHECK_INT(open_pidfile(scratch_path("var/pid")), 0);
    CHECK(exists(scratch_path("run/pid")));
}

TEST(rule_4_8_directory) {
    static const char *const names[] = {"", "run", "run/", "run/.", "run/..", "run//"};
    CHECK_INT(mkdir(scratch_path("run"), 0755), 0);
    for (size_t i = 0; i < LENGTH(names); i++) {
        check_open_refused(scratch_path(names[i]), -EISDIR);
        check_read_refused(scratch_path(names[i]), -EISDIR);
    }
    check_open_refused("/", -EISDIR);
}

TEST(rule_4_8_fifo) {
    const char *path = scratch_path("pid");
    CHECK_INT(mkfifo(path, 0600), 0);
    check_open_refused(path, -EINVAL);
    check_read_refused(path, -EINVAL);
    CHECK_INT(mode_of(path), 0600);
}

TEST(rule_4_8_socket) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = scratch_path("pid");
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    check_open_refused(path, -EINVAL);
    check_read_refused(path, -EINVAL);
}

TEST(rule_4_8_device) {
    REQUIRE_ROOT();
    const char *path = scratch_path("pid");
    if (mknod(path, S_IFCHR | 0600, makedev(1, 3)) != 0)
        SKIP("mknod: %s", strerror(errno));
    check_open_refused(path, -EINVAL);
    check_read_refused(path, -EINVAL);
    CHECK_INT(mode_of(path), 0600);
}

TEST(rule_4_8_file_with_a_second_name) {
    const char *path = scratch_path("pid");
    write_file(path, "12\n", 3);
    CHECK_INT(chmod(path, 0600), 0);
    CHECK_INT(link(path, scratch_path("second")), 0);
    check_open_refused(path, -EMLINK);
    CHECK_STR(file_text(path), "12\n");
    CHECK_INT(mode_of(path), 0600);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, 12);
}

TEST(rule_4_8_running_daemon_s_file_with_a_second_name) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    CHECK_INT(link(path, scratch_path("second")), 0);
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, holder.pid);
    end_holder(holder);
}

/* ---- paths ---- */

TEST(rule_4_8_over_long_path) {
    static char path[2 * PATH_MAX];
    memset(path, '/', sizeof path - 1);
    check_open_refused(path, -ENAMETOOLONG);
    check_read_refused(path, -ENAMETOOLONG);
    path[PATH_MAX] = '\0';
    check_open_refused(path, -ENAMETOOLONG);
}

TEST(rule_4_8_longest_path) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", scratch());
    size_t length = strlen(path);
    memset(path + length, '/', sizeof path - 1 - length);
    strcpy(path + sizeof path - 4, "pid");
    CHECK_INT(strlen(path), PATH_MAX - 1);
    hold(path);
    check_state_from_outside(path, RDAEMON_PIDFILE_RUNNING, getpid(), getpid());
    CHECK_INT(remove_pidfile(), 0);
    CHECK(!exists(path));
}

TEST(rule_4_8_longest_and_over_long_name) {
    char name[NAME_MAX + 2];
    memset(name, 'x', sizeof name);
    name[NAME_MAX + 1] = '\0';
    check_open_refused(scratch_path(name), -ENAMETOOLONG);
    check_read_refused(scratch_path(name), -ENAMETOOLONG);
    name[NAME_MAX] = '\0';
    hold(scratch_path(name));
    CHECK_STR(pidfile.name, name);
    CHECK_INT(remove_pidfile(), 0);
    CHECK(!exists(scratch_path(name)));
}

TEST(rule_4_8_relative_path) {
    CHECK_INT(chdir(scratch()), 0);
    hold("pid");
    CHECK_INT(chdir("/"), 0);
    check_state_from_outside(scratch_path("pid"), RDAEMON_PIDFILE_RUNNING, getpid(), getpid());
    CHECK_INT(remove_pidfile(), 0);
    CHECK(!exists(scratch_path("pid")));
}

TEST(rule_4_8_relative_path_in_a_directory) {
    CHECK_INT(chdir(scratch()), 0);
    CHECK_INT(mkdir("run", 0755), 0);
    hold("./run/../run/pid");
    CHECK_INT(chdir("/"), 0);
    CHECK_INT(remove_pidfile(), 0);
    CHECK(!exists(scratch_path("run/pid")));
}

TEST(path_that_leads_nowhere) {
    check_open_refused(scratch_path("none/pid"), -ENOENT);
    write_file(scratch_path("file"), "", 0);
    check_open_refused(scratch_path("file/pid"), -ENOTDIR);
    check_open_refused("", -ENOENT);
    check_read_refused("", -ENOENT);
}

TEST(directory_that_may_not_be_written) {
    CHECK_INT(mkdir(scratch_path("run"), 0755), 0);
    CHECK_INT(chmod(scratch_path("run"), 0555), 0);
    become_user();
    check_open_refused(scratch_path("run/pid"), -EACCES);
}

TEST(rule_1_11_no_spare_descriptor_creates_nothing) {
    const char *path = scratch_path("pid");
    for (rlim_t limit = 3; limit < 5; limit++)
        IN_CHILD {
            struct rlimit both = {limit, limit};
            CHECK_INT(setrlimit(RLIMIT_NOFILE, &both), 0);
            CHECK_INT(open_pidfile(path), -EMFILE);
            for (int fd = 3; fd < 10; fd++)
                CHECK(!fd_is_open(fd));
        }
    CHECK(!exists(path));
}
