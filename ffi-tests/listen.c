/* Sockets that systemd has handed over, as a process gets them that the test has given them to:
 * kinds, names, visits, the environment, and refusals. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "listening.h"
#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

static void set(const char *name, const char *value) {
    CHECK_INT(setenv(name, value, 1), 0);
}

/* ---- kinds ---- */

static void each_is_told(const struct kind *some) {
    char text[1024] = "";
    int count = 0;
    for (; some[count].make; count++) {
        size_t length = strlen(text);
        CHECK_INT(some[count].make(), 3 + count);
        snprintf(text + length, sizeof text - length, "%s%d unknown systemd %s", count ? ", " : "",
                 3 + count, some[count].is);
    }
    offer(count, NULL);
    const char *fds = fds_from_3();
    are_visited(NULL, 0, count, text);
    CHECK_STR(fds_from_3(), fds);
    CHECK(are_cloexec(3, count));
}

TEST(kind_family_and_type_of_sockets_are_told) {
    each_is_told(kinds_of_sockets);
}

TEST(kind_family_and_type_of_sockets_of_inet6_are_told) {
    each_is_told(kinds_of_inet6);
}

TEST(what_is_no_socket_is_other_without_family_and_type) {
    each_is_told(kinds_of_files);
}

/* What is no socket is an error, but collected. */
static void is_taken_or_not(const struct kind *kind, int result) {
    for (; kind->make; kind++)
        IN_CHILD {
            CHECK_INT(kind->make(), 3);
            offer(1, NULL);
            CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), result);
            CHECK(are_cloexec(3, 1));
            environment_is_consumed();
        }
}

TEST(listen_fd_takes_a_socket_of_any_kind_and_nothing_else) {
    is_taken_or_not(kinds_of_sockets, 3);
    is_taken_or_not(kinds_of_files, -ENOTSOCK);
}

TEST(what_was_collected_works) {
    CHECK_INT(unix_connection(SOCK_STREAM), 3);
    CHECK_INT(unix_listener(SOCK_SEQPACKET), 4);
    CHECK_INT(inet_listener(AF_INET), 5);
    offer(3, NULL);
    struct visits visits = {0};
    CHECK_INT(visit_all(&visits, NULL, 0), 3);
    reaches_peer(visits.fds[0]);
    serves(visits.fds[1]);
    serves(visits.fds[2]);
}

/* ---- names ---- */

TEST(names_may_be_empty_and_repeat) {
    offer_listeners(5, "web::admin:web:");
    are_visited(NULL, 0, 5,
                "3 web systemd listener UNIX STREAM, 4  systemd listener UNIX STREAM, "
                "5 admin systemd listener UNIX STREAM, 6 web systemd listener UNIX STREAM, "
                "7  systemd listener UNIX STREAM");
}

TEST(all_of_a_name_are_visited_and_no_other) {
    offer_listeners(4, "web:webs:we:web");
    are_visited("web", 0, 2,
                "3 web systemd listener UNIX STREAM, 6 web systemd listener UNIX STREAM");
    CHECK(are_cloexec(3, 4));
    environment_is_consumed();
    is_refused("webs", 0, -EALREADY);
}

TEST(the_empty_name_is_a_name) {
    offer_listeners(3, "web::");
    are_visited("", 0, 2, "4  systemd listener UNIX STREAM, 5  systemd listener UNIX STREAM");
}

TEST(one_empty_name_is_a_name) {
    offer_listeners(1, "");
    are_visited(NULL, 0, 1, "3  systemd listener UNIX STREAM");
}

TEST(without_names_all_are_unknown) {
    offer_listeners(2, NULL);
    are_visited("unknown", 0, 2,
                "3 unknown systemd listener UNIX STREAM, 4 unknown systemd listener UNIX STREAM");
}

TEST(a_name_may_be_as_long_as_systemd_allows) {
    char names[256], told[320];
    memset(names, 'n', sizeof names - 1);
    names[255] = '\0';
    offer_listeners(1, names);
    snprintf(told, sizeof told, "3 %s systemd listener UNIX STREAM", names);
    are_visited(names, 0, 1, told);
}

TEST(a_longer_name_is_refused) {
    char names[600];
    memset(names, 'n', sizeof names);
    names[256] = '\0';
    offer_listeners(1, names);
    is_refused(NULL, 0, -EBADMSG);
}

