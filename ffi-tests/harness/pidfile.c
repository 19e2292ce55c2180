#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "probe.h"
#include "tap.h"

struct rdaemon_pidfile pidfile;
struct rdaemon_status status;
struct rdaemon_pidfile_state state;

int open_with(const char *path, struct rdaemon_pidfile_options options) {
    return QUIET(rdaemon_pidfile_open(path, RDAEMON_SIZED(&options), RDAEMON_SIZED(&pidfile),
                                      RDAEMON_SIZED(&status)));
}

int open_pidfile(const char *path) {
    return QUIET(
        rdaemon_pidfile_open(path, NULL, 0, RDAEMON_SIZED(&pidfile), RDAEMON_SIZED(&status)));
}

int write_pidfile(void) {
    return QUIET(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)));
}

int remove_pidfile(void) {
    return QUIET(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)));
}

int close_pidfile(void) {
    return QUIET(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile)));
}

int read_pidfile(const char *path) {
    return QUIET(rdaemon_pidfile_read(path, RDAEMON_SIZED(&state)));
}

void hold(const char *path) {
    CHECK_INT(open_pidfile(path), 0);
    CHECK_INT(write_pidfile(), 0);
}

void check_state(const char *path, uint32_t kind, pid_t pid, int written) {
    CHECK_INT(read_pidfile(path), kind);
    CHECK_INT(state.state, kind);
    CHECK_INT(state.pid, pid);
    CHECK_INT(state.written, written);
}

void check_state_from_outside(const char *path, uint32_t kind, pid_t pid, int written) {
    IN_CHILD {
        check_state(path, kind, pid, written);
    }
}

void write_file(const char *path, const char *text, size_t length) {
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, length) != (ssize_t)length || close(fd) != 0)
        FAIL("%s: %s", path, strerror(errno));
}

const char *own_line(void) {
    static char line[16];
    snprintf(line, sizeof line, "%d\n", (int)getpid());
    return line;
}

struct holder start_holder(const char *path, bool writes) {
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

void end_holder(struct holder holder) {
    gate_open(holder.end);
    CHECK_INT(wait_for_exit(holder.pid), 0);
}

void check_open_refused(const char *path, int error) {
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

void check_read_refused(const char *path, int error) {
    struct rdaemon_pidfile_state untouched;
    memset(&state, 0xa5, sizeof state);
    memset(&untouched, 0xa5, sizeof untouched);
    CHECK_REFUSED(rdaemon_pidfile_read(path, RDAEMON_SIZED(&state)), error);
    CHECK_INT(memcmp(&state, &untouched, sizeof state), 0);
}
