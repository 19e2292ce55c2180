#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* ---- what the cases are made of ---- */

static struct rdaemon_pidfile pidfile;
static struct rdaemon_status status;
static struct rdaemon_pidfile_state state;

static int open_with(const char *path, struct rdaemon_pidfile_options options) {
    return QUIET(rdaemon_pidfile_open(path, RDAEMON_SIZED(&options), RDAEMON_SIZED(&pidfile),
                                      RDAEMON_SIZED(&status)));
}

#define OPEN_WITH(path, ...) open_with(path, (struct rdaemon_pidfile_options){__VA_ARGS__})

static int open_pidfile(const char *path) {
    return QUIET(
        rdaemon_pidfile_open(path, NULL, 0, RDAEMON_SIZED(&pidfile), RDAEMON_SIZED(&status)));
}

static int write_pidfile(void) {
    return QUIET(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)));
}

static int remove_pidfile(void) {
    return QUIET(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)));
}

static int close_pidfile(void) {
    return QUIET(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile)));
}

static int read_pidfile(const char *path) {
    return QUIET(rdaemon_pidfile_read(path, RDAEMON_SIZED(&state)));
}

/* Opens and writes, as a daemon does. */
static void hold(const char *path) {
    CHECK_INT(open_pidfile(path), 0);
    CHECK_INT(write_pidfile(), 0);
}

static void check_state(const char *path, uint32_t kind, pid_t pid, int written) {
    CHECK_INT(read_pidfile(path), kind);
    CHECK_INT(state.state, kind);
    CHECK_INT(state.pid, pid);
    CHECK_INT(state.written, written);
}

/* The same, asked by another process: the holder itself must not open its file again. */
static void check_state_from_outside(const char *path, uint32_t kind, pid_t pid, int written) {
    IN_CHILD {
        check_state(path, kind, pid, written);
    }
}

static void write_file(const char *path, const char *text, size_t length) {
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, length) != (ssize_t)length || close(fd) != 0)
        FAIL("%s: %s", path, strerror(errno));
}

static const char *file_text(const char *path) {
    static char text[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length < 0)
        FAIL("%s: %s", path, strerror(errno));
    close(fd);
    text[length] = '\0';
    return text;
}

static const char *own_line(void) {
    static char line[16];
    snprintf(line, sizeof line, "%d\n", (int)getpid());
    return line;
}

static bool exists(const char *path) {
    struct stat information;
    return lstat(path, &information) == 0;
}

static struct stat stat_of(const char *path) {
    struct stat information;
    if (lstat(path, &information) != 0)
        FAIL("%s: %s", path, strerror(errno));
    return information;
}

static unsigned mode_of(const char *path) {
    return stat_of(path).st_mode & 07777;
}

static int64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A second process that holds a pidfile until it is told to end. */
struct holder {
    pid_t pid;
    struct gate *ready, *end;
};

static struct holder start_holder(const char *path, bool writes) {
    struct holder holder = {.ready = gate_new(), .end = gate_new()};
    holder.pid = fork_child();
    if (holder.pid == 0) {
        CHECK_INT(open_pidfile(path), 0);
        if (writes)
            CHECK_INT(write_pidfile(), 0);
        gate_open(holder.ready);
        gate_wait(holder.end);
        _exit(0);
    }
    gate_wait(holder.ready);
    return holder;
}

static void end_holder(struct holder holder) {
    gate_open(holder.end);
    CHECK_INT(wait_for_exit(holder.pid), 0);
}

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
    CHECK_STR(open_fds(0), "0 1 2 3 4");
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

/* ---- what is not a pidfile ---- */

/* Both ways of looking at the path refuse it, at once, and change nothing. */
static void check_refused(const char *path, int error) {
    static struct rdaemon_pidfile untouched;
    memset(&pidfile, 0xa5, sizeof pidfile);
    memset(&untouched, 0xa5, sizeof untouched);
    CHECK_REFUSED(
        rdaemon_pidfile_open(path, NULL, 0, RDAEMON_SIZED(&pidfile), RDAEMON_SIZED(&status)),
        error);
    CHECK_INT(memcmp(&pidfile, &untouched, sizeof pidfile), 0);
    CHECK_INT(status.error, error);
    CHECK_INT(status.pid, 0);
}

