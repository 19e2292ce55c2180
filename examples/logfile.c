/*
 * logfile.c: a daemon whose log may be rotated: it opens the file anew on SIGHUP. It writes a
 * numbered line every so many milliseconds.
 *
 *     cc logfile.c -lrdaemon -o logfile
 *     ./logfile /run/logfile.pid /var/log/logfile.log 1000
 *     kill -HUP $(cat /run/logfile.pid)
 */
#include <rdaemon.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns as fork(2) does. SIGTERM ends the daemon, and removes its pidfile. */
static int become_daemon(const char *pidfile, const char *log) {
    struct rdaemon_config config = {.pidfile = pidfile};
    config.streams[STDOUT_FILENO].action = RDAEMON_STREAM_FILE;
    config.streams[STDOUT_FILENO].path = log;
    config.streams[STDERR_FILENO].action = RDAEMON_STREAM_SAME_AS_STDOUT;

    struct rdaemon_status status;
    int pid = rdaemon_daemonize(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status));
    if (pid < 0) {
        char line[128];
        rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
        fprintf(stderr, "logfile: %s\n", line);
    }
    return pid;
}

/* Where that fails the old file stays the log, so that nothing is lost. */
static void reopen(const char *log) {
    fflush(stdout);
    int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_CLOEXEC, 0640);
    int result = fd < 0 ? -errno : rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, fd, fd);
    if (result < 0)
        fprintf(stderr, "logfile: %s is not opened anew: %s\n", log, strerror(-result));
    if (fd >= 0)
        close(fd);
}

/* A SIGHUP waits from now on until it is asked for. It must never meet its default, which is to end
 * the process, and the daemon may get one as soon as its pidfile is there. */
static void hold_hangups(void) {
    sigset_t hangup;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hangup, NULL);
}

int main(int argc, char **argv) {
    int milliseconds = argc == 4 ? atoi(argv[3]) : 0;
    if (milliseconds < 1 || argv[2][0] != '/') {
        fputs("usage: logfile PIDFILE /PATH/OF/LOG MILLISECONDS\n", stderr);
        return EXIT_FAILURE;
    }
    hold_hangups();
    int pid = become_daemon(argv[1], argv[2]);
    if (pid != 0)
        return pid > 0 ? EXIT_SUCCESS : EXIT_FAILURE;

    int signals = rdaemon_signals_open((int32_t[]){SIGHUP}, 1);
    if (signals < 0) /* SIGTERM removes the pidfile. */
        raise(SIGTERM);
    setvbuf(stdout, NULL, _IOLBF, 0); /* Each line is one write(2), which no rotation can tear. */
    for (unsigned long number = 1;; number++) {
        printf("line %lu\n", number);
        if (rdaemon_signals_next(signals, milliseconds, NULL, 0) == SIGHUP)
            reopen(argv[2]);
    }
}
