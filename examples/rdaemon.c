/*
 * rdaemon.c: makes a daemon of any program, and controls it by its pidfile.
 *
 *     cc rdaemon.c -lrdaemon -o rdaemon
 *     ./rdaemon start --pidfile /tmp/web.pid -- python3 -m http.server 8000
 *     ./rdaemon status --pidfile /tmp/web.pid
 *     ./rdaemon stop --pidfile /tmp/web.pid
 *
 * PROGRAM takes the place of the daemon by execve(2): it has the pid that the pidfile names, and
 * the file's locks, which tell the truth about it, for as long as it keeps the fd that it inherits.
 */
#include <rdaemon.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The exit statuses of LSB init scripts: of all actions but status, and of that one. */
enum { DONE, FAILED, USAGE, UNIMPLEMENTED, NO_PRIVILEGE, NOT_INSTALLED, NOT_RUNNING = 7 };
enum { STATUS_RUNNING = 0, STATUS_DEAD = 1, STATUS_STOPPED = 3, STATUS_UNKNOWN = 4 };

enum { MOST_GROUPS = 1024 };

static const char held[] = "starting, or only workers of a dead daemon remain";

static const char help[] =
    "usage: rdaemon ACTION --pidfile FILE [OPTION]... [-- PROGRAM [ARGUMENT]...]\n"
    "\n"
    "Makes a daemon of PROGRAM, which need not know of it, and controls it by its pidfile. "
    "PROGRAM\n"
    "has to stay in the foreground, as with 'nginx -g \"daemon off;\"'.\n"
    "\n"
    "Actions\n"
    "  start             start PROGRAM, unless it runs; done once it has been executed\n"
    "  stop              end it by SIGTERM, or by SIGKILL if it still runs after the --timeout\n"
    "  restart           stop it, if it runs, and start PROGRAM\n"
    "  status            tell whether it runs\n"
    "  signal [SIGNAL]   send it a signal, such as HUP, SIGHUP or 1; TERM by default; those that\n"
    "                    are rarely sent by number only\n"
    "\n"
    "Every action takes all options and a PROGRAM, and leaves alone what is not for it.\n"
    "\n"
    "  --pidfile FILE        the pidfile. Whoever holds its locks is the daemon; a number that a\n"
    "                        dead one has left in it means nothing. Always needed.\n"
    "  --timeout SECONDS     how long a start may take, and SIGTERM until SIGKILL follows (10)\n"
    "\n"
    "What PROGRAM gets. Files are opened, and names are looked up, before the root directory and\n"
    "the user change. It has no other fds, no terminal unless in the foreground, default signals,\n"
    "and dumps no core.\n"
    "\n"
    "  --user USER[:GROUP]   the user, with his groups, or in the one GROUP; names or numbers.\n"
    "                        HOME, USER and LOGNAME are his. A number without an account needs\n"
    "                        a GROUP.\n"
    "  --chroot DIR          the root directory, in which PROGRAM is an absolute path\n"
    "  --chdir DIR           the working directory, inside the root directory (/)\n"
    "  --umask MODE          the file creation mask, in octal (022)\n"
    "  --stdout FILE         what standard output is appended to (/dev/null)\n"
    "  --stderr FILE         what standard error is appended to (where standard output goes)\n"
    "  --syslog IDENT        send to syslog what has no FILE, under this name\n"
    "  --env NAME=VALUE      add this to the environment; may be repeated\n"
    "  --foreground          do not detach: standard streams stay, and 'start' is PROGRAM\n"
    "\n"
    "Supervision: for a program that closes the fds it inherits, or that shall not stay dead.\n"
    "\n"
    "  --supervise               the daemon is a parent of PROGRAM, which passes on HUP, QUIT, "
    "USR1,\n"
    "                            USR2, ALRM and WINCH, ends with it on TERM and INT, and starts "
    "it\n"
    "                            again when it fails: by a signal, or any exit status but 0\n"
    "  --respawn-delay-step SECONDS   each failure in a row makes the delay longer by this "
    "(0.128)\n"
    "  --respawn-delay-cap SECONDS    but no longer than this (30)\n"
    "  --respawn-max COUNT            give up when it was started again so many times (10; 0: "
    "never)\n"
    "  --respawn-period SECONDS       within this time (12), which also ends a row of failures\n"
    "\n"
    "Exit status, as of LSB init scripts\n"
    "  0  done; also a start of what runs already, and a stop of what does not\n"
    "  1  failed                                2  bad arguments\n"
    "  3  no such action                        4  not permitted\n"
    "  5  PROGRAM is not there to be executed   7  not running (signal)\n"
    "  of status: 0 running, 1 dead and its pidfile left, 3 not running, 4 unknown\n"
    "\n"
    "Examples\n"
    "  rdaemon start --pidfile /run/web.pid --user www-data --chdir /srv/www --syslog web \\\n"
    "      -- python3 -m http.server 80\n"
    "  rdaemon signal HUP --pidfile /run/nginx.pid\n"
    "  rdaemon stop --pidfile /run/web.pid --timeout 30\n"
    "  the whole of an init script:\n"
    "      exec rdaemon \"$1\" --pidfile /run/web.pid --user www-data -- /usr/bin/web --port 80\n";

