#include "listening.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "start.h"

extern char **environ;

enum { PEER = 100 };

void forget_managers(void) {
    static const char *const names[] = {
        "LISTEN_PID",    "LISTEN_FDS",       "LISTEN_PIDFDID", "LISTEN_FDNAMES",   "NOTIFY_SOCKET",
        "INVOCATION_ID", "SYSTEMD_EXEC_PID", "MAINPID",        "XPC_SERVICE_NAME", "XPC_FLAGS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

void environment_is_consumed(void) {
    CHECK(!strstr(environment(), "LISTEN_"));
}

void set_number(const char *name, unsigned long long number) {
    char text[32];
    snprintf(text, sizeof text, "%llu", number);
    CHECK_INT(setenv(name, text, 1), 0);
}

void offer(int count, const char *names) {
    forget_managers();
    set_number("LISTEN_PID", (unsigned)getpid());
    set_number("LISTEN_FDS", (unsigned)count);
    if (names)
        CHECK_INT(setenv("LISTEN_FDNAMES", names, 1), 0);
}

void make_listeners(int count) {
    for (int i = 0; i < count; i++)
        CHECK_INT(unix_listener(SOCK_STREAM), 3 + i);
}

void offer_listeners(int count, const char *names) {
    make_listeners(count);
    offer(count, names);
}

void be_started_by_inetd(int fd) {
    forget_managers();
    for (int stream = 0; stream < 3; stream++)
        CHECK_INT(dup2(fd, stream), stream);
    close(fd);
}

/* ---- making them ---- */

static int made(int fd) {
    if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
        SKIP_PLATFORM("no such address family here");
    CHECK(fd >= 0);
    return fd;
}

union address {
    struct sockaddr any;
    struct sockaddr_un of_unix;
    struct sockaddr_in inet;
    struct sockaddr_in6 inet6;
};

/* Of a name or a port that the kernel chooses. */
static socklen_t free_address(int family, union address *address) {
    memset(address, 0, sizeof *address);
    address->any.sa_family = (sa_family_t)family;
    if (family == AF_UNIX)
        return sizeof(sa_family_t);
    if (family == AF_INET) {
        address->inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof address->inet;
    }
    address->inet6.sin6_addr = in6addr_loopback;
    return sizeof address->inet6;
}

static int bound(int family, int type) {
    union address address;
    int fd = made(socket(family, type, 0));
    socklen_t length = free_address(family, &address);
    made(bind(fd, &address.any, length));
    return fd;
}

static int listener(int family, int type) {
    int fd = bound(family, type);
    CHECK_INT(listen(fd, 8), 0);
    return fd;
}

static void set_peer(int fd) {
    CHECK_INT(dup3(fd, PEER, O_CLOEXEC), PEER);
    close(fd);
}

int peer(void) {
    return PEER;
}

static int connected_to(int listening) {
    union address address;
    socklen_t length = sizeof address;
    CHECK_INT(getsockname(listening, &address.any, &length), 0);
    int type;
    CHECK_INT(getsockopt(listening, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof type}), 0);
    int fd = socket(address.any.sa_family, type | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(fd, &address.any, length), 0);
    return fd;
}

int unix_listener(int type) {
    return listener(AF_UNIX, type);
}

int unix_connection(int type) {
    int ends[2];
    CHECK_INT(socketpair(AF_UNIX, type, 0, ends), 0);
    set_peer(ends[1]);
    return ends[0];
}

int unix_datagram(void) {
    return bound(AF_UNIX, SOCK_DGRAM);
}

int inet_listener(int family) {
    return listener(family, SOCK_STREAM);
}

int inet_connection(int family) {
    int listening = inet_listener(family);
    set_peer(connected_to(listening));
    int fd = accept(listening, NULL, NULL);
    CHECK_INT(dup2(fd, listening), listening);
    close(fd);
    return listening;
}

int fifo(void) {
    static int number;
    char name[16];
    snprintf(name, sizeof name, "fifo%d", number++);
    CHECK_INT(mkfifo(scratch_path(name), 0600), 0);
    return made(open(scratch_path(name), O_RDWR));
}

static int unix_stream_listener(void) {
    return unix_listener(SOCK_STREAM);
}

static int unix_seqpacket_listener(void) {
    return unix_listener(SOCK_SEQPACKET);
}

static int unix_stream_connection(void) {
    return unix_connection(SOCK_STREAM);
}

static int unix_seqpacket_connection(void) {
    return unix_connection(SOCK_SEQPACKET);
}

static int end_of_a_datagram_pair(void) {
    return unix_connection(SOCK_DGRAM);
}

static int inet4_listener(void) {
    return inet_listener(AF_INET);
}

static int inet4_connection(void) {
    return inet_connection(AF_INET);
}

static int inet4_datagram(void) {
    return bound(AF_INET, SOCK_DGRAM);
}

static int inet6_listener(void) {
    return inet_listener(AF_INET6);
}

static int inet6_connection(void) {
    return inet_connection(AF_INET6);
}

static int inet6_datagram(void) {
    return bound(AF_INET6, SOCK_DGRAM);
}

static int netlink_socket(void) {
    return socket(AF_NETLINK, SOCK_RAW, 0);
}

static int regular_file(void) {
    return open(make_file("file", "text"), O_RDWR);
}

static int directory(void) {
    return open("/", O_RDONLY | O_DIRECTORY);
}

static int device(void) {
    return open("/dev/null", O_RDWR);
}

static int end_of_a_pipe(void) {
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    close(ends[1]);
    return ends[0];
}

const struct kind kinds_of_sockets[] = {
    {unix_stream_listener, "listener UNIX STREAM"},
    {unix_seqpacket_listener, "listener UNIX SEQPACKET"},
    {unix_stream_connection, "connection UNIX STREAM"},
    {unix_seqpacket_connection, "connection UNIX SEQPACKET"},
    {unix_datagram, "datagram UNIX DGRAM"},
    {end_of_a_datagram_pair, "datagram UNIX DGRAM"},
    {inet4_listener, "listener INET STREAM"},
    {inet4_connection, "connection INET STREAM"},
    {inet4_datagram, "datagram INET DGRAM"},
    {netlink_socket, "datagram NETLINK RAW"},
    {NULL, NULL},
};
const struct kind kinds_of_inet6[] = {
    {inet6_listener, "listener INET6 STREAM"},
    {inet6_connection, "connection INET6 STREAM"},
    {inet6_datagram, "datagram INET6 DGRAM"},
    {NULL, NULL},
};
const struct kind kinds_of_files[] = {
    {fifo, "other 0 0"},      {end_of_a_pipe, "other 0 0"}, {regular_file, "other 0 0"},
    {directory, "other 0 0"}, {device, "other 0 0"},        {NULL, NULL},
};

/* ---- visits ---- */

static const char *source_name(uint32_t source) {
    static const char *const names[] = {
        [RDAEMON_SOURCE_LAUNCHD] = "launchd",
        [RDAEMON_SOURCE_SYSTEMD] = "systemd",
        [RDAEMON_SOURCE_INETD] = "inetd",
    };
    CHECK(source > 0 && source < sizeof names / sizeof *names);
    return names[source];
}

static const char *kind_name(uint32_t kind) {
    static const char *const names[] = {
        [RDAEMON_SOCKET_LISTENER] = "listener",
        [RDAEMON_SOCKET_CONNECTION] = "connection",
        [RDAEMON_SOCKET_DATAGRAM] = "datagram",
        [RDAEMON_SOCKET_OTHER] = "other",
    };
    CHECK(kind > 0 && kind < sizeof names / sizeof *names);
    return names[kind];
}

static const char *family_name(int family) {
    static const char *const names[] = {
        [0] = "0",
        [AF_UNIX] = "UNIX",
        [AF_INET] = "INET",
        [AF_INET6] = "INET6",
        [AF_NETLINK] = "NETLINK",
    };
    CHECK(family >= 0 && family < (int)(sizeof names / sizeof *names) && names[family]);
    return names[family];
}

static const char *type_name(int type) {
    static const char *const names[] = {
        [0] = "0",          [SOCK_STREAM] = "STREAM",       [SOCK_DGRAM] = "DGRAM",
        [SOCK_RAW] = "RAW", [SOCK_SEQPACKET] = "SEQPACKET",
    };
    CHECK(type >= 0 && type < (int)(sizeof names / sizeof *names) && names[type]);
    return names[type];
}

static int visit(void *context, const struct rdaemon_socket *socket) {
    struct visits *visits = context;
    size_t length = strlen(visits->text);
    snprintf(visits->text + length, sizeof visits->text - length, "%s%d %s %s %s %s %s",
             length ? ", " : "", socket->fd, socket->name, source_name(socket->source),
             kind_name(socket->kind), family_name(socket->family), type_name(socket->type));
    CHECK_INT(socket->reserved, 0);
    CHECK(socket->fd >= 3);
    CHECK(fd_is_cloexec(socket->fd));
    CHECK(visits->count < (int)(sizeof visits->fds / sizeof *visits->fds));
    visits->fds[visits->count++] = socket->fd;
    if (visits->look)
        visits->look(socket);
    errno = EDOM;
    return visits->count == visits->refuse_at ? visits->answer : 0;
}

int visit_all(struct visits *visits, const char *name, uint32_t flags) {
    return QUIET(rdaemon_listen(name, flags, visit, visits));
}

void are_visited(const char *name, uint32_t flags, int count, const char *text) {
    struct visits visits = {0};
    CHECK_INT(visit_all(&visits, name, flags), count);
    CHECK_INT(visits.count, count);
    CHECK_STR(visits.text, text);
}

static int must_not_visit(void *context, const struct rdaemon_socket *socket) {
    (void)context;
    FAIL("fd %d is visited", socket->fd);
}

void is_refused(const char *name, uint32_t flags, int error) {
    const char *before = environment();
    CHECK_REFUSED(rdaemon_listen(name, flags, must_not_visit, NULL), error);
    CHECK_REFUSED(rdaemon_listen_fd(name, flags), error);
    CHECK_STR(environment(), before);
}

int listen_fd_within(rlim_t most, const char *name, uint32_t flags) {
    struct rlimit before, limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    if (most)
        limit.rlim_cur = most;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int result = QUIET(rdaemon_listen_fd(name, flags));
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    return result;
}

HELPER(inherits_nothing) {
    CHECK_STR(open_fds(0), "0 1 2");
    environment_is_consumed();
    return 0;
}

void starts_a_program(const struct rdaemon_socket *socket) {
    (void)socket;
    IN_CHILD {
        EXEC_HELPER(inherits_nothing);
    }
}

/* ---- what else is there ---- */

const char *environment(void) {
    static char texts[2][32 * 1024];
    static int turn;
    char *text = texts[turn = !turn];
    size_t length = 0;
    text[0] = '\0';
    for (char **variable = environ; variable && *variable; variable++) {
        length += (size_t)snprintf(text + length, sizeof texts[0] - length, "%s\n", *variable);
        CHECK(length < sizeof texts[0]);
    }
    return text;
}

const char *fds_from_3(void) {
    static char texts[2][8 * 1024];
    static int turn;
    char *text = texts[turn = !turn];
    size_t length = 0;
    text[0] = '\0';
    for (int fd = 3; fd < 1024; fd++)
        if (fd_is_open(fd))
            length += (size_t)snprintf(text + length, sizeof texts[0] - length, "%d %s %o\n", fd,
                                       fd_target(0, fd), (unsigned)fcntl(fd, F_GETFL));
    CHECK(length < sizeof texts[0]);
    return text;
}

bool are_cloexec(int first, int count) {
    for (int fd = first; fd < first + count; fd++)
        if (!fd_is_open(fd) || !fd_is_cloexec(fd))
            return false;
    return true;
}

static void passes(int from, int to) {
    char byte = 0;
    CHECK_INT(send(from, "x", 1, MSG_NOSIGNAL), 1);
    CHECK_INT(recv(to, &byte, 1, 0), 1);
    CHECK_INT(byte, 'x');
}

void serves(int listening) {
    int client = connected_to(listening);
    int connection = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    CHECK(connection >= 0);
    passes(client, connection);
    close(connection);
    close(client);
}

void reaches_peer(int connection) {
    passes(connection, PEER);
}
