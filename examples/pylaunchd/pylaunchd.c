/*
 * pylaunchd: takes a listening socket, becomes a daemon, and lets an agent written in Python serve
 * the socket. The socket comes from launchd, systemd or inetd, and the process stays in their care;
 * or it is bound here, and pylaunchd returns when the agent serves, or says why it does not.
 *
 * The agent runs inside this process (--embed) or takes its place (--exec); it is the same file.
 */
#include <rdaemon.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pylaunchd.h"

#ifndef PYTHON
#define PYTHON "/usr/bin/python3"
#endif
#define READY_MILLISECONDS 30000
#define MOST_SECONDS 1e6
#define SOCKET_NAME "agent" /* the key in the Sockets of launchd's job */

static const char usage[] =
    "usage: pylaunchd --authkey-file FILE [option ...]\n"
    "  --socket PATH       where to listen, unless a service manager hands over a socket\n"
    "  --inetd             the socket is standard input\n"
    "  --idle-seconds N    end when nobody has been here for so long (0: never)\n"
    "  --agent FILE        the agent (Agent.py)\n"
    "  --pidfile FILE      the pidfile, which guards the socket at PATH (PATH.pid)\n"
    "  --log FILE          where the agent's output is appended (/dev/null; with a manager: as it "
    "is)\n"
    "  --directory DIR     the working directory (/)\n"
    "  --python FILE       the Python to use (" PYTHON ")\n"
    "  --foreground        do not detach\n"
#ifdef PYLAUNCHD_EMBED
    "  --embed             run the agent inside this process (the default)\n"
#endif
    "  --exec              let Python take the place of this process\n"
    "  --help              print this\n";

/* Paths are absolute, because the daemon has another working directory. */
struct options {
    char loader[PATH_MAX];
    char socket[PATH_MAX];
    char authkey_file[PATH_MAX];
    char agent[PATH_MAX];
    char pidfile[PATH_MAX];
    const char *log;
    const char *directory;
    const char *python;
    double idle_seconds;
    int inetd;
    int foreground;
    int embed;
};

/* A manager's socket has no name here. Ours is bound to a name of its own until the pidfile is
   ours. */
struct listener {
    int fd;
    char name[sizeof((struct sockaddr_un *)0)->sun_path];
};

static void complain(const char *what, int error) {
    fprintf(stderr, "pylaunchd: %s: %s\n", what, strerror(error));
}

static void complain_of_status(const struct rdaemon_status *status) {
    char line[128];
    rdaemon_status_message(RDAEMON_SIZED(status), line, sizeof line);
    fprintf(stderr, "pylaunchd: %s\n", line);
}

/* ---- options ---- */

static void refuse(const char *what, int error) {
    complain(what, error);
    exit(EXIT_FAILURE);
}

static void make_absolute(char absolute[PATH_MAX], const char *path) {
    char directory[PATH_MAX] = "";
    if (*path != '/' && !getcwd(directory, sizeof directory))
        refuse(".", errno);
    const char *slash = *path != '/' ? "/" : "";
    if (snprintf(absolute, PATH_MAX, "%s%s%s", directory, slash, path) >= PATH_MAX)
        refuse(path, ENAMETOOLONG);
}

/* A program that was found by PATH stays a bare name: whoever runs it again finds it likewise. */
static void remember_loader(struct options *options, const char *name) {
    if (strchr(name, '/'))
        make_absolute(options->loader, name);
    else
        snprintf(options->loader, sizeof options->loader, "%s", name);
}

static void explain_and_exit(FILE *stream, int status) {
    fputs(usage, stream);
    exit(status);
}

static void check_options(struct options *options) {
    if (!*options->authkey_file)
        explain_and_exit(stderr, EXIT_FAILURE);
    if (access(options->authkey_file, R_OK) < 0)
        refuse(options->authkey_file, errno);
    if (access(options->agent, R_OK) < 0)
        refuse(options->agent, errno);
}

static double read_seconds(const char *text) {
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0 && seconds <= MOST_SECONDS))
        refuse(text, EINVAL);
    return seconds;
}

static void read_options(struct options *options, int argc, char **argv) {
    static const struct option known[] = {
        {"agent", required_argument, NULL, 'a'},
        {"socket", required_argument, NULL, 's'},
        {"authkey-file", required_argument, NULL, 'k'},
        {"pidfile", required_argument, NULL, 'p'},
        {"log", required_argument, NULL, 'l'},
        {"directory", required_argument, NULL, 'd'},
        {"python", required_argument, NULL, 'y'},
        {"idle-seconds", required_argument, NULL, 't'},
        {"inetd", no_argument, NULL, 'i'},
        {"foreground", no_argument, NULL, 'f'},
        {"exec", no_argument, NULL, 'x'},
        {"help", no_argument, NULL, 'h'},
#ifdef PYLAUNCHD_EMBED
        {"embed", no_argument, NULL, 'e'},
#endif
        {NULL, 0, NULL, 0},
    };

    make_absolute(options->agent, "Agent.py");
    remember_loader(options, argv[0]);
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'a':
            make_absolute(options->agent, optarg);
            break;
        case 's':
            make_absolute(options->socket, optarg);
            break;
        case 'k':
            make_absolute(options->authkey_file, optarg);
            break;
        case 'p':
            make_absolute(options->pidfile, optarg);
            break;
        case 'l':
            options->log = optarg;
            break;
        case 'd':
            options->directory = optarg;
            break;
        case 'y':
            options->python = optarg;
            break;
        case 't':
            options->idle_seconds = read_seconds(optarg);
            break;
        case 'i':
            options->inetd = 1;
            break;
        case 'f':
            options->foreground = 1;
            break;
        case 'e':
            options->embed = 1;
            break;
        case 'x':
            options->embed = 0;
            break;
        case 'h':
            explain_and_exit(stdout, EXIT_SUCCESS);
            break;
        default:
            explain_and_exit(stderr, EXIT_FAILURE);
        }
    }
    if (optind < argc)
        explain_and_exit(stderr, EXIT_FAILURE);
    check_options(options);
}