struct options {
    const char *pidfile;
    int timeout_ms;
    bool takes_signal;
    const char *signal;
    char **program;      /* its arguments; NULL: none was given */
    char path[PATH_MAX]; /* where it is */
    const char *user;
    struct rdaemon_identity identity;
    uint32_t groups[MOST_GROUPS];
    const char *chroot;
    const char *chdir;
    uint32_t umask;
    const char *output_files[3]; /* by fd */
    const char *syslog;
    char **env;
    size_t env_len;
    bool foreground;
    bool supervise;
    int delay_step_ms;
    int delay_cap_ms;
    int respawn_max;
    int respawn_period_ms;
};

/* ---- messages ---- */

static void complain(const char *what, const char *why) {
    fprintf(stderr, "rdaemon: %s: %s\n", what, why);
}

/* As in "rdaemon: /run/web.pid: pidfile_open: already running as process 4711". */
static void complain_of(const char *what, const struct rdaemon_status *status) {
    char line[128];
    rdaemon_status_message(RDAEMON_SIZED(status), line, sizeof line);
    complain(what, line);
}

__attribute__((format(printf, 2, 3))) static void say(const struct options *options,
                                                      const char *format, ...) {
    va_list values;
    va_start(values, format);
    printf("rdaemon: %s: ", options->pidfile);
    vprintf(format, values);
    putchar('\n');
    va_end(values);
}

static int exit_status_of(const struct rdaemon_status *status) {
    bool missing = status->error == -ENOENT || status->error == -ENOTDIR;
    if (status->step == RDAEMON_STEP_CONFIG)
        return USAGE;
    if (status->step == RDAEMON_STEP_EXEC && missing)
        return NOT_INSTALLED;
    return status->error == -EACCES || status->error == -EPERM ? NO_PRIVILEGE : FAILED;
}

/* ---- options ---- */

_Noreturn static void advise_and_exit(void) {
    fputs("Try 'rdaemon --help'.\n", stderr);
    exit(USAGE);
}

_Noreturn static void refuse(const char *what, const char *why) {
    complain(what, why);
    advise_and_exit();
}

static bool parse_number(const char *text, int base, unsigned long most, unsigned long *number) {
    errno = 0;
    *number = strtoul(text, NULL, base);
    const char *digits = base == 8 ? "01234567" : "0123456789";
    return *text && text[strspn(text, digits)] == '\0' && errno == 0 && *number <= most;
}

static bool parse_seconds(const char *text, int *milliseconds) {
    char *end;
    double number = strtod(text, &end) * 1000;
    bool valid = end != text && !*end && number >= 1 && number <= INT_MAX / 2;
    *milliseconds = valid ? (int)number : 0;
    return valid;
}

