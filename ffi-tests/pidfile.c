#include "rdaemon.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "pidfile.h"
#include "probe.h"
#include "sandbox.h"
#include "tap.h"

/* ---- open ---- */

TEST(rule_4_1_open_creates_locks_and_describes) {
    const char *path = scratch_path("pid");
    CHECK_INT(open_pidfile(path), 0);
    struct stat information = stat_of(path);
    CHECK_INT(pidfile.device, information.st_dev);
    CHECK_INT(pidfile.inode, information.st_ino);
    CHECK_STR(pidfile.name, "pid");
    CHECK_INT(information.st_size, 0);
    CHECK_INT(mode_of(path), 0644);
    int other = open(path, O_RDWR | O_CLOEXEC);
    CHECK_INT(flock(other, LOCK_EX | LOCK_NB), -1);
    CHECK_INT(errno, EWOULDBLOCK);
}

TEST(rule_4_2_open_truncates_what_it_finds) {
    const char *path = scratch_path("pid");
    write_file(path, "999999\n", 7);
    CHECK_INT(open_pidfile(path), 0);
    CHECK_STR(file_text(path), "");
}

TEST(rule_4_2_refused_open_truncates_nothing) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK_INT(atoi(file_text(path)), holder.pid);
    end_holder(holder);
}

TEST(success_is_told_in_the_status) {
    memset(&status, 0xff, sizeof status);
    CHECK_INT(open_pidfile(scratch_path("pid")), 0);
    CHECK_INT(status.step, RDAEMON_STEP_NONE);
    CHECK_INT(status.error, 0);
}

TEST(rule_4_6_descriptors_are_cloexec_and_above_2) {
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    CHECK_INT(open_pidfile(scratch_path("pid")), 0);
    CHECK(pidfile.fd >= 3 && pidfile.directory_fd >= 3);
    CHECK(fd_is_cloexec(pidfile.fd) && fd_is_cloexec(pidfile.directory_fd));
    CHECK(!fd_is_open(0) && !fd_is_open(1) && !fd_is_open(2));
    CHECK_INT(write_pidfile(), 0);
    CHECK_INT(remove_pidfile(), 0);
    CHECK_INT(close_pidfile(), 0);
    CHECK_STR(open_fds(0), "");
}

