#include "probe.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "tap.h"

enum { MOST_FDS = 32 * 1024 };

/* The path of a file under /proc/<pid>, by way of the self link so that it works in any case. */
static const char *proc_path(pid_t pid, const char *name) {
    static char path[64];
    if (pid == 0)
        snprintf(path, sizeof path, "/proc/self/%s", name);
    else
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return path;
}

static size_t read_whole(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    for (ssize_t got = 1; fd >= 0 && got > 0; length += got > 0 ? (size_t)got : 0)
        got = read(fd, text + length, size - 1 - length);
    if (fd >= 0)
        close(fd);
    text[length] = '\0';
    return length;
}

/* ---- descriptors ---- */

static int compare_ints(const void *a, const void *b) {
    const int *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* Fills `fds` in ascending order, leaving out the one used for looking, and those of valgrind,
 * which have the numbers from RDAEMON_FDS on. */
static size_t list_fds(pid_t pid, int *fds) {
    size_t count = 0;
    const char *theirs = getenv("RDAEMON_FDS");
    int end = theirs ? atoi(theirs) : INT_MAX;
    DIR *directory = opendir(proc_path(pid, "fd"));
    if (!directory)
        FAIL("%s: %s", proc_path(pid, "fd"), strerror(errno));
    bool own = pid == 0 || pid == getpid();
    for (struct dirent *entry; (entry = readdir(directory)) && count < MOST_FDS;) {
        int fd = atoi(entry->d_name);
        if (isdigit((unsigned char)entry->d_name[0]) && fd < end &&
            !(own && fd == dirfd(directory)))
            fds[count++] = fd;
    }
    closedir(directory);
    qsort(fds, count, sizeof *fds, compare_ints);
    return count;
}

const char *open_fds(pid_t pid) {
    static int fds[MOST_FDS];
    static char text[8 * MOST_FDS];
    size_t count = list_fds(pid, fds), length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        length += (size_t)sprintf(text + length, i ? " %d" : "%d", fds[i]);
    return text;
}

bool fd_is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

bool fd_is_cloexec(int fd) {
    return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

bool same_description(int a, int b) {
    int answer = (int)syscall(SYS_kcmp, getpid(), getpid(), 0 /* KCMP_FILE */, a, b);
    if (answer < 0 && (errno == ENOSYS || errno == EPERM))
        SKIP_PLATFORM("kcmp: %s", strerror(errno));
    return answer == 0;
}

const char *fd_target(pid_t pid, int fd) {
    static char target[PATH_MAX];
    char name[32];
    snprintf(name, sizeof name, "fd/%d", fd);
    ssize_t length = readlink(proc_path(pid, name), target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    return target;
}

pid_t pidfd_pid(int pidfd) {
    char name[32], info[1024];
    snprintf(name, sizeof name, "fdinfo/%d", pidfd);
    read_whole(proc_path(0, name), info, sizeof info);
    const char *line = strstr(info, "\nPid:");
    if (!line)
        FAIL("%d is no pidfd", pidfd);
    return atoi(line + strlen("\nPid:"));
}

/* ---- processes ---- */

/* Copies up to the end of the line, with each run of blanks made one space. */
static void copy_value(char *value, size_t size, const char *text) {
    size_t length = 0;
    while (isblank((unsigned char)*text))
        text++;
    for (; *text && *text != '\n' && length < size - 1; text++)
        if (!isblank((unsigned char)*text))
            value[length++] = *text;
        else if (!isblank((unsigned char)text[1]) && text[1] != '\n')
            value[length++] = ' ';
    value[length] = '\0';
}

unsigned long long own_pidfd_inode(void) {
    struct stat file;
    struct statfs system;
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0)
        SKIP_PLATFORM("this kernel has no pidfds");
    CHECK_INT(fstat(fd, &file), 0);
    CHECK_INT(fstatfs(fd, &system), 0);
    close(fd);
    if (system.f_type != 0x50494446)
        SKIP_PLATFORM("this kernel has no pidfs");
    return file.st_ino;
}

const char *status_field(pid_t pid, const char *field) {
    static char text[8192], value[4096];
    char key[64];
    snprintf(key, sizeof key, "\n%s:", field);
    text[0] = '\n';
    read_whole(proc_path(pid, "status"), text + 1, sizeof text - 1);
    const char *line = strstr(text, key);
    if (!line)
        FAIL("%s has no field %s", proc_path(pid, "status"), field);
    copy_value(value, sizeof value, line + strlen(key));
    return value;
}

unsigned long long signals_in(pid_t pid, const char *field) {
    return strtoull(status_field(pid, field), NULL, 16);
}

bool signal_in(pid_t pid, const char *field, int signal_number) {
    return signals_in(pid, field) & SIGNAL_BIT(signal_number);
}

/* Reads state and parent from /proc/<pid>/stat; false when there is no such process. */
static bool read_stat(pid_t pid, char *state, int *parent) {
    char text[1024];
    if (read_whole(proc_path(pid, "stat"), text, sizeof text) == 0)
        return false;
    const char *after_name = strrchr(text, ')');
    return after_name && sscanf(after_name, ") %c %d", state, parent) == 2;
}

char process_state(pid_t pid) {
    char state;
    int parent;
    return read_stat(pid, &state, &parent) ? state : 'X';
}

static size_t list_children(pid_t pid, int *children, size_t size) {
    size_t count = 0;
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; directory && (entry = readdir(directory)) && count < size;) {
        char state;
        int child = atoi(entry->d_name), parent;
        if (child > 0 && read_stat(child, &state, &parent) && parent == pid)
            children[count++] = child;
    }
    if (directory)
        closedir(directory);
    qsort(children, count, sizeof *children, compare_ints);
    return count;
}

pid_t first_child_of(pid_t pid) {
    int children[256];
    return list_children(pid, children, 256) ? children[0] : 0;
}

int count_children_of(pid_t pid) {
    int children[256];
    return (int)list_children(pid, children, 256);
}

pid_t kernels_holder(const char *pidfile) {
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int fd = open(pidfile, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_GETLK, &lock) != 0)
        FAIL("%s: %s", pidfile, strerror(errno));
    close(fd);
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

int wait_for_exit(pid_t pid) {
    int status;
    pid_t got;
    do
        got = waitpid(pid, &status, __WALL);
    while (got < 0 && errno == EINTR);
    if (got == pid)
        return status;
    int subreaper = 0;
    if (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) != 0 || !subreaper)
        SKIP_PLATFORM("orphans cannot be waited for here");
    FAIL("waitpid(%d): %s", (int)pid, strerror(errno));
}

