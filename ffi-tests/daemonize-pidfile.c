/* The pidfile of a daemon: what it holds, who locks it, and what is left of it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

static struct rdaemon_config with_pidfile(void) {
    struct rdaemon_config config = {.pidfile = scratch_path("pid")};
    return config;
}

/* Whether the open file description lock is free, asked without keeping it. */
static bool flock_is_free(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    bool got = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return got;
}

static struct rdaemon_pidfile_state read_state(const char *path) {
    struct rdaemon_pidfile_state state;
    int kind = QUIET(rdaemon_pidfile_read(path, RDAEMON_SIZED(&state)));
    CHECK_INT(kind, state.state);
    return state;
}

/* ---- while it runs ---- */

TEST(the_call_returns_when_the_file_holds_the_pid) {
    struct rdaemon_config config = with_pidfile();
    struct start started;
    char expected[32];
    pid_t pid = start_well(&started, &config, live_on);
    snprintf(expected, sizeof expected, "%d\n", pid);
    CHECK_STR(file_text(config.pidfile), expected);
    slay(&started);
}

TEST(the_kernel_names_the_daemon_as_the_holder) {
    struct rdaemon_config config = with_pidfile();
    struct start started;
    pid_t pid = start_well(&started, &config, live_on);
    CHECK_INT(kernels_holder(config.pidfile), pid);
    CHECK(!flock_is_free(config.pidfile));
    struct rdaemon_pidfile_state state = read_state(config.pidfile);
    CHECK_INT(state.state, RDAEMON_PIDFILE_RUNNING);
    CHECK_INT(state.pid, pid);
    CHECK_INT(state.written, pid);
    slay(&started);
}

TEST(a_killed_daemon_frees_the_file_at_once) {
    struct rdaemon_config config = with_pidfile();
    struct start started;
    pid_t pid = start_well(&started, &config, live_on);
    slay(&started); /* had the original a copy of the descriptor, the lock would live on */
    CHECK(flock_is_free(config.pidfile));
    struct rdaemon_pidfile_state state = read_state(config.pidfile);
    CHECK_INT(state.state, RDAEMON_PIDFILE_FREE);
    CHECK_INT(state.pid, 0);
    CHECK_INT(state.written, pid);
}

TEST(a_second_start_is_refused_with_the_running_pid) {
    struct rdaemon_config config = with_pidfile();
    struct start started, second;
    pid_t pid = start_well(&started, &config, live_on);
    start_badly(&config, RDAEMON_STEP_PIDFILE_OPEN, -EEXIST);
    start(&second, &config, NULL);
    CHECK_INT(second.result, -EEXIST);
    CHECK_INT(second.status.pid, pid);
    CHECK_INT(kernels_holder(config.pidfile), pid);
    slay(&started);
    start_well(&second, &config, NULL);
    lived(&second);
}

TEST(a_stale_pid_is_gone_before_the_daemon_is_made) {
    struct rdaemon_config config = with_pidfile();
    make_file("pid", "4194304\n1\n");
    config.working_directory = scratch_path("missing");
    start_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
    CHECK_STR(file_text(config.pidfile), "");
    CHECK(flock_is_free(config.pidfile));
}

static void knows_its_pidfile(const struct start *start) {
    const struct rdaemon_pidfile *pidfile = &start->daemon.pidfile;
    struct stat file, directory;
    CHECK(pidfile->fd >= 3);
    CHECK(pidfile->directory_fd >= 3);
    CHECK_INT(pidfile->writer, getpid());
    CHECK_STR(pidfile->name, "pid");
    CHECK_INT(fstat(pidfile->fd, &file), 0);
    CHECK_INT(pidfile->device, file.st_dev);
    CHECK_INT(pidfile->inode, file.st_ino);
    CHECK_INT(fstatat(pidfile->directory_fd, "pid", &directory, 0), 0);
    CHECK_INT(directory.st_ino, file.st_ino);
    CHECK(fd_is_cloexec(pidfile->fd));
}

TEST(the_daemon_has_the_pidfile_in_hand) {
    struct rdaemon_config config = with_pidfile();
    run_daemon(&config, knows_its_pidfile);
}

static void has_an_inheritable_pidfile(const struct start *start) {
    CHECK(!fd_is_cloexec(start->daemon.pidfile.fd));
    CHECK(fd_is_cloexec(start->daemon.pidfile.directory_fd));
}

TEST(an_inherited_lock_follows_an_exec) {
    struct rdaemon_config config = with_pidfile();
    config.pidfile_options.flags = RDAEMON_PIDFILE_INHERIT;
    run_daemon(&config, has_an_inheritable_pidfile);
}

/* ---- the file ---- */

TEST(the_mode_does_not_depend_on_the_umask) {
    struct rdaemon_config config = with_pidfile();
    umask(0777);
    run_daemon(&config, NULL);
    CHECK_INT(mode_of(config.pidfile), 0644);
    config.pidfile_options.mode = 0600;
    umask(0);
    run_daemon(&config, NULL);
    CHECK_INT(mode_of(config.pidfile), 0600);
}

