/* Sockets from managers as they are: systemd-socket-activate, inetd of OpenBSD, and the servers of
 * s6. Each starts a program that collects, daemonizes, and tells its client what it was given. */
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "listening.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

enum { PORT = 7001 };

/* ---- the program that is started ---- */

/* Waits for a client, and answers with what is needed to reply to it. */
static int client_of(const struct visits *visits, struct sockaddr_un *address, socklen_t *length) {
    struct pollfd polled[16];
    int served = -1, type, listens = 0;
    for (int i = 0; i < visits->count; i++)
        polled[i] = (struct pollfd){.fd = visits->fds[i], .events = POLLIN};
    CHECK(poll(polled, (nfds_t)visits->count, -1) > 0);
    for (int i = 0; i < visits->count; i++)
        if (polled[i].revents)
            served = visits->fds[i];
    CHECK_INT(getsockopt(served, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof type}), 0);
    getsockopt(served, SOL_SOCKET, SO_ACCEPTCONN, &listens, &(socklen_t){sizeof listens});
    if (listens)
        served = accept4(served, NULL, NULL, SOCK_CLOEXEC);
    char byte;
    *length = sizeof *address;
    CHECK_INT(recvfrom(served, &byte, 1, 0, (struct sockaddr *)address, length), 1);
    if (type != SOCK_DGRAM)
        *length = 0;
    return served;
}

/* Arguments: flags, and the name, or none for all. */
HELPER(server) {
    struct visits visits = {0};
    struct rdaemon_daemon daemon;
    CHECK(visit_all(&visits, arguments[1], (uint32_t)atoi(arguments[0])) > 0);
    CHECK(!strstr(environment(), "LISTEN_"));

    struct rdaemon_config config = {.files_preserve = (int32_t *)visits.fds,
                                    .files_preserve_len = (size_t)visits.count};
    CHECK_INT(rdaemon_daemonize(RDAEMON_SIZED(&config), RDAEMON_SIZED(&daemon), NULL, 0), 0);
    CHECK_INT(daemon.detached, 0);

    char reply[8192];
    struct sockaddr_un address;
    socklen_t length;
    int client = client_of(&visits, &address, &length);
    int size =
        snprintf(reply, sizeof reply, "%d %d %s", (int)getpid(), (int)getppid(), visits.text);
    CHECK_INT(sendto(client, reply, (size_t)size, MSG_NOSIGNAL,
                     length ? (struct sockaddr *)&address : NULL, length),
              size);
    return 0;
}

/* ---- managers ---- */

static const char *installed(const char *name) {
    static const char *const directories[] = {"/usr/bin", "/usr/sbin",      "/bin",
                                              "/sbin",    "/usr/local/bin", "/usr/local/sbin"};
    static char path[PATH_MAX];
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(path, sizeof path, "%s/%s", directories[i], name);
        if (access(path, X_OK) == 0)
            return path;
    }
    SKIP("there is no %s here", name);
}

static const char *this_program(void) {
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    CHECK(length > 0);
    path[length] = '\0';
    return path;
}

static pid_t start_manager(const char *name, const char *const *arguments) {
    const char *path = installed(name);
    forget_managers();
    CHECK_INT(setenv("SYSTEMD_LOG_LEVEL", "err", 1), 0); /* it tells much */
    pid_t pid = fork_child();
    if (pid == 0) {
        execv(path, (char *const *)arguments);
        FAIL("%s: %s", path, strerror(errno));
    }
    return pid;
}
/* The words of a manager's command line; what it starts is SERVER, with a flag and a name. */
#define MANAGER(name, ...) start_manager(name, (const char *[]){name, __VA_ARGS__, NULL})
#define SERVER(flags, ...) this_program(), "--helper", "server", flags, ##__VA_ARGS__

/* Ends the manager, which starts processes: they must have ended well. */
static void end_manager(pid_t manager) {
    int status;
    kill(manager, SIGKILL);
    CHECK_INT(wait_for_exit(manager), SIGKILL);
    for (pid_t pid; (pid = waitpid(-1, &status, 0)) > 0;)
        CHECK_INT(status, 0);
}

/* Ports, abstract names and /run of the case's own. */
static void have_own_network(void) {
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    enter_mount_namespace();
    if (unshare(CLONE_NEWNET) != 0)
        SKIP("needs a network namespace: %s", strerror(errno));
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_INT(ioctl(fd, SIOCSIFFLAGS, &loopback), 0);
    close(fd);
    mount_tmpfs("/run", "size=65536");
}

/* ---- clients ---- */

struct client {
    int type;
    union {
        struct sockaddr any;
        struct sockaddr_un of_unix;
        struct sockaddr_in inet;
        struct sockaddr_in6 inet6;
    } address;
    socklen_t length;
};