static void check_read_refused(const char *path, int error) {
    struct rdaemon_pidfile_state untouched;
    memset(&state, 0xa5, sizeof state);
    memset(&untouched, 0xa5, sizeof untouched);
    CHECK_REFUSED(rdaemon_pidfile_read(path, RDAEMON_SIZED(&state)), error);
    CHECK_INT(memcmp(&state, &untouched, sizeof state), 0);
}

TEST(rule_4_8_symlink) {
    const char *path = scratch_path("pid"), *target = scratch_path("target");
    write_file(target, "precious", 8);
    CHECK_INT(symlink(target, path), 0);
    check_refused(path, -ELOOP);
    check_read_refused(path, -ELOOP);
    CHECK_STR(file_text(target), "precious");
}

TEST(rule_4_8_dangling_symlink) {
    const char *path = scratch_path("pid"), *target = scratch_path("target");
    CHECK_INT(symlink(target, path), 0);
    check_refused(path, -ELOOP);
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
        check_refused(scratch_path(names[i]), -EISDIR);
        check_read_refused(scratch_path(names[i]), -EISDIR);
    }
    check_refused("/", -EISDIR);
}

TEST(rule_4_8_fifo) {
    const char *path = scratch_path("pid");
    CHECK_INT(mkfifo(path, 0600), 0);
    check_refused(path, -EINVAL);
    check_read_refused(path, -EINVAL);
    CHECK_INT(mode_of(path), 0600);
}

TEST(rule_4_8_socket) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = scratch_path("pid");
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    check_refused(path, -EINVAL);
    check_read_refused(path, -EINVAL);
}

TEST(rule_4_8_device) {
    REQUIRE_ROOT();
    const char *path = scratch_path("pid");
    if (mknod(path, S_IFCHR | 0600, makedev(1, 3)) != 0)
        SKIP("mknod: %s", strerror(errno));
    check_refused(path, -EINVAL);
    check_read_refused(path, -EINVAL);
    CHECK_INT(mode_of(path), 0600);
}

/* ---- paths ---- */

TEST(rule_4_8_over_long_path) {
    static char path[2 * PATH_MAX];
    memset(path, '/', sizeof path - 1);
    check_refused(path, -ENAMETOOLONG);
    check_read_refused(path, -ENAMETOOLONG);
    path[PATH_MAX] = '\0';
    check_refused(path, -ENAMETOOLONG);
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
    check_refused(scratch_path(name), -ENAMETOOLONG);
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
    check_refused(scratch_path("none/pid"), -ENOENT);
    write_file(scratch_path("file"), "", 0);
    check_refused(scratch_path("file/pid"), -ENOTDIR);
    check_refused("", -ENOENT);
    check_read_refused("", -ENOENT);
}

TEST(directory_that_may_not_be_written) {
    CHECK_INT(mkdir(scratch_path("run"), 0755), 0);
    CHECK_INT(chmod(scratch_path("run"), 0555), 0);
    become_user();
    check_refused(scratch_path("run/pid"), -EACCES);
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

/* ---- write ---- */

TEST(rule_4_5_write_puts_the_pid_and_a_newline) {
    const char *path = scratch_path("pid");
    hold(path);
    CHECK_STR(file_text(path), own_line());
    CHECK_INT(pidfile.writer, getpid());
}

/* Who holds a write lock on the file, as the kernel tells another process. */
static pid_t lock_holder(const char *path) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_INT(fcntl(fd, F_GETLK, &lock), 0);
    close(fd);
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

TEST(rule_4_3_write_takes_the_process_lock) {
    const char *path = scratch_path("pid");
    CHECK_INT(open_pidfile(path), 0);
    IN_CHILD {
        CHECK_INT(lock_holder(path), 0);
    }
    CHECK_INT(write_pidfile(), 0);
    IN_CHILD {
        CHECK_INT(lock_holder(path), getppid());
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
    check_refused(scratch_path("full/pid"), -ENOSPC);
    CHECK(!exists(scratch_path("full/pid")));
}

/* ---- held by another ---- */

TEST(rule_4_4_held_by_a_running_daemon) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK(snapshot_same(&before));
    CHECK_INT(status.step, RDAEMON_STEP_PIDFILE_OPEN);
    CHECK_INT(status.error, -EEXIST);
    CHECK_INT(status.pid, holder.pid);
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, holder.pid);
    end_holder(holder);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, holder.pid);
}

TEST(rule_4_4_held_by_a_starting_daemon) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, false);
    check_state(path, RDAEMON_PIDFILE_HELD, 0, 0);
    int64_t start = milliseconds();
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK(milliseconds() - start >= 99);
    CHECK_INT(status.pid, 0);
    end_holder(holder);
}

