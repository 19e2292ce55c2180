/* Sockets that launchd hands over, from a launch_activate_socket of the test's own that behaves as
 * launch_activate_socket(3) says. Linked with --wrap=free, which tells what becomes of its array.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "listening.h"
#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

/* ---- launchd ---- */

/* A job's entry in Sockets. */
struct entry {
    const char *name;
    int fds[8];
    size_t count;
    bool activated;
};

static struct {
    pid_t job; /* the process that launchd has started, if any */
    struct entry entries[3];
    int failure; /* what it answers whatever it is asked; 0: what the manual says */
    int questions;
    int *array; /* that it has allocated, and that is not freed yet */
    int arrays, freed;
} launchd;

int launch_activate_socket(const char *name, int **fds, size_t *count);
int launch_activate_socket(const char *name, int **fds, size_t *count) {
    launchd.questions++;
    errno = EXDEV;
    if (launchd.failure)
        return launchd.failure;
    if (getpid() != launchd.job)
        return ESRCH;
    struct entry *entry = launchd.entries;
    struct entry *end = entry + sizeof launchd.entries / sizeof *entry;
    while (entry < end && !(entry->name && strcmp(entry->name, name) == 0))
        entry++;
    if (entry == end)
        return ENOENT;
    if (entry->activated)
        return EALREADY;
    entry->activated = true;
    launchd.arrays++;
    launchd.array = malloc(entry->count * sizeof **fds + 1);
    memcpy(launchd.array, entry->fds, entry->count * sizeof **fds);
    *fds = launchd.array;
    *count = entry->count;
    return 0;
}

void __real_free(void *memory);
void __wrap_free(void *memory);
void __wrap_free(void *memory) {
    if (memory && memory == launchd.array) {
        launchd.freed++;
        launchd.array = NULL;
    }
    __real_free(memory);
}

static void be_a_job(void) {
    forget_managers();
    launchd.job = getpid();
}

static void has(int entry, const char *name, size_t count, const int *fds) {
    launchd.entries[entry] = (struct entry){.name = name, .count = count};
    memcpy(launchd.entries[entry].fds, fds, count * sizeof *fds);
}
#define HAS(entry, name, ...)                                                                      \
    has(entry, name, sizeof((int[]){__VA_ARGS__}) / sizeof(int), (int[]){__VA_ARGS__})

/* A job with "web" at 3, 4 and 5, and "admin" at 6. */
static void be_a_job_with_two_names(void) {
    be_a_job();
    for (int fd = 3; fd < 7; fd++)
        CHECK_INT(unix_listener(SOCK_STREAM), fd);
    HAS(0, "web", 3, 4, 5);
    HAS(1, "admin", 6);
}

static void array_is_freed(void) {
    CHECK_INT(launchd.arrays, 1);
    CHECK_INT(launchd.freed, 1);
}

static void was_not_asked(void) {
    CHECK_INT(launchd.questions, 0);
}

/* ---- visits ---- */

TEST(all_of_the_name_are_visited) {
    be_a_job_with_two_names();
    are_visited("web", 0, 3,
                "3 web launchd listener UNIX STREAM, 4 web launchd listener UNIX STREAM, "
                "5 web launchd listener UNIX STREAM");
    CHECK_INT(launchd.questions, 1);
    array_is_freed();
    CHECK(are_cloexec(3, 3));
    for (int fd = 3; fd < 6; fd++)
        serves(fd);
}

TEST(numbers_and_order_are_those_of_launchd) {
    be_a_job();
    CHECK_INT(unix_datagram(), 3);
    CHECK_INT(fifo(), 4);
    CHECK_INT(inet_listener(AF_INET), 5);
    CHECK_INT(dup2(3, 9), 9);
    close(3);
    HAS(0, "web", 9, 4, 5);
    const char *fds = fds_from_3();
    are_visited("web", 0, 3,
                "9 web launchd datagram UNIX DGRAM, 4 web launchd other 0 0, "
                "5 web launchd listener INET STREAM");
    CHECK_STR(fds_from_3(), fds);
    CHECK(are_cloexec(9, 1));
    CHECK(are_cloexec(4, 2));
}

static void finds_all_collected(const struct rdaemon_socket *socket) {
    (void)socket;
    CHECK(are_cloexec(3, 3));
}