TEST(more_or_fewer_names_than_fds_are_refused) {
    const char *const names[] = {"", "web", "web:", ":::", "web:admin:more:"};
    make_listeners(3);
    for (size_t i = 0; i < LENGTH(names); i++) {
        offer(3, names[i]);
        is_refused(NULL, 0, -EBADMSG);
    }
    offer(3, "web:admin:more");
    CHECK_INT(QUIET(rdaemon_listen_fd("more", 0)), 5);
}

TEST(a_name_that_none_has_collects_all_the_same) {
    for (int one = 0; one < 2; one++)
        IN_CHILD {
            struct visits visits = {0};
            offer_listeners(2, "web:admin");
            const char *fds = fds_from_3();
            CHECK_INT(one ? QUIET(rdaemon_listen_fd("Web", 0)) : visit_all(&visits, "Web", 0),
                      -ENOENT);
            CHECK_INT(visits.count, 0);
            CHECK_STR(fds_from_3(), fds);
            CHECK(are_cloexec(3, 2));
            environment_is_consumed();
            is_refused("web", 0, -EALREADY);
        }
}

TEST(listen_fd_takes_the_one_of_a_name) {
    offer_listeners(3, "web:admin:web");
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 4);
    CHECK(are_cloexec(3, 3));
    environment_is_consumed();
}

TEST(listen_fd_refuses_to_choose_but_collects) {
    const char *const names[] = {NULL, "web"};
    for (size_t i = 0; i < LENGTH(names); i++)
        IN_CHILD {
            offer_listeners(3, "web:admin:web");
            CHECK_INT(QUIET(rdaemon_listen_fd(names[i], 0)), -E2BIG);
            CHECK(are_cloexec(3, 3));
            environment_is_consumed();
            is_refused("admin", 0, -EALREADY);
        }
}

static int has_its_name(void *context, const struct rdaemon_socket *socket) {
    int *visits = context;
    char name[16];
    snprintf(name, sizeof name, "socket%d", *visits);
    CHECK_STR(socket->name, name);
    CHECK_INT(socket->fd, 3 + (*visits)++);
    return 0;
}

TEST(there_may_be_hundreds) {
    enum { HUNDREDS = 500 };
    char names[HUNDREDS * 12];
    int visits = 0;
    make_listeners(1);
    for (int i = 0, length = 0; i < HUNDREDS; i++) {
        length += sprintf(names + length, i ? ":socket%d" : "socket%d", i);
        CHECK_INT(dup2(3, 3 + i), 3 + i);
    }
    offer(HUNDREDS, names);
    CHECK_INT(QUIET(rdaemon_listen(NULL, 0, has_its_name, &visits)), HUNDREDS);
    CHECK_INT(visits, HUNDREDS);
    CHECK(are_cloexec(3, HUNDREDS));
}

/* ---- the visits ---- */

static int last_offered;

/* Environment and CLOEXEC are as they are to be for good already at the first visit. */
static void finds_all_collected(const struct rdaemon_socket *socket) {
    (void)socket;
    CHECK(are_cloexec(3, last_offered - 2));
    environment_is_consumed();
}

TEST(all_are_collected_before_the_first_visit) {
    struct visits visits = {.look = finds_all_collected};
    last_offered = 5;
    offer_listeners(3, "web:admin:web");
    CHECK_INT(visit_all(&visits, "admin", 0), 1);
}

TEST(all_are_collected_before_the_first_visit_without_names) {
    struct visits visits = {.look = finds_all_collected};
    last_offered = 5;
    offer_listeners(3, NULL);
    CHECK_INT(visit_all(&visits, NULL, 0), 3);
}

TEST(programs_that_are_started_afterwards_inherit_nothing) {
    struct visits visits = {0};
    offer_listeners(3, NULL);
    set("LISTEN_FDNAMES", "a:b:c");
    CHECK_INT(visit_all(&visits, "b", 0), 1);
    starts_a_program(NULL);
}

TEST(programs_that_the_visitor_starts_inherit_nothing) {
    struct visits visits = {.look = starts_a_program};
    offer_listeners(3, "web:admin:more");
    CHECK_INT(visit_all(&visits, NULL, 0), 3);
}

TEST(nothing_else_is_taken_out_of_the_environment) {
    make_listeners(1);
    forget_managers();
    set("LISTEN", "1");
    set("LISTEN_FD", "2");
    set("LISTEN_FDS_NOT", "3");
    char before[32 * 1024];
    snprintf(before, sizeof before, "%s", environment());
    set_number("LISTEN_PID", (unsigned)getpid());
    set("LISTEN_FDS", "1");
    set("LISTEN_FDNAMES", "web");
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
    CHECK_STR(environment(), before);
}

