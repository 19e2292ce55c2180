/*
 * activate.c: starts a program when somebody connects, as a service manager does, but without one.
 *
 *     cc activate.c -lrdaemon -o activate
 *     ./activate -l /tmp/agent.sock -l 8080 --fdname agent:web ./server
 *
 * The program finds the sockets as sd_listen_fds(3) and rdaemon_listen() tell. When it has ended
 * the next connection starts it again. SIGTERM ends both.
 */
#include <rdaemon.h>

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 3, MOST_SOCKETS = 64 };
enum { PAUSE_MS = 100, FAILURE_PAUSE_MS = 500, MOST_FAILURES = 60, GRACE_MS = 1000 };

static const char usage[] =
    "usage: activate -l ADDRESS [-l ADDRESS]... [OPTION]... PROGRAM [ARGUMENT]...\n"
    "\n"
    "Listens, and starts PROGRAM when somebody connects.\n"
    "\n"
    "  -l, --listen ADDRESS      /PATH or ./PATH; @NAME, an abstract UNIX address; PORT, on\n"
    "                            127.0.0.1; HOST:PORT or [HOST]:PORT\n"
    "  --fdname NAME[:NAME]...   a name for each socket: LISTEN_FDNAMES\n"
    "  --inetd                   the socket is standard input and output, and not told of\n";

struct starter {
    char **argv;
    char path[PATH_MAX]; /* where the program is */
    const char *names;
    bool inetd;
    const char *addresses[MOST_SOCKETS];
    int sockets[MOST_SOCKETS];
    size_t count;
    int signals;
    long long started_ms;
    int failures; /* in a row */
};

static int complain(const char *what, const char *why) {
    fprintf(stderr, "activate: %s: %s\n", what, why);
    return -1;
}

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* ---- sockets ---- */

static int listen_at(const char *text, const struct sockaddr *address, socklen_t length) {
    int on = 1, fd = socket(address->sa_family, SOCK_STREAM, 0);
    if (fd < 0)
        return complain(text, strerror(errno));
    if (address->sa_family != AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address, length) < 0 || listen(fd, SOMAXCONN) < 0) {
        complain(text, strerror(errno));
        close(fd);
        return -1;
    }
    fprintf(stderr, "activate: listening on %s\n", text);
    return fd;
}

static int listen_unix(const char *text) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(text);
    if (length >= sizeof address.sun_path)
        return complain(text, strerror(ENAMETOOLONG));
    memcpy(address.sun_path, text, length);
    if (*text == '@')
        address.sun_path[0] = '\0';
    length += offsetof(struct sockaddr_un, sun_path);
    return listen_at(text, (struct sockaddr *)&address, (socklen_t)length);
}

static int listen_tcp(const char *text) {
    const char *colon = strrchr(text, ':');
    const char *port = colon ? colon + 1 : text;
    bool brackets = colon && *text == '[' && colon[-1] == ']';
    char host[256] = "127.0.0.1";
    if (colon)
        snprintf(host, sizeof host, "%.*s", (int)(colon - text) - 2 * brackets, text + brackets);
    if (!*host || !*port || port[strspn(port, "0123456789")] || strtoul(port, NULL, 10) > 65535)
        return complain(text, "neither a path nor a port");

    struct addrinfo *found, hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0)
        return complain(text, gai_strerror(error));
    int fd = listen_at(text, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return fd;
}

static bool is_path(const char *address) {
    return *address == '/' || *address == '.';
}

static void close_sockets(struct starter *starter, size_t count) {
    for (size_t i = 0; i < count; i++) {
        close(starter->sockets[i]);
        if (is_path(starter->addresses[i]))
            unlink(starter->addresses[i]);
    }
}

static int open_sockets(struct starter *starter) {
    for (size_t i = 0; i < starter->count; i++) {
        const char *text = starter->addresses[i];
        starter->sockets[i] = is_path(text) || *text == '@' ? listen_unix(text) : listen_tcp(text);
        if (starter->sockets[i] < 0) {
            close_sockets(starter, i);
            return -1;
        }
    }
    return 0;
}

/* ---- the program ---- */

/* LISTEN_PID is to be the pid of the program, which nobody knows before the fork. So the variable
 * is in this process's environment, which the program inherits, and the hook completes it in place:
 * the hook runs in the child, on a copy of this memory. The other way, to fork here and call
 * rdaemon_exec(), would leave it to this program to learn why the other was not executed. */
static char listen_pid[32] = "LISTEN_PID=";

static int complete_environment(void *context) {
    (void)context;
    snprintf(listen_pid, sizeof listen_pid, "LISTEN_PID=%ld", (long)getpid());
    return 0;
}

/* What this process itself was given is not for the program. */
static void prepare_environment(const struct starter *starter) {
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_PIDFDID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (starter->inetd)
        return;
    char number[8];
    snprintf(number, sizeof number, "%zu", starter->count);
    setenv("LISTEN_FDS", number, 1);
    if (starter->names)
        setenv("LISTEN_FDNAMES", starter->names, 1);
    putenv(listen_pid);
}

