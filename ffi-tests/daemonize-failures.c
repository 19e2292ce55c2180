/*
 * Each step made to fail for real. The original process gets exactly that step and that error,
 * within a second, and is as it was: no fd, child, lock or file is left. The diagnostics of the
 * cases are a table of step, error and cause.
 */
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

static void expect_failure(void (*arrange)(struct rdaemon_config *), int step, int error,
                           const char *cause) {
    char words[128];
    struct rdaemon_config config = {
        .pidfile = scratch_path("pid"),
        .streams[1] = {.action = RDAEMON_STREAM_FILE, .path = scratch_path("log")}};
    arrange(&config);
    start_badly(&config, step, -error);
    size_t length = 0;
    for (; cause[length]; length++)
        words[length] = cause[length] == '_' ? ' ' : cause[length];
    words[length] = '\0';
    NOTE("%-16s %-12s %s", rdaemon_step_name(step), error_name(-error), words);
}

/* Defines a case: what the block arranges makes the start fail at that step with that error. */
#define FAILURE(cause, step_name, errno_name)                                                      \
    static void cause##_arranged(struct rdaemon_config *config);                                   \
    TEST(cause) {                                                                                  \
        expect_failure(cause##_arranged, RDAEMON_STEP_##step_name, errno_name, #cause);            \
    }                                                                                              \
    static void cause##_arranged(__attribute__((unused)) struct rdaemon_config *config)

/* The scratch directory stays the user's own. */
static void be_nobody(void) {
    if (geteuid() == 0)
        CHECK_INT(chown(scratch(), TEST_UID, TEST_GID), 0);
    become_user();
}

/* ---- in the original process ---- */

/* Something else in the place of /dev/null. */
static void replace_dev_null(const char *by) {
    enter_mount_namespace();
    mount_over(by, "/dev/null");
}

FAILURE(dev_null_is_a_file_while_stdin_is_closed, OPEN_STDIO, ENODEV) {
    replace_dev_null(make_file("null", ""));
    close(0);
}

FAILURE(dev_null_is_forbidden_while_stdin_is_closed, OPEN_STDIO, EACCES) {
    REQUIRE_ROOT();
    const char *null = make_file("null", "");
    CHECK_INT(chmod(null, 0), 0);
    replace_dev_null(null);
    close(0);
    be_nobody();
}

FAILURE(dev_null_is_missing_while_stdin_is_closed, OPEN_STDIO, ENOENT) {
    enter_mount_namespace();
    mount_tmpfs("/dev", "size=4096");
    close(0);
}

FAILURE(dev_null_is_missing, OPEN_STREAMS, ENOENT) {
    enter_mount_namespace();
    mount_tmpfs("/dev", "size=4096");
}

FAILURE(dev_null_is_a_file, OPEN_STREAMS, ENODEV) {
    replace_dev_null(make_file("null", ""));
}

FAILURE(dev_null_is_another_device, OPEN_STREAMS, ENODEV) {
    replace_dev_null("/dev/zero");
}

FAILURE(output_file_in_a_missing_directory, OPEN_STREAMS, ENOENT) {
    config->streams[1].path = scratch_path("missing/log");
}

FAILURE(output_file_is_a_directory, OPEN_STREAMS, EISDIR) {
    config->streams[1].path = make_directory("folder", 0755);
}

FAILURE(output_file_is_a_fifo_that_nobody_reads, OPEN_STREAMS, ENXIO) {
    config->streams[1].path = scratch_path("fifo");
    CHECK_INT(mkfifo(config->streams[1].path, 0600), 0);
}

FAILURE(output_file_exists_and_must_not, OPEN_STREAMS, EEXIST) {
    make_file("log", "old");
    config->streams[1].open_flags = O_EXCL;
}

FAILURE(input_file_is_missing, OPEN_STREAMS, ENOENT) {
    config->streams[0].action = RDAEMON_STREAM_FILE;
    config->streams[0].path = scratch_path("missing");
}

FAILURE(second_output_file_is_missing, OPEN_STREAMS, ENOENT) {
    config->streams[2].action = RDAEMON_STREAM_FILE;
    config->streams[2].path = scratch_path("missing/log");
}

FAILURE(output_file_may_not_be_written, OPEN_STREAMS, EACCES) {
    config->streams[1].path = make_file("log", "");
    CHECK_INT(chmod(config->streams[1].path, 0444), 0);
    be_nobody();
}

FAILURE(mode_of_the_output_file_denied, OPEN_STREAMS, EPERM) {
    config->pidfile = NULL;
    deny_syscall(SYS_fchmod, EPERM);
}

FAILURE(pidfile_in_a_missing_directory, PIDFILE_OPEN, ENOENT) {
    config->pidfile = scratch_path("missing/pid");
}

FAILURE(pidfile_below_a_file, PIDFILE_OPEN, ENOTDIR) {
    make_file("file", "");
    config->pidfile = scratch_path("file/pid");
}

FAILURE(pidfile_is_a_directory, PIDFILE_OPEN, EISDIR) {
    make_directory("pid", 0755);
}

FAILURE(pidfile_is_a_symlink, PIDFILE_OPEN, ELOOP) {
    make_file("real", "");
    CHECK_INT(symlink("real", config->pidfile), 0);
}

FAILURE(pidfile_is_a_dangling_symlink, PIDFILE_OPEN, ELOOP) {
    CHECK_INT(symlink("missing", config->pidfile), 0);
}

FAILURE(pidfile_is_a_fifo, PIDFILE_OPEN, EINVAL) {
    CHECK_INT(mkfifo(config->pidfile, 0600), 0);
}

FAILURE(pidfile_is_a_socket, PIDFILE_OPEN, EINVAL) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", config->pidfile);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
}

