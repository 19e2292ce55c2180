/*
 * Keep lists and fd maps: the fds that are there after rdaemon_close_fds(), and those of a program
 * that rdaemon_spawn() has started, are those of a table to which the same was done.
 *
 * Input: what is done (1: spawn; else its fall-back), flags; then lists, each with its length
 * before it: the fds that are open before, and what is kept, or mapped and passed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "rdaemon.h"

/* The sweep works through 65536 fds at a time. */
enum { LIMIT = 2 * 65536 + 64, MOST = 32 };

static char stops[4096];
/* No fds from here on: what RLIMIT_NOFILE allows, and LIMIT at most. */
static int limit;

/* The fds of this process, and those that the child must have; an inode of 0 is a closed one. */
static struct entry {
    struct file file;
    bool is_cloexec;
} before[LIMIT];
static struct file after[LIMIT];
static int used[2 * MOST + 3], used_len;

/* ---- the input ---- */

/* Small numbers, and those at the edges. */
static int take_number(struct input *input) {
    const int edges[] = {-1,    INT_MIN, INT_MAX, 63,     64,     65,        255,
                         65535, 65536,   65537,   131071, 131072, limit - 1, limit};
    unsigned byte = take_byte(input), edge = byte - 200;
    return byte < 200 ? (int)byte % 40 : edges[edge % (sizeof edges / sizeof *edges)];
}

static int take_numbers(struct input *input, int32_t *numbers, int most) {
    int length = (int)(take_byte(input) % (unsigned)(most + 1));
    for (int i = 0; i < length; i++)
        numbers[i] = take_number(input);
    return length;
}

static void note_before(int fd) {
    before[fd].is_cloexec = fcntl(fd, F_GETFD) == FD_CLOEXEC;
    if (file_of(fd, &before[fd].file))
        used[used_len++] = fd;
}

/* Each fd is a file of its own. */
static void open_fds(struct input *input) {
    int fds = (int)take_byte(input) % MOST;
    close_range(3, ~0U, 0);
    unsigned closed = take_byte(input);
    for (int i = 0; i < fds; i++) {
        int fd = take_number(input);
        unsigned cloexec = take_byte(input) & 1;
        if (fd < 0 || fd >= limit || before[fd].file.inode)
            continue;
        int file = memfd_create("fuzz", MFD_CLOEXEC);
        CHECK(file >= 0, "memfd_create: %m");
        if (file != fd) {
            CHECK(dup2(file, fd) == fd, "dup2: %m");
            close(file);
        }
        fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0);
        note_before(fd);
    }
    for (int fd = 0; fd < 3; fd++) {
        if (closed & 1U << fd && !before[fd].file.inode)
            close(fd);
        else if (!before[fd].file.inode)
            note_before(fd);
    }
}

/* ---- sweep ---- */

/* From now on the system call fails. */
static void deny(long number) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs: %m");
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp: %m");
}

