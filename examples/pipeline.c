/*
 * pipeline.c: runs a pipeline as a shell does, but without one.
 *
 *     cc pipeline.c -lrdaemon -o pipeline
 *     ./pipeline seq 100 '|' sort -r '|' head -n 3
 *
 * Its exit status is that of the last command.
 */
#include <rdaemon.h>

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_COMMANDS = 16, CANNOT_START = 127, BY_SIGNAL = 128 };

/* Reads from `input` unless that is -1, and writes into a new pipe unless it is the last. Standard
 * input and output are this program's otherwise, and standard error always. */
static int start(struct rdaemon_child *child, char **words, int input, bool last) {
    char path[PATH_MAX];
    const char *const paths[] = {path, NULL};
    struct rdaemon_spawn_config config = {.argv = (const char *const *)words, .paths = paths};
    if (input >= 0) {
        config.streams[STDIN_FILENO].action = RDAEMON_STREAM_FD;
        config.streams[STDIN_FILENO].fd = input;
    }
    if (!last)
        config.streams[STDOUT_FILENO].action = RDAEMON_STREAM_PIPE;

    int length = rdaemon_find_command(words[0], NULL, path, sizeof path);
    if (length < 0) {
        fprintf(stderr, "pipeline: %s: %s\n", words[0], strerror(-length));
        return length;
    }
    struct rdaemon_status status;
    int pid = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(child), RDAEMON_SIZED(&status));
    if (pid < 0) {
        char line[128];
        rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
        fprintf(stderr, "pipeline: %s: %s\n", words[0], line);
    }
    return pid;
}

/* As a shell tells it. */
static int exit_status_of(struct rdaemon_child *child) {
    struct rdaemon_exit ended;
    int error = rdaemon_child_wait(RDAEMON_SIZED(child), -1, RDAEMON_SIZED(&ended));
    if (error < 0) {
        fprintf(stderr, "pipeline: wait: %s\n", strerror(-error));
        return EXIT_FAILURE;
    }
    return ended.kind == RDAEMON_EXIT_EXITED ? ended.code : BY_SIGNAL + ended.code;
}

/* What one command writes the next one reads, and this process keeps neither end: a pipe has its
 * end of file only when all of its writers are closed. The pipes are closed here by their numbers,
 * so rdaemon_child_close() must not close them again. */
static int run(char ***commands, int count) {
    struct rdaemon_child children[MOST_COMMANDS];
    int started = 0, input = -1, status = EXIT_SUCCESS;
    for (; started < count; started++) {
        int pid = start(&children[started], commands[started], input, started == count - 1);
        if (input >= 0)
            close(input);
        if (pid < 0)
            break;
        input = children[started].fds[STDOUT_FILENO];
    }
    for (int i = 0; i < started; i++)
        status = exit_status_of(&children[i]);
    return started < count ? CANNOT_START : status;
}

/* Cuts the words at each "|". Returns the number of commands, or -1. */
static int split(char **words, char ***commands) {
    int count = 0;
    for (bool first = true; *words; words++) {
        if (strcmp(*words, "|") == 0) {
            if (first)
                return -1;
            *words = NULL;
            first = true;
        } else if (first) {
            if (count == MOST_COMMANDS)
                return -1;
            commands[count++] = words;
            first = false;
        }
    }
    return count > 0 && words[-1] ? count : -1;
}

int main(int argc, char **argv) {
    char **commands[MOST_COMMANDS];
    int count = argc > 1 ? split(argv + 1, commands) : -1;
    if (count < 0) {
        fputs("usage: pipeline COMMAND [ARGUMENT]... ['|' COMMAND [ARGUMENT]...]...\n", stderr);
        return EXIT_FAILURE;
    }
    return run(commands, count);
}
