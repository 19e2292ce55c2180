// How long one way of closing 20 000 fds takes, or as many as the hard limit allows but for some
// that the ways need themselves: the median of several sweeps, in nanoseconds.
//
//   sweep METHOD KEPT REFUSED SWEEPS
//
// KEPT is none, or ascending or shuffled: then every second fd is kept, and the list of them has
// that order. REFUSED is nothing, close_range, or close_range and /proc as well: "both".

#include "bench.h"
#include "rdaemon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef HAVE_LIBDAEMON
#include <libdaemon/daemon.h>
#endif

enum { FIRST = 3, COUNT = 20000, SPARE = 16, MAX_LIMIT = 65536, MAX_SWEEPS = 1000 };

// In the order asked for, with -1 at the end; and for each fd whether it is in there.
static int keep[COUNT + 1];
static int keep_len;
// The numbers of fds are below the limit, and those of the open ones below the end.
static int limit, end;
static char is_kept[MAX_LIMIT];

// ---- the methods ----

static int ours(void) {
    int result = rdaemon_close_fds(FIRST, keep, keep_len, 0);
    errno = -result;
    return result;
}

// The least that can be done with close_range(2).
static int close_gaps(void) {
    int next = FIRST;
    for (int fd = FIRST; keep_len != 0 && fd < end; fd++) {
        if (!is_kept[fd])
            continue;
        if (fd > next && syscall(SYS_close_range, next, fd - 1, 0) != 0)
            return -1;
        next = fd + 1;
    }
    return syscall(SYS_close_range, next, ~0U, 0);
}

// The least that can be done with close(2): it knows which fds are open.
static int close_open(void) {
    for (int fd = FIRST; fd < end; fd++)
        if (!is_kept[fd])
            close(fd);
    return 0;
}

static int close_all(void) {
    for (int fd = FIRST; fd < limit; fd++)
        if (!is_kept[fd])
            close(fd);
    return 0;
}

static int libc_closefrom(void) {
    closefrom(FIRST);
    return 0;
}

#ifdef HAVE_LIBDAEMON
static int libdaemon(void) {
    return daemon_close_allv(keep);
}
#endif

static const struct method {
    const char *name;
    int (*sweep)(void);
} methods[] = {
    {"ours", ours},           {"close_range", close_gaps},   {"close", close_open},
    {"loop", close_all},      {"closefrom", libc_closefrom},
#ifdef HAVE_LIBDAEMON
    {"libdaemon", libdaemon},
#endif
};

// ---- what is refused ----

static void refuse_close_range(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl");
    need(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp");
}

static void hide_proc(void) {
    need(unshare(CLONE_NEWNS) == 0, "unshare");
    need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount");
    need(mount("none", "/proc", "tmpfs", 0, NULL) == 0, "mount");
}

// ---- the measurement ----

static void choose_kept(int shuffled) {
    for (int fd = FIRST; fd < end; fd += 2) {
        keep[keep_len++] = fd;
        is_kept[fd] = 1;
    }
    uint32_t random = 1;
    for (int i = keep_len - 1; shuffled && i > 0; i--) {
        random = random * 1664525 + 1013904223;
        int other = (random >> 8) % (i + 1), fd = keep[i];
        keep[i] = keep[other];
        keep[other] = fd;
    }
}

static void open_all(void) {
    for (int fd = FIRST; fd < end; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            need(open("/dev/null", O_RDONLY) == fd, "open");
}

static void check(void) {
    for (int fd = FIRST; fd < end; fd++) {
        errno = EBADF;
        need((fcntl(fd, F_GETFD) >= 0) == is_kept[fd], "an fd");
    }
}

static void set_limit(void) {
    struct rlimit limits;
    need(getrlimit(RLIMIT_NOFILE, &limits) == 0, "getrlimit");
    limit = limits.rlim_max < MAX_LIMIT ? (int)limits.rlim_max : MAX_LIMIT;
    end = limit - SPARE < FIRST + COUNT ? limit - SPARE : FIRST + COUNT;
    errno = EMFILE;
    need(end > COUNT / 2, "the hard limit of fds");
    limits.rlim_cur = limits.rlim_max = limit;
    need(setrlimit(RLIMIT_NOFILE, &limits) == 0, "setrlimit");
    for (int fd = FIRST; fd < limit; fd++)
        close(fd);
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static uint64_t times[MAX_SWEEPS];
    errno = EINVAL;
    need(argc == 5, "usage: sweep METHOD KEPT REFUSED SWEEPS");
    const struct method *method = NAMED(argv[1], methods);
    int sweeps = atoi(argv[4]);
    need(method && sweeps > 0 && sweeps <= MAX_SWEEPS, "sweep");

    set_limit();
    if (strcmp(argv[2], "none") != 0)
        choose_kept(strcmp(argv[2], "shuffled") == 0);
    keep[keep_len] = -1;
    if (strcmp(argv[3], "both") == 0)
        hide_proc();
    if (strcmp(argv[3], "nothing") != 0)
        refuse_close_range();

    for (int i = -1; i < sweeps; i++) { // The first warms up.
        open_all();
        uint64_t before = now();
        int result = method->sweep();
        uint64_t after = now();
        need(result >= 0, method->name);
        check();
        times[i < 0 ? 0 : i] = after - before;
    }
    qsort(times, sweeps, sizeof *times, ascending);
    printf("%llu\n", (unsigned long long)times[sweeps / 2]);
    return 0;
}