static bool is_in(int number, const int32_t *numbers, int length) {
    for (int i = 0; i < length; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

static void sweep(struct input *input, unsigned what) {
    int32_t keep[MOST];
    uint32_t flags = take_byte(input) & 1 ? RDAEMON_CLOSE_FDS_CLOEXEC : 0;
    int lowest = take_number(input), length = take_numbers(input, keep, MOST);
    open_fds(input);
    if (what & 2)
        deny(SYS_close_range);
    if ((what & 14) == 14)
        deny(SYS_openat);
    int result = rdaemon_close_fds(lowest, keep, (size_t)length, flags);
    CHECK(result == (lowest < 0 ? -EINVAL : 0), "%d", result);
    for (int i = 0; i < used_len; i++) {
        int fd = used[i], got = fcntl(fd, F_GETFD);
        bool is_met = result == 0 && fd >= lowest && !is_in(fd, keep, length);
        int expected = is_met && !flags ? -1 : is_met || before[fd].is_cloexec ? FD_CLOEXEC : 0;
        CHECK(got == expected, "fd %d: flags %d, not %d, lowest %d", fd, got, expected, lowest);
    }
}

/* ---- spawn ---- */

/* What may be wrong with the configuration. */
static bool may_be[2];
enum { INVALID, CLOSED };

static void refuse_if(bool is_wrong, int how) {
    may_be[how] |= is_wrong;
}

static bool was_open(int fd) {
    return fd >= 0 && fd < limit && before[fd].file.inode;
}

static struct rdaemon_stream take_stream(struct input *input) {
    struct rdaemon_stream stream = {.action = take_byte(input) % (RDAEMON_STREAM_PIPE + 1)};
    if (stream.action == RDAEMON_STREAM_FD)
        stream.fd = take_number(input);
    if (stream.action == RDAEMON_STREAM_FILE)
        stream.path = "/dev/zero";
    return stream;
}

static struct file null_file, zero_file;

static struct file file_at(const char *path) {
    struct stat got;
    CHECK(stat(path, &got) == 0, "%s: %m", path);
    return (struct file){got.st_dev, got.st_ino};
}

static struct rdaemon_spawn_config config;
static struct rdaemon_fd_mapping map[MOST];
static int32_t pass[MOST];
static int ends[MOST];
static struct rdaemon_child child;

static bool is_inherited(const struct rdaemon_stream *stream) {
    return stream->action == RDAEMON_STREAM_DEFAULT || stream->action == RDAEMON_STREAM_INHERIT;
}

static void take_config(struct input *input) {
    static const char *const argv[] = {stops, NULL};
    unsigned flags = take_byte(input);
    config = (struct rdaemon_spawn_config){.argv = argv,
                                           .flags = (flags & 1 ? RDAEMON_SPAWN_KEEP_FDS : 0) |
                                                    (flags & 2 ? RDAEMON_SPAWN_FORCE_FORK : 0) |
                                                    (flags & 4 ? RDAEMON_SPAWN_PIDFD : 0),
                                           .fd_map = map,
                                           .pass_fds = pass};
    for (int i = 0; i < 3; i++)
        config.streams[i] = take_stream(input);
    config.fd_map_len = take_byte(input) % (MOST + 1);
    for (size_t i = 0; i < config.fd_map_len; i++) {
        map[i].child_fd = take_number(input);
        map[i].source = take_stream(input);
        if (map[i].source.action == RDAEMON_STREAM_PIPE)
            map[i].ret_fd = &ends[i];
    }
    config.pass_fds_len = (size_t)take_numbers(input, pass, MOST);
}

static void check_stream(int fd, const struct rdaemon_stream *stream) {
    refuse_if(stream->action == RDAEMON_STREAM_FD && !was_open(stream->fd), CLOSED);
    refuse_if(stream->action == RDAEMON_STREAM_SAME_AS_STDOUT && fd <= 1, INVALID);
}

static bool is_target(int fd, size_t before_entry) {
    if (fd >= 0 && fd < 3 && config.streams[fd].action != RDAEMON_STREAM_DEFAULT)
        return true;
    for (size_t i = 0; i < before_entry; i++)
        if (map[i].child_fd == fd)
            return true;
    return false;
}

/* The stream or the entry of the map that standard output is. */
static const struct rdaemon_stream *stdout_source(void) {
    for (size_t i = 0; i < config.fd_map_len; i++)
        if (map[i].child_fd == 1)
            return &map[i].source;
    return &config.streams[1];
}

static void check_config(void) {
    for (int i = 0; i < 3; i++)
        check_stream(i, &config.streams[i]);
    for (size_t i = 0; i < config.fd_map_len; i++) {
        int fd = map[i].child_fd;
        refuse_if(fd < 0, CLOSED);
        refuse_if(is_target(fd, i), INVALID);
        refuse_if(map[i].source.action == RDAEMON_STREAM_DEFAULT, INVALID);
        refuse_if(map[i].source.action == RDAEMON_STREAM_INHERIT && !was_open(fd), CLOSED);
        check_stream(fd, &map[i].source);
    }
    for (size_t i = 0; i < config.pass_fds_len; i++) {
        int fd = pass[i];
        bool is_stream = fd >= 0 && fd < 3 && !is_inherited(&config.streams[fd]);
        bool is_mapped = false;
        for (size_t k = 0; k < config.fd_map_len; k++)
            is_mapped |= map[k].child_fd == fd;
        refuse_if(!was_open(fd), CLOSED);
        refuse_if(is_stream || is_mapped, INVALID);
    }
}

static void check_stdout(void) {
    bool is_used = config.streams[2].action == RDAEMON_STREAM_SAME_AS_STDOUT;
    for (size_t i = 0; i < config.fd_map_len; i++)
        is_used |= map[i].source.action == RDAEMON_STREAM_SAME_AS_STDOUT;
    refuse_if(is_used && is_inherited(stdout_source()) && !was_open(1), CLOSED);
}

static bool has_too_high(void) {
    for (size_t i = 0; i < config.fd_map_len; i++)
        if (map[i].child_fd >= limit)
            return true;
    return false;
}

/* The pipe's other end is this process's. */
static struct file file_of_end(const struct rdaemon_stream *stream) {
    int fd = -1;
    struct file file = {0};
    for (int i = 0; i < 3; i++)
        if (stream == &config.streams[i])
            fd = child.fds[i];
    for (size_t i = 0; i < config.fd_map_len; i++)
        if (stream == &map[i].source)
            fd = ends[i];
    CHECK(file_of(fd, &file) && fcntl(fd, F_GETFD) == FD_CLOEXEC, "the pipe's end is fd %d", fd);
    return file;
}

/* All assignments are done at once: the sources are those of before. */
static struct file file_from(int child_fd, const struct rdaemon_stream *stream) {
    switch (stream->action) {
    case RDAEMON_STREAM_NULL:
        return null_file;
    case RDAEMON_STREAM_FD:
        return before[stream->fd].file;
    case RDAEMON_STREAM_FILE:
        return zero_file;
    case RDAEMON_STREAM_SAME_AS_STDOUT:
        return file_from(1, stdout_source());
    case RDAEMON_STREAM_PIPE:
        return file_of_end(stream);
    default:
        return before[child_fd].file;
    }
}

static void build_after(void) {
    for (int i = 0; i < used_len; i++) {
        const struct entry *entry = &before[used[i]];
        if (!entry->is_cloexec && (config.flags & RDAEMON_SPAWN_KEEP_FDS || used[i] < 3))
            after[used[i]] = entry->file;
    }
    for (int i = 0; i < 3; i++)
        if (config.streams[i].action != RDAEMON_STREAM_DEFAULT)
            after[i] = file_from(i, &config.streams[i]);
    for (size_t i = 0; i < config.fd_map_len; i++)
        after[map[i].child_fd] = file_from(map[i].child_fd, &map[i].source);
    for (size_t i = 0; i < config.pass_fds_len; i++)
        after[pass[i]] = before[pass[i]].file;
}

/* The child's fds, as the kernel lists them once the program runs: the caller of vfork(2) resumes
 * before the kernel closes those that are close-on-exec. */
static void compare(int pid) {
    int status;
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status), "status %#x", status);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    CHECK(directory, "%s: %m", path);
    for (struct dirent *each; (each = readdir(directory));) {
        struct stat got;
        int fd = atoi(each->d_name);
        if (each->d_name[0] == '.')
            continue;
        CHECK(fstatat(dirfd(directory), each->d_name, &got, 0) == 0, "%s: %m", each->d_name);
        CHECK(fd < limit && after[fd].inode, "the child has fd %d", fd);
        CHECK(after[fd].device == got.st_dev && after[fd].inode == got.st_ino,
              "the child's fd %d is another file", fd);
        after[fd].inode = 0;
    }
    for (int fd = 0; fd < limit; fd++)
        CHECK(!after[fd].inode, "the child has no fd %d", fd);
}