FAILURE(pidfile_is_a_device, PIDFILE_OPEN, EINVAL) {
    config->pidfile = "/dev/null";
}

FAILURE(name_of_the_pidfile_too_long, PIDFILE_OPEN, ENAMETOOLONG) {
    char name[260];
    memset(name, 'a', 256);
    name[256] = '\0';
    config->pidfile = scratch_path(name);
}

FAILURE(pidfile_locked_by_another, PIDFILE_OPEN, EEXIST) {
    int fd = open(config->pidfile, O_RDWR | O_CREAT, 0644);
    CHECK_INT(flock(fd, LOCK_EX), 0);
}

FAILURE(pidfile_in_a_forbidden_directory, PIDFILE_OPEN, EACCES) {
    make_directory("folder", 0555);
    config->pidfile = scratch_path("folder/pid");
    be_nobody();
}

FAILURE(owner_of_the_pidfile_denied, PIDFILE_OPEN, EPERM) {
    be_nobody();
    config->pidfile_options.flags = RDAEMON_PIDFILE_OWNER;
    config->pidfile_options.uid = 0;
    config->pidfile_options.gid = (uint32_t)-1;
}

FAILURE(mode_of_the_pidfile_denied, PIDFILE_OPEN, EPERM) {
    deny_syscall(SYS_fchmod, EPERM);
    config->streams[1].action = RDAEMON_STREAM_NULL;
    config->streams[1].path = NULL;
}

FAILURE(locking_the_pidfile_denied, PIDFILE_OPEN, ENOLCK) {
    deny_syscall(SYS_flock, ENOLCK);
}

FAILURE(truncating_the_pidfile_denied, PIDFILE_OPEN, EPERM) {
    deny_syscall(SYS_ftruncate, EPERM);
}

static void deny_channels(int error) {
    deny_syscall(SYS_socketpair, error);
    deny_syscall(SYS_pipe2, error);
}

FAILURE(channel_denied, CHANNEL, EMFILE) {
    deny_channels(EMFILE);
}

FAILURE(system_out_of_fds, CHANNEL, ENFILE) {
    deny_channels(ENFILE);
}

static void deny_forks(int error) {
#ifdef SYS_fork
    deny_syscall(SYS_fork, error);
#endif
    deny_syscall(SYS_clone, error);
    deny_syscall(SYS_clone3, error);
}

FAILURE(first_fork_denied, DOUBLE_FORK, EAGAIN) {
    deny_forks(EAGAIN);
}

FAILURE(no_memory_for_the_first_fork, DOUBLE_FORK, ENOMEM) {
    deny_forks(ENOMEM);
}

/* As a user with no other process, who may have so many. */
static void limit_processes(rlim_t most) {
    REQUIRE_ROOT();
    uid_t uid = lonely_uid();
    CHECK_INT(chown(scratch(), uid, uid), 0);
    CHECK_INT(setgroups(0, NULL), 0);
    CHECK_INT(setresuid(uid, uid, uid), 0);
    struct rlimit limit = {most, most};
    CHECK_INT(setrlimit(RLIMIT_NPROC, &limit), 0);
}

FAILURE(only_one_process_allowed, DOUBLE_FORK, EAGAIN) {
    limit_processes(1);
}

FAILURE(only_two_processes_allowed, DOUBLE_FORK, EAGAIN) {
    limit_processes(2);
}

/* ---- in the intermediate ---- */

FAILURE(setsid_denied, SETSID, EPERM) {
    deny_syscall(SYS_setsid, EPERM);
}

/* ---- in the daemon ---- */

/* No close_range, a /proc that cannot be told from a fake, and no bound to count up to. */
FAILURE(every_way_to_close_denied, CLOSE_FDS, EIO) {
    deny_syscall(SYS_close_range, EIO);
    deny_syscall(SYS_fstatfs, ENOSYS);
    deny_syscall_arg(SYS_prlimit64, 1, RLIMIT_NOFILE, ENOSYS);
#ifdef SYS_getrlimit
    deny_syscall_arg(SYS_getrlimit, 0, RLIMIT_NOFILE, ENOSYS);
#endif
}