TEST(open_makes_two_descriptors_and_no_more) {
    CHECK_INT(open_pidfile(scratch_path("pid")), 0);
    CHECK_STR(open_fds(0), "0 1 2 3 5");
    CHECK(fd_is_cloexec(3) && fd_is_cloexec(5));
    CHECK_INT(close_pidfile(), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

/* ---- mode and owner ---- */

TEST(rule_1_9_mode_does_not_depend_on_the_umask) {
    static const mode_t masks[] = {0, 077, 0777};
    static const uint32_t modes[] = {0600, 0640, 0644, 0664};
    for (size_t i = 0; i < LENGTH(masks); i++)
        for (size_t j = 0; j < LENGTH(modes); j++) {
            const char *path = scratch_path("pid");
            umask(masks[i]);
            CHECK_INT(OPEN_WITH(path, .mode = modes[j]), 0);
            CHECK_INT(mode_of(path), modes[j]);
            CHECK_INT(umask(0), masks[i]);
            close_pidfile();
            unlink(path);
            umask(masks[i]);
            CHECK_INT(open_pidfile(path), 0);
            CHECK_INT(mode_of(path), 0644);
            close_pidfile();
            unlink(path);
        }
}

TEST(rule_4_5_mode_of_a_stale_file_is_set_when_asked) {
    const char *path = scratch_path("pid");
    write_file(path, "", 0);
    CHECK_INT(chmod(path, 0600), 0);
    CHECK_INT(open_pidfile(path), 0);
    CHECK_INT(mode_of(path), 0600);
    close_pidfile();
    CHECK_INT(OPEN_WITH(path, .mode = 0640), 0);
    CHECK_INT(mode_of(path), 0640);
}

TEST(rule_4_9_refuses_a_mode_that_lets_others_write) {
    static const uint32_t modes[] = {0666, 0002, 01644, 04755, 010644, UINT32_MAX};
    const char *path = scratch_path("pid");
    for (size_t i = 0; i < LENGTH(modes); i++) {
        struct rdaemon_pidfile_options options = {.mode = modes[i]};
        CHECK_REFUSED(rdaemon_pidfile_open(path, RDAEMON_SIZED(&options), RDAEMON_SIZED(&pidfile),
                                           RDAEMON_SIZED(&status)),
                      -EINVAL);
    }
    CHECK(!exists(path));
}

static void check_owner(uint32_t uid, uint32_t gid, uid_t expected_uid, gid_t expected_gid) {
    const char *path = scratch_path("pid");
    CHECK_INT(OPEN_WITH(path, .flags = RDAEMON_PIDFILE_OWNER, .uid = uid, .gid = gid), 0);
    CHECK_INT(stat_of(path).st_uid, expected_uid);
    CHECK_INT(stat_of(path).st_gid, expected_gid);
    CHECK_INT(mode_of(path), 0644);
    close_pidfile();
    unlink(path);
}

TEST(rule_4_5_owner) {
    REQUIRE_ROOT();
    check_owner(12, 34, 12, 34);
    check_owner(12, UINT32_MAX, 12, 0);
    check_owner(UINT32_MAX, 34, 0, 34);
    check_owner(UINT32_MAX, UINT32_MAX, 0, 0);
    check_owner(0, 0, 0, 0);
}

TEST(owner_without_the_flag_is_ignored) {
    const char *path = scratch_path("pid");
    CHECK_INT(OPEN_WITH(path, .uid = getuid() + 12, .gid = getgid() + 34), 0);
    CHECK_INT(stat_of(path).st_uid, getuid());
    CHECK_INT(stat_of(path).st_gid, getgid());
}

TEST(rule_1_11_owner_that_cannot_be_set_leaves_no_file) {
    const char *path = scratch_path("pid");
    CHECK_INT(chmod(scratch(), 0777), 0);
    become_user();
    struct rdaemon_pidfile_options options = {.flags = RDAEMON_PIDFILE_OWNER, .uid = 0, .gid = 0};
    CHECK_REFUSED(rdaemon_pidfile_open(path, RDAEMON_SIZED(&options), RDAEMON_SIZED(&pidfile),
                                       RDAEMON_SIZED(&status)),
                  -EPERM);
    CHECK(!exists(path));
}

/* ---- write ---- */

TEST(rule_4_5_write_puts_the_pid_and_a_newline) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_STR(file_text(path), own_line());
    CHECK_INT(pidfile.writer, getpid());
}

TEST(rule_4_3_write_takes_the_process_lock) {
    const char *path = scratch_path("pid");
    CHECK_INT(open_pidfile(path), 0);
    IN_CHILD {
        CHECK_INT(kernels_holder(path), 0);
    }
    CHECK_INT(write_pidfile(), 0);
    IN_CHILD {
        CHECK_INT(kernels_holder(path), getppid());
    }
}

TEST(rule_4_1_opened_by_the_original_and_written_by_the_daemon) {
    const char *path = scratch_path("pid");
    struct gate *ready = gate_new(), *end = gate_new();
    CHECK_INT(open_pidfile(path), 0);
    pid_t daemon = fork_child();
    if (daemon == 0) {
        CHECK_INT(write_pidfile(), 0);
        CHECK_INT(pidfile.writer, getpid());
        gate_open(ready);
        gate_wait(end);
        CHECK_INT(remove_pidfile(), 0);
        _exit(0);
    }
    gate_wait(ready);
    CHECK_INT(close_pidfile(), 0);
    check_state(path, RDAEMON_PIDFILE_RUNNING, daemon, daemon);
    gate_open(end);
    CHECK_INT(wait_for_exit(daemon), 0);
    CHECK(!exists(path));
}

TEST(write_twice_leaves_one_line) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_INT(write_pidfile(), 0);
    CHECK_STR(file_text(path), own_line());
}

