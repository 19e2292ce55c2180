// How long one way of starting /bin/true takes until the call returns: the first decile and the
// median of COUNT spawns, in nanoseconds.
//
//   spawn METHOD MIB COUNT FDS
//
// MIB MiB of this process are resident, in small pages, and FDS fds are open besides 0 to 2.

#include "bench.h"
#include "rdaemon.h"

#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <linux/sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM "/bin/true"
#define OUTPUT "output"

enum { MAX_COUNT = 10000 };

static char *const arguments[] = {PROGRAM, NULL};

// ---- ours ----

#define ARGV                                                                                       \
    .argv = (const char *const[]) {                                                                \
        PROGRAM, NULL                                                                              \
    }

static const struct rdaemon_spawn_config plain = {ARGV, .flags = RDAEMON_SPAWN_KEEP_FDS};
static const struct rdaemon_spawn_config with_pidfd = {ARGV, .flags = RDAEMON_SPAWN_KEEP_FDS |
                                                                      RDAEMON_SPAWN_PIDFD};
static const struct rdaemon_spawn_config closing = {ARGV};
static const struct rdaemon_spawn_config detached = {ARGV, .flags = RDAEMON_SPAWN_DETACHED};
static const struct rdaemon_spawn_config to_files = {
    ARGV, .flags = RDAEMON_SPAWN_SETSID, .working_directory = "/",
    .streams = {{.action = RDAEMON_STREAM_NULL},
                {.action = RDAEMON_STREAM_FILE, .path = OUTPUT},
                {.action = RDAEMON_STREAM_SAME_AS_STDOUT}}};
static const struct rdaemon_spawn_config to_pipes = {ARGV, .flags = RDAEMON_SPAWN_SETSID,
                                                     .working_directory = "/",
                                                     .streams = {{.action = RDAEMON_STREAM_NULL},
                                                                 {.action = RDAEMON_STREAM_PIPE},
                                                                 {.action = RDAEMON_STREAM_PIPE}}};

static pid_t ours(const struct rdaemon_spawn_config *config, struct rdaemon_child *child) {
    struct rdaemon_status status;
    int pid = rdaemon_spawn(RDAEMON_SIZED(config), RDAEMON_SIZED(child), RDAEMON_SIZED(&status));
    errno = pid < 0 ? -pid : 0;
    return pid;
}

static pid_t ours_plain(struct rdaemon_child *child) {
    return ours(&plain, child);
}

static pid_t ours_pidfd(struct rdaemon_child *child) {
    return ours(&with_pidfd, child);
}

static pid_t ours_closing(struct rdaemon_child *child) {
    return ours(&closing, child);
}

static pid_t ours_detached(struct rdaemon_child *child) {
    return ours(&detached, child);
}

static pid_t ours_files(struct rdaemon_child *child) {
    return ours(&to_files, child);
}

static pid_t ours_pipes(struct rdaemon_child *child) {
    return ours(&to_pipes, child);
}

// ---- the floor ----

// One clone3 and one execve. The child uses the caller's stack pointer, but no stack.
static pid_t clone3_execve(struct clone_args *args) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[path], %%rdi\n\t"
                     "mov %[argv], %%rsi\n\t"
                     "mov %[execve], %%eax\n\t"
                     "syscall\n\t"
                     "mov $127, %%edi\n\t"
                     "mov %[exit], %%eax\n\t"
                     "syscall\n"
                     "1:"
                     : "=a"(result)
                     : "a"(SYS_clone3), "D"(args), "S"(sizeof *args),
                       "d"(environ), [path] "r"(PROGRAM), [argv] "r"(arguments),
                       [execve] "i"(SYS_execve), [exit] "i"(SYS_exit)
                     : "rcx", "r11", "memory");
    errno = result < 0 ? -result : 0;
    return result;
#else
#error "The floor is written for x86_64 only."
#endif
}

static pid_t floor_plain(struct rdaemon_child *child) {
    (void)child;
    return clone3_execve(&(struct clone_args){.flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND,
                                              .exit_signal = SIGCHLD});
}

static pid_t floor_pidfd(struct rdaemon_child *child) {
    return clone3_execve(
        &(struct clone_args){.flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND | CLONE_PIDFD,
                             .pidfd = (uintptr_t)&child->pidfd,
                             .exit_signal = SIGCHLD});
}

// ---- libc ----

static pid_t libc_spawn(const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes) {
    pid_t pid = -1;
    errno = posix_spawn(&pid, PROGRAM, actions, attributes, arguments, environ);
    return errno == 0 ? pid : -1;
}

static pid_t libc_spawn_plain(struct rdaemon_child *child) {
    (void)child;
    return libc_spawn(NULL, NULL);
}

// Actions and attributes are made once, by the warm-up: what is timed is posix_spawn alone, and the
// pipes.
static const posix_spawnattr_t *new_session(void) {
    static posix_spawnattr_t attributes;
    static int made;
    if (!made++) {
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    }
    return &attributes;
}