TEST(rule_4_4_starter_waits_for_a_holder_that_gives_up) {
    const char *path = scratch_path("pid");
    atomic_bool *opening = shared_memory(sizeof *opening);
    CHECK_INT(open_pidfile(path), 0);
    pid_t starter = fork_child();
    if (starter == 0) {
        close_pidfile();
        atomic_store(opening, true);
        CHECK_INT(open_pidfile(path), 0);
        _exit(0);
    }
    /* Asleep after it began to open: it has found the file locked and waits. Or it gave up. */
    while (!atomic_load(opening) || process_state(starter) == 'R')
        continue;
    CHECK_INT(close_pidfile(), 0);
    CHECK_INT(wait_for_exit(starter), 0);
}

TEST(rule_4_4_starter_learns_the_pid_of_a_holder_that_gets_ready) {
    const char *path = scratch_path("pid");
    atomic_bool *opening = shared_memory(sizeof *opening);
    CHECK_INT(open_pidfile(path), 0);
    pid_t starter = fork_child();
    if (starter == 0) {
        close_pidfile();
        atomic_store(opening, true);
        CHECK_INT(open_pidfile(path), -EEXIST);
        CHECK_INT(status.pid, getppid());
        _exit(0);
    }
    while (!atomic_load(opening) || process_state(starter) == 'R')
        continue;
    CHECK_INT(write_pidfile(), 0);
    CHECK_INT(wait_for_exit(starter), 0);
}

TEST(rule_4_3_only_workers_remain) {
    const char *path = scratch_path("pid");
    struct gate *end = gate_new();
    pid_t *worker = shared_memory(sizeof *worker);
    pid_t daemon = fork_child();
    if (daemon == 0) {
        hold(path);
        pid_t pid = fork_child();
        if (pid == 0)
            gate_wait(end);
        else
            *worker = pid;
        _exit(0);
    }
    CHECK_INT(wait_for_exit(daemon), 0);
    check_state(path, RDAEMON_PIDFILE_HELD, 0, daemon);
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK_INT(status.pid, 0);
    gate_open(end);
    CHECK_INT(wait_for_exit(*worker), 0);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, daemon);
}

TEST(rule_4_3_number_in_the_file_proves_nothing) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    write_file(path, "1\n", 2);
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, 1);
    CHECK_INT(open_pidfile(path), -EEXIST);
    CHECK_INT(status.pid, holder.pid);
    end_holder(holder);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, 1);
}

TEST(rule_4_3_killed_daemon_leaves_a_free_file) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    kill(holder.pid, SIGKILL);
    wait_for_exit(holder.pid);
    check_state(path, RDAEMON_PIDFILE_FREE, 0, holder.pid);
    hold(path);
    CHECK_STR(file_text(path), own_line());
}

/* Several starters at once: each success must be alone, and must hold the file that the path
 * names, although winners remove the file while others open it. */
static void start_over_and_over(const char *path, int rounds, atomic_int *holders,
                                atomic_int *successes) {
    for (int i = 0; i < rounds; i++) {
        int result = open_pidfile(path);
        if (result == -EEXIST)
            continue;
        CHECK_INT(result, 0);
        CHECK_INT(atomic_fetch_add(holders, 1), 0);
        CHECK_INT(write_pidfile(), 0);
        CHECK_INT(stat_of(path).st_ino, pidfile.inode);
        CHECK_STR(file_text(path), own_line());
        atomic_fetch_add(successes, 1);
        atomic_fetch_sub(holders, 1);
        if (i % 2)
            CHECK_INT(remove_pidfile(), 0);
        CHECK_INT(close_pidfile(), 0);
    }
}

TEST(rule_4_2_racing_starters, .time_limit_ms = 60000) {
    enum { STARTERS = 4, ROUNDS = 200 };
    const char *path = scratch_path("pid");
    atomic_int *holders = shared_memory(sizeof *holders);
    atomic_int *successes = shared_memory(sizeof *successes);
    pid_t starters[STARTERS];
    for (int i = 0; i < STARTERS; i++)
        if ((starters[i] = fork_child()) == 0) {
            start_over_and_over(path, ROUNDS, holders, successes);
            _exit(0);
        }
    for (int i = 0; i < STARTERS; i++)
        CHECK_INT(wait_for_exit(starters[i]), 0);
    CHECK(atomic_load(successes) >= ROUNDS);
}