static void changes_the_environment(const struct rdaemon_socket *socket) {
    (void)socket;
    set("LISTEN_FDNAMES", "other");
    set("LISTEN_FDS", "7");
}

TEST(a_visitor_that_changes_the_environment_changes_no_name) {
    struct visits visits = {.look = changes_the_environment};
    offer_listeners(2, "web:admin");
    CHECK_INT(visit_all(&visits, NULL, 0), 2);
    CHECK_STR(visits.text,
              "3 web systemd listener UNIX STREAM, 4 admin systemd listener UNIX STREAM");
}

TEST(a_result_of_the_visitor_ends_the_visits_and_is_returned) {
    const int answers[] = {-EPERM, -1, INT_MIN, 1, 77, INT_MAX};
    for (size_t i = 0; i < LENGTH(answers); i++)
        IN_CHILD {
            struct visits visits = {.refuse_at = 2, .answer = answers[i]};
            offer_listeners(4, "a:b:c:d");
            const char *fds = fds_from_3();
            CHECK_INT(visit_all(&visits, NULL, 0), answers[i]);
            CHECK_STR(visits.text,
                      "3 a systemd listener UNIX STREAM, 4 b systemd listener UNIX STREAM");
            CHECK_STR(fds_from_3(), fds);
            CHECK(are_cloexec(3, 4));
            serves(6);
            environment_is_consumed();
            is_refused(NULL, 0, -EALREADY);
        }
}

static void collects_again(const struct rdaemon_socket *socket) {
    (void)socket;
    is_refused(NULL, 0, -EALREADY);
    is_refused(NULL, RDAEMON_LISTEN_INETD, -EALREADY);
}

TEST(a_visitor_finds_them_collected) {
    struct visits visits = {.look = collects_again};
    offer_listeners(2, NULL);
    CHECK_INT(visit_all(&visits, NULL, 0), 2);
}

static void closes_it(const struct rdaemon_socket *socket) {
    CHECK_INT(close(socket->fd), 0);
}

TEST(a_visitor_may_close_what_it_does_not_want) {
    struct visits visits = {.look = closes_it};
    offer_listeners(3, NULL);
    CHECK_INT(visit_all(&visits, NULL, 0), 3);
    CHECK_STR(fds_from_3(), "");
}

TEST(fds_beyond_those_that_are_counted_are_left_alone) {
    offer_listeners(4, NULL);
    set("LISTEN_FDS", "2");
    const char *fds = fds_from_3();
    CHECK_INT(fcntl(0, F_SETFD, 0), 0);
    are_visited(NULL, 0, 2,
                "3 unknown systemd listener UNIX STREAM, 4 unknown systemd listener UNIX STREAM");
    CHECK_STR(fds_from_3(), fds);
    for (int fd = 0; fd < 7; fd++)
        CHECK_INT(fd_is_cloexec(fd), fd == 3 || fd == 4);
}

TEST(fds_that_are_cloexec_already_stay_so) {
    offer_listeners(2, NULL);
    CHECK_INT(fcntl(4, F_SETFD, FD_CLOEXEC), 0);
    struct visits visits = {0};
    CHECK_INT(visit_all(&visits, NULL, 0), 2);
    CHECK(are_cloexec(3, 2));
}

/* ---- once ---- */

TEST(the_second_time_they_are_collected_already) {
    offer_listeners(2, "web:admin");
    CHECK_INT(QUIET(rdaemon_listen_fd("web", 0)), 3);
    is_refused("web", 0, -EALREADY);
    is_refused("admin", 0, -EALREADY);
    is_refused(NULL, RDAEMON_LISTEN_INETD, -EALREADY);
}

TEST(also_when_the_environment_says_so_anew) {
    offer_listeners(1, NULL);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
    offer(1, NULL);
    is_refused(NULL, 0, -EALREADY);
}

TEST(a_forked_child_was_handed_nothing) {
    offer_listeners(1, NULL);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
    IN_CHILD {
        is_refused(NULL, 0, -ESRCH);
        IN_CHILD {
            is_refused(NULL, 0, -ESRCH);
        }
    }
}

TEST(a_child_that_is_forked_before_was_handed_nothing) {
    offer_listeners(1, NULL);
    IN_CHILD {
        is_refused(NULL, 0, -ESRCH);
    }
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
}

TEST(a_forked_child_may_be_handed_some_itself) {
    offer_listeners(2, NULL);
    CHECK_INT(QUIET(rdaemon_listen_fd("none", 0)), -ENOENT);
    IN_CHILD {
        offer(2, "web:admin");
        CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 4);
        is_refused(NULL, 0, -EALREADY);
    }
}