/* "@name" is abstract. */
static struct client of_unix(int type, const char *name) {
    struct client client = {.type = type, .address.of_unix.sun_family = AF_UNIX};
    char *path = client.address.of_unix.sun_path;
    snprintf(path, sizeof client.address.of_unix.sun_path, "%s", name);
    client.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (path[0] == '@')
        path[0] = '\0';
    return client;
}

static struct client of_inet(int type) {
    return (struct client){.type = type,
                           .address.inet = {.sin_family = AF_INET,
                                            .sin_port = htons(PORT),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                           .length = sizeof(struct sockaddr_in)};
}

static struct client of_inet6(int type) {
    return (struct client){.type = type,
                           .address.inet6 = {.sin6_family = AF_INET6,
                                             .sin6_port = htons(PORT),
                                             .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                           .length = sizeof(struct sockaddr_in6)};
}

/* Connects as soon as the manager is there; so the server can answer a datagram, too. */
static int connected(pid_t manager, const struct client *client) {
    sa_family_t family = client->address.any.sa_family;
    int fd = socket(family, client->type | SOCK_CLOEXEC, 0);
    if (family == AF_UNIX)
        CHECK_INT(bind(fd, &(struct sockaddr){.sa_family = AF_UNIX}, sizeof(sa_family_t)), 0);
    while (connect(fd, &client->address.any, client->length) != 0) {
        CHECK(errno == ENOENT || errno == ECONNREFUSED || errno == EADDRNOTAVAIL);
        CHECK(process_state(manager) != 'Z');
        sched_yield();
    }
    return fd;
}

struct answer {
    int pid, parent;
    char visits[4096];
};

/* Says a word to the server, and takes all that it answers. */
static struct answer ask(pid_t manager, struct client client) {
    struct answer answer = {0};
    char reply[8192];
    size_t length = 0;
    int fd = connected(manager, &client);
    CHECK_INT(send(fd, "?", 1, MSG_NOSIGNAL), 1);
    for (ssize_t got = 1; got > 0; length += (size_t)got) {
        got = recv(fd, reply + length, sizeof reply - 1 - length, 0);
        CHECK(got >= 0);
        if (client.type == SOCK_DGRAM) {
            length = (size_t)got;
            break;
        }
    }
    close(fd);
    reply[length] = '\0';
    if (sscanf(reply, "%d %d %4095[^\n]", &answer.pid, &answer.parent, answer.visits) != 3)
        FAIL("the server says: %s", reply);
    return answer;
}

/* The manager has become the server, which serves one client. */
static void became_server(pid_t manager, struct client client, const char *visits) {
    struct answer answer = ask(manager, client);
    CHECK_STR(answer.visits, visits);
    CHECK_INT(answer.pid, manager);
    CHECK_INT(wait_for_exit(manager), 0);
}

/* The manager starts a server for each client, and waits for its end. */
static void starts_servers(pid_t manager, struct client client, const char *visits) {
    int last = 0;
    for (int round = 0; round < 3; round++) {
        struct answer answer = ask(manager, client);
        CHECK_STR(answer.visits, visits);
        CHECK_INT(answer.parent, manager);
        CHECK(answer.pid != last);
        last = answer.pid;
    }
    end_manager(manager);
}

/* ---- systemd ---- */

#define ACTIVATE "systemd-socket-activate"

static void activates(struct client client, const char *kind_option, const char *address,
                      const char *visits) {
    pid_t manager = MANAGER(ACTIVATE, kind_option, "--listen", address, SERVER("0"));
    became_server(manager, client, visits);
}

TEST(systemd_hands_over_a_unix_socket) {
    const char *path = scratch_path("socket");
    pid_t manager = MANAGER(ACTIVATE, "-l", path, SERVER("0"));
    became_server(manager, of_unix(SOCK_STREAM, path), "3 unknown systemd listener UNIX STREAM");
    CHECK_STR(tree(scratch()), "socket"); /* it is the manager's to remove */
}

TEST(systemd_hands_over_an_abstract_socket) {
    have_own_network();
    pid_t manager = MANAGER(ACTIVATE, "-l", "@rdaemon-listen", SERVER("0"));
    became_server(manager, of_unix(SOCK_STREAM, "@rdaemon-listen"),
                  "3 unknown systemd listener UNIX STREAM");
}

TEST(systemd_hands_over_a_seqpacket_socket) {
    const char *path = scratch_path("socket");
    activates(of_unix(SOCK_SEQPACKET, path), "--seqpacket", path,
              "3 unknown systemd listener UNIX SEQPACKET");
}

TEST(systemd_hands_over_a_datagram_socket) {
    const char *path = scratch_path("socket");
    activates(of_unix(SOCK_DGRAM, path), "--datagram", path,
              "3 unknown systemd datagram UNIX DGRAM");
}

TEST(systemd_hands_over_a_tcp_socket) {
    have_own_network();
    activates(of_inet(SOCK_STREAM), "--setenv=A=b", "127.0.0.1:7001",
              "3 unknown systemd listener INET STREAM");
}

TEST(systemd_hands_over_a_tcp_socket_of_inet6) {
    have_own_network();
    if (access("/proc/net/if_inet6", F_OK) != 0)
        SKIP_PLATFORM("no such address family here");
    activates(of_inet6(SOCK_STREAM), "--setenv=A=b", "[::1]:7001",
              "3 unknown systemd listener INET6 STREAM");
}

TEST(systemd_hands_over_two_sockets_with_names) {
    const char *web = scratch_path("web"), *admin = scratch_path("admin");
    const char *const paths[] = {web, admin};
    for (int i = 0; i < 2; i++) {
        pid_t manager =
            MANAGER(ACTIVATE, "-l", web, "-l", admin, "--fdname=web:admin", SERVER("0"));
        became_server(manager, of_unix(SOCK_STREAM, paths[i]),
                      "3 web systemd listener UNIX STREAM, "
                      "4 admin systemd listener UNIX STREAM");
        CHECK_INT(unlink(web), 0);
        CHECK_INT(unlink(admin), 0);
    }
}

TEST(systemd_hands_over_a_socket_that_is_chosen_by_name) {
    const char *web = scratch_path("web"), *admin = scratch_path("admin");
    pid_t manager =
        MANAGER(ACTIVATE, "-l", web, "-l", admin, "--fdname=web:admin", SERVER("0", "admin"));
    became_server(manager, of_unix(SOCK_STREAM, admin), "4 admin systemd listener UNIX STREAM");
}

TEST(systemd_hands_over_connections) {
    const char *path = scratch_path("socket");
    pid_t manager = MANAGER(ACTIVATE, "--accept", "-l", path, SERVER("0"));
    starts_servers(manager, of_unix(SOCK_STREAM, path), "3 unknown systemd connection UNIX STREAM");
}

TEST(systemd_hands_over_a_socket_as_inetd_does) {
    const char *path = scratch_path("socket");
    pid_t manager = MANAGER(ACTIVATE, "--inetd", "-l", path, SERVER("1", "web"));
    became_server(manager, of_unix(SOCK_STREAM, path), "3 web inetd listener UNIX STREAM");
}

TEST(systemd_hands_over_connections_as_inetd_does) {
    const char *path = scratch_path("socket");
    pid_t manager = MANAGER(ACTIVATE, "--inetd", "--accept", "-l", path, SERVER("1", "web"));
    starts_servers(manager, of_unix(SOCK_STREAM, path), "3 web inetd connection UNIX STREAM");
}

/* ---- inetd ---- */

/* The service is all of a line but for the user, whom inetd must know, and the program. */
static pid_t start_inetd(const char *address, const char *service) {
    char line[PATH_MAX * 2];
    REQUIRE_ROOT();
    have_own_network();
    snprintf(line, sizeof line, "%s %s root %s server --helper server 1 web\n", address, service,
             this_program());
    return MANAGER("inetd", "-i", make_file("inetd.conf", line));
}

TEST(inetd_hands_over_connections) {
    pid_t manager = start_inetd("127.0.0.1:7001", "stream tcp nowait");
    starts_servers(manager, of_inet(SOCK_STREAM), "3 web inetd connection INET STREAM");
}

TEST(inetd_hands_over_unix_connections) {
    const char *path = scratch_path("socket");
    pid_t manager = start_inetd(path, "stream unix nowait");
    starts_servers(manager, of_unix(SOCK_STREAM, path), "3 web inetd connection UNIX STREAM");
}

TEST(inetd_hands_over_a_listener_and_waits) {
    pid_t manager = start_inetd("127.0.0.1:7001", "stream tcp wait");
    starts_servers(manager, of_inet(SOCK_STREAM), "3 web inetd listener INET STREAM");
}

TEST(inetd_hands_over_a_unix_listener_and_waits) {
    const char *path = scratch_path("socket");
    pid_t manager = start_inetd(path, "stream unix wait");
    starts_servers(manager, of_unix(SOCK_STREAM, path), "3 web inetd listener UNIX STREAM");
}

TEST(inetd_hands_over_a_datagram_socket_and_waits) {
    const char *path = scratch_path("socket");
    pid_t manager = start_inetd(path, "dgram unix wait");
    starts_servers(manager, of_unix(SOCK_DGRAM, path), "3 web inetd datagram UNIX DGRAM");
}

/* ---- s6 ---- */

TEST(s6_hands_over_connections) {
    const char *path = scratch_path("socket");
    pid_t manager = MANAGER("s6-ipcserver", "-q", path, SERVER("1", "web"));
    starts_servers(manager, of_unix(SOCK_STREAM, path), "3 web inetd connection UNIX STREAM");
}

TEST(s6_hands_over_a_listener) {
    const char *path = scratch_path("socket");
    pid_t manager = MANAGER("s6-ipcserver-socketbinder", "-B", path, SERVER("1", "web"));
    became_server(manager, of_unix(SOCK_STREAM, path), "3 web inetd listener UNIX STREAM");
}