/* ---- the socket ---- */

/* Binds and listens under a name of its own. What is at the socket's path may only be a socket. */
static int bind_socket(struct listener *listener, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(listener->name, sizeof listener->name, "%s.%ld", path, (long)getpid());
    if (length >= (int)sizeof listener->name)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, listener->name, sizeof address.sun_path);

    struct stat there;
    if (lstat(path, &there) == 0 && !S_ISSOCK(there.st_mode))
        return -EEXIST;
    if (bind(listener->fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    if (chmod(listener->name, S_IRUSR | S_IWUSR) == 0 && listen(listener->fd, SOMAXCONN) == 0)
        return 0;
    int error = -errno;
    unlink(listener->name);
    return error;
}

static int make_socket(struct listener *listener, struct options *options) {
    if (!*options->socket) {
        fputs("pylaunchd: no service manager hands over a socket: say --socket PATH\n", stderr);
        exit(EXIT_FAILURE);
    }
    if (!*options->pidfile &&
        snprintf(options->pidfile, PATH_MAX, "%s.pid", options->socket) >= PATH_MAX)
        return -ENAMETOOLONG;
    listener->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener->fd < 0)
        return -errno;
    fcntl(listener->fd, F_SETFD, FD_CLOEXEC);
    int error = bind_socket(listener, options->socket);
    if (error < 0)
        close(listener->fd);
    return error;
}

/* launchd alone must be asked by name. */
static void take_socket(struct listener *listener, struct options *options) {
    *listener->name = '\0';
    listener->fd = rdaemon_listen_fd(NULL, options->inetd ? RDAEMON_LISTEN_INETD : 0);
    if (listener->fd == -ESRCH)
        listener->fd = rdaemon_listen_fd(SOCKET_NAME, 0);
    if (listener->fd < 0 && listener->fd != -ESRCH)
        refuse("the socket of the service manager", -listener->fd);
    int error = listener->fd < 0 ? make_socket(listener, options) : 0;
    if (error < 0)
        refuse(options->socket, -error);
}

static int is_ours(const struct listener *listener) {
    return *listener->name != '\0';
}

/* Only who holds the pidfile comes here, so a socket that is at the path already is a dead one. */
static int publish_socket(const struct listener *listener, const struct options *options) {
    if (!is_ours(listener) || rename(listener->name, options->socket) == 0)
        return 0;
    int error = -errno;
    unlink(listener->name);
    return error;
}

/* ---- the daemon ---- */

/* What the daemon removes in the end; a process that the agent forked removes nothing. */
static struct {
    pid_t owner;
    const char *socket;
    struct rdaemon_pidfile pidfile;
} traces;

/* The socket goes first: once the pidfile has gone, a socket at the path may be another's. */
static void remove_traces(void) {
    if (traces.owner != getpid())
        return;
    traces.owner = 0;
    if (traces.socket)
        unlink(traces.socket);
    if (traces.pidfile.fd >= 0)
        rdaemon_pidfile_remove(RDAEMON_SIZED(&traces.pidfile));
}

/* Python ends with exit(3), not by returning. */
static int remove_traces_at_exit(const struct options *options, const struct listener *listener,
                                 const struct rdaemon_daemon *daemon) {
    traces.owner = getpid();
    traces.socket = is_ours(listener) ? options->socket : NULL;
    traces.pidfile = daemon->pidfile;
    return atexit(remove_traces) == 0 ? 0 : -ENOMEM;
}

/* Until the agent has its handlers, SIGTERM waits: it would leave the socket and the pidfile. */
static void hold_stop_signals(void) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
}

static void add_argument(struct arguments *arguments, const char *name, const char *value) {
    arguments->list[arguments->count++] = (char *)name;
    if (value)
        arguments->list[arguments->count++] = (char *)value;
}

static void add_fd(struct arguments *arguments, const char *name, int fd, char text[FD_LENGTH]) {
    snprintf(text, FD_LENGTH, "%d", fd);
    add_argument(arguments, name, text);
}

static void inherit(int fd) {
    fcntl(fd, F_SETFD, 0);
}

/* Returns on failure only. Python takes over: the socket, the lock, and what this process does in
   the end. */