static void is_as_before(void) {
    for (int i = 0; i < used_len; i++) {
        struct file file = {0};
        CHECK(file_of(used[i], &file) && file.inode == before[used[i]].file.inode &&
                  (fcntl(used[i], F_GETFD) == FD_CLOEXEC) == before[used[i]].is_cloexec,
              "the caller's fd %d", used[i]);
    }
}

static void nothing_is_left(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory, "/proc/self/fd: %m");
    for (struct dirent *each; (each = readdir(directory));)
        count += each->d_name[0] != '.';
    closedir(directory);
    CHECK(count - 1 == used_len, "%d fds are open, not %d", count - 1, used_len);
}

static void spawn(struct input *input) {
    struct rdaemon_status status;
    take_config(input);
    open_fds(input);
    check_config();
    check_stdout();
    int pid = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), RDAEMON_SIZED(&status));
    is_as_before();
    if (may_be[INVALID] || may_be[CLOSED]) {
        bool is_told = (pid == -EINVAL && may_be[INVALID]) || (pid == -EBADF && may_be[CLOSED]);
        CHECK(is_told && status.step == RDAEMON_STEP_CONFIG, "%d at step %d", pid, status.step);
    } else if (has_too_high()) {
        CHECK(pid == -EBADF && status.step == RDAEMON_STEP_MAP_FDS, "%d at step %d", pid,
              status.step);
    } else {
        CHECK(pid > 0, "%d at step %d", pid, status.step);
        build_after();
        compare(pid);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
        return;
    }
    nothing_is_left();
}

static void run(struct input *input) {
    unsigned what = take_byte(input);
    if (what & 1)
        spawn(input);
    else
        sweep(input, what);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    ssize_t length = readlink("/proc/self/exe", stops, sizeof stops - 16);
    CHECK(length > 0, "/proc/self/exe: %m");
    strcpy(strrchr(stops, '/'), "/stops");
    struct rlimit files;
    CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit: %m");
    limit = files.rlim_max < LIMIT ? (int)files.rlim_max : LIMIT;
    files.rlim_cur = (rlim_t)limit;
    CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit: %m");
    null_file = file_at("/dev/null");
    zero_file = file_at("/dev/zero");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    run_in_child(run, (struct input){bytes, length});
    return 0;
}