TEST(the_owner_is_the_config_s) {
    REQUIRE_ROOT();
    struct rdaemon_config config = with_pidfile();
    config.pidfile_options.flags = RDAEMON_PIDFILE_OWNER;
    config.pidfile_options.uid = 12345;
    config.pidfile_options.gid = (uint32_t)-1;
    run_daemon(&config, NULL);
    struct stat status;
    CHECK_INT(stat(config.pidfile, &status), 0);
    CHECK_INT(status.st_uid, 12345);
    CHECK_INT(status.st_gid, getgid());
}

TEST(a_relative_pidfile_starts_at_the_callers_directory) {
    struct rdaemon_config config = {.pidfile = "pid"};
    struct start started;
    CHECK_INT(chdir(scratch()), 0);
    pid_t pid = start_well(&started, &config, live_on);
    CHECK_INT(kernels_holder("pid"), pid);
    slay(&started);
}

/* ---- the end ---- */

static void removes_its_pidfile(const struct start *start) {
    CHECK_INT(QUIET(rdaemon_pidfile_remove(RDAEMON_SIZED(&start->daemon.pidfile))), 0);
}

TEST(the_daemon_removes_its_file_after_chdir) {
    struct rdaemon_config config = with_pidfile();
    run_daemon(&config, removes_its_pidfile);
    CHECK_STR(tree(scratch()), "");
}

TEST(the_daemon_removes_its_file_from_inside_a_jail) {
    REQUIRE_ROOT();
    struct rdaemon_config config = with_pidfile();
    config.chroot_directory = make_directory("jail", 0755);
    run_daemon(&config, removes_its_pidfile);
    CHECK_STR(tree(scratch()), "jail/");
}

static void cannot_unlink_but_empties(const struct start *start) {
    CHECK_INT(rdaemon_pidfile_remove(RDAEMON_SIZED(&start->daemon.pidfile)), -EACCES);
}

TEST(without_the_right_to_unlink_the_file_is_emptied) {
    REQUIRE_ROOT();
    struct rdaemon_config config = with_pidfile();
    config.identity.flags = RDAEMON_IDENTITY_UID;
    config.identity.uid = 12345;
    run_daemon(&config, cannot_unlink_but_empties);
    CHECK_STR(file_text(config.pidfile), "");
}

TEST(sigterm_ends_the_daemon_and_removes_the_file) {
    struct rdaemon_config config = with_pidfile();
    struct start started;
    pid_t pid = start_well(&started, &config, live_on);
    CHECK_INT(kill(pid, SIGTERM), 0);
    int status = wait_for_exit(pid);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), SIGTERM);
    CHECK_STR(tree(scratch()), "");
}

static void forks_a_child_that_gets_sigterm(const struct start *start) {
    (void)start;
    pid_t child = fork();
    if (child == 0)
        live_on(NULL);
    kill(child, SIGTERM);
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

TEST(a_forked_worker_that_is_terminated_removes_nothing) {
    struct rdaemon_config config = with_pidfile();
    run_daemon(&config, forks_a_child_that_gets_sigterm);
    CHECK_STR(tree(scratch()), "pid");
}

/* ---- workers that outlive the daemon ---- */

static pid_t *worker;

static void leaves_a_worker(const struct start *start) {
    (void)start;
    pid_t child = fork();
    if (child == 0)
        live_on(NULL);
    *worker = child;
}

TEST(a_worker_that_outlives_the_daemon_is_neither_named_nor_signalled) {
    struct rdaemon_config config = with_pidfile();
    struct start second;
    worker = shared_memory(sizeof *worker);
    run_daemon(&config, leaves_a_worker);
    struct rdaemon_pidfile_state state = read_state(config.pidfile);
    CHECK_INT(state.state, RDAEMON_PIDFILE_HELD);
    CHECK_INT(state.pid, 0);
    double begin = now_ms();
    start(&second, &config, NULL);
    CHECK_INT(second.result, -EEXIST);
    CHECK_INT(second.status.step, RDAEMON_STEP_PIDFILE_OPEN);
    CHECK_INT(second.status.pid, 0);
    CHECK(now_ms() - begin < 1000);
    CHECK_INT(waitpid(*worker, NULL, WNOHANG), 0);
    CHECK(process_state(*worker) == 'S' || process_state(*worker) == 'R');
    kill(*worker, SIGKILL);
    wait_for_exit(*worker);
    CHECK_INT(read_state(config.pidfile).state, RDAEMON_PIDFILE_FREE);
    run_daemon(&config, NULL);
}

TEST(a_daemon_that_is_still_starting_has_no_pid) {
    struct rdaemon_config config = with_pidfile();
    struct rdaemon_pidfile pidfile;
    struct rdaemon_status status;
    struct start second;
    make_file("pid", "1\n");
    CHECK_INT(rdaemon_pidfile_open(config.pidfile, NULL, 0, RDAEMON_SIZED(&pidfile),
                                   RDAEMON_SIZED(&status)),
              0);
    IN_CHILD {
        struct rdaemon_pidfile_state state = read_state(config.pidfile);
        CHECK_INT(state.state, RDAEMON_PIDFILE_HELD);
        CHECK_INT(state.pid, 0);
        CHECK_INT(state.written, 0);
        start(&second, &config, NULL);
        CHECK_INT(second.result, -EEXIST);
        CHECK_INT(second.status.pid, 0);
    }
}