/* A name with or without "SIG", or a number. */
static int parse_signal(const char *text) {
    static const struct {
        const char *name;
        int number;
    } signals[] = {
        {"ABRT", SIGABRT}, {"ALRM", SIGALRM},   {"CONT", SIGCONT}, {"HUP", SIGHUP},
        {"INT", SIGINT},   {"KILL", SIGKILL},   {"PIPE", SIGPIPE}, {"QUIT", SIGQUIT},
        {"STOP", SIGSTOP}, {"TERM", SIGTERM},   {"TSTP", SIGTSTP}, {"USR1", SIGUSR1},
        {"USR2", SIGUSR2}, {"WINCH", SIGWINCH},
    };
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (strcasecmp(name, signals[i].name) == 0)
            return signals[i].number;
    unsigned long number;
    if (!parse_number(text, 10, INT_MAX, &number))
        refuse(text, "not a signal");
    return (int)number;
}

static uint32_t find_group(const char *text) {
    const struct group *group = getgrnam(text);
    unsigned long number;
    if (group)
        return group->gr_gid;
    if (!parse_number(text, 10, UINT32_MAX - 1, &number))
        refuse(text, "no such group");
    return (uint32_t)number;
}

static void set_user_variables(const struct passwd *user) {
    setenv("HOME", user->pw_dir, 1);
    setenv("USER", user->pw_name, 1);
    setenv("LOGNAME", user->pw_name, 1);
}

/* The user with all his groups, or in the one that is named. A number needs no account, but then
   a group. */
static void find_user(struct options *options) {
    const char *group = strchr(options->user, ':');
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(options->user, ":"), options->user);
    unsigned long number = 0;
    const struct passwd *user = getpwnam(name);
    bool is_number = !user && parse_number(name, 10, UINT32_MAX - 1, &number);
    if (is_number)
        user = getpwuid((uid_t)number);
    if (user) {
        set_user_variables(user);
        snprintf(name, sizeof name, "%s", user->pw_name); /* what getpw* return is overwritten */
        int count = rdaemon_find_user(name, options->groups, MOST_GROUPS,
                                      RDAEMON_SIZED(&options->identity));
        if (count < 0)
            refuse(name, strerror(-count));
    } else if (is_number && group) {
        options->identity.uid = (uint32_t)number;
    } else {
        refuse(name, is_number ? "a user without an account needs a :GROUP" : "no such user");
    }
    if (!group)
        return;
    options->identity.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS;
    options->identity.gid = options->groups[0] = find_group(group + 1);
    options->identity.groups = options->groups;
    options->identity.groups_len = 1;
}

_Noreturn static void explain_and_exit(void) {
    fputs(help, stdout);
    exit(DONE);
}

/* What an option's argument is, and where in struct options it goes. */
enum kind { TEXT, SECONDS, COUNT, MASK, SWITCH, VARIABLE, HELP };
static const struct {
    const char *name;
    enum kind kind;
    size_t place;
} known[] = {
    {"--pidfile", TEXT, offsetof(struct options, pidfile)},
    {"--timeout", SECONDS, offsetof(struct options, timeout_ms)},
    {"--user", TEXT, offsetof(struct options, user)},
    {"--chroot", TEXT, offsetof(struct options, chroot)},
    {"--chdir", TEXT, offsetof(struct options, chdir)},
    {"--umask", MASK, offsetof(struct options, umask)},
    {"--stdout", TEXT, offsetof(struct options, output_files[STDOUT_FILENO])},
    {"--stderr", TEXT, offsetof(struct options, output_files[STDERR_FILENO])},
    {"--syslog", TEXT, offsetof(struct options, syslog)},
    {"--env", VARIABLE, 0},
    {"--foreground", SWITCH, offsetof(struct options, foreground)},
    {"--supervise", SWITCH, offsetof(struct options, supervise)},
    {"--respawn-delay-step", SECONDS, offsetof(struct options, delay_step_ms)},
    {"--respawn-delay-cap", SECONDS, offsetof(struct options, delay_cap_ms)},
    {"--respawn-max", COUNT, offsetof(struct options, respawn_max)},
    {"--respawn-period", SECONDS, offsetof(struct options, respawn_period_ms)},
    {"--help", HELP, 0},
};
enum { OPTIONS = sizeof known / sizeof *known };