static int start(struct starter *starter, struct rdaemon_child *child) {
    const char *const paths[] = {starter->path, NULL};
    struct rdaemon_fd_mapping map[MOST_SOCKETS] = {{.child_fd = 0}};
    for (size_t i = 0; i < starter->count; i++) {
        map[i].child_fd = FIRST_FD + (int)i;
        map[i].source.action = RDAEMON_STREAM_FD;
        map[i].source.fd = starter->sockets[i];
    }
    struct rdaemon_spawn_config config = {.flags = RDAEMON_SPAWN_RESET_SIGNALS,
                                          .argv = (const char *const *)starter->argv,
                                          .paths = paths};
    if (starter->inetd) {
        config.streams[STDIN_FILENO] = config.streams[STDOUT_FILENO] = map[0].source;
    } else {
        config.fd_map = map;
        config.fd_map_len = starter->count;
        config.hook = complete_environment;
    }
    struct rdaemon_status status;
    starter->started_ms = now_ms();
    int pid = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(child), RDAEMON_SIZED(&status));
    if (pid < 0) {
        char line[128];
        rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
        return complain(*starter->argv, line);
    }
    fprintf(stderr, "activate: %s: started as process %d\n", *starter->argv, pid);
    return pid;
}

static bool report(struct starter *starter, const struct rdaemon_child *child,
                   const struct rdaemon_exit *ended) {
    bool exited = ended->kind == RDAEMON_EXIT_EXITED;
    fprintf(stderr, "activate: %s: process %d %s %d\n", *starter->argv, child->pid,
            exited ? "exited with" : "was killed by signal", ended->code);
    return ended->returncode == 0;
}

/* ---- waiting ---- */

/* These return false when it is time to end: by SIGTERM and the like, which are not SIGCHLD. */

static bool await_connection(const struct starter *starter) {
    struct pollfd events[1 + MOST_SOCKETS] = {{.fd = starter->signals, .events = POLLIN}};
    for (size_t i = 0; i < starter->count; i++)
        events[1 + i] = (struct pollfd){.fd = starter->sockets[i], .events = POLLIN};
    for (;;) {
        int ready = poll(events, 1 + starter->count, -1);
        int number = rdaemon_signals_next(starter->signals, 0, NULL, 0);
        if (number > 0 && number != SIGCHLD)
            return false;
        if (ready > (events[0].revents != 0))
            return true;
    }
}

/* *succeeded: whether the program ended by itself, with 0. */
static bool await_end(struct starter *starter, struct rdaemon_child *child, bool *succeeded) {
    struct rdaemon_exit ended = {.kind = 0};
    while (rdaemon_child_wait(RDAEMON_SIZED(child), 0, RDAEMON_SIZED(&ended)) == -ETIMEDOUT)
        if (rdaemon_signals_next(starter->signals, -1, NULL, 0) != SIGCHLD) {
            rdaemon_child_stop(RDAEMON_SIZED(child), GRACE_MS, -1, RDAEMON_SIZED(&ended));
            report(starter, child, &ended);
            return false;
        }
    *succeeded = report(starter, child, &ended);
    return true;
}

/* A program that ends without having accepted the connection is started again by it. So there is a
 * pause between two starts: a short one, or one that each failure in a row makes longer. */
static bool await_next_start(struct starter *starter, bool succeeded) {
    int pause_ms = PAUSE_MS;
    if (succeeded) {
        starter->failures = 0;
    } else {
        starter->failures += starter->failures < MOST_FAILURES;
        pause_ms = starter->failures * FAILURE_PAUSE_MS;
        fprintf(stderr, "activate: %s: no two starts within %d ms\n", *starter->argv, pause_ms);
    }
    for (long long left; (left = starter->started_ms + pause_ms - now_ms()) > 0;) {
        int number = rdaemon_signals_next(starter->signals, (int)left, NULL, 0);
        if (number > 0 && number != SIGCHLD)
            return false;
    }
    return true;
}

static void serve(struct starter *starter) {
    bool succeeded;
    do {
        struct rdaemon_child child;
        succeeded = false;
        if (!await_connection(starter))
            return;
        if (start(starter, &child) > 0 && !await_end(starter, &child, &succeeded))
            return;
    } while (await_next_start(starter, succeeded));
}

/* ---- the command line ---- */

static int read_options(struct starter *starter, int argc, char **argv) {
    static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
                                            {"fdname", required_argument, NULL, 'n'},
                                            {"inetd", no_argument, NULL, 'i'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "+l:", options, NULL)) != -1;) {
        if (option == '?' || (option == 'l' && starter->count == MOST_SOCKETS))
            return fputs(usage, stderr), -1;
        if (option == 'l')
            starter->addresses[starter->count++] = optarg;
        else if (option == 'n')
            starter->names = optarg;
        else
            starter->inetd = true;
    }
    starter->argv = argv + optind;
    if (starter->count == 0 || !*starter->argv)
        return fputs(usage, stderr), -1;

    size_t names = 1;
    for (const char *name = starter->names; name && (name = strchr(name, ':')); name++)
        names++;
    if (starter->names && names != starter->count)
        return complain(starter->names, "not as many names as sockets");
    if (starter->inetd && (starter->count > 1 || starter->names))
        return complain("--inetd", "for one socket, without a name");
    int length = rdaemon_find_command(*starter->argv, NULL, starter->path, sizeof starter->path);
    return length < 0 ? complain(*starter->argv, strerror(-length)) : 0;
}

int main(int argc, char **argv) {
    static const int32_t signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
    static struct starter starter;
    rdaemon_open_stdio(); /* lest a socket becomes a standard stream */
    if (read_options(&starter, argc, argv) < 0)
        return EXIT_FAILURE;
    signal(SIGPIPE, SIG_IGN); /* the messages may go to a pipe */
    starter.signals = rdaemon_signals_open(signals, sizeof signals / sizeof *signals);
    if (starter.signals < 0) {
        complain("signals", strerror(-starter.signals));
        return EXIT_FAILURE;
    }
    prepare_environment(&starter);
    if (open_sockets(&starter) < 0)
        return EXIT_FAILURE;
    serve(&starter);
    close_sockets(&starter, starter.count);
    return EXIT_SUCCESS;
}