FAILURE(root_is_missing, CHROOT, ENOENT) {
    REQUIRE_ROOT();
    config->chroot_directory = scratch_path("missing");
}

FAILURE(root_is_a_file, CHROOT, ENOTDIR) {
    REQUIRE_ROOT();
    config->chroot_directory = make_file("file", "");
}

FAILURE(root_without_the_right_to_it, CHROOT, EPERM) {
    be_nobody();
    config->chroot_directory = "/";
}

FAILURE(working_directory_is_missing, CHDIR, ENOENT) {
    config->working_directory = scratch_path("missing");
}

FAILURE(working_directory_is_a_file, CHDIR, ENOTDIR) {
    config->working_directory = make_file("file", "");
}

FAILURE(working_directory_is_forbidden, CHDIR, EACCES) {
    config->working_directory = make_directory("folder", 0);
    be_nobody();
}

FAILURE(working_directory_is_missing_in_the_new_root, CHDIR, ENOENT) {
    REQUIRE_ROOT();
    config->chroot_directory = make_directory("jail", 0755);
    config->working_directory = scratch();
}

FAILURE(working_directory_is_a_loop, CHDIR, ELOOP) {
    config->working_directory = scratch_path("loop");
    CHECK_INT(symlink("loop", config->working_directory), 0);
}

FAILURE(file_system_of_the_pidfile_is_full, PIDFILE_WRITE, ENOSPC) {
    const char *disk = make_directory("disk", 0755);
    enter_mount_namespace();
    mount_tmpfs(disk, "size=4096");
    config->pidfile = scratch_path("disk/pid");
    int fd = open(scratch_path("disk/filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    static char block[4096];
    while (write(fd, block, sizeof block) > 0)
        continue;
    CHECK_INT(errno, ENOSPC);
    close(fd);
}

FAILURE(no_file_may_grow, PIDFILE_WRITE, EFBIG) {
    struct rlimit none = {0, 0};
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &none), 0);
}

/* A process lock without the other lock: no daemon of this library, but a holder all the same. */
TEST(process_lock_held_by_a_stranger) {
    struct rdaemon_config config = {.pidfile = make_file("pid", "")};
    struct start failed;
    int told[2];
    char byte;
    CHECK_INT(pipe(told), 0);
    pid_t stranger = fork_child();
    if (stranger == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        CHECK_INT(fcntl(open(config.pidfile, O_RDWR), F_SETLK, &lock), 0);
        CHECK_INT(write(told[1], "", 1), 1);
        live_on(NULL);
    }
    CHECK_INT(read(told[0], &byte, 1), 1);
    start(&failed, &config, NULL);
    CHECK_INT(failed.result, -EEXIST);
    CHECK(failed.status.step == RDAEMON_STEP_PIDFILE_OPEN ||
          failed.status.step == RDAEMON_STEP_PIDFILE_WRITE);
    CHECK_INT(failed.status.pid, stranger);
    CHECK_INT(first_child_of(getpid()), stranger);
    NOTE("%-16s %-12s %s", rdaemon_step_name(failed.status.step), "EEXIST",
         "process lock held by a stranger");
    kill(stranger, SIGKILL);
    CHECK_INT(wait_for_exit(stranger), SIGKILL);
}

static const struct rdaemon_limit too_high = {
    .resource = RLIMIT_NOFILE, .soft = 1 << 30, .hard = 1 << 30};

FAILURE(limit_beyond_what_the_kernel_allows, SET_LIMITS, EPERM) {
    config->limits = &too_high;
    config->limits_len = 1;
}

static const struct rdaemon_limit raised = {
    .resource = RLIMIT_CPU, .soft = 2000, .hard = RDAEMON_UNLIMITED};

FAILURE(limit_raised_without_the_right_to_it, SET_LIMITS, EPERM) {
    struct rlimit limit = {1000, 1000};
    CHECK_INT(setrlimit(RLIMIT_CPU, &limit), 0);
    be_nobody();
    config->limits = &raised;
    config->limits_len = 1;
}

FAILURE(uid_without_the_right_to_it, DROP_PRIVILEGES, EPERM) {
    be_nobody();
    config->identity.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_KEEP_GROUPS;
    config->identity.uid = 0;
}

FAILURE(gid_without_the_right_to_it, DROP_PRIVILEGES, EPERM) {
    be_nobody();
    config->identity.flags = RDAEMON_IDENTITY_GID;
    config->identity.gid = 0;
}

FAILURE(groups_without_the_right_to_them, DROP_PRIVILEGES, EPERM) {
    be_nobody();
    config->identity.flags = RDAEMON_IDENTITY_GROUPS;
}

