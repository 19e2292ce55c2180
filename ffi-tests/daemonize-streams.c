/* What becomes of fds 0, 1 and 2: the three streams of a config. */
#include <fcntl.h>
#include <limits.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

static const char *expected_targets[3];
static char expected_fds[64];

static void has_the_streams(const struct start *start) {
    (void)start;
    for (int fd = 0; fd < 3; fd++) {
        CHECK_STR(fd_target(0, fd), expected_targets[fd]);
        CHECK(!fd_is_cloexec(fd));
    }
    CHECK_STR(open_fds(0), expected_fds);
}

/* A daemon with this config must find these things on 0, 1 and 2, and no other fds. */
static void expect_streams(const struct rdaemon_config *config, const char *in, const char *out,
                           const char *err) {
    expected_targets[0] = in;
    expected_targets[1] = out;
    expected_targets[2] = err;
    if (!expected_fds[0])
        strcpy(expected_fds, "0 1 2");
    run_daemon(config, has_the_streams);
}

static const char *open_as(int fd, const char *name) {
    int file = open(make_file(name, ""), O_RDWR);
    CHECK(file >= 3);
    if (file != fd) {
        CHECK_INT(dup2(file, fd), fd);
        close(file);
    }
    return scratch_path(name);
}

/* ---- null and inherit ---- */

TEST(null_is_dev_null) {
    open_as(0, "a");
    struct rdaemon_config config = {.streams = {{.action = RDAEMON_STREAM_NULL},
                                                {.action = RDAEMON_STREAM_NULL},
                                                {.action = RDAEMON_STREAM_NULL}}};
    expect_streams(&config, "/dev/null", "/dev/null", "/dev/null");
}

TEST(inherit_leaves_the_stream_alone) {
    const char *in = open_as(0, "in"), *out = open_as(1, "out"), *err = open_as(2, "err");
    struct rdaemon_config config = {.streams = {{.action = RDAEMON_STREAM_INHERIT},
                                                {.action = RDAEMON_STREAM_INHERIT},
                                                {.action = RDAEMON_STREAM_INHERIT}}};
    expect_streams(&config, in, out, err);
    config.streams[1].action = RDAEMON_STREAM_NULL;
    expect_streams(&config, in, "/dev/null", err);
}

TEST(an_inherited_stream_that_is_closed_becomes_dev_null) {
    const char *out = open_as(1, "out");
    close(0);
    struct rdaemon_config config = {
        .streams = {{.action = RDAEMON_STREAM_INHERIT}, {.action = RDAEMON_STREAM_INHERIT}}};
    expect_streams(&config, "/dev/null", out, "/dev/null");
}

/* ---- fd ---- */

TEST(an_fd_becomes_the_stream_and_its_source_is_closed) {
    const char *file = open_as(7, "file");
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_FD, .fd = 7}};
    expect_streams(&config, "/dev/null", file, "/dev/null");
    CHECK(fd_is_open(7)); /* the original's own */
}

TEST(a_source_that_is_also_preserved_stays_open) {
    const char *file = open_as(7, "file");
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_FD, .fd = 7},
                                    .files_preserve = (int32_t[]){7},
                                    .files_preserve_len = 1};
    strcpy(expected_fds, "0 1 2 7");
    expect_streams(&config, "/dev/null", file, "/dev/null");
}

TEST(a_cloexec_source_makes_an_inheritable_stream) {
    const char *file = open_as(7, "file");
    fcntl(7, F_SETFD, FD_CLOEXEC);
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_FD, .fd = 7}};
    expect_streams(&config, "/dev/null", file, "/dev/null");
}

TEST(one_source_serves_all_three) {
    const char *file = open_as(7, "file");
    struct rdaemon_config config = {.streams = {{.action = RDAEMON_STREAM_FD, .fd = 7},
                                                {.action = RDAEMON_STREAM_FD, .fd = 7},
                                                {.action = RDAEMON_STREAM_FD, .fd = 7}}};
    expect_streams(&config, file, file, file);
}

TEST(stdout_and_stderr_change_places) {
    const char *out = open_as(1, "out"), *err = open_as(2, "err");
    struct rdaemon_config config = {.streams = {{0},
                                                {.action = RDAEMON_STREAM_FD, .fd = 2},
                                                {.action = RDAEMON_STREAM_FD, .fd = 1}}};
    expect_streams(&config, "/dev/null", err, out);
}

TEST(all_three_rotate) {
    const char *in = open_as(0, "in"), *out = open_as(1, "out"), *err = open_as(2, "err");
    struct rdaemon_config config = {.streams = {{.action = RDAEMON_STREAM_FD, .fd = 1},
                                                {.action = RDAEMON_STREAM_FD, .fd = 2},
                                                {.action = RDAEMON_STREAM_FD, .fd = 0}}};
    expect_streams(&config, out, err, in);
}

