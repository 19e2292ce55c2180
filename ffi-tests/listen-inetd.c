/* The socket that inetd hands over: standard input, of a process that the test has given it to. */
#include <stdio.h>
#include <sys/socket.h>

#include "listening.h"
#include "probe.h"
#include "rdaemon.h"
#include "tap.h"

static void streams_are_dev_null(void) {
    for (int fd = 0; fd < 3; fd++) {
        CHECK_STR(fd_target(0, fd), "/dev/null");
        CHECK(!fd_is_cloexec(fd));
    }
    char byte;
    CHECK_INT(read(0, &byte, 1), 0);
    CHECK_INT(write(1, "x", 1), 1);
    CHECK_INT(write(2, "x", 1), 1);
}

static void each_leaves_the_streams(const struct kind *kind) {
    for (; kind->make; kind++)
        IN_CHILD {
            char socket[64], told[64];
            be_started_by_inetd(kind->make());
            snprintf(socket, sizeof socket, "%s", fd_target(0, 0));
            snprintf(told, sizeof told, "3 web inetd %s", kind->is);
            are_visited("web", RDAEMON_LISTEN_INETD, 1, told);
            CHECK_STR(fd_target(0, 3), socket);
            streams_are_dev_null();
            CHECK(!fd_is_open(4));
        }
}

TEST(the_socket_of_inetd_leaves_the_standard_streams) {
    each_leaves_the_streams(kinds_of_sockets);
}

TEST(the_socket_of_inetd_leaves_the_standard_streams_with_inet6) {
    each_leaves_the_streams(kinds_of_inet6);
}

TEST(listen_fd_takes_the_socket_of_inetd) {
    be_started_by_inetd(unix_connection(SOCK_STREAM));
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, RDAEMON_LISTEN_INETD)), 3);
    CHECK(are_cloexec(3, 1));
    reaches_peer(3);
    streams_are_dev_null();
}

TEST(a_listener_of_inetd_serves) {
    be_started_by_inetd(inet_listener(AF_INET));
    CHECK_INT(QUIET(rdaemon_listen_fd("web", RDAEMON_LISTEN_INETD)), 3);
    serves(3);
}

TEST(the_socket_of_inetd_needs_the_flag) {
    be_started_by_inetd(unix_connection(SOCK_STREAM));
    is_refused(NULL, 0, -ESRCH);
}

TEST(the_socket_of_inetd_is_had_once) {
    be_started_by_inetd(unix_listener(SOCK_STREAM));
    CHECK_INT(QUIET(rdaemon_listen_fd("web", RDAEMON_LISTEN_INETD)), 3);
    is_refused("web", RDAEMON_LISTEN_INETD, -EALREADY);
    is_refused("web", 0, -EALREADY);
    IN_CHILD {
        is_refused(NULL, 0, -ESRCH);
        is_refused(NULL, RDAEMON_LISTEN_INETD, -ENOTSOCK);
    }
}

TEST(a_set_uid_program_may_be_started_by_inetd) {
    REQUIRE_ROOT();
    be_started_by_inetd(unix_listener(SOCK_STREAM));
    CHECK_INT(setresuid(1000, 0, 0), 0);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, RDAEMON_LISTEN_INETD)), 3);
    serves(3);
}

TEST(programs_do_not_inherit_the_socket_of_inetd) {
    struct visits visits = {.look = starts_a_program};
    be_started_by_inetd(unix_listener(SOCK_STREAM));
    CHECK_INT(visit_all(&visits, "web", RDAEMON_LISTEN_INETD), 1);
}

TEST(a_visitor_may_refuse_the_socket_of_inetd) {
    struct visits visits = {.refuse_at = 1, .answer = -EPERM};
    be_started_by_inetd(unix_listener(SOCK_STREAM));
    CHECK_INT(visit_all(&visits, "web", RDAEMON_LISTEN_INETD), -EPERM);
    serves(3);
    is_refused("web", RDAEMON_LISTEN_INETD, -EALREADY);
}

TEST(a_standard_input_that_is_no_socket_is_refused) {
    forget_managers();
    is_refused(NULL, RDAEMON_LISTEN_INETD, -ENOTSOCK);
    for (const struct kind *kind = kinds_of_files; kind->make; kind++) {
        int fd = kind->make();
        CHECK_INT(dup2(fd, 0), 0);
        close(fd);
        is_refused(NULL, RDAEMON_LISTEN_INETD, -ENOTSOCK);
    }
    close(0);
    is_refused(NULL, RDAEMON_LISTEN_INETD, -EBADF);
}

TEST(output_and_error_that_are_closed_become_dev_null_too) {
    for (int still_open = 1; still_open < 4; still_open++)
        IN_CHILD {
            be_started_by_inetd(unix_connection(SOCK_STREAM));
            close(1);
            close(2);
            if (still_open < 3)
                CHECK_INT(dup2(0, still_open), still_open);
            CHECK_INT(QUIET(rdaemon_listen_fd(NULL, RDAEMON_LISTEN_INETD)), 3);
            streams_are_dev_null();
            reaches_peer(3);
            close(peer());
            CHECK_STR(open_fds(0), "0 1 2 3");
        }
}

TEST(the_socket_of_inetd_without_an_fd_to_spare_changes_nothing) {
    static struct snapshot before;
    be_started_by_inetd(unix_connection(SOCK_STREAM));
    snapshot_take(&before);
    for (rlim_t most = 3; most < 5; most++) {
        CHECK_INT(listen_fd_within(most, NULL, RDAEMON_LISTEN_INETD), -EMFILE);
        CHECK(snapshot_same(&before));
    }
    CHECK_INT(listen_fd_within(0, NULL, RDAEMON_LISTEN_INETD), 3);
}

TEST(what_systemd_offers_comes_before_the_socket_of_inetd) {
    be_started_by_inetd(unix_connection(SOCK_STREAM));
    char socket[64];
    snprintf(socket, sizeof socket, "%s", fd_target(0, 0));
    offer_listeners(1, "web");
    are_visited("web", RDAEMON_LISTEN_INETD, 1, "3 web systemd listener UNIX STREAM");
    CHECK_STR(fd_target(0, 0), socket);
}

TEST(inetd_may_itself_be_started_by_systemd) {
    be_started_by_inetd(unix_connection(SOCK_STREAM));
    set_number("LISTEN_PID", (unsigned)getppid());
    set_number("LISTEN_FDS", 1);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, RDAEMON_LISTEN_INETD)), 3);
}