/* Opens a pidfile in a file system that has room for its inode but not for its text. */
static const char *open_in_full_file_system(void) {
    static const char page[4096];
    const char *directory = scratch_path("full");
    CHECK_INT(mkdir(directory, 0755), 0);
    enter_mount_namespace();
    mount_tmpfs(directory, "size=4096");
    const char *path = scratch_path("full/pid");
    CHECK_INT(open_pidfile(path), 0);
    write_file(scratch_path("full/ballast"), page, sizeof page);
    return path;
}

TEST(rule_4_8_full_file_system) {
    const char *path = open_in_full_file_system();
    CHECK_INT(write_pidfile(), -ENOSPC);
    if (exists(path))
        CHECK_STR(file_text(path), "");
    CHECK_INT(close_pidfile(), 0);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(rule_4_8_short_write) {
    const char *path = scratch_path("pid");
    struct rlimit limit = {1, 1};
    CHECK_INT(open_pidfile(path), 0);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_IGN);
    CHECK(write_pidfile() < 0);
    if (exists(path))
        CHECK_STR(file_text(path), "");
}

TEST(rule_4_8_no_room_for_the_file_itself) {
    const char *directory = scratch_path("full");
    CHECK_INT(mkdir(directory, 0755), 0);
    enter_mount_namespace();
    mount_tmpfs(directory, "nr_inodes=1"); /* the root directory's */
    check_open_refused(scratch_path("full/pid"), -ENOSPC);
    CHECK(!exists(scratch_path("full/pid")));
}

/* ---- close and exec ---- */

TEST(close_gives_up_both_locks_and_both_descriptors) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_INT(close_pidfile(), 0);
    CHECK_INT(pidfile.fd, -1);
    CHECK_INT(pidfile.directory_fd, -1);
    CHECK_STR(open_fds(0), "0 1 2");
    check_state_from_outside(path, RDAEMON_PIDFILE_FREE, 0, getpid());
}

TEST(rule_4_6_close_of_a_copy_unlocks_nothing) {
    const char *path = scratch_path("pid");
    CHECK_INT(open_pidfile(path), 0);
    IN_CHILD {
        CHECK_INT(close_pidfile(), 0);
    }
    check_state_from_outside(path, RDAEMON_PIDFILE_HELD, 0, 0);
}

HELPER(await_end_of_input) {
    char byte = 'x';
    CHECK_INT(write(STDOUT_FILENO, &byte, 1), 1);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    return 0;
}

/* Runs a daemon that executes another program, and tells what the pidfile says meanwhile. */
static void check_state_across_exec(uint32_t flags, uint32_t kind) {
    const char *path = scratch_path("pid");
    int input[2], output[2];
    CHECK_INT(pipe2(input, O_CLOEXEC) | pipe2(output, O_CLOEXEC), 0);
    pid_t daemon = fork_child();
    if (daemon == 0) {
        CHECK_INT(OPEN_WITH(path, .flags = flags), 0);
        CHECK_INT(fd_is_cloexec(pidfile.fd), !(flags & RDAEMON_PIDFILE_INHERIT));
        CHECK_INT(write_pidfile(), 0);
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        EXEC_HELPER(await_end_of_input);
    }
    char byte;
    close(output[1]);
    close(input[0]);
    CHECK_INT(read(output[0], &byte, 1), 1);
    check_state(path, kind, kind == RDAEMON_PIDFILE_RUNNING ? daemon : 0, daemon);
    close(input[1]);
    CHECK_INT(wait_for_exit(daemon), 0);
}

TEST(rule_4_6_exec_gives_up_the_locks) {
    check_state_across_exec(0, RDAEMON_PIDFILE_FREE);
}

TEST(rule_4_6_locks_survive_exec_when_asked) {
    check_state_across_exec(RDAEMON_PIDFILE_INHERIT, RDAEMON_PIDFILE_RUNNING);
}
