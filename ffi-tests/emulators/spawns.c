/* Starts a program as its arguments say, and tells in one line what became of it. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rdaemon.h"

static int run(struct rdaemon_spawn_config *config) {
    struct rdaemon_child child;
    struct rdaemon_exit end;
    struct rdaemon_status status;
    char line[128];
    int pid = rdaemon_spawn(RDAEMON_SIZED(config), RDAEMON_SIZED(&child), RDAEMON_SIZED(&status));
    if (pid < 0) {
        rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
        puts(line);
        if (waitpid(-1, NULL, __WALL) != -1)
            puts("and left a child");
        return 0;
    }
    if (config->flags & RDAEMON_SPAWN_DETACHED) {
        ssize_t length = read(child.fds[1], line, sizeof line - 1);
        printf("detached, says %.*s\n", (int)(length > 0 ? length : 0), line);
        if (waitpid(-1, NULL, WNOHANG | __WALL) != -1)
            puts("and left a child");
        return 0;
    }
    int result = rdaemon_child_wait(RDAEMON_SIZED(&child), -1, RDAEMON_SIZED(&end));
    if (result < 0)
        return printf("waiting failed: %s\n", strerror(-result));
    printf("%s %d\n", end.kind == RDAEMON_EXIT_EXITED ? "exited with" : "killed by", end.code);
    return 0;
}

int main(int argc, char **argv) {
    const char *well[] = {"/bin/sh", "-c", "exit 7", NULL};
    const char *hello[] = {"/bin/echo", "-n", "hello", NULL};
    const char *killed[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
    const char *missing[] = {"/nonexistent/rdaemon", NULL};
    struct rdaemon_spawn_config config = {.argv = well};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "missing") == 0)
            config.argv = missing;
        else if (strcmp(argv[i], "hello") == 0)
            config.argv = hello;
        else if (strcmp(argv[i], "killed") == 0)
            config.argv = killed;
        else if (strcmp(argv[i], "chdir") == 0)
            config.working_directory = "/nonexistent/rdaemon";
        else if (strcmp(argv[i], "pidfd") == 0)
            config.flags |= RDAEMON_SPAWN_PIDFD;
        else if (strcmp(argv[i], "forked") == 0)
            config.flags |= RDAEMON_SPAWN_FORCE_FORK;
        else if (strcmp(argv[i], "detached") == 0)
            config.flags |= RDAEMON_SPAWN_DETACHED;
        else if (strcmp(argv[i], "well") != 0)
            return 2;
    }
    if (config.flags & RDAEMON_SPAWN_DETACHED)
        config.streams[1].action = RDAEMON_STREAM_PIPE;
    return run(&config) != 0;
}
