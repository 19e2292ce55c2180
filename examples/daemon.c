/*
 * daemon.c: a small daemon to copy. It writes a line into its log every so many seconds.
 *
 *     cc daemon.c -lrdaemon -o daemon
 *     ./daemon /tmp/daemon.pid /tmp/daemon.log 10
 *     kill $(cat /tmp/daemon.pid)
 */
#include <rdaemon.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void complain(const struct rdaemon_status *status) {
    char line[128];
    rdaemon_status_message(RDAEMON_SIZED(status), line, sizeof line);
    fprintf(stderr, "daemon: %s\n", line);
}

/* Returns as fork(2) does. The daemon has its pidfile by then, and SIGTERM removes that. */
static int become_daemon(const char *pidfile, const char *log) {
    struct rdaemon_config config = {.pidfile = pidfile};
    config.streams[STDOUT_FILENO].action = RDAEMON_STREAM_FILE;
    config.streams[STDOUT_FILENO].path = log;
    config.streams[STDERR_FILENO].action = RDAEMON_STREAM_SAME_AS_STDOUT;

    struct rdaemon_status status;
    int pid = rdaemon_daemonize(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status));
    if (pid < 0)
        complain(&status);
    return pid;
}

static void write_line(void) {
    time_t now = time(NULL);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", localtime(&now));
    printf("%s process %ld is well\n", text, (long)getpid());
    fflush(stdout);
}

int main(int argc, char **argv) {
    int seconds = argc == 4 ? atoi(argv[3]) : 0;
    if (seconds < 1) {
        fputs("usage: daemon PIDFILE LOG SECONDS\n", stderr);
        return EXIT_FAILURE;
    }
    int pid = become_daemon(argv[1], argv[2]);
    if (pid != 0)
        return pid > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    for (;;) {
        write_line();
        sleep(seconds);
    }
}