static void take_option(struct options *options, int option, char *text) {
    void *place = (char *)options + known[option].place;
    unsigned long number;
    switch (known[option].kind) {
    case TEXT:
        *(const char **)place = text;
        break;
    case SECONDS:
        if (!parse_seconds(text, place))
            refuse(known[option].name, "not a time in seconds");
        break;
    case COUNT:
        if (!parse_number(text, 10, INT_MAX, &number))
            refuse(known[option].name, "not a number");
        *(int *)place = (int)number;
        break;
    case MASK:
        if (!parse_number(text, 8, 0777, &number))
            refuse(known[option].name, "not a file creation mask in octal");
        *(uint32_t *)place = (uint32_t)number;
        break;
    case SWITCH:
        *(bool *)place = true;
        break;
    case VARIABLE:
        if (*text == '=' || !strchr(text, '='))
            refuse(text, "not NAME=VALUE");
        options->env[options->env_len++] = text;
        break;
    case HELP:
        explain_and_exit();
    }
}

/* Takes the PROGRAM, which comes behind "--", off the words. */
static int split_off_program(struct options *options, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--") == 0) {
            options->program = argv[i + 1] ? argv + i + 1 : NULL;
            argv[i] = NULL;
            return i;
        }
    return argc;
}

static void take_word(struct options *options, const char *word) {
    if (!options->takes_signal || options->signal)
        refuse(word, "one word too many; PROGRAM comes behind '--'");
    options->signal = word;
}

static void read_options(struct options *options, int argc, char **argv) {
    enum { WORD = 1, UNKNOWN = '?' };
    struct option long_options[OPTIONS + 1] = {{.name = NULL}};
    for (int i = 0; i < OPTIONS; i++) {
        bool alone = known[i].kind == SWITCH || known[i].kind == HELP;
        long_options[i] = (struct option){
            known[i].name + 2, alone ? no_argument : required_argument, NULL, UNKNOWN + 1 + i};
    }
    argc = split_off_program(options, argc, argv);
    for (int option; (option = getopt_long(argc, argv, "-", long_options, NULL)) != -1;) {
        if (option == UNKNOWN) /* getopt_long has named it */
            advise_and_exit();
        if (option == WORD)
            take_word(options, optarg);
        else
            take_option(options, option - UNKNOWN - 1, optarg);
    }
    if (!options->pidfile)
        refuse("--pidfile", "missing");
}

/* ---- the daemon ---- */

/* What the daemon knows. */
struct launch {
    const struct options *options;
    int report; /* where it says why PROGRAM is not executed; closed without a word when it is */
};

/* Early, where an error is seen at once. In a new root directory only the daemon can look. */
static bool find_program(struct options *options) {
    const char *name = *options->program;
    char found[PATH_MAX], directory[PATH_MAX] = "";
    if (options->chroot) {
        if (*name != '/')
            refuse(name, "not an absolute path, as needed with --chroot");
        return snprintf(options->path, PATH_MAX, "%s", name) < PATH_MAX;
    }
    int length = rdaemon_find_command(name, NULL, found, sizeof found);
    if (length < 0) {
        if (strchr(name, '/'))
            length = access(name, X_OK) < 0 ? -errno : -EACCES;
        complain(name, strerror(-length));
        return false;
    }
    /* The daemon has another working directory. */
    if (*found != '/' && !getcwd(directory, sizeof directory)) {
        complain(".", strerror(errno));
        return false;
    }
    const char *slash = *found != '/' ? "/" : "";
    length = snprintf(options->path, PATH_MAX, "%s%s%s", directory, slash, found);
    if (length >= PATH_MAX)
        complain(found, strerror(ENAMETOOLONG));
    return length < PATH_MAX;
}