TEST(a_stream_may_be_its_own_source) {
    const char *out = open_as(1, "out");
    fcntl(1, F_SETFD, FD_CLOEXEC);
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_FD, .fd = 1}};
    expect_streams(&config, "/dev/null", out, "/dev/null");
}

/* ---- the same as stdout ---- */

static void writes_both_to_one(const struct start *start) {
    (void)start;
    CHECK(same_description(1, 2));
    CHECK_INT(write(1, "out ", 4), 4);
    CHECK_INT(write(2, "err ", 4), 4);
}

TEST(stderr_is_the_same_as_stdout) {
    const char *log = scratch_path("log");
    struct rdaemon_config config = {.streams = {{0},
                                                {.action = RDAEMON_STREAM_FILE, .path = log},
                                                {.action = RDAEMON_STREAM_SAME_AS_STDOUT}}};
    run_daemon(&config, writes_both_to_one);
    CHECK_STR(file_text(log), "out err ");
}

TEST(stderr_is_the_same_as_an_inherited_stdout) {
    const char *out = open_as(1, "out");
    struct rdaemon_config config = {.streams = {{0},
                                                {.action = RDAEMON_STREAM_INHERIT},
                                                {.action = RDAEMON_STREAM_SAME_AS_STDOUT}}};
    expect_streams(&config, "/dev/null", out, out);
}

TEST(stderr_follows_stdout_to_dev_null) {
    struct rdaemon_config config = {.streams[2] = {.action = RDAEMON_STREAM_SAME_AS_STDOUT}};
    expect_streams(&config, "/dev/null", "/dev/null", "/dev/null");
}

/* ---- files ---- */

static struct rdaemon_config log_to(const char *path) {
    struct rdaemon_config config = {.streams[1] = {.action = RDAEMON_STREAM_FILE, .path = path}};
    return config;
}

static void says_hello(const struct start *start) {
    (void)start;
    CHECK_INT(write(1, "hello\n", 6), 6);
}

TEST(a_file_is_created_and_appended_to) {
    struct rdaemon_config config = log_to(scratch_path("log"));
    run_daemon(&config, says_hello);
    run_daemon(&config, says_hello);
    CHECK_STR(file_text(config.streams[1].path), "hello\nhello\n");
}

static void is_in_append_mode(const struct start *start) {
    (void)start;
    int flags = fcntl(1, F_GETFL);
    CHECK_INT(flags & O_ACCMODE, O_WRONLY);
    CHECK(flags & O_APPEND);
    CHECK(!(flags & O_NONBLOCK)); /* it was only for the opening */
}

TEST(a_file_is_in_append_mode_and_blocking) {
    struct rdaemon_config config = log_to(scratch_path("log"));
    run_daemon(&config, is_in_append_mode);
}

TEST(the_mode_of_a_file_does_not_depend_on_the_umask) {
    struct rdaemon_config config = log_to(scratch_path("log"));
    umask(0777);
    run_daemon(&config, NULL);
    CHECK_INT(mode_of(config.streams[1].path), 0640);
    config.streams[1].path = scratch_path("other");
    config.streams[1].mode = 0606;
    umask(0);
    run_daemon(&config, NULL);
    CHECK_INT(mode_of(config.streams[1].path), 0606);
}

TEST(the_mode_of_an_existing_file_stays) {
    struct rdaemon_config config = log_to(make_file("log", "old "));
    CHECK_INT(chmod(config.streams[1].path, 0604), 0);
    run_daemon(&config, says_hello);
    CHECK_STR(file_text(config.streams[1].path), "old hello\n");
    CHECK_INT(mode_of(config.streams[1].path), 0604);
}

TEST(truncation_may_be_asked_for) {
    struct rdaemon_config config = log_to(make_file("log", "old "));
    config.streams[1].open_flags = O_TRUNC;
    run_daemon(&config, says_hello);
    CHECK_STR(file_text(config.streams[1].path), "hello\n");
}

TEST(a_relative_path_starts_at_the_callers_directory) {
    struct rdaemon_config config = log_to("log");
    CHECK_INT(chdir(scratch()), 0);
    run_daemon(&config, says_hello);
    CHECK_STR(file_text("log"), "hello\n");
}