static void drop_to_user(struct rdaemon_config *config) {
    REQUIRE_ROOT();
    config->identity.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID;
    config->identity.uid = TEST_UID;
    config->identity.gid = TEST_GID;
}

FAILURE(setgroups_denied, DROP_PRIVILEGES, EPERM) {
    drop_to_user(config);
    deny_syscall(SYS_setgroups, EPERM);
}

FAILURE(setresgid_denied, DROP_PRIVILEGES, EPERM) {
    drop_to_user(config);
    deny_syscall(SYS_setresgid, EPERM);
}

FAILURE(setresuid_denied, DROP_PRIVILEGES, EAGAIN) {
    drop_to_user(config);
    deny_syscall(SYS_setresuid, EAGAIN);
}

/* A kernel that says yes and does nothing: only reading the ids back tells. */
FAILURE(setresuid_does_nothing, DROP_PRIVILEGES, EPERM) {
    drop_to_user(config);
    deny_syscall(SYS_setresuid, 0);
}

FAILURE(setresgid_does_nothing, DROP_PRIVILEGES, EPERM) {
    drop_to_user(config);
    deny_syscall(SYS_setresgid, 0);
}

FAILURE(set_uid_program_cannot_relinquish, DROP_PRIVILEGES, EPERM) {
    REQUIRE_ROOT();
    CHECK_INT(setresuid(TEST_UID, 0, 0), 0);
    deny_syscall(SYS_setresuid, EPERM);
}

static void deny_core_limit(int error) {
    deny_syscall_arg(SYS_prlimit64, 1, RLIMIT_CORE, error);
#ifdef SYS_setrlimit
    deny_syscall_arg(SYS_setrlimit, 0, RLIMIT_CORE, error);
#endif
}

FAILURE(core_limit_denied, PREVENT_CORE, EINVAL) {
    deny_core_limit(EINVAL);
}

FAILURE(clearing_dumpable_denied, PREVENT_CORE, EINVAL) {
    config->flags = RDAEMON_UNDUMPABLE;
    deny_syscall_arg(SYS_prctl, 0, PR_SET_DUMPABLE, EINVAL);
}

FAILURE(no_new_privs_denied, NO_NEW_PRIVS, EINVAL) {
    config->flags = RDAEMON_SET_NO_NEW_PRIVS;
    deny_syscall_arg(SYS_prctl, 0, PR_SET_NO_NEW_PRIVS, EINVAL);
}

FAILURE(duplicating_denied, REDIRECT_STDIO, EBUSY) {
#ifdef SYS_dup2
    deny_syscall(SYS_dup2, EBUSY);
#endif
    deny_syscall(SYS_dup3, EBUSY);
}

FAILURE(dispositions_denied, SET_SIGNALS, EPERM) {
    deny_syscall(SYS_rt_sigaction, EPERM);
}

FAILURE(report_denied, REPORT, ESRCH) {
    deny_syscall(SYS_sendmsg, EPERM);
    deny_syscall(SYS_sendto, EPERM);
}

/* ---- what a failure leaves behind ---- */

TEST(a_failure_leaves_an_old_pidfile_unlocked_and_without_a_pid) {
    struct rdaemon_config config = {.pidfile = make_file("pid", "1\n"),
                                    .working_directory = scratch_path("missing")};
    start_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
    CHECK_STR(file_text(config.pidfile), "");
    struct rdaemon_pidfile_state state;
    CHECK_INT(rdaemon_pidfile_read(config.pidfile, RDAEMON_SIZED(&state)), RDAEMON_PIDFILE_FREE);
}

TEST(a_failure_leaves_an_old_log_as_it_was) {
    struct rdaemon_config config = {
        .working_directory = scratch_path("missing"),
        .streams[1] = {.action = RDAEMON_STREAM_FILE, .path = make_file("log", "old\n")}};
    start_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
    CHECK_STR(file_text(config.streams[1].path), "old\n");
}

TEST(a_failure_can_be_repaired_and_the_start_repeated) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid"),
                                    .working_directory = scratch_path("folder")};
    start_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
    make_directory("folder", 0755);
    run_daemon(&config, NULL);
}

TEST(a_refused_start_truncates_no_log_of_the_running_daemon) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid"),
                                    .streams[1] = {.action = RDAEMON_STREAM_FILE,
                                                   .path = make_file("log", "old\n"),
                                                   .open_flags = O_TRUNC}};
    int fd = open(config.pidfile, O_RDWR | O_CREAT, 0644);
    CHECK_INT(flock(fd, LOCK_EX), 0);
    start_badly(&config, RDAEMON_STEP_PIDFILE_OPEN, -EEXIST);
    CHECK_STR(file_text(config.streams[1].path), "old\n");
}