static struct rdaemon_stream output(const struct options *options, int fd) {
    struct rdaemon_stream stream = {.path = options->output_files[fd]};
    if (stream.path)
        stream.action = RDAEMON_STREAM_FILE;
    else if (options->syslog)
        stream.action = RDAEMON_STREAM_SYSLOG;
    else if (fd == STDERR_FILENO && options->output_files[STDOUT_FILENO])
        stream.action = RDAEMON_STREAM_SAME_AS_STDOUT;
    return stream;
}

static struct rdaemon_config describe_daemon(const struct options *options, const int32_t *report) {
    struct rdaemon_config config = {
        .detach = options->foreground ? RDAEMON_DETACH_NO : RDAEMON_DETACH_YES,
        .working_directory = options->chdir,
        .chroot_directory = options->chroot,
        .umask = options->umask,
        .timeout_ms = options->timeout_ms,
        .pidfile = options->pidfile,
        .files_preserve = report,
        .files_preserve_len = 1,
        .identity = options->identity,
    };
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        config.streams[fd] = output(options, fd);
    config.syslog.ident = options->syslog;
    if (options->syslog)
        config.syslog.flags = RDAEMON_SYSLOG_PID;
    return config;
}

static struct rdaemon_spawn_config describe_program(const struct options *options,
                                                    const char *const *paths) {
    for (size_t i = 0; i < options->env_len; i++)
        putenv(options->env[i]);
    return (struct rdaemon_spawn_config){
        .flags = RDAEMON_SPAWN_RESET_SIGNALS,
        .argv = (const char *const *)options->program,
        .paths = paths,
    };
}

/* The original process may have gone; that is no reason to die before the pidfile is removed. */
static int tell_failure(const struct launch *launch, const struct rdaemon_daemon *daemon,
                        const struct rdaemon_status *status) {
    signal(SIGPIPE, SIG_IGN);
    if (!daemon->detached)
        complain_of(*launch->options->program, status);
    else if (write(launch->report, status, sizeof *status) < 0)
        return FAILED;
    return exit_status_of(status);
}

/* Returns on failure only. */
static int become_program(void *context, const struct rdaemon_daemon *daemon) {
    const struct launch *launch = context;
    const char *const paths[] = {launch->options->path, NULL};
    const int32_t locks[] = {daemon->pidfile.fd};
    struct rdaemon_spawn_config config = describe_program(launch->options, paths);
    config.pass_fds = locks;
    config.pass_fds_len = 1;

    struct rdaemon_status status;
    rdaemon_exec(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status));
    return tell_failure(launch, daemon, &status);
}

/* ---- supervision ---- */

struct supervisor {
    const struct options *options;
    int signals;
    struct rdaemon_child child; /* pid 0: it could not be started */
    long long started_ms;
    int failures; /* in a row */
    int respawns; /* in the period that began then: */
    long long period_ms;
};

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static bool is_stop(int number) {
    return number == SIGTERM || number == SIGINT;
}

static int spawn_program(struct supervisor *supervisor, struct rdaemon_status *status) {
    const char *const paths[] = {supervisor->options->path, NULL};
    struct rdaemon_spawn_config config = describe_program(supervisor->options, paths);
    config.flags |= RDAEMON_SPAWN_PIDFD;
#ifdef __linux__
    config.death_signal = SIGKILL; /* it does not outlive its supervisor */
#endif
    supervisor->child = (struct rdaemon_child){.pid = 0};
    supervisor->started_ms = now_ms();
    return rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&supervisor->child),
                         RDAEMON_SIZED(status));
}

/* Its limit is shorter than the one that `stop` has for the supervisor, which still has to clean
   up after it. */
static void stop_program(struct supervisor *supervisor) {
    int limit_ms = supervisor->options->timeout_ms - supervisor->options->timeout_ms / 5;
    struct rdaemon_exit ended;
    int error =
        rdaemon_child_stop(RDAEMON_SIZED(&supervisor->child), limit_ms, -1, RDAEMON_SIZED(&ended));
    if (error == 0 && ended.code == SIGKILL && ended.kind == RDAEMON_EXIT_SIGNALLED)
        complain(*supervisor->options->program, "killed, as SIGTERM did not end it in time");
}