HELPER(collects_as_a_program) {
    struct visits visits = {0};
    CHECK_INT(visit_all(&visits, NULL, 0), 2);
    CHECK_STR(visits.text, arguments[0]);
    environment_is_consumed();
    CHECK(are_cloexec(3, 2));
    is_refused(NULL, 0, -EALREADY);
    starts_a_program(NULL);
    return 0;
}

TEST(a_program_finds_what_its_process_was_given_before_it_was_executed) {
    offer_listeners(2, "web:admin");
    IN_CHILD {
        set_number("LISTEN_PID", (unsigned)getpid());
        EXEC_HELPER(collects_as_a_program, "3 web systemd listener UNIX STREAM, "
                                           "4 admin systemd listener UNIX STREAM");
    }
}

HELPER(was_given_nothing) {
    is_refused(NULL, 0, -ESRCH);
    return 0;
}

TEST(a_program_that_another_one_starts_was_given_nothing) {
    offer_listeners(2, "web:admin");
    IN_CHILD {
        EXEC_HELPER(was_given_nothing);
    }
}

/* ---- no manager, or one that speaks to somebody else ---- */

TEST(without_a_manager_there_is_nothing) {
    make_listeners(1);
    forget_managers();
    is_refused(NULL, 0, -ESRCH);
    is_refused("web", 0, -ESRCH);
    clearenv();
    is_refused(NULL, 0, -ESRCH);
}

TEST(a_pid_or_a_number_alone_is_nothing) {
    offer_listeners(1, "web");
    unsetenv("LISTEN_FDS");
    is_refused(NULL, 0, -ESRCH);
    offer(1, "web");
    unsetenv("LISTEN_PID");
    is_refused(NULL, 0, -ESRCH);
}

TEST(a_socket_on_standard_input_alone_is_nothing) {
    CHECK_INT(dup2(unix_listener(SOCK_STREAM), 0), 0);
    forget_managers();
    is_refused(NULL, 0, -ESRCH);
}

TEST(fds_for_another_process_are_not_ours) {
    const unsigned long long pids[] = {
        0, 1, (unsigned)getppid(), (unsigned)getpid() + (1ULL << 32), UINT32_MAX, UINT64_MAX};
    make_listeners(1);
    for (size_t i = 0; i < LENGTH(pids); i++) {
        offer(1, NULL);
        set_number("LISTEN_PID", pids[i]);
        is_refused(NULL, 0, -ESRCH);
    }
}

/* What is no number, or more than any has. %d is a number that would be right. */
static const char *const no_numbers[] = {"",
                                         "-1",
                                         "-%d",
                                         "+%d",
                                         " %d",
                                         "%d ",
                                         "%dx",
                                         "0x%x",
                                         "%d.",
                                         "%d\n",
                                         "%d:%d",
                                         "none",
                                         "\xff",
                                         "18446744073709551616",
                                         "99999999999999999999999"};

static void refuse_no_numbers(const char *variable, int right) {
    for (size_t i = 0; i < LENGTH(no_numbers); i++) {
        char text[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, no_numbers[i], right, right);
#pragma GCC diagnostic pop
        set(variable, text);
        is_refused(NULL, 0, -EINVAL);
    }
}

TEST(a_listen_pid_that_is_no_number_is_refused) {
    offer_listeners(1, NULL);
    refuse_no_numbers("LISTEN_PID", (int)getpid());
}

TEST(a_listen_fds_that_is_no_number_is_refused) {
    offer_listeners(1, NULL);
    refuse_no_numbers("LISTEN_FDS", 1);
}

TEST(a_listen_fds_that_counts_none_or_more_than_there_can_be_is_refused) {
    const unsigned long long numbers[] = {
        0,          INT_MAX - 2ULL,   INT_MAX,   INT_MAX + 1ULL, UINT32_MAX,
        1ULL << 32, (1ULL << 32) + 1, INT64_MAX, UINT64_MAX};
    make_listeners(1);
    for (size_t i = 0; i < LENGTH(numbers); i++) {
        offer(1, NULL);
        set_number("LISTEN_FDS", numbers[i]);
        is_refused(NULL, 0, -EINVAL);
    }
}