/* ---- snapshots ---- */

__attribute__((format(printf, 2, 3))) static void add(struct snapshot *snapshot, const char *format,
                                                      ...) {
    size_t length = strlen(snapshot->text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(snapshot->text + length, sizeof snapshot->text - length, format, arguments);
    va_end(arguments);
}

/* Offset, flags and locks of each descriptor are in its fdinfo. */
static void add_fds(struct snapshot *snapshot) {
    static int fds[MOST_FDS];
    size_t count = list_fds(0, fds);
    for (size_t i = 0; i < count; i++) {
        char name[32], info[1024];
        snprintf(name, sizeof name, "fdinfo/%d", fds[i]);
        read_whole(proc_path(0, name), info, sizeof info);
        for (char *newline = info; (newline = strchr(newline, '\n'));)
            *newline = ' ';
        add(snapshot, "fd %d: %s, %s\n", fds[i], fd_target(0, fds[i]), info);
    }
}

static void add_children(struct snapshot *snapshot) {
    int children[256];
    siginfo_t any;
    if (waitid(P_ALL, 0, &any, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 && errno == ECHILD)
        return; /* there are none, which is known without a look at every process */
    size_t count = list_children(getpid(), children, 256);
    for (size_t i = 0; i < count; i++)
        add(snapshot, "child: %d\n", children[i]);
}

static void add_handlers(struct snapshot *snapshot) {
    for (int i = 1; i <= SIGRTMAX; i++) {
        struct sigaction action;
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            add(snapshot, "signal %d: %p, flags %x\n", i, (void *)(uintptr_t)action.sa_handler,
                (unsigned)action.sa_flags);
    }
}

static void add_limits(struct snapshot *snapshot) {
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        if (getrlimit(i, &limit) == 0)
            add(snapshot, "limit %d: %ju %ju\n", i, (uintmax_t)limit.rlim_cur,
                (uintmax_t)limit.rlim_max);
    }
}

/* The root and the working directory, by identity: their names may lie after a chroot. */
static void add_directories(struct snapshot *snapshot) {
    struct stat root = {0}, cwd = {0};
    if (stat("/", &root) == 0 && stat(".", &cwd) == 0)
        add(snapshot, "root: %ju:%ju\ncwd: %ju:%ju\n", (uintmax_t)root.st_dev,
            (uintmax_t)root.st_ino, (uintmax_t)cwd.st_dev, (uintmax_t)cwd.st_ino);
}

void snapshot_take(struct snapshot *snapshot) {
    static const char *const fields[] = {"Umask",  "Uid",    "Gid",    "Groups",     "Threads",
                                         "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "CapEff"};
    int saved_errno = errno;
    snapshot->text[0] = '\0';
    add_fds(snapshot);
    add_children(snapshot);
    add_handlers(snapshot);
    add_limits(snapshot);
    add_directories(snapshot);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        add(snapshot, "%s: %s\n", fields[i], status_field(0, fields[i]));
    add(snapshot, "session: %d, group: %d, parent: %d, dumpable: %d\n", (int)getsid(0),
        (int)getpgrp(), (int)getppid(), prctl(PR_GET_DUMPABLE));
    errno = saved_errno;
}

static const char *next_line(const char *line) {
    const char *newline = strchr(line, '\n');
    return newline ? newline + 1 : line + strlen(line);
}

/* Notes the lines of `text` that `other` lacks. */
static void note_missing(const char *label, const char *text, const char *other) {
    for (const char *line = text, *end; *line; line = end) {
        end = next_line(line);
        char copy[1024];
        snprintf(copy, sizeof copy, "%.*s", (int)(end - line), line);
        if (!strstr(other, copy))
            NOTE("%s %.*s", label, (int)strcspn(copy, "\n"), copy);
    }
}

bool snapshot_same(const struct snapshot *before) {
    static struct snapshot now;
    snapshot_take(&now);
    if (strcmp(before->text, now.text) == 0)
        return true;
    note_missing("was:", before->text, now.text);
    note_missing("is: ", now.text, before->text);
    return false;
}