/* Returns whether all is over: the program has ended without a failure, or was to be stopped. */
static bool is_over(const struct supervisor *supervisor, int error,
                    const struct rdaemon_exit *ended) {
    const char *name = *supervisor->options->program;
    int pid = supervisor->child.pid;
    if (error < 0)
        complain(name, strerror(-error));
    else if (ended->kind != RDAEMON_EXIT_EXITED)
        fprintf(stderr, "rdaemon: %s: process %d was killed by signal %d\n", name, pid,
                ended->code);
    else
        fprintf(stderr, "rdaemon: %s: process %d exited with %d\n", name, pid, ended->code);
    return error == 0 && ended->returncode == 0;
}

/* Passes signals on until the program has ended, and returns as is_over(). */
static bool attend(struct supervisor *supervisor) {
    struct rdaemon_child *child = &supervisor->child;
    for (;;) {
        struct rdaemon_exit ended;
        int error = rdaemon_child_wait(RDAEMON_SIZED(child), 0, RDAEMON_SIZED(&ended));
        if (error != -ETIMEDOUT) {
            rdaemon_child_close(RDAEMON_SIZED(child));
            return is_over(supervisor, error, &ended);
        }
        struct pollfd events[] = {{.fd = supervisor->signals, .events = POLLIN},
                                  {.fd = child->pidfd, .events = POLLIN}};
        poll(events, 2, -1);
        int number = rdaemon_signals_next(supervisor->signals, 0, NULL, 0);
        if (is_stop(number)) {
            stop_program(supervisor);
            return true;
        }
        if (number > 0 && number != SIGCHLD)
            rdaemon_child_signal(RDAEMON_SIZED(child), number);
    }
}

/* Returns the delay before the next start; -1: it has failed too often. */
static long long next_delay(struct supervisor *supervisor) {
    const struct options *options = supervisor->options;
    long long now = now_ms();
    if (now - supervisor->started_ms >= options->respawn_period_ms)
        supervisor->failures = 0;
    supervisor->failures++;
    if (supervisor->respawns == 0 || now - supervisor->period_ms > options->respawn_period_ms) {
        supervisor->respawns = 0;
        supervisor->period_ms = now;
    }
    if (options->respawn_max > 0 && supervisor->respawns++ == options->respawn_max)
        return -1;
    long long delay_ms = (long long)supervisor->failures * options->delay_step_ms;
    return delay_ms < options->delay_cap_ms ? delay_ms : options->delay_cap_ms;
}

/* Returns false when it is to stop. There is nobody to pass other signals on to. */
static bool wait_before_respawn(const struct supervisor *supervisor, long long delay_ms) {
    long long until = now_ms() + delay_ms;
    for (long long left; (left = until - now_ms()) > 0;)
        if (is_stop(rdaemon_signals_next(supervisor->signals, (int)left, NULL, 0)))
            return false;
    return true;
}

/* The first start has succeeded. Returns the exit status. */
static int keep_alive(struct supervisor *supervisor) {
    const char *name = *supervisor->options->program;
    for (;;) {
        if (supervisor->child.pid != 0 && attend(supervisor))
            return DONE;
        long long delay_ms = next_delay(supervisor);
        if (delay_ms < 0) {
            complain(name, "fails again and again: given up");
            return FAILED;
        }
        fprintf(stderr, "rdaemon: %s: started again in %lld ms\n", name, delay_ms);
        if (!wait_before_respawn(supervisor, delay_ms))
            return DONE;
        struct rdaemon_status status;
        if (spawn_program(supervisor, &status) < 0)
            complain_of(name, &status);
    }
}

/* The daemon is the program's parent. A SIGTERM that comes before the signals are taken over ends
   it as it ends any daemon. */
