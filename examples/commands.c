/*
 * commands.c: runs a command fifty times at once, in one poll loop, and tells how each one ended.
 *
 *     cc commands.c -lrdaemon -o commands
 *     ./commands 10 seq -s ' '
 *
 * Each one gets its number, 1 to 50, as its last argument. Those that still run after the ten
 * seconds get SIGTERM, and a second later SIGKILL.
 */
#include <rdaemon.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { COMMANDS = 50, KEPT_BYTES = 4096, GRACE_MS = 1000, WITHOUT_PIDFD_MS = 100 };

struct command {
    int number;
    bool running;
    bool late;
    bool failed;
    struct rdaemon_child child;
    struct rdaemon_communication talk;
    char output[KEPT_BYTES]; /* the first bytes of it */
    size_t kept;
    size_t total;
};

static struct command commands[COMMANDS];

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* ---- starting ---- */

/* Takes the output as it comes. What the buffer has no room for is only counted. */
static int keep(void *context, const char *bytes, size_t len) {
    struct command *command = context;
    size_t room = KEPT_BYTES - command->kept;
    size_t part = len < room ? len : room;
    memcpy(command->output + command->kept, bytes, part);
    command->kept += part;
    command->total += len;
    return 0;
}

/* Standard error goes where the output goes; there is no input. */
static void start(struct command *command, const char *path, const char *const *argv) {
    const char *const paths[] = {path, NULL};
    struct rdaemon_spawn_config config = {
        .flags = RDAEMON_SPAWN_PIDFD, .argv = argv, .paths = paths};
    config.streams[STDIN_FILENO].action = RDAEMON_STREAM_NULL;
    config.streams[STDOUT_FILENO].action = RDAEMON_STREAM_PIPE;
    config.streams[STDERR_FILENO].action = RDAEMON_STREAM_SAME_AS_STDOUT;

    struct rdaemon_status status;
    int pid = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&command->child),
                            RDAEMON_SIZED(&status));
    if (pid < 0) {
        char line[128];
        rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
        printf("%2d: %s\n", command->number, line);
        command->failed = true;
        return;
    }
    command->running = true;
    command->talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    command->talk.outputs[0].sink = keep;
    command->talk.outputs[0].context = command;
}

/* ---- ending ---- */

static void report(const struct command *command, const struct rdaemon_exit *ended) {
    const char *newline = memchr(command->output, '\n', command->kept);
    size_t length = newline ? (size_t)(newline - command->output) : command->kept;
    printf("%2d: %s%s %d, %zu bytes: %.*s\n", command->number, command->late ? "late, " : "",
           ended->kind == RDAEMON_EXIT_EXITED ? "exited with" : "killed by signal", ended->code,
           command->total, (int)length, command->output);
}

static void finish(struct command *command) {
    struct rdaemon_exit ended;
    int error = rdaemon_child_wait(RDAEMON_SIZED(&command->child), -1, RDAEMON_SIZED(&ended));
    if (error == 0)
        report(command, &ended);
    else
        printf("%2d: wait: %s\n", command->number, strerror(-error));
    command->failed = error != 0 || ended.wait_status != 0;
    command->running = false;
    rdaemon_child_close(RDAEMON_SIZED(&command->child));
}

/* Does what can be done at once. It is over when the command has ended and its output is read. */
static void serve(struct command *command) {
    int result =
        rdaemon_communicate(RDAEMON_SIZED(&command->child), RDAEMON_SIZED(&command->talk), 0);
    if (result == -ETIMEDOUT)
        return;
    if (result < 0) {
        printf("%2d: communicate: %s\n", command->number, strerror(-result));
        rdaemon_child_signal(RDAEMON_SIZED(&command->child), SIGKILL);
    }
    finish(command);
}

static void stop(struct command *command, int signal_number) {
    command->late = true;
    rdaemon_child_signal(RDAEMON_SIZED(&command->child), signal_number);
}

/* ---- all of them ---- */

static int count_running(void) {
    int count = 0;
    for (int i = 0; i < COMMANDS; i++)
        count += commands[i].running;
    return count;
}

/* Waits for the output and for the end of every command: a pipe and a pidfd each. */
static int serve_some(int timeout_ms) {
    struct pollfd events[2 * COMMANDS];
    struct command *owners[2 * COMMANDS];
    nfds_t count = 0;
    for (int i = 0; i < COMMANDS; i++) {
        const int fds[] = {commands[i].child.fds[STDOUT_FILENO], commands[i].child.pidfd};
        for (int j = 0; commands[i].running && j < 2; j++)
            if (fds[j] >= 0) {
                owners[count] = &commands[i];
                events[count++] = (struct pollfd){.fd = fds[j], .events = POLLIN};
            }
        if (commands[i].running && commands[i].child.pidfd < 0 && timeout_ms > WITHOUT_PIDFD_MS)
            timeout_ms = WITHOUT_PIDFD_MS;
    }
    int ready = poll(events, count, timeout_ms);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    for (nfds_t i = 0; i < count; i++)
        if (events[i].revents && owners[i]->running)
            serve(owners[i]);
    for (int i = 0; i < COMMANDS; i++)
        if (commands[i].running && commands[i].child.pidfd < 0)
            serve(&commands[i]);
    return 0;
}

static int serve_all(int limit_ms) {
    long long deadline = now_ms() + limit_ms;
    int signal_number = SIGTERM;
    while (count_running() > 0) {
        long long left = deadline - now_ms();
        if (left <= 0) {
            for (int i = 0; i < COMMANDS; i++)
                if (commands[i].running)
                    stop(&commands[i], signal_number);
            signal_number = SIGKILL;
            deadline += GRACE_MS;
            continue;
        }
        int error = serve_some((int)left);
        if (error < 0)
            return error;
    }
    return 0;
}

int main(int argc, char **argv) {
    int seconds = argc > 2 ? atoi(argv[1]) : 0;
    if (seconds < 1 || seconds > INT_MAX / 1000) {
        fputs("usage: commands SECONDS COMMAND [ARGUMENT]...\n", stderr);
        return EXIT_FAILURE;
    }
    char path[PATH_MAX];
    int length = rdaemon_find_command(argv[2], NULL, path, sizeof path);
    if (length < 0) {
        fprintf(stderr, "commands: %s: %s\n", argv[2], strerror(-length));
        return EXIT_FAILURE;
    }

    /* One place to the left, so that there is one for the number. */
    char number[12];
    memmove(&argv[1], &argv[2], (size_t)(argc - 2) * sizeof *argv);
    argv[argc - 1] = number;
    for (int i = 0; i < COMMANDS; i++) {
        commands[i].number = i + 1;
        snprintf(number, sizeof number, "%d", commands[i].number);
        start(&commands[i], path, (const char *const *)&argv[1]);
    }

    int error = serve_all(seconds * 1000);
    if (error < 0) {
        fprintf(stderr, "commands: poll: %s\n", strerror(-error));
        return EXIT_FAILURE;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (commands[i].failed)
            return EXIT_FAILURE;
    return EXIT_SUCCESS;
}
