/*
 * What is written in a pidfile: the number that rdaemon_pidfile_read() tells, and what
 * rdaemon_control_stop() removes. Who runs is the kernel's to say, whatever is written.
 *
 * Input: the content.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fuzz.h"
#include "rdaemon.h"

/* What is longer is no number. */
enum { LONGEST_LINE = 31, NONE = -1 };

static char *stale, *held;
static int held_fd;
static pid_t holder;

/* ---- model ---- */

/* 0 for an empty file. */
static int number_in(const uint8_t *bytes, size_t length) {
    const uint8_t *newline = length ? memchr(bytes, '\n', length) : NULL;
    size_t line = newline ? (size_t)(newline - bytes) : length;
    char text[LONGEST_LINE + 1] = "";
    if (length == 0)
        return 0;
    if (line == 0 || line > LONGEST_LINE)
        return NONE;
    memcpy(text, bytes, line);
    if (strspn(text, "0123456789") != line)
        return NONE;
    const char *digits = text + strspn(text, "0");
    long long number = strlen(digits) > 10 ? 0 : atoll(digits);
    return number > 0 && number <= INT32_MAX ? (int)number : NONE;
}

/* ---- files ---- */

static void make_stale(const uint8_t *bytes, size_t length) {
    int fd = open(stale, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    CHECK(fd >= 0, "%s: %m", stale);
    fill(fd, bytes, length);
    close(fd);
}

static void has_content(const char *path, const void *bytes, size_t length) {
    static char content[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, "%s: %m", path);
    ssize_t got = read(fd, content, sizeof content);
    close(fd);
    CHECK(got == (ssize_t)length, "%zd bytes, not %zu", got, length);
    CHECK(memcmp(content, bytes, length) == 0, "other bytes");
}

/* A daemon: it has the process lock. */
static void start_holder(void) {
    int ends[2];
    CHECK(pipe(ends) == 0, "pipe: %m");
    holder = fork();
    if (holder == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct flock lock = {.l_type = F_WRLCK};
        if (fcntl(held_fd, F_SETLK, &lock) != 0 || write(ends[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte;
    CHECK(read(ends[0], &byte, 1) == 1, "no lock");
    close(ends[0]);
    close(ends[1]);
}

static void end_holder(void) {
    kill(holder, SIGKILL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    stale = strdup(scratch_path("stale"));
    held = strdup(scratch_path("held"));
    held_fd = open(held, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    CHECK(held_fd >= 0, "%s: %m", held);
    start_holder();
    atexit(end_holder);
    return 0;
}

/* ---- runs ---- */

static void read_stale(int number) {
    struct rdaemon_pidfile_state state = {.written = 4711};
    int result = rdaemon_pidfile_read(stale, RDAEMON_SIZED(&state));
    if (number == NONE) {
        CHECK(result == -EBADMSG, "%d", result);
        CHECK(state.written == 4711, "written on failure");
        return;
    }
    CHECK(result == RDAEMON_PIDFILE_FREE, "%d", result);
    CHECK(state.state == RDAEMON_PIDFILE_FREE && state.pid == 0, "pid %d", state.pid);
    CHECK(state.written == number, "%d, not %d", state.written, number);
    CHECK(rdaemon_control_query(stale, NULL, NULL, 0) == RDAEMON_CONTROL_NOT_RUNNING, "runs");
}

static void read_held(int number) {
    struct rdaemon_pidfile_state state;
    int result = rdaemon_pidfile_read(held, RDAEMON_SIZED(&state));
    CHECK(result == RDAEMON_PIDFILE_RUNNING && state.pid == holder, "%d, pid %d", result,
          state.pid);
    CHECK(state.written == number, "%d, not %d", state.written, number);
    struct rdaemon_status status;
    result = rdaemon_control_signal(held, 0, RDAEMON_SIZED(&status));
    CHECK(result == RDAEMON_CONTROL_RUNNING && status.pid == holder, "%d to %d", result,
          status.pid);
}

static void stop_stale(int number, const uint8_t *bytes, size_t length) {
    int result = rdaemon_control_stop(stale, 0, 0, NULL, 0);
    if (number == NONE) {
        CHECK(result == -EBADMSG, "%d", result);
        has_content(stale, bytes, length);
    } else {
        CHECK(result == RDAEMON_CONTROL_NOT_RUNNING, "%d", result);
        CHECK(access(stale, F_OK) != 0, "the stale pidfile is there");
    }
}

/* A new daemon's number takes the place of whatever was there. */
static void take_over(void) {
    struct rdaemon_pidfile pidfile;
    int result = rdaemon_pidfile_open(stale, NULL, 0, RDAEMON_SIZED(&pidfile), NULL, 0);
    CHECK(result == 0, "open: %d", result);
    result = rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile));
    CHECK(result == 0, "write: %d", result);
    char expected[16], content[64];
    int length = snprintf(expected, sizeof expected, "%d\n", (int)getpid());
    ssize_t got = pread(pidfile.fd, content, sizeof content, 0);
    CHECK(got == length && memcmp(content, expected, (size_t)length) == 0, "%zd bytes", got);
    CHECK(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)) == 0, "not removed");
    CHECK(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile)) == 0, "not closed");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    int number = number_in(bytes, length);
    make_stale(bytes, length);
    read_stale(number);
    fill(held_fd, bytes, length);
    read_held(number);
    stop_stale(number, bytes, length);
    make_stale(bytes, length);
    take_over();
    return 0;
}
