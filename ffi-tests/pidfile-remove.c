#include "rdaemon.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "pidfile.h"
#include "probe.h"
#include "sandbox.h"
#include "tap.h"

TEST(rule_4_7_remove_truncates_then_unlinks) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_INT(link(path, scratch_path("second")), 0);
    CHECK_INT(remove_pidfile(), 0);
    CHECK(!exists(path));
    CHECK_STR(file_text(scratch_path("second")), "");
}

TEST(rule_4_7_remove_keeps_the_lock_until_close) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_INT(link(path, scratch_path("second")), 0);
    CHECK_INT(remove_pidfile(), 0);
    check_state_from_outside(scratch_path("second"), RDAEMON_PIDFILE_RUNNING, getpid(), 0);
}

TEST(rule_4_7_only_the_writer_removes) {
    const char *path = scratch_path("pid");
    CHECK_INT(open_pidfile(path), 0);
    CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -EPERM);
    CHECK_INT(write_pidfile(), 0);
    IN_CHILD {
        CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -EPERM);
    }
    CHECK_STR(file_text(path), own_line());
}

TEST(rule_4_7_another_file_at_the_path_stays) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_INT(rename(path, scratch_path("moved")), 0);
    write_file(path, "77\n", 3);
    CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -ESTALE);
    CHECK_STR(file_text(path), "77\n");
    CHECK(exists(scratch_path("moved")));
}

TEST(rule_4_7_symlink_to_the_file_at_the_path_stays) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_INT(rename(path, scratch_path("moved")), 0);
    CHECK_INT(symlink("moved", path), 0);
    CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -ESTALE);
    CHECK(exists(path));
}

TEST(rule_4_7_file_that_has_gone) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_INT(unlink(path), 0);
    CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -ESTALE);
}

static void is_left_alone(uint32_t flags, bool swept) {
    const char *path = scratch_path("pid"), *data = make_file("data", "not mine\n");
    char line[32];
    CHECK_INT(OPEN_WITH(path, .flags = flags), 0);
    CHECK_INT(write_pidfile(), 0);
    snprintf(line, sizeof line, "%s", own_line());
    struct rdaemon_pidfile copy = pidfile;
    if (!swept)
        CHECK_INT(close_pidfile(), 0);
    int fd = open(data, O_RDWR);
    if (fd != copy.fd)
        CHECK_INT(dup2(fd, copy.fd), copy.fd);
    CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&copy)), -ESTALE);
    CHECK_STR(file_text(data), "not mine\n");
    CHECK_STR(file_text(path), line);
}

TEST(a_file_that_has_got_the_number_of_the_pidfiles_fd_is_left_alone) {
    for (int i = 0; i < 4; i++)
        IN_CHILD {
            is_left_alone(i & 1 ? RDAEMON_PIDFILE_ONLY_EMPTY : 0, i & 2);
        }
}

TEST(only_empty_keeps_no_directory_and_leaves_the_file) {
    const char *path = scratch_path("pid");
    char expected[32];
    CHECK_INT(OPEN_WITH(path, .flags = RDAEMON_PIDFILE_ONLY_EMPTY), 0);
    CHECK_INT(write_pidfile(), 0);
    CHECK_INT(pidfile.directory_fd, -1);
    snprintf(expected, sizeof expected, "0 1 2 %d", pidfile.fd);
    CHECK_STR(open_fds(0), expected);
    check_state_from_outside(path, RDAEMON_PIDFILE_RUNNING, getpid(), getpid());
    IN_CHILD {
        CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -EPERM);
    }
    CHECK_INT(remove_pidfile(), 0);
    check_state_from_outside(path, RDAEMON_PIDFILE_RUNNING, getpid(), 0);
    CHECK_INT(stat_of(path).st_size, 0);
    CHECK_INT(close_pidfile(), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(only_empty_of_a_start_that_is_given_up_leaves_no_descriptor) {
    CHECK_INT(OPEN_WITH(scratch_path("pid"), .flags = RDAEMON_PIDFILE_ONLY_EMPTY), 0);
    CHECK_INT(close_pidfile(), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

static void make_jail(void) {
    CHECK_INT(mkdir(scratch_path("jail"), 0755), 0);
}

/* Enters the jail as an ordinary user. */
static void enter_jail(void) {
    CHECK_INT(chroot(scratch_path("jail")), 0);
    CHECK_INT(chdir("/"), 0);
    become_user();
}

TEST(rule_4_7_remove_after_chroot_and_privilege_drop) {
    REQUIRE_ROOT();
    make_jail();
    CHECK_INT(mkdir(scratch_path("run"), 0755), 0);
    CHECK_INT(chown(scratch_path("run"), TEST_UID, TEST_GID), 0);
    IN_CHILD {
        hold(scratch_path("run/pid"));
        enter_jail();
        CHECK_INT(remove_pidfile(), 0);
    }
    CHECK(!exists(scratch_path("run/pid")));
}

TEST(rule_4_7_truncated_where_unlink_is_denied) {
    REQUIRE_ROOT();
    make_jail();
    IN_CHILD {
        hold(scratch_path("pid"));
        enter_jail();
        CHECK_INT(remove_pidfile(), -EACCES);
    }
    CHECK_STR(file_text(scratch_path("pid")), "");
}
