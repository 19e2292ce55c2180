/* What rdaemon_daemonize and rdaemon_started_by make of sockets that were handed over, before and
 * after they are collected. */
#include <fcntl.h>
#include <sys/socket.h>

#include "listening.h"
#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

/* ---- who started us, afterwards ---- */

static int conclusions(void) {
    return QUIET(rdaemon_started_by()) &
           (RDAEMON_STARTED_ACTIVATED | RDAEMON_STARTED_BY_MANAGER | RDAEMON_STARTED_LISTEN_PID);
}

TEST(who_has_collected_was_activated) {
    offer_listeners(1, NULL);
    CHECK_INT(conclusions(),
              RDAEMON_STARTED_ACTIVATED | RDAEMON_STARTED_BY_MANAGER | RDAEMON_STARTED_LISTEN_PID);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
    CHECK_INT(conclusions(), RDAEMON_STARTED_ACTIVATED | RDAEMON_STARTED_BY_MANAGER);
    IN_CHILD {
        CHECK_INT(conclusions(), 0);
    }
}

TEST(who_has_collected_from_inetd_was_activated) {
    be_started_by_inetd(unix_listener(SOCK_STREAM));
    CHECK_INT(conclusions(), 0);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, RDAEMON_LISTEN_INETD)), 3);
    CHECK_INT(conclusions(), RDAEMON_STARTED_ACTIVATED | RDAEMON_STARTED_BY_MANAGER);
}

TEST(who_was_refused_was_not_activated) {
    be_started_by_inetd(fifo());
    is_refused(NULL, RDAEMON_LISTEN_INETD, -ENOTSOCK);
    CHECK_INT(conclusions(), 0);
}

/* ---- daemonize, afterwards ---- */

static pid_t caller;
static const char *open_in_daemon;

static void lives_here(const struct start *start) {
    CHECK_INT(start->daemon.detached, 0);
    CHECK_INT(getpid(), caller);
    CHECK_STR(open_fds(0), open_in_daemon);
    serves(4);
}

static void lives_there(const struct start *start) {
    CHECK_INT(start->daemon.detached, 1);
    CHECK(getpid() != caller);
    CHECK_STR(open_fds(0), open_in_daemon);
    serves(4);
}

/* The daemon is this process, or, for lives_there, another one; it has these fds. */
static void daemonize(struct rdaemon_config config, void (*life)(const struct start *start),
                      const char *fds) {
    struct start started;
    caller = getpid();
    open_in_daemon = fds;
    if (life == lives_there) {
        run_daemon(&config, life);
    } else {
        start(&started, &config, life);
        CHECK_INT(started.result, 0);
    }
}

static const int32_t the_second = 4;
#define KEEP_THE_SECOND .files_preserve = &the_second, .files_preserve_len = 1

static void collect_two(void) {
    offer_listeners(3, "web:admin:web");
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 4);
}

TEST(after_collecting_auto_does_not_detach) {
    collect_two();
    daemonize((struct rdaemon_config){KEEP_THE_SECOND}, lives_here, "0 1 2 4");
    is_refused("web", 0, -EALREADY);
}

TEST(after_collecting_from_inetd_auto_does_not_detach) {
    be_started_by_inetd(unix_listener(SOCK_STREAM));
    CHECK_INT(open("/dev/null", O_RDONLY), 3);
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, RDAEMON_LISTEN_INETD)), 4);
    daemonize((struct rdaemon_config){KEEP_THE_SECOND}, lives_here, "0 1 2 4");
}

TEST(after_a_name_that_none_has_auto_does_not_detach) {
    offer_listeners(2, NULL);
    CHECK_INT(QUIET(rdaemon_listen_fd("web", 0)), -ENOENT);
    daemonize((struct rdaemon_config){KEEP_THE_SECOND}, lives_here, "0 1 2 4");
}

TEST(after_collecting_yes_is_refused) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_YES, KEEP_THE_SECOND};
    collect_two();
    start_badly(&config, RDAEMON_STEP_CONFIG, -EALREADY);
    serves(4);
}

