#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

enum { SUBSETS = 8 };

static void set_nofile(rlim_t limit) {
    struct rlimit both = {limit, limit};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &both), 0);
}

static bool is_null_device(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && major(status.st_rdev) == 1 &&
           minor(status.st_rdev) == 3;
}

/* Which file a descriptor is: an inode number, 0 for /dev/null, -1 when closed. */
static intmax_t file_of(int fd) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -1;
    return is_null_device(fd) ? 0 : (intmax_t)status.st_ino;
}

/* Opens a file of its own at exactly this descriptor. */
static void open_at(int fd) {
    int made = memfd_create("test", MFD_CLOEXEC);
    if (made < 0 || (made != fd && (dup3(made, fd, O_CLOEXEC) != fd || close(made) != 0)))
        FAIL("memfd at %d: %s", fd, strerror(errno));
}

/* Puts a regular file in the place of /dev/null. */
static void replace_null(void) {
    const char *file = scratch_path("null");
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
    enter_mount_namespace();
    mount_over(file, "/dev/null");
}

/* ---- open_stdio ---- */

TEST(rule_1_6_open_stdio_fills_each_subset) {
    for (int subset = 0; subset < SUBSETS; subset++)
        IN_CHILD {
            open_at(0), open_at(1), open_at(2);
            intmax_t files[] = {file_of(0), file_of(1), file_of(2)};
            close_standard_fds(subset);
            CHECK_INT(QUIET(rdaemon_open_stdio()), __builtin_popcount((unsigned)subset));
            CHECK_STR(open_fds(0), "0 1 2");
            for (int fd = 0; fd < 3; fd++)
                CHECK_INT(file_of(fd), subset >> fd & 1 ? 0 : files[fd]);
        }
}

TEST(rule_1_6_opened_stdio_survives_exec_and_is_usable) {
    close_standard_fds(7);
    CHECK_INT(rdaemon_open_stdio(), 3);
    char byte;
    CHECK_INT(read(0, &byte, 1), 0);
    CHECK_INT(write(1, "x", 1), 1);
    CHECK_INT(write(2, "x", 1), 1);
    for (int fd = 0; fd < 3; fd++)
        CHECK_INT(fcntl(fd, F_GETFD), 0);
}

TEST(rule_1_6_open_stdio_refuses_a_false_null_device) {
    replace_null();
    for (int subset = 1; subset < SUBSETS; subset++)
        IN_CHILD {
            close_standard_fds(subset);
            CHECK_REFUSED(rdaemon_open_stdio(), -ENODEV);
        }
}

TEST(open_stdio_without_a_null_device_changes_nothing) {
    REQUIRE_ROOT();
    CHECK_INT(chroot(scratch()), 0);
    close_standard_fds(6);
    CHECK_INT(QUIET(rdaemon_open_stdio()), -ENOENT);
    CHECK(fd_is_open(0) && !fd_is_open(1) && !fd_is_open(2) && !fd_is_open(3));
}

TEST(open_stdio_with_nothing_to_open_needs_no_null_device) {
    REQUIRE_ROOT();
    CHECK_INT(chroot(scratch()), 0);
    CHECK_INT(QUIET(rdaemon_open_stdio()), 0);
}

TEST(open_stdio_that_runs_out_of_descriptors_changes_nothing) {
    /* Room for one, but two are missing. */
    close_standard_fds(3);
    set_nofile(1);
    CHECK_INT(QUIET(rdaemon_open_stdio()), -EMFILE);
    CHECK(!fd_is_open(0) && !fd_is_open(1) && fd_is_open(2));
}

struct opener {
    const char *path;
    atomic_bool end;
    atomic_int replaced;
};

/* Opens a file over and over, mostly at fd 0, and counts when it became another one. */
static void *open_over_and_over(void *argument) {
    struct opener *opener = argument;
    while (!atomic_load(&opener->end)) {
        int fd = open(opener->path, O_RDONLY | O_CLOEXEC);
        for (volatile int i = 0; i < 300; i++)
            continue;
        if (is_null_device(fd))
            atomic_fetch_add(&opener->replaced, 1);
        close(fd);
    }
    return NULL;
}

