/*
 * launchd-listen.c: starts a server that is made for systemd's socket activation under launchd.
 *
 *     cc launchd-listen.c -lrdaemon -o launchd-listen
 *
 * For a job whose Sockets have the keys web and admin its ProgramArguments are
 *
 *     launchd-listen web admin -- /usr/local/bin/server [ARGUMENT]...
 *
 * The server takes this process over: its pid is the one that launchd watches.
 */
#include <rdaemon.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_FD = 3, MOST_SOCKETS = 64 };

struct sockets {
    char **wanted; /* names, with a NULL behind the last */
    struct rdaemon_fd_mapping map[MOST_SOCKETS];
    size_t count;
    char names[4096]; /* LISTEN_FDNAMES */
};

static int complain(const char *what, const char *why) {
    fprintf(stderr, "launchd-listen: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static int keep(void *context, const struct rdaemon_socket *socket) {
    struct sockets *sockets = context;
    char **name = sockets->wanted;
    while (*name && strcmp(*name, socket->name) != 0)
        name++;
    if (!*name)
        return 0;
    size_t used = strlen(sockets->names), room = sizeof sockets->names - used;
    int length = snprintf(sockets->names + used, room, "%s%s", used > 0 ? ":" : "", socket->name);
    if (sockets->count == MOST_SOCKETS || (size_t)length >= room)
        return -EMFILE;
    struct rdaemon_fd_mapping *place = &sockets->map[sockets->count];
    place->child_fd = FIRST_FD + (int)sockets->count++;
    place->source.action = RDAEMON_STREAM_FD;
    place->source.fd = socket->fd;
    return 0;
}

/* systemd hands over all sockets at once; of launchd each name is asked for, and may have several
 * sockets, as one for IPv4 and one for IPv6. */
static int collect(struct sockets *sockets) {
    char **name = sockets->wanted;
    int result = rdaemon_listen(NULL, 0, keep, sockets);
    if (result == -ESRCH)
        while ((result = rdaemon_listen(*name, 0, keep, sockets)) > 0 && name[1])
            name++;
    if (result > 0 && sockets->count == 0)
        result = -ENOENT;
    if (result > 0)
        return EXIT_SUCCESS;
    return complain(*name, result == -ESRCH ? "launchd has not started this" : strerror(-result));
}

static void set_number(const char *variable, long number) {
    char text[24];
    snprintf(text, sizeof text, "%ld", number);
    setenv(variable, text, 1);
}

int main(int argc, char **argv) {
    static struct sockets sockets;
    char **program = argv + 1;
    while (*program && strcmp(*program, "--") != 0)
        program++;
    if (argc < 4 || program == argv + 1 || !*program || !program[1]) {
        fputs("usage: launchd-listen NAME [NAME]... -- /PROGRAM [ARGUMENT]...\n", stderr);
        return EXIT_FAILURE;
    }
    *program++ = NULL;
    sockets.wanted = argv + 1;
    if (collect(&sockets) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    set_number("LISTEN_FDS", (long)sockets.count);
    set_number("LISTEN_PID", (long)getpid());
    setenv("LISTEN_FDNAMES", sockets.names, 1);

    struct rdaemon_spawn_config config = {
        .argv = (const char *const *)program, .fd_map = sockets.map, .fd_map_len = sockets.count};
    struct rdaemon_status status;
    rdaemon_exec(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status));
    char line[128];
    rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
    return complain(*program, line);
}