static void reads_hello(const struct start *start) {
    (void)start;
    char text[16];
    CHECK_INT(fcntl(0, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
    CHECK_INT(read(0, text, sizeof text), 5);
    CHECK(memcmp(text, "hello", 5) == 0);
}

TEST(stdin_is_read_from_a_file) {
    struct rdaemon_config config = {
        .streams[0] = {.action = RDAEMON_STREAM_FILE, .path = make_file("in", "hello")}};
    run_daemon(&config, reads_hello);
}

TEST(stdin_creates_no_file) {
    struct rdaemon_config config = {
        .streams[0] = {.action = RDAEMON_STREAM_FILE, .path = scratch_path("in")}};
    start_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ENOENT);
}

TEST(a_file_is_opened_with_the_callers_privileges) {
    REQUIRE_ROOT();
    make_directory("private", 0700);
    struct rdaemon_config config = log_to(scratch_path("private/log"));
    config.identity.flags = RDAEMON_IDENTITY_UID;
    config.identity.uid = 12345;
    run_daemon(&config, says_hello);
    CHECK_STR(file_text(config.streams[1].path), "hello\n");
}

TEST(a_file_is_opened_outside_the_new_root) {
    REQUIRE_ROOT();
    struct rdaemon_config config = log_to(scratch_path("log"));
    config.chroot_directory = make_directory("jail", 0755);
    run_daemon(&config, says_hello);
    CHECK_STR(tree(scratch()), "jail/ log");
}

TEST(a_fifo_without_a_reader_is_an_error_and_no_hang) {
    struct rdaemon_config config = log_to(scratch_path("fifo"));
    CHECK_INT(mkfifo(config.streams[1].path, 0600), 0);
    start_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ENXIO);
}

TEST(a_fifo_with_a_reader_works) {
    struct rdaemon_config config = log_to(scratch_path("fifo"));
    CHECK_INT(mkfifo(config.streams[1].path, 0600), 0);
    int reader = open(config.streams[1].path, O_RDONLY | O_NONBLOCK);
    char text[16];
    run_daemon(&config, says_hello);
    CHECK_INT(read(reader, text, sizeof text), 6);
}

TEST(an_exclusive_file_must_be_new) {
    struct rdaemon_config config = log_to(scratch_path("log"));
    config.streams[1].open_flags = O_EXCL;
    run_daemon(&config, says_hello);
    start_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -EEXIST);
    CHECK_STR(file_text(config.streams[1].path), "hello\n");
}

TEST(nofollow_refuses_a_symlink) {
    make_file("real", "");
    struct rdaemon_config config = log_to(scratch_path("link"));
    CHECK_INT(symlink("real", config.streams[1].path), 0);
    run_daemon(&config, says_hello);
    CHECK_STR(file_text(scratch_path("real")), "hello\n");
    config.streams[1].open_flags = O_NOFOLLOW;
    start_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ELOOP);
}

TEST(a_dangling_symlink_is_refused_and_creates_nothing) {
    struct rdaemon_config config = log_to(scratch_path("link"));
    CHECK_INT(symlink("real", config.streams[1].path), 0);
    start_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ENOENT);
    CHECK_STR(tree(scratch()), "link");
}

/* ---- no spare fd in the daemon ---- */

static void has_one_output(const struct start *start) {
    (void)start;
    CHECK(same_description(1, 2));
    CHECK_INT(dup(0), -1);
    CHECK_INT(errno, EMFILE);
}

TEST(stderr_becomes_an_inherited_stdout_without_a_spare_fd) {
    struct rlimit now;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &now), 0);
    struct rdaemon_limit limit = {.resource = RLIMIT_NOFILE, .soft = 3, .hard = now.rlim_max};
    struct rdaemon_config config = {.limits = &limit,
                                    .limits_len = 1,
                                    .streams = {{0},
                                                {.action = RDAEMON_STREAM_INHERIT},
                                                {.action = RDAEMON_STREAM_SAME_AS_STDOUT}}};
    struct start started;
    open_as(1, "out");
    adopt_orphans();
    start_well(&started, &config, has_one_output);
    CHECK(started.daemon.pidfd >= 3);
    lived(&started);
}

/* ---- terminals ---- */

/* A session leader without a terminal gets the first one that it opens for reading. */
static const char *lead_a_session_beside_a_terminal(void) {
    static char name[PATH_MAX];
    int master, slave;
    CHECK_INT(openpty(&master, &slave, name, NULL, NULL), 0);
    close(slave);
    CHECK(setsid() > 0);
    adopt_orphans();
    return name;
}

TEST(opening_a_terminal_as_a_stream_does_not_acquire_it) {
    IN_CHILD {
        const char *terminal = lead_a_session_beside_a_terminal();
        struct rdaemon_config config = log_to(terminal);
        config.streams[0] = config.streams[1];
        run_daemon(&config, NULL);
        CHECK_INT(stat_field(0, 7), 0);
    }
}

TEST(refusing_a_terminal_as_a_pidfile_does_not_acquire_it) {
    IN_CHILD {
        struct rdaemon_config config = {.pidfile = lead_a_session_beside_a_terminal()};
        start_badly(&config, RDAEMON_STEP_PIDFILE_OPEN, -EINVAL);
        CHECK_INT(stat_field(0, 7), 0);
    }
}