TEST(open_stdio_replaces_no_file_that_another_thread_opens) {
    struct opener opener = {.path = scratch_path("file")};
    pthread_t thread;
    close(open(opener.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    CHECK_INT(pthread_create(&thread, NULL, open_over_and_over, &opener), 0);
    for (int i = 0; i < 20000; i++) {
        if (is_null_device(0))
            close(0);
        CHECK(QUIET(rdaemon_open_stdio()) >= 0);
    }
    atomic_store(&opener.end, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(atomic_load(&opener.replaced), 0);
}

/* ---- redirect_stdio: every assignment ---- */

static const int sources[] = {RDAEMON_FD_INHERIT, RDAEMON_FD_NULL, 0, 1, 2, 3, 4};
enum { SOURCES = LENGTH(sources), SAVED = 10 };

/* Makes 0 to 4 the saved files again, except those of the subset, all close-on-exec. */
static void restore(int subset) {
    for (int fd = 0; fd < 5; fd++)
        dup3(SAVED + fd, fd, O_CLOEXEC);
    close_standard_fds(subset);
}

/* Which file the assignment must leave at `target`, or -2 when it must be refused. */
static intmax_t expected_file(const intmax_t *files, int source, int target) {
    if (source == RDAEMON_FD_INHERIT)
        return files[target];
    if (source == RDAEMON_FD_NULL)
        return 0;
    return files[source] < 0 ? -2 : files[source];
}

static void check_assignment(int subset, const int *source) {
    intmax_t files[5], expected[3];
    bool refused = false;
    restore(subset);
    for (int fd = 0; fd < 5; fd++)
        files[fd] = file_of(fd);
    for (int fd = 0; fd < 3; fd++) {
        expected[fd] = expected_file(files, source[fd], fd);
        refused |= expected[fd] == -2;
    }
    int result = QUIET(rdaemon_redirect_stdio(source[0], source[1], source[2]));
    bool right = result == (refused ? -EBADF : 0);
    for (int fd = 0; fd < 3; fd++) {
        bool untouched = refused || source[fd] == RDAEMON_FD_INHERIT;
        right = right && file_of(fd) == (refused ? files[fd] : expected[fd]) &&
                (file_of(fd) < 0 || fd_is_cloexec(fd) == untouched);
    }
    if (!right)
        NOTE("closed subset %d, redirect_stdio(%d, %d, %d) = %d", subset, source[0], source[1],
             source[2], result);
    CHECK(right);
    CHECK(file_of(3) == files[3] && file_of(4) == files[4]);
}

TEST(rule_2_4_every_assignment_with_every_subset_closed) {
    for (int fd = 0; fd < 5; fd++)
        open_at(SAVED + fd);
    for (int code = 0; code < SOURCES * SOURCES * SOURCES; code++)
        for (int subset = 0; subset < SUBSETS; subset++) {
            int source[] = {sources[code % SOURCES], sources[code / SOURCES % SOURCES],
                            sources[code / SOURCES / SOURCES]};
            check_assignment(subset, source);
        }
    restore(0);
    CHECK_STR(open_fds(0), "0 1 2 3 4 10 11 12 13 14");
}

/* ---- redirect_stdio: named cases ---- */

TEST(rule_2_4_swap_of_stdout_and_stderr) {
    open_at(0), open_at(1), open_at(2);
    intmax_t out = file_of(1), err = file_of(2);
    CHECK_INT(QUIET(rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, 2, 1)), 0);
    CHECK_INT(file_of(1), err);
    CHECK_INT(file_of(2), out);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(rule_2_4_source_that_is_its_target_survives_exec) {
    open_at(1);
    CHECK(fd_is_cloexec(1));
    CHECK_INT(QUIET(rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, 1, RDAEMON_FD_INHERIT)), 0);
    CHECK(!fd_is_cloexec(1));
}

TEST(rule_2_4_source_above_2_stays_open_and_shares_its_description) {
    open_at(7);
    CHECK_INT(QUIET(rdaemon_redirect_stdio(7, 7, 7)), 0);
    CHECK_STR(open_fds(0), "0 1 2 7");
    CHECK(fd_is_cloexec(7));
    for (int fd = 0; fd < 3; fd++)
        CHECK(same_description(fd, 7));
}

TEST(rule_2_4_duplicate_of_a_stream_that_stays_needs_no_spare_descriptor) {
    open_at(0), open_at(1), open_at(2);
    set_nofile(3);
    CHECK_INT(QUIET(rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, RDAEMON_FD_INHERIT, 1)), 0);
    CHECK(same_description(1, 2));
    CHECK(fd_is_cloexec(1) && !fd_is_cloexec(2));
}

TEST(rule_2_4_inherit_leaves_all_as_it_is) {
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(
        QUIET(rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, RDAEMON_FD_INHERIT, RDAEMON_FD_INHERIT)),
        0);
    CHECK(snapshot_same(&before));
}