TEST(rule_4_3_readers_disturb_no_starter) {
    const char *path = scratch_path("pid");
    atomic_bool *end = shared_memory(sizeof *end);
    pid_t reader = fork_child();
    if (reader == 0) {
        while (!atomic_load(end))
            CHECK(read_pidfile(path) >= 0);
        _exit(0);
    }
    for (int i = 0; i < 3000; i++) {
        CHECK_INT(open_pidfile(path), 0);
        CHECK_INT(close_pidfile(), 0);
    }
    atomic_store(end, true);
    CHECK_INT(wait_for_exit(reader), 0);
}

/* ---- read ---- */

TEST(read_without_a_file) {
    check_state(scratch_path("pid"), RDAEMON_PIDFILE_FREE, 0, 0);
    CHECK(!exists(scratch_path("pid")));
}

struct content {
    const char *text;
    size_t length;
    int written; /* 0: empty, -1: garbage */
};

#define CONTENT(text, written)                                                                     \
    { text, sizeof text - 1, written }

TEST(rule_4_5_contents) {
    static const struct content contents[] = {
        CONTENT("", 0),
        CONTENT("12\n", 12),
        CONTENT("12", 12),
        CONTENT("12\n34\n", 12),
        CONTENT("12\nabc", 12),
        CONTENT("2147483647\n", 2147483647),
        CONTENT("abc\n", -1),
        CONTENT("12x\n", -1),
        CONTENT("x12\n", -1),
        CONTENT("1 2\n", -1),
        CONTENT("-1\n", -1),
        CONTENT("0\n", -1),
        CONTENT("0", -1),
        CONTENT("2147483648\n", -1),
        CONTENT("4294967308\n", -1),
        CONTENT("99999999999\n", -1),
        CONTENT("18446744073709551628\n", -1),
        CONTENT("\0\0\0", -1),
        CONTENT("12\0\n", -1),
        CONTENT("\xff\xfe", -1),
        CONTENT("0x10\n", -1),
        CONTENT("1e3\n", -1),
    };
    const char *path = scratch_path("pid");
    for (size_t i = 0; i < LENGTH(contents); i++) {
        write_file(path, contents[i].text, contents[i].length);
        memset(&state, 0, sizeof state);
        int result = read_pidfile(path), expected = contents[i].written;
        bool right = expected < 0 ? result == -EBADMSG
                                  : result == RDAEMON_PIDFILE_FREE && state.written == expected;
        if (!right)
            NOTE("content %zu \"%s\": result %d, number %d", i, contents[i].text, result,
                 state.written);
        CHECK(right);
    }
}

TEST(rule_4_5_endless_number) {
    static char digits[1 << 20];
    const char *path = scratch_path("pid");
    memset(digits, '1', sizeof digits);
    write_file(path, digits, sizeof digits);
    check_read_refused(path, -EBADMSG);
}

TEST(rule_4_5_leading_zeros_change_no_number) {
    const char *path = scratch_path("pid");
    write_file(path, "00000000000000000000000000000000000000000000000000\n", 51);
    check_read_refused(path, -EBADMSG);
}

TEST(read_of_an_unreadable_file) {
    const char *path = scratch_path("pid");
    write_file(path, "12\n", 3);
    CHECK_INT(chmod(path, 0), 0);
    become_user();
    check_read_refused(path, -EACCES);
}

TEST(read_needs_no_write_permission) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    CHECK_INT(chmod(path, 0444), 0);
    become_user();
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, holder.pid);
    gate_open(holder.end);
    CHECK_INT(wait_for_exit(holder.pid), 0);
}

TEST(read_changes_nothing) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    static struct snapshot before;
    snapshot_take(&before);
    struct stat then = stat_of(path);
    CHECK_INT(read_pidfile(path), RDAEMON_PIDFILE_RUNNING);
    CHECK(snapshot_same(&before));
    CHECK_INT(stat_of(path).st_ctim.tv_nsec, then.st_ctim.tv_nsec);
    CHECK_INT(stat_of(path).st_mtim.tv_nsec, then.st_mtim.tv_nsec);
    end_holder(holder);
}

/* ---- remove ---- */

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
    hold(path);
    IN_CHILD {
        CHECK_INT(close_pidfile(), 0);
    }
    check_state_from_outside(path, RDAEMON_PIDFILE_RUNNING, getpid(), getpid());
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