static int supervise(void *context, const struct rdaemon_daemon *daemon) {
    static const int32_t signals[] = {SIGCHLD, SIGTERM, SIGINT,  SIGHUP,  SIGQUIT,
                                      SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH};
    struct launch *launch = context;
    struct supervisor supervisor = {.options = launch->options};
    signal(SIGPIPE, SIG_IGN); /* its own log may be a pipe */
    supervisor.signals = rdaemon_signals_open(signals, sizeof signals / sizeof *signals);
    struct rdaemon_status status = {.step = RDAEMON_STEP_SET_SIGNALS, .error = supervisor.signals};
    if (supervisor.signals < 0 || spawn_program(&supervisor, &status) < 0)
        return tell_failure(launch, daemon, &status);
    close(launch->report);
    return keep_alive(&supervisor);
}

/* ---- the actions ---- */

static bool is_readable_within(int fd, int timeout_ms) {
    struct pollfd event = {.fd = fd, .events = POLLIN};
    int ready;
    while ((ready = poll(&event, 1, timeout_ms)) < 0 && errno == EINTR)
        ;
    return ready != 0;
}

static void kill_daemon(const struct options *options) {
    struct rdaemon_status status;
    int result =
        rdaemon_control_stop(options->pidfile, 0, options->timeout_ms, RDAEMON_SIZED(&status));
    if (result < 0)
        complain_of(options->pidfile, &status);
}

/* When the report ends without a word the program was executed; or somebody has killed the daemon
   in the instant before. After a failure the daemon is awaited, so that nothing of it is left. */
static int await_program(const struct options *options, int report,
                         const struct rdaemon_daemon *daemon) {
    struct rdaemon_status status = {.step = RDAEMON_STEP_EXEC, .error = -ETIMEDOUT};
    if (!is_readable_within(report, options->timeout_ms)) {
        kill_daemon(options);
    } else if (read(report, &status, sizeof status) == 0) {
        say(options, "started as process %d", daemon->pid);
        return DONE;
    }
    is_readable_within(daemon->pidfd, options->timeout_ms);
    complain_of(*options->program, &status);
    return exit_status_of(&status);
}

static int start_once(const struct options *options, struct launch *launch, bool restart,
                      struct rdaemon_daemon *daemon, struct rdaemon_status *status) {
    struct rdaemon_config config = describe_daemon(options, &launch->report);
    struct rdaemon_worker worker = {.run = options->supervise ? supervise : become_program,
                                    .context = launch};
    if (!restart)
        return rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                     RDAEMON_SIZED(daemon), RDAEMON_SIZED(status));
    return rdaemon_control_restart(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                   options->timeout_ms, options->timeout_ms, RDAEMON_SIZED(daemon),
                                   RDAEMON_SIZED(status));
}

/* A start in progress elsewhere is awaited: it decides whether this one is needed. */
static int start_daemon(const struct options *options, struct launch *launch, bool restart,
                        struct rdaemon_daemon *daemon, struct rdaemon_status *status) {
    long long until = now_ms() + options->timeout_ms;
    int pid;
    do
        pid = start_once(options, launch, restart, daemon, status);
    while (pid == -EEXIST && status->pid == 0 && now_ms() < until);
    return pid;
}

/* Returns in the original process only. */
static int launch_daemon(struct options *options, bool restart) {
    if (!options->program)
        refuse("PROGRAM", "missing");
    if (options->user)
        find_user(options);
    if (!find_program(options))
        return NOT_INSTALLED;
    int report[2];
    if (pipe(report) < 0) {
        complain("pipe", strerror(errno));
        return FAILED;
    }
    fcntl(report[0], F_SETFD, FD_CLOEXEC);
    fcntl(report[1], F_SETFD, FD_CLOEXEC);

    struct launch launch = {.options = options, .report = report[1]};
    struct rdaemon_daemon daemon;
    struct rdaemon_status status;
    int pid = start_daemon(options, &launch, restart, &daemon, &status);
    close(report[1]);
    if (pid > 0)
        return await_program(options, report[0], &daemon);
    complain_of(options->pidfile, &status);
    return pid == -EEXIST && status.pid > 0 && !restart ? DONE : exit_status_of(&status);
}