static int exec_python(struct arguments *arguments, const struct options *options,
                       const struct listener *listener, const struct rdaemon_daemon *daemon) {
    char lock[FD_LENGTH], ready[FD_LENGTH];
    if (is_ours(listener))
        add_argument(arguments, "--remove", options->socket);
    if (daemon->pidfile.fd >= 0) {
        add_fd(arguments, "--lock-fd", daemon->pidfile.fd, lock);
        add_argument(arguments, "--remove", options->pidfile);
    }
    if (daemon->ready_fd >= 0) {
        add_fd(arguments, "--ready-fd", daemon->ready_fd, ready);
        add_argument(arguments, "--loader", options->loader);
        inherit(daemon->ready_fd);
    }
    inherit(listener->fd);
    execv(options->python, arguments->list);
    int error = errno;
    complain(options->python, error);
    return -error;
}

static int run_agent(const struct options *options, const struct listener *listener,
                     const struct rdaemon_daemon *daemon) {
    struct arguments arguments = {.count = 0};
    char socket[FD_LENGTH], seconds[32];
    add_argument(&arguments, options->python, options->agent);
    add_fd(&arguments, "--socket-fd", listener->fd, socket);
    add_argument(&arguments, "--authkey-file", options->authkey_file);
    if (options->idle_seconds > 0) {
        snprintf(seconds, sizeof seconds, "%.3f", options->idle_seconds);
        add_argument(&arguments, "--idle-seconds", seconds);
    }
#ifdef PYLAUNCHD_EMBED
    if (options->embed)
        return embed_python(&arguments, daemon->ready_fd);
#endif
    return exec_python(&arguments, options, listener, daemon);
}

static int serve(const struct options *options, const struct listener *listener,
                 const struct rdaemon_daemon *daemon) {
    hold_stop_signals();
    int result = remove_traces_at_exit(options, listener, daemon);
    if (result == 0)
        result = publish_socket(listener, options);
    if (result == 0)
        result = run_agent(options, listener, daemon);
    remove_traces();
    if (result < 0)
        rdaemon_fail(daemon->ready_fd, result);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the original process ---- */

/* What a daemon that was killed has left is removed by the next who gets its pidfile: us, unless
   there is a new daemon already. */
static void bury(const struct options *options) {
    struct rdaemon_pidfile pidfile;
    if (rdaemon_pidfile_open(options->pidfile, NULL, 0, RDAEMON_SIZED(&pidfile), NULL, 0) < 0)
        return;
    unlink(options->socket);
    rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile));
    rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile));
    rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile));
}

static int await_agent(const struct options *options, const struct listener *listener,
                       const struct rdaemon_daemon *daemon) {
    struct rdaemon_status status;
    int result = rdaemon_wait_ready(daemon->ready_fd, daemon->pidfd, READY_MILLISECONDS,
                                    RDAEMON_SIZED(&status));
    if (result == 0)
        return EXIT_SUCCESS;
    complain_of_status(&status);
    if (result != -ETIMEDOUT) {
        unlink(listener->name);
        bury(options);
    }
    return EXIT_FAILURE;
}

static int launch(const struct options *options, const struct listener *listener) {
    const int32_t preserve[] = {listener->fd};
    struct rdaemon_config config = {
        .flags = RDAEMON_NOTIFY_READY,
        .detach = options->foreground ? RDAEMON_DETACH_NO : RDAEMON_DETACH_AUTO,
        .working_directory = options->directory,
        .umask = S_IWGRP | S_IWOTH,
        .pidfile = *options->pidfile ? options->pidfile : NULL,
        .files_preserve = preserve,
        .files_preserve_len = 1,
    };
    if (config.pidfile && !options->embed)
        config.pidfile_options.flags = RDAEMON_PIDFILE_INHERIT;
    if (options->log) {
        config.streams[STDOUT_FILENO].action = RDAEMON_STREAM_FILE;
        config.streams[STDOUT_FILENO].path = options->log;
        config.streams[STDERR_FILENO].action = RDAEMON_STREAM_SAME_AS_STDOUT;
    }

    struct rdaemon_daemon daemon;
    struct rdaemon_status status;
    int pid =
        rdaemon_daemonize(RDAEMON_SIZED(&config), RDAEMON_SIZED(&daemon), RDAEMON_SIZED(&status));
    if (pid < 0) {
        complain_of_status(&status);
        if (is_ours(listener))
            unlink(listener->name);
        return EXIT_FAILURE;
    }
    return pid > 0 ? await_agent(options, listener, &daemon) : serve(options, listener, &daemon);
}

int main(int argc, char **argv) {
    /* What an agent that is no C program runs to say that it is ready, as with systemd-notify. */
    if (argc == 3 && strcmp(argv[1], "--say-ready") == 0)
        return rdaemon_ready(atoi(argv[2])) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;

    struct options options = {.python = PYTHON};
#ifdef PYLAUNCHD_EMBED
    options.embed = 1;
#endif
    read_options(&options, argc, argv);

    struct listener listener;
    take_socket(&listener, &options);
    return launch(&options, &listener);
}