TEST(after_collecting_from_inetd_yes_is_refused) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_YES};
    be_started_by_inetd(unix_listener(SOCK_STREAM));
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, RDAEMON_LISTEN_INETD)), 3);
    start_badly(&config, RDAEMON_STEP_CONFIG, -EALREADY);
}

TEST(after_collecting_yes_may_be_insisted_on) {
    collect_two();
    daemonize((struct rdaemon_config){.flags = RDAEMON_DETACH_ACTIVATED,
                                      .detach = RDAEMON_DETACH_YES,
                                      KEEP_THE_SECOND},
              lives_there, "0 1 2 4");
    serves(4);
}

static void was_handed_nothing(const struct start *start) {
    CHECK_INT(start->daemon.detached, 1);
    is_refused(NULL, 0, -ESRCH);
    CHECK_INT(conclusions(), 0);
}

TEST(a_daemon_that_detached_was_handed_nothing_itself) {
    struct rdaemon_config config = {.flags = RDAEMON_DETACH_ACTIVATED,
                                    .detach = RDAEMON_DETACH_YES};
    collect_two();
    run_daemon(&config, was_handed_nothing);
}

TEST(after_collecting_no_does_not_detach) {
    collect_two();
    daemonize((struct rdaemon_config){.detach = RDAEMON_DETACH_NO, KEEP_THE_SECOND}, lives_here,
              "0 1 2 4");
}

/* ---- fds that are not collected yet ---- */

TEST(without_the_flag_fds_that_are_not_collected_are_closed) {
    offer_listeners(3, NULL);
    daemonize((struct rdaemon_config){KEEP_THE_SECOND}, lives_here, "0 1 2 4");
    is_refused(NULL, 0, -EBADF);
}

TEST(with_the_flag_they_are_kept_and_collected_afterwards) {
    offer_listeners(3, "web:admin:web");
    CHECK_INT(dup2(3, 6), 6);
    CHECK_INT(dup2(3, 9), 9);
    int32_t ninth = 9;
    daemonize((struct rdaemon_config){.flags = RDAEMON_KEEP_LISTEN_FDS,
                                      .files_preserve = &ninth,
                                      .files_preserve_len = 1},
              lives_here, "0 1 2 3 4 5 9");
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 4);
    CHECK(are_cloexec(3, 3));
    CHECK(!fd_is_cloexec(9));
    serves(4);
}

TEST(with_the_flag_a_daemon_that_detaches_keeps_them) {
    offer_listeners(3, NULL);
    CHECK_INT(dup2(3, 6), 6);
    daemonize((struct rdaemon_config){.flags = RDAEMON_KEEP_LISTEN_FDS | RDAEMON_DETACH_ACTIVATED,
                                      .detach = RDAEMON_DETACH_YES},
              lives_there, "0 1 2 3 4 5");
    CHECK_STR(open_fds(0), "0 1 2 3 4 5 6");
}

TEST(with_the_flag_collected_ones_are_closed) {
    collect_two();
    daemonize((struct rdaemon_config){.flags = RDAEMON_KEEP_LISTEN_FDS, KEEP_THE_SECOND},
              lives_here, "0 1 2 4");
}

TEST(with_the_flag_those_of_another_process_are_closed) {
    offer_listeners(3, NULL);
    set_number("LISTEN_PID", (unsigned)getppid());
    daemonize((struct rdaemon_config){.flags = RDAEMON_KEEP_LISTEN_FDS,
                                      .detach = RDAEMON_DETACH_NO,
                                      KEEP_THE_SECOND},
              lives_here, "0 1 2 4");
}

TEST(with_the_flag_there_may_be_none) {
    make_listeners(2);
    forget_managers();
    daemonize((struct rdaemon_config){.flags = RDAEMON_KEEP_LISTEN_FDS,
                                      .detach = RDAEMON_DETACH_NO,
                                      KEEP_THE_SECOND},
              lives_here, "0 1 2 4");
}