TEST(fds_that_are_not_open_are_refused) {
    const unsigned long long numbers[] = {3, 4, 1000, 1 << 20, INT_MAX - 4ULL};
    make_listeners(2);
    for (size_t i = 0; i < LENGTH(numbers); i++) {
        offer(2, NULL);
        set_number("LISTEN_FDS", numbers[i]);
        is_refused(NULL, 0, -EBADF);
    }
    offer(2, NULL);
    close(3);
    is_refused(NULL, 0, -EBADF);
    CHECK_INT(dup2(4, 3), 3);
    CHECK_INT(QUIET(rdaemon_listen_fd("none", 0)), -ENOENT);
}

TEST(the_environment_of_a_set_uid_program_is_not_believed) {
    REQUIRE_ROOT();
    for (int group = 0; group < 2; group++)
        IN_CHILD {
            offer_listeners(1, "web");
            CHECK_INT(group ? setresgid(1000, 0, 0) : setresuid(1000, 0, 0), 0);
            is_refused(NULL, 0, -ESRCH);
        }
}

/* ---- LISTEN_PIDFDID ---- */

TEST(the_inode_of_the_own_pidfd_is_consumed_too) {
    offer_listeners(1, "web");
    set_number("LISTEN_PIDFDID", own_pidfd_inode());
    are_visited(NULL, 0, 1, "3 web systemd listener UNIX STREAM");
    environment_is_consumed();
}

TEST(the_inode_of_another_pidfd_means_another_process) {
    offer_listeners(1, NULL);
    unsigned long long inode = own_pidfd_inode();
    const unsigned long long inodes[] = {inode + 1, inode - 1, 0, 1, UINT64_MAX};
    for (size_t i = 0; i < LENGTH(inodes); i++) {
        set_number("LISTEN_PIDFDID", inodes[i]);
        is_refused(NULL, 0, -ESRCH);
    }
}

TEST(an_inode_that_is_no_number_is_refused) {
    offer_listeners(1, NULL);
    refuse_no_numbers("LISTEN_PIDFDID", (int)own_pidfd_inode());
}

TEST(without_pidfds_the_pid_must_do) {
    offer_listeners(1, NULL);
    set("LISTEN_PIDFDID", "1");
    deny_syscall(SYS_pidfd_open, ENOSYS);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
    environment_is_consumed();
}

/* ---- no fd to spare ---- */

TEST(collecting_needs_no_fd_to_spare) {
    offer_listeners(2, "web:admin");
    CHECK_INT(listen_fd_within(5, "admin", 0), 4);
    CHECK(are_cloexec(3, 2));
}

TEST(without_an_fd_to_spare_another_process_is_still_another) {
    static struct snapshot before;
    offer_listeners(1, NULL);
    set_number("LISTEN_PIDFDID", own_pidfd_inode() + 1);
    const char *variables = environment();
    snapshot_take(&before);
    CHECK(listen_fd_within(4, NULL, 0) < 0);
    CHECK(snapshot_same(&before));
    CHECK_STR(environment(), variables);
}

TEST(standard_streams_that_are_closed_stay_closed) {
    static const char *const open_then[] = {"3 4",   "0 3 4",   "1 3 4",   "0 1 3 4",
                                            "2 3 4", "0 2 3 4", "1 2 3 4", "0 1 2 3 4"};
    for (int open = 0; open < 8; open++)
        IN_CHILD {
            offer_listeners(2, "web:admin");
            set_number("LISTEN_PIDFDID", own_pidfd_inode());
            for (int fd = 0; fd < 3; fd++)
                if (!(open >> fd & 1))
                    close(fd);
            CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 4);
            CHECK_STR(open_fds(0), open_then[open]);
        }
}

/* ---- arguments ---- */

TEST(a_visitor_is_needed) {
    offer_listeners(1, NULL);
    const char *variables = environment();
    CHECK_REFUSED(rdaemon_listen(NULL, 0, NULL, NULL), -EINVAL);
    CHECK_REFUSED(rdaemon_listen("web", RDAEMON_LISTEN_INETD, NULL, NULL), -EINVAL);
    CHECK_STR(environment(), variables);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
}

TEST(unknown_flags_are_refused) {
    offer_listeners(1, NULL);
    for (uint32_t flag = RDAEMON_LISTEN_INETD * 2U; flag; flag <<= 1) {
        is_refused(NULL, flag, -EINVAL);
        is_refused(NULL, flag | RDAEMON_LISTEN_INETD, -EINVAL);
    }
}

TEST(an_over_long_name_is_refused) {
    static char name[4097];
    memset(name, 'n', sizeof name - 1);
    offer_listeners(1, NULL);
    is_refused(name, 0, -ENAMETOOLONG);
    name[4095] = '\0';
    CHECK_INT(QUIET(rdaemon_listen_fd(name, 0)), -ENOENT);
}