static int do_start(struct options *options) {
    return launch_daemon(options, false);
}

static int do_restart(struct options *options) {
    return launch_daemon(options, true);
}

static int do_stop(struct options *options) {
    struct rdaemon_status status;
    int result = rdaemon_control_stop(options->pidfile, options->timeout_ms, options->timeout_ms,
                                      RDAEMON_SIZED(&status));
    switch (result) {
    case RDAEMON_CONTROL_NOT_RUNNING:
        say(options, "not running");
        return DONE;
    case RDAEMON_CONTROL_STOPPED:
        say(options, "process %d has ended", status.pid);
        return DONE;
    case RDAEMON_CONTROL_KILLED:
        say(options, "process %d was killed, as SIGTERM did not end it in time", status.pid);
        return DONE;
    case RDAEMON_CONTROL_HELD:
        complain(options->pidfile, held);
        return FAILED;
    default:
        complain_of(options->pidfile, &status);
        return exit_status_of(&status);
    }
}

/* A daemon that ends by itself, but may not remove its pidfile, has emptied it. */
static int status_of_stopped(const struct options *options) {
    struct stat file;
    if (stat(options->pidfile, &file) < 0 || file.st_size == 0) {
        say(options, "not running");
        return STATUS_STOPPED;
    }
    say(options, "dead, and has left its pidfile");
    return STATUS_DEAD;
}

static int do_status(struct options *options) {
    struct rdaemon_status status;
    switch (rdaemon_control_query(options->pidfile, NULL, RDAEMON_SIZED(&status))) {
    case RDAEMON_CONTROL_RUNNING:
        say(options, "running as process %d", status.pid);
        return STATUS_RUNNING;
    case RDAEMON_CONTROL_NOT_RUNNING:
        return status_of_stopped(options);
    case RDAEMON_CONTROL_HELD:
        say(options, "%s", held);
        return STATUS_UNKNOWN;
    default:
        complain_of(options->pidfile, &status);
        return STATUS_UNKNOWN;
    }
}

static int do_signal(struct options *options) {
    struct rdaemon_status status;
    if (!options->signal)
        options->signal = "TERM";
    int number = parse_signal(options->signal);
    int result = rdaemon_control_signal(options->pidfile, number, RDAEMON_SIZED(&status));
    if (result < 0) {
        complain_of(options->pidfile, &status);
        return exit_status_of(&status);
    }
    if (result != RDAEMON_CONTROL_RUNNING) {
        complain(options->pidfile, result == RDAEMON_CONTROL_HELD ? held : "not running");
        return NOT_RUNNING;
    }
    say(options, "process %d has got signal %s", status.pid, options->signal);
    return DONE;
}

/* ---- the command line ---- */

static const struct action {
    const char *name;
    int (*act)(struct options *options);
} actions[] = {
    {"start", do_start},   {"stop", do_stop},     {"restart", do_restart},
    {"status", do_status}, {"signal", do_signal},
};

static const struct action *find_action(const char *name) {
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(name, actions[i].name) == 0)
            return &actions[i];
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 2)
        refuse("ACTION", "missing");
    if (strcmp(argv[1], "--help") == 0)
        explain_and_exit();
    const struct action *action = find_action(argv[1]);
    if (!action) {
        complain(argv[1], "no such action");
        return UNIMPLEMENTED;
    }
    struct options options = {
        .timeout_ms = 10000,
        .umask = S_IWGRP | S_IWOTH,
        .env = calloc((size_t)argc, sizeof *options.env),
        .takes_signal = action->act == do_signal,
        .delay_step_ms = 128,
        .delay_cap_ms = 30000,
        .respawn_max = 10,
        .respawn_period_ms = 12000,
    };
    if (!options.env)
        refuse("--env", strerror(ENOMEM));
    rdaemon_open_stdio();        /* lest the report becomes a standard stream */
    argv[1] = (char *)"rdaemon"; /* for the messages of getopt_long */
    read_options(&options, argc - 1, argv + 1);
    return action->act(&options);
}
