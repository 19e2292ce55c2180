#include "start.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "probe.h"
#include "tap.h"

/* ---- starting ---- */

void start(struct start *start, const struct rdaemon_config *config,
           void (*life)(const struct start *start)) {
    pid_t caller = getpid();
    memset(start, 0xa5, sizeof *start);
    start->result =
        QUIET(rdaemon_daemonize(config, config ? sizeof *config : 0, RDAEMON_SIZED(&start->daemon),
                                RDAEMON_SIZED(&start->status)));
    if (start->result != 0)
        return;
    if (life)
        life(start);
    if (getpid() != caller)
        _exit(EXIT_SUCCESS);
}

pid_t start_well(struct start *started, const struct rdaemon_config *config,
                 void (*life)(const struct start *start)) {
    start(started, config, life);
    if (started->result < 0)
        FAIL("the start failed: %s, %s", rdaemon_step_name(started->status.step),
             error_name(started->result));
    CHECK_INT(started->status.step, RDAEMON_STEP_NONE);
    CHECK_INT(started->status.error, 0);
    CHECK_INT(started->status.pid, started->result);
    CHECK_INT(started->daemon.pid, started->result);
    return started->result;
}

void start_badly(const struct rdaemon_config *config, int step, int error) {
    static struct snapshot before;
    char files[4096];
    struct start failed;
    snprintf(files, sizeof files, "%s", tree(scratch()));
    snapshot_take(&before);
    double begin = now_ms();
    start(&failed, config, NULL);
    double took = now_ms() - begin;
    if (failed.result > 0) {
        slay(&failed);
        FAIL("the start succeeded, where it should fail at %s with %s", rdaemon_step_name(step),
             error_name(error));
    }
    if (failed.status.step != step || failed.result != error)
        FAIL("the start failed at %s with %s, where it should fail at %s with %s",
             rdaemon_step_name(failed.status.step), error_name(failed.result),
             rdaemon_step_name(step), error_name(error));
    CHECK_INT(failed.status.error, error);
    CHECK(snapshot_same(&before));
    CHECK_STR(tree(scratch()), files);
    CHECK(took < 1000);
}

/* ---- lives and ends ---- */

void live_on(const struct start *start) {
    (void)start;
    for (;;)
        pause();
}

static void close_channels(struct start *start) {
    if (start->daemon.pidfd >= 0)
        close(start->daemon.pidfd);
    if (start->daemon.ready_fd >= 0)
        close(start->daemon.ready_fd);
    start->daemon.pidfd = start->daemon.ready_fd = -1;
}

void lived(struct start *start) {
    CHECK_INT(wait_for_exit(start->result), 0);
    close_channels(start);
}

void slay(struct start *start) {
    kill(start->result, SIGKILL);
    wait_for_exit(start->result);
    close_channels(start);
}

void adopt_orphans(void) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        SKIP_PLATFORM("orphans cannot be waited for here");
}

void run_daemon(const struct rdaemon_config *config, void (*life)(const struct start *start)) {
    struct start started;
    adopt_orphans();
    start_well(&started, config, life);
    lived(&started);
}

/* ---- time ---- */

double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* ---- files ---- */

static void list(const char *directory, const char *prefix, char *text, size_t size) {
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            char below[PATH_MAX], path[PATH_MAX];
            bool folder = entries[i]->d_type == DT_DIR;
            snprintf(below, sizeof below, "%s%s%s", prefix, name, folder ? "/" : "");
            snprintf(path, sizeof path, "%s/%s", directory, name);
            size_t length = strlen(text);
            snprintf(text + length, size - length, length ? " %s" : "%s", below);
            if (folder)
                list(path, below, text, size);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

const char *tree(const char *directory) {
    static char text[4096];
    text[0] = '\0';
    list(directory, "", text, sizeof text);
    return text;
}

const char *make_file(const char *name, const char *text) {
    const char *path = scratch_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        FAIL("%s: %s", path, strerror(errno));
    close(fd);
    return path;
}

const char *make_directory(const char *name, mode_t mode) {
    const char *path = scratch_path(name);
    if (mkdir(path, 0700) != 0 || chmod(path, mode) != 0)
        FAIL("%s: %s", path, strerror(errno));
    return path;
}

const char *file_text(const char *path) {
    static char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length < 0)
        FAIL("%s: %s", path, strerror(errno));
    close(fd);
    text[length] = '\0';
    return text;
}

/* ---- the kernel's word ---- */

bool exists(const char *path) {
    struct stat information;
    return lstat(path, &information) == 0;
}

struct stat stat_of(const char *path) {
    struct stat information;
    if (lstat(path, &information) != 0)
        FAIL("%s: %s", path, strerror(errno));
    return information;
}

unsigned mode_of(const char *path) {
    return stat_of(path).st_mode & 07777;
}

long stat_field(pid_t pid, int number) {
    char path[64];
    snprintf(path, sizeof path, pid ? "/proc/%d/stat" : "/proc/self/stat", (int)pid);
    const char *field = strrchr(file_text(path), ')') + 2;
    for (int i = 3; i < number; i++)
        field = strchr(field, ' ') + 1;
    return strtol(field, NULL, 10);
}

void wait_for_state(pid_t pid, char state) {
    while (process_state(pid) != state) {
        if (process_state(pid) == 'X')
            FAIL("process %d ended before it was in state %c", (int)pid, state);
        sched_yield();
    }
}

uid_t lonely_uid(void) {
    return 1000000 + (uid_t)getpid();
}

const char *error_name(int error) {
    static char other[16];
    static const struct {
        int error;
        const char *name;
    } names[] = {
#define ERROR(name) {name, #name}
        ERROR(EPERM),        ERROR(ENOENT),  ERROR(ESRCH),      ERROR(EINTR),     ERROR(EIO),
        ERROR(ENXIO),        ERROR(E2BIG),   ERROR(ENOEXEC),    ERROR(EBADF),     ERROR(ECHILD),
        ERROR(EAGAIN),       ERROR(ENOMEM),  ERROR(EACCES),     ERROR(EFAULT),    ERROR(EBUSY),
        ERROR(EEXIST),       ERROR(ENODEV),  ERROR(ENOTDIR),    ERROR(EISDIR),    ERROR(EINVAL),
        ERROR(ENFILE),       ERROR(EMFILE),  ERROR(ENOTTY),     ERROR(EFBIG),     ERROR(ENOSPC),
        ERROR(EROFS),        ERROR(EPIPE),   ERROR(ERANGE),     ERROR(ENOLCK),    ERROR(ENOSYS),
        ERROR(ENAMETOOLONG), ERROR(ELOOP),   ERROR(EALREADY),   ERROR(ESTALE),    ERROR(EDEADLK),
        ERROR(EOPNOTSUPP),   ERROR(EBADMSG), ERROR(ECONNRESET), ERROR(ETIMEDOUT),
#undef ERROR
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].error == -error)
            return names[i].name;
    snprintf(other, sizeof other, "%d", error);
    return other;
}