TEST(all_are_cloexec_before_the_first_visit) {
    struct visits visits = {.look = finds_all_collected};
    be_a_job_with_two_names();
    CHECK_INT(visit_all(&visits, "web", 0), 3);
}

TEST(a_result_of_the_visitor_ends_the_visits_and_is_returned) {
    struct visits visits = {.refuse_at = 1, .answer = -EPERM};
    be_a_job_with_two_names();
    const char *fds = fds_from_3();
    CHECK_INT(visit_all(&visits, "web", 0), -EPERM);
    CHECK_STR(visits.text, "3 web launchd listener UNIX STREAM");
    CHECK_STR(fds_from_3(), fds);
    CHECK(are_cloexec(3, 3));
    array_is_freed();
    is_refused("web", 0, -EALREADY);
}

TEST(fds_of_launchd_leave_the_standard_streams) {
    be_a_job();
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    for (int fd = 0; fd < 4; fd++)
        CHECK_INT(unix_listener(SOCK_STREAM), fd);
    HAS(0, "web", 0, 3, 2);
    are_visited("web", 0, 3,
                "4 web launchd listener UNIX STREAM, 3 web launchd listener UNIX STREAM, "
                "5 web launchd listener UNIX STREAM");
    CHECK_STR(open_fds(0), "1 3 4 5");
    CHECK(are_cloexec(3, 3));
    array_is_freed();
}

TEST(a_name_without_sockets_is_none) {
    be_a_job();
    has(0, "web", 0, (int[]){0});
    CHECK_INT(QUIET(rdaemon_listen_fd("web", 0)), -ENOENT);
    array_is_freed();
}

/* ---- listen_fd ---- */

TEST(listen_fd_takes_the_one_of_the_name) {
    be_a_job_with_two_names();
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
    CHECK(are_cloexec(6, 1));
    array_is_freed();
    serves(6);
}

TEST(listen_fd_refuses_to_choose_but_collects) {
    be_a_job_with_two_names();
    const char *fds = fds_from_3();
    CHECK_INT(QUIET(rdaemon_listen_fd("web", 0)), -E2BIG);
    CHECK_STR(fds_from_3(), fds);
    CHECK(are_cloexec(3, 3));
    array_is_freed();
}

TEST(listen_fd_takes_no_file) {
    be_a_job();
    CHECK_INT(fifo(), 3);
    HAS(0, "web", 3);
    CHECK_INT(QUIET(rdaemon_listen_fd("web", 0)), -ENOTSOCK);
    CHECK(are_cloexec(3, 1));
    array_is_freed();
}

/* ---- what launchd refuses ---- */

TEST(an_unknown_name_is_refused_and_another_one_may_be_tried) {
    be_a_job_with_two_names();
    is_refused("Web", 0, -ENOENT);
    is_refused("", 0, -ENOENT);
    CHECK_INT(launchd.arrays, 0);
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
}

TEST(an_unknown_name_is_refused_though_systemd_or_inetd_would_have_it) {
    be_a_job_with_two_names();
    CHECK_INT(dup2(3, 0), 0);
    offer(1, "Web");
    is_refused("Web", RDAEMON_LISTEN_INETD, -ENOENT);
}

TEST(a_name_that_was_activated_without_the_library_is_taken_already) {
    be_a_job_with_two_names();
    launchd.entries[0].activated = true;
    is_refused("web", 0, -EALREADY);
    CHECK_INT(launchd.questions, 2);
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
}

TEST(other_errors_of_launchd_are_returned) {
    const int failures[] = {EPERM, EIO, ENOMEM, EACCES, EINVAL, ENOTSUP};
    be_a_job_with_two_names();
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        launchd.failure = failures[i];
        is_refused("web", RDAEMON_LISTEN_INETD, -failures[i]);
    }
    launchd.failure = 0;
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
}

TEST(arguments_are_refused_before_launchd_is_asked) {
    static char name[4097];
    memset(name, 'n', sizeof name - 1);
    be_a_job_with_two_names();
    CHECK_REFUSED(rdaemon_listen("web", 0, NULL, NULL), -EINVAL);
    is_refused("web", 2, -EINVAL);
    is_refused(name, 0, -ENAMETOOLONG);
    is_refused(NULL, 0, -ESRCH); /* which it could not be asked for */
    was_not_asked();
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
}

/* ---- once ---- */