static pid_t libc_spawn_closing(struct rdaemon_child *child) {
    static posix_spawn_file_actions_t actions;
    static int made;
    (void)child;
    if (!made++) {
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    }
    return libc_spawn(&actions, NULL);
}

static pid_t libc_spawn_files(struct rdaemon_child *child) {
    static posix_spawn_file_actions_t actions;
    static int made;
    (void)child;
    if (!made++) {
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 1, OUTPUT, O_WRONLY | O_CREAT | O_APPEND, 0640);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        posix_spawn_file_actions_addchdir_np(&actions, "/");
    }
    return libc_spawn(&actions, new_session());
}

static pid_t libc_spawn_pipes(struct rdaemon_child *child) {
    static posix_spawn_file_actions_t actions;
    static int made, out_number, err_number;
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        return -1;
    if (!made++) {
        out_number = out[1];
        err_number = err[1];
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, out_number, 1);
        posix_spawn_file_actions_adddup2(&actions, err_number, 2);
        posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        posix_spawn_file_actions_addchdir_np(&actions, "/");
    }
    if (out[1] != out_number || err[1] != err_number)
        return -1;
    pid_t pid = libc_spawn(&actions, new_session());
    close(out[1]);
    close(err[1]);
    child->fds[1] = out[0];
    child->fds[2] = err[0];
    return pid;
}

static pid_t vfork_exec(struct rdaemon_child *child) {
    (void)child;
    pid_t pid = vfork();
    if (pid == 0) {
        execve(PROGRAM, arguments, environ);
        _exit(127);
    }
    return pid;
}

static pid_t fork_exec(struct rdaemon_child *child) {
    (void)child;
    pid_t pid = fork();
    if (pid == 0) {
        execve(PROGRAM, arguments, environ);
        _exit(127);
    }
    return pid;
}

static pid_t fork_pipe_exec(struct rdaemon_child *child) {
    (void)child;
    int channel[2];
    if (pipe2(channel, O_CLOEXEC) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        execve(PROGRAM, arguments, environ);
        if (write(channel[1], &errno, sizeof errno) < 0) {
        }
        _exit(127);
    }
    close(channel[1]);
    int error = 0;
    while (read(channel[0], &error, sizeof error) < 0 && errno == EINTR) {
    }
    close(channel[0]);
    errno = error;
    return error == 0 ? pid : -1;
}

// ---- the measurement ----

static const struct method {
    const char *name;
    // Gives the pid, or a negative number and errno. The fds that the child's handle gets are
    // closed when time is not taken.
    pid_t (*start)(struct rdaemon_child *child);
} methods[] = {
    {"ours", ours_plain},
    {"ours+pidfd", ours_pidfd},
    {"ours+closing", ours_closing},
    {"ours+files", ours_files},
    {"ours+pipes", ours_pipes},
    {"ours+detached", ours_detached},
    {"floor", floor_plain},
    {"floor+pidfd", floor_pidfd},
    {"posix_spawn", libc_spawn_plain},
    {"posix_spawn+closing", libc_spawn_closing},
    {"posix_spawn+files", libc_spawn_files},
    {"posix_spawn+pipes", libc_spawn_pipes},
    {"vfork", vfork_exec},
    {"fork", fork_exec},
    {"fork+pipe", fork_pipe_exec},
};

static void open_fds(int count) {
    for (int i = 0; i < count; i++)
        need(open("/dev/null", O_RDONLY) >= 0, "open");
}

static uint64_t time_one(const struct method *method) {
    struct rdaemon_child child = {.pidfd = -1, .fds = {-1, -1, -1}};
    uint64_t before = now();
    pid_t pid = method->start(&child);
    uint64_t after = now();
    need(pid > 0, method->name);

    int status;
    need(waitpid(pid, &status, __WALL) == pid, "waitpid");
    errno = ECHILD;
    need(WIFEXITED(status) && WEXITSTATUS(status) == 0, PROGRAM);
    if (child.pidfd >= 0)
        close(child.pidfd);
    for (int i = 0; i < 3; i++)
        if (child.fds[i] >= 0)
            close(child.fds[i]);
    return after - before;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static uint64_t times[MAX_COUNT];
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("glibc %s\n", gnu_get_libc_version());
        return 0;
    }
    errno = EINVAL;
    need(argc == 5, "usage: spawn METHOD MIB COUNT FDS");
    const struct method *method = NAMED(argv[1], methods);
    int count = atoi(argv[3]);
    need(method && count > 0 && count <= MAX_COUNT, "spawn");

    // A detached program is reaped here, too.
    need(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "prctl");
    need(become_large(strtoul(argv[2], NULL, 10)) == 0, "memory");
    open_fds(atoi(argv[4]));
    for (int i = 0; i < count / 10 + 1; i++)
        time_one(method); // Warms up.
    for (int i = 0; i < count; i++)
        times[i] = time_one(method);

    qsort(times, count, sizeof *times, ascending);
    printf("%llu %llu\n", (unsigned long long)times[count / 10],
           (unsigned long long)times[count / 2]);
    return 0;
}
