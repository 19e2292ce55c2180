/*
 * A service that does what it is told, line by line, and answers each line with the result.
 *
 *     puppet DIRECTORY [--detach PIDFILE]
 *
 * DIRECTORY has two FIFOs, orders and answers. The first answer is "started PID".
 */
#include <rdaemon.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static FILE *orders, *answers;
static int32_t listener = -1;

static void answer(const char *what, long result) {
    fprintf(answers, "%s %ld\n", what, result);
}

static long tell(struct rdaemon_notification notification) {
    return rdaemon_notify(RDAEMON_SIZED(&notification));
}

static long tell_flags(uint32_t flags) {
    return tell((struct rdaemon_notification){.flags = flags});
}

/* ---- orders ---- */

static long status(const char *argument) {
    return tell((struct rdaemon_notification){.status = argument});
}

static long error(const char *argument) {
    return tell((struct rdaemon_notification){.error = -atoi(argument)});
}

static long extend(const char *argument) {
    return tell((struct rdaemon_notification){.extend_timeout_usec = strtoull(argument, NULL, 10)});
}

/* Feeds the watchdog twice as often as it wants it, until there is an order. */
static long keep_feeding(const char *argument) {
    uint64_t usec;
    long times = 0;
    (void)argument;
    if (rdaemon_watchdog(&usec) != 1)
        return -ENOENT;
    struct pollfd order = {.fd = fileno(orders), .events = POLLIN};
    do {
        tell_flags(RDAEMON_STATE_WATCHDOG);
        times++;
    } while (poll(&order, 1, (int)(usec / 2000)) == 0);
    return times;
}

static long watchdog(const char *argument) {
    uint64_t usec;
    (void)argument;
    return rdaemon_watchdog(&usec) == 1 ? (long)usec : 0;
}

/* The child goes on as the service; the manager is told so by the parent, whom it believes. */
static long become_child(const char *argument) {
    int gate[2];
    char byte;
    (void)argument;
    if (pipe(gate) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid > 0) {
        tell((struct rdaemon_notification){.main_pid = pid});
        rdaemon_notify_barrier(-1);
        _exit(EXIT_SUCCESS);
    }
    close(gate[1]);
    if (read(gate[0], &byte, 1) < 0) /* the end of the parent */
        return -errno;
    close(gate[0]);
    return getpid();
}

static long barrier(const char *argument) {
    return rdaemon_notify_barrier(atoi(argument));
}

/* "NAME FILE": the file's fd is kept by the manager, and closed here. */
static long store(const char *argument) {
    char name[256], path[4096];
    if (sscanf(argument, "%255s %4095s", name, path) != 2)
        return -EINVAL;
    int32_t fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    long result = rdaemon_notify_fds(name, &fd, 1);
    close(fd);
    return result;
}

static long forget(const char *argument) {
    return rdaemon_notify_fds(argument, NULL, 0);
}

static int remember(void *context, const struct rdaemon_socket *socket) {
    *(int *)context = socket->fd;
    return 0;
}

/* Not rdaemon_listen_fd(): a file is no socket. */
static long take(const char *argument) {
    int fd;
    int count = rdaemon_listen(argument, 0, remember, &fd);
    return count == 1 ? fd : count < 0 ? count : -E2BIG;
}

/* Serves one client with a byte. */
static long serve(const char *argument) {
    (void)argument;
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return -errno;
    long sent = send(fd, "!", 1, MSG_NOSIGNAL);
    close(fd);
    return sent;
}

static long end(const char *argument) {
    answer("end", 0);
    exit(atoi(argument));
}

static const struct order {
    const char *name;
    uint32_t flags; /* what it is to tell, or */
    long (*obey)(const char *argument);
} known[] = {
    {"ready", RDAEMON_STATE_READY, NULL},
    {"reloading", RDAEMON_STATE_RELOADING, NULL},
    {"stopping", RDAEMON_STATE_STOPPING, NULL},
    {"trigger", RDAEMON_STATE_WATCHDOG_TRIGGER, NULL},
    {"status", 0, status},
    {"error", 0, error},
    {"extend", 0, extend},
    {"barrier", 0, barrier},
    {"watchdog", 0, watchdog},
    {"keep-feeding", 0, keep_feeding},
    {"become-child", 0, become_child},
    {"store", 0, store},
    {"forget", 0, forget},
    {"take", 0, take},
    {"serve", 0, serve},
    {"end", 0, end},
};

static long obey(const char *name, const char *argument) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].obey ? known[i].obey(argument) : tell_flags(known[i].flags);
    return -ENOSYS;
}

/* ---- the process ---- */

/* With the socket that it was given, if any. */
static void detach(const char *pidfile) {
    listener = rdaemon_listen_fd(NULL, 0);
    struct rdaemon_config config = {
        .flags = RDAEMON_NOTIFY_READY | (listener >= 0 ? RDAEMON_DETACH_ACTIVATED : 0),
        .detach = RDAEMON_DETACH_YES,
        .pidfile = pidfile,
        .files_preserve = &listener,
        .files_preserve_len = listener >= 0,
    };
    struct rdaemon_daemon daemon;
    int pid = rdaemon_daemonize(RDAEMON_SIZED(&config), RDAEMON_SIZED(&daemon), NULL, 0);
    if (pid == 0)
        rdaemon_ready(daemon.ready_fd);
    else
        exit(pid < 0 || rdaemon_wait_ready(daemon.ready_fd, daemon.pidfd, -1, NULL, 0) < 0);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[2], "--detach") == 0)
        detach(argv[3]);
    signal(SIGHUP, SIG_IGN); /* how a manager asks for a reload; an order follows */
    if (argc < 2 || chdir(argv[1]) < 0)
        return EXIT_FAILURE;
    orders = fopen("orders", "r+");
    answers = fopen("answers", "r+");
    if (!orders || !answers)
        return EXIT_FAILURE;
    setvbuf(orders, NULL, _IONBF, 0);
    setvbuf(answers, NULL, _IOLBF, 0);
    answer("started", getpid());
    for (char line[8192]; fgets(line, sizeof line, orders);) {
        line[strcspn(line, "\n")] = '\0';
        char *argument = strchr(line, ' ');
        if (argument)
            *argument++ = '\0';
        answer(line, obey(line, argument ? argument : ""));
    }
    return EXIT_FAILURE;
}