TEST(the_second_time_they_are_collected_already) {
    be_a_job_with_two_names();
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
    is_refused("admin", 0, -EALREADY);
    is_refused("admin", RDAEMON_LISTEN_INETD, -EALREADY);
}

/* launchd has no call that collects them all. */
TEST(each_name_is_collected_by_its_own_call) {
    be_a_job_with_two_names();
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
    struct visits visits = {0};
    CHECK_INT(visit_all(&visits, "web", 0), 3);
    is_refused("web", 0, -EALREADY);
}

TEST(a_forked_child_was_handed_nothing) {
    be_a_job_with_two_names();
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
    IN_CHILD {
        is_refused("admin", 0, -ESRCH);
    }
}

/* ---- when launchd has not started the process ---- */

TEST(without_launchd_what_systemd_offers_is_taken) {
    CHECK_INT(unix_listener(SOCK_STREAM), 3);
    CHECK_INT(unix_listener(SOCK_STREAM), 4);
    offer(2, "web:admin");
    are_visited("admin", 0, 1, "4 admin systemd listener UNIX STREAM");
    CHECK_INT(launchd.questions, 1);
    CHECK(!strstr(environment(), "LISTEN_"));
}

TEST(without_launchd_the_socket_of_inetd_is_taken) {
    forget_managers();
    CHECK_INT(dup2(unix_listener(SOCK_STREAM), 0), 0);
    close(3);
    is_refused("web", 0, -ESRCH);
    are_visited("web", RDAEMON_LISTEN_INETD, 1, "3 web inetd listener UNIX STREAM");
}

TEST(without_any_manager_there_is_nothing) {
    forget_managers();
    is_refused("web", 0, -ESRCH);
}

TEST(without_launchd_no_name_is_needed) {
    CHECK_INT(unix_listener(SOCK_STREAM), 3);
    offer(1, "web");
    CHECK_INT(QUIET(rdaemon_listen_fd(NULL, 0)), 3);
}

TEST(launchd_comes_before_systemd_and_inetd) {
    be_a_job_with_two_names();
    CHECK_INT(dup2(3, 0), 0);
    offer(4, NULL);
    launchd.job = getpid();
    are_visited("admin", RDAEMON_LISTEN_INETD, 1, "6 admin launchd listener UNIX STREAM");
    CHECK(same_description(0, 3));
}

/* ---- no fd to spare ---- */

TEST(collecting_needs_no_fd_to_spare) {
    be_a_job_with_two_names();
    CHECK_INT(listen_fd_within(7, "admin", 0), 6);
}

TEST(a_standard_stream_that_cannot_be_left_is_still_open) {
    be_a_job();
    close(0);
    CHECK_INT(unix_listener(SOCK_STREAM), 0);
    HAS(0, "web", 0);
    CHECK_INT(listen_fd_within(3, "web", 0), -EMFILE);
    array_is_freed();
    serves(0);
}

/* ---- afterwards ---- */

static const int32_t the_fourth = 6;
static pid_t caller;

static void lives_here(const struct start *start) {
    CHECK_INT(start->daemon.detached, 0);
    CHECK_INT(getpid(), caller);
    CHECK_STR(open_fds(0), "0 1 2 6");
    serves(6);
}

TEST(after_collecting_auto_does_not_detach) {
    struct rdaemon_config config = {.files_preserve = &the_fourth, .files_preserve_len = 1};
    struct start started;
    caller = getpid();
    be_a_job_with_two_names();
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
    CHECK_INT(QUIET(rdaemon_started_by()) & 7,
              RDAEMON_STARTED_ACTIVATED | RDAEMON_STARTED_BY_MANAGER);
    start(&started, &config, lives_here);
    CHECK_INT(started.result, 0);
}

TEST(after_collecting_yes_is_refused) {
    struct rdaemon_config config = {.detach = RDAEMON_DETACH_YES};
    be_a_job_with_two_names();
    CHECK_INT(QUIET(rdaemon_listen_fd("admin", 0)), 6);
    start_badly(&config, RDAEMON_STEP_CONFIG, -EALREADY);
}

TEST(who_was_refused_was_not_activated) {
    be_a_job_with_two_names();
    is_refused("none", 0, -ENOENT);
    CHECK_INT(QUIET(rdaemon_started_by()) & RDAEMON_STARTED_ACTIVATED, 0);
}