TEST(rule_2_4_null_can_be_read_and_written) {
    char byte;
    CHECK_INT(QUIET(rdaemon_redirect_stdio(RDAEMON_FD_NULL, RDAEMON_FD_NULL, RDAEMON_FD_NULL)), 0);
    CHECK_INT(read(0, &byte, 1), 0);
    CHECK_INT(write(1, "x", 1), 1);
    CHECK_INT(write(2, "x", 1), 1);
    CHECK_STR(open_fds(0), "0 1 2");
}

/* ---- redirect_stdio: failures change nothing ---- */

TEST(rule_2_4_bad_source_changes_nothing) {
    static const int bad[] = {-1, -2, -1000, -1003, INT_MIN, 9, 100000, INT_MAX};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        CHECK_REFUSED(rdaemon_redirect_stdio(bad[i], 2, 1), -EBADF);
        CHECK_REFUSED(rdaemon_redirect_stdio(RDAEMON_FD_NULL, bad[i], 1), -EBADF);
        CHECK_REFUSED(rdaemon_redirect_stdio(1, 0, bad[i]), -EBADF);
    }
}

TEST(rule_2_4_no_spare_descriptor_changes_nothing) {
    open_at(0), open_at(1), open_at(2);
    set_nofile(3);
    intmax_t files[] = {file_of(0), file_of(1), file_of(2)};
    CHECK_INT(QUIET(rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, 2, 1)), -EMFILE);
    CHECK_INT(QUIET(rdaemon_redirect_stdio(1, 2, 0)), -EMFILE);
    CHECK_INT(QUIET(rdaemon_redirect_stdio(1, RDAEMON_FD_NULL, 0)), -EMFILE);
    for (int fd = 0; fd < 3; fd++)
        CHECK(file_of(fd) == files[fd] && fd_is_cloexec(fd));
}

TEST(rule_2_4_no_spare_descriptor_above_2_changes_nothing) {
    for (int fd = 0; fd < 6; fd++)
        open_at(fd);
    set_nofile(6);
    intmax_t files[] = {file_of(0), file_of(1), file_of(2)};
    CHECK_INT(QUIET(rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, 2, 1)), -EMFILE);
    CHECK_INT(QUIET(rdaemon_redirect_stdio(3, RDAEMON_FD_NULL, 1)), -EMFILE);
    for (int fd = 0; fd < 3; fd++)
        CHECK(file_of(fd) == files[fd] && fd_is_cloexec(fd));
}

TEST(rule_1_6_redirect_refuses_a_false_null_device) {
    replace_null();
    CHECK_REFUSED(rdaemon_redirect_stdio(RDAEMON_FD_NULL, 2, 1), -ENODEV);
    CHECK_REFUSED(rdaemon_redirect_stdio(1, 2, RDAEMON_FD_NULL), -ENODEV);
}
