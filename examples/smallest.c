#include <rdaemon.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct rdaemon_config config = {.pidfile = argc > 1 ? argv[1] : NULL};
    struct rdaemon_status status;

    int pid = rdaemon_daemonize(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status));
    if (pid < 0) {
        char line[128];
        rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
        fprintf(stderr, "%s: %s\n", argv[0], line);
        return 1;
    }
    if (pid > 0) {
        printf("the daemon is process %d\n", pid);
        return 0;
    }
    pause(); /* This is the daemon; SIGTERM ends it, and removes the pidfile. */
}
