/* What fds a started program has: its streams, the fd map, the fds passed on, and nothing else. */
#include "rdaemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

static const char *told_fd(int fd) {
    char key[16];
    snprintf(key, sizeof key, "fd.%d", fd);
    return told(key);
}

static long told_flags(int fd) {
    char key[16];
    snprintf(key, sizeof key, "flags.%d", fd);
    return strtol(told(key), NULL, 8);
}

/* Whether the child's fd is that file, however it was opened. */
static void check_is_file(int child_fd, const char *path, const char *mode) {
    char expected[80];
    snprintf(expected, sizeof expected, "%s:%s", identity_of(path), mode);
    CHECK_STR(told_fd(child_fd), expected);
}

static void check_is_null(int child_fd) {
    CHECK_INT(
        strncmp(told_fd(child_fd), identity_of("/dev/null"), strlen(identity_of("/dev/null"))), 0);
}

/* Files of their own as the standard streams, as all three are one otherwise. */
static void tell_streams_apart(void) {
    for (int fd = 0; fd < 3; fd++)
        open_at(fd, 0);
}

/* ---- streams ---- */

TEST_EACH_WAY(streams_are_inherited_by_default) {
    tell_streams_apart();
    for (uint32_t action = RDAEMON_STREAM_DEFAULT; action <= RDAEMON_STREAM_INHERIT; action += 2) {
        Config config = {.streams = {{.action = action}, {.action = action}, {.action = action}}};
        struct spawned spawned;
        report_and_stop(&spawned, &config);
        CHECK_STR(told("fds"), "0 1 2");
        for (int fd = 0; fd < 3; fd++)
            CHECK(shares_description(spawned.result, fd, fd));
        kill_and_reap(&spawned);
    }
}

TEST_EACH_WAY(a_cloexec_stream_is_open_in_the_program_only_if_it_says_inherit) {
    tell_streams_apart();
    for (int fd = 0; fd < 3; fd++)
        CHECK_INT(fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
    report_quietly(&(Config){.streams = {{.action = RDAEMON_STREAM_INHERIT},
                                         {.action = RDAEMON_STREAM_DEFAULT},
                                         {.action = RDAEMON_STREAM_INHERIT}}});
    CHECK_STR(told("fds"), "0 2");
}

TEST_EACH_WAY(each_stream_becomes_null) {
    tell_streams_apart();
    for (int fd = 0; fd < 3; fd++) {
        Config config = {0};
        config.streams[fd] = plain_stream(RDAEMON_STREAM_NULL);
        report_quietly(&config);
        CHECK_STR(told("fds"), "0 1 2");
        check_is_null(fd);
        CHECK((told_flags(fd) & O_ACCMODE) != (fd == 0 ? O_WRONLY : O_RDONLY));
        for (int other = 0; other < 3; other++)
            if (other != fd)
                CHECK_STR(told_fd(other), identity_of_fd(other));
    }
}

TEST_EACH_WAY(each_stream_becomes_an_fd_which_stays_open) {
    tell_streams_apart();
    for (int source = 0; source < 7; source++)
        if (source > 2)
            open_at(source, source % 2 ? O_CLOEXEC : 0);
    for (int fd = 0; fd < 3; fd++)
        for (int source = 0; source < 7; source++) {
            Config config = {0};
            config.streams[fd] = fd_stream(source);
            report_quietly(&config);
            CHECK_STR(told("fds"), "0 1 2");
            CHECK_STR(told_fd(fd), identity_of_fd(source));
        }
}

TEST_EACH_WAY(an_fd_is_duplicated_not_opened_again) {
    struct spawned spawned;
    open_at(5, O_CLOEXEC);
    report_and_stop(&spawned, &(Config){.streams = {[1] = fd_stream(5)}});
    CHECK(shares_description(spawned.result, 1, 5));
    kill_and_reap(&spawned);
}

TEST_EACH_WAY(rule_2_4_any_standard_stream_on_any_other) {
    tell_streams_apart();
    for (int code = 0; code < 27; code++) {
        int source[] = {code % 3, code / 3 % 3, code / 9};
        Config config = {
            .streams = {fd_stream(source[0]), fd_stream(source[1]), fd_stream(source[2])}};
        report_of(&config);
        CHECK_STR(told("fds"), "0 1 2");
        for (int fd = 0; fd < 3; fd++)
            CHECK_STR(told_fd(fd), identity_of_fd(source[fd]));
    }
}

TEST_EACH_WAY(rule_2_4_an_fd_on_itself_becomes_inheritable) {
    tell_streams_apart();
    open_at(1, O_CLOEXEC);
    open_at(4, O_CLOEXEC);
    struct rdaemon_fd_mapping map = map_fd(4, 4);
    report_quietly(&(Config){.streams = {[1] = fd_stream(1)}, .fd_map = &map, .fd_map_len = 1});
    CHECK_STR(told("fds"), "0 1 2 4");
    CHECK_STR(told_fd(1), identity_of_fd(1));
    CHECK_STR(told_fd(4), identity_of_fd(4));
}

TEST_EACH_WAY(standard_error_is_what_standard_output_becomes) {
    struct rdaemon_stream outputs[] = {
        plain_stream(RDAEMON_STREAM_DEFAULT),
        plain_stream(RDAEMON_STREAM_NULL),
        plain_stream(RDAEMON_STREAM_INHERIT),
        fd_stream(5),
        fd_stream(2),
        file_stream(scratch_path("out"), 0, 0),
    };
    tell_streams_apart();
    open_at(5, O_CLOEXEC);
    for (size_t i = 0; i < LENGTH(outputs); i++) {
        Config config = {
            .streams = {[1] = outputs[i], [2] = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)}};
        struct spawned spawned;
        report_and_stop(&spawned, &config);
        CHECK_STR(told("fds"), "0 1 2");
        CHECK_STR(told_fd(2), told_fd(1));
        CHECK_INT(syscall(SYS_kcmp, (long)spawned.result, (long)spawned.result, 0 /* KCMP_FILE */,
                          1L, 2L),
                  0);
        kill_and_reap(&spawned);
    }
}

TEST_EACH_WAY(standard_error_is_what_the_map_makes_of_standard_output) {
    tell_streams_apart();
    open_at(5, O_CLOEXEC);
    struct rdaemon_fd_mapping map = map_fd(1, 5);
    report_quietly(&(Config){.streams = {[2] = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)},
                             .fd_map = &map,
                             .fd_map_len = 1});
    CHECK_STR(told("fds"), "0 1 2");
    CHECK_STR(told_fd(1), identity_of_fd(5));
    CHECK_STR(told_fd(2), identity_of_fd(5));
}

TEST_BOTH_WAYS(standard_error_goes_into_standard_output_s_pipe) {
    CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "echo one; echo two >&2; echo three"),
                        .streams = {[2] = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)}),
              "one\ntwo\nthree\n");
}

/* ---- pipes ---- */

/* The child's end, from the parent's: the same pipe, the other way. */
static void check_other_end(int child_fd, int parent_end) {
    char expected[80];
    snprintf(expected, sizeof expected, "%s", identity_of_fd(parent_end));
    char *mode = strrchr(expected, ':') + 1;
    CHECK(*mode == 'r' || *mode == 'w');
    *mode = *mode == 'r' ? 'w' : 'r';
    CHECK_STR(told_fd(child_fd), expected);
    CHECK_INT(told_flags(child_fd) & (O_NONBLOCK | O_APPEND), 0);
}

static void check_parent_end(int fd, int mode) {
    CHECK(fd >= 3);
    CHECK(fd_is_cloexec(fd));
    CHECK_INT(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), mode);
}

TEST_BOTH_WAYS(each_stream_becomes_a_pipe) {
    for (int fd = 0; fd < 3; fd++) {
        Config config = {0};
        struct spawned spawned;
        config.streams[fd] = plain_stream(RDAEMON_STREAM_PIPE);
        report_and_stop(&spawned, &config);
        CHECK_STR(told("fds"), "0 1 2");
        check_parent_end(spawned.child.fds[fd], fd == 0 ? O_WRONLY : O_RDONLY);
        check_other_end(fd, spawned.child.fds[fd]);
        char fds[16];
        snprintf(fds, sizeof fds, "0 1 2 %d", spawned.child.fds[fd]);
        CHECK_STR(open_fds(0), fds);
        kill_and_reap(&spawned);
    }
}

TEST_BOTH_WAYS(the_program_has_no_copy_of_the_parent_s_ends) {
    struct spawned spawned;
    char byte;
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/cat"),
                                   .streams = {plain_stream(RDAEMON_STREAM_PIPE),
                                               plain_stream(RDAEMON_STREAM_PIPE)}});
    close(spawned.child.fds[0]);
    spawned.child.fds[0] = -1;
    /* cat sees the end of its input only if nobody else can write it. */
    CHECK_INT(read(spawned.child.fds[1], &byte, 1), 0);
    CHECK_INT(reap(&spawned), 0);
}

TEST_BOTH_WAYS(the_parent_has_no_copy_of_the_program_s_ends) {
    struct spawned spawned;
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_signal, NULL);
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/true"),
                                   .streams = {plain_stream(RDAEMON_STREAM_PIPE),
                                               plain_stream(RDAEMON_STREAM_PIPE)}});
    CHECK_INT(wait_for_exit(spawned.result), 0);
    CHECK_INT(write(spawned.child.fds[0], "x", 1), -1);
    CHECK_INT(errno, EPIPE);
}

/* ---- files ---- */

static void check_file_made(const char *path, unsigned mode) {
    struct stat status;
    CHECK_INT(stat(path, &status), 0);
    CHECK_INT(status.st_mode & 07777, mode);
}

TEST_BOTH_WAYS(an_output_file_is_created_whatever_the_umask) {
    const char *out = scratch_path("out"), *err = scratch_path("err");
    umask(0777);
    report_quietly(
        &(Config){.streams = {[1] = file_stream(out, 0, 0), [2] = file_stream(err, O_EXCL, 0606)}});
    CHECK_INT(umask(0), 0777);
    check_file_made(out, 0640);
    check_file_made(err, 0606);
    check_is_file(1, out, "w");
    check_is_file(2, err, "w");
    CHECK_STR(told("fds"), "0 1 2");
    CHECK_INT(told_flags(1) & (O_APPEND | O_NONBLOCK), O_APPEND);
}

TEST_BOTH_WAYS(an_output_file_is_appended_to_and_keeps_its_mode) {
    const char *out = make_file("out", "old ");
    CHECK_INT(chmod(out, 0600), 0);
    OUTPUT_OF(.argv = STRINGS("/bin/echo", "new"), .streams = {[1] = file_stream(out, 0, 0666)});
    CHECK_STR(file_text(out), "old new\n");
    check_file_made(out, 0600);
}

TEST_BOTH_WAYS(an_output_file_is_emptied_on_demand) {
    const char *out = make_file("out", "old ");
    OUTPUT_OF(.argv = STRINGS("/bin/echo", "new"), .streams = {[1] = file_stream(out, O_TRUNC, 0)});
    CHECK_STR(file_text(out), "new\n");
}

TEST_BOTH_WAYS(an_output_file_opened_to_read_as_well_is_not_appended_to) {
    const char *out = make_file("out", "old text");
    OUTPUT_OF(.argv = STRINGS("/bin/echo", "new"), .streams = {[1] = file_stream(out, O_RDWR, 0)});
    CHECK_STR(file_text(out), "new\ntext");
    OUTPUT_OF(.argv = STRINGS("/bin/echo", "new"),
              .streams = {[1] = file_stream(out, O_RDWR | O_TRUNC, 0)});
    CHECK_STR(file_text(out), "new\n");
    report_of(&(Config){.streams = {[1] = file_stream(out, O_RDWR, 0)}});
    check_is_file(1, out, "rw");
    CHECK_INT(told_flags(1) & (O_APPEND | O_NONBLOCK), 0);
}

TEST_BOTH_WAYS(a_file_that_must_be_new_is_one) {
    const char *out = make_file("out", "old");
    SPAWN_BADLY(RDAEMON_STEP_OPEN_STREAMS, -EEXIST, .argv = STRINGS("/bin/true"),
                .streams = {[1] = file_stream(out, O_EXCL, 0)});
    CHECK_STR(file_text(out), "old");
}

TEST_BOTH_WAYS(an_input_file_is_read) {
    const char *in = make_file("in", "some text\n");
    CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/cat"), .streams = {file_stream(in, 0, 0)}),
              "some text\n");
    report_of(&(Config){.streams = {file_stream(in, 0, 0)}});
    check_is_file(0, in, "r");
    CHECK_INT(told_flags(0) & O_NONBLOCK, 0);
    report_of(&(Config){.streams = {file_stream(in, O_RDWR, 0)}});
    check_is_file(0, in, "rw");
}

TEST_BOTH_WAYS(an_input_file_is_never_created) {
    SPAWN_BADLY(RDAEMON_STEP_OPEN_STREAMS, -ENOENT, .argv = STRINGS("/bin/true"),
                .streams = {file_stream(scratch_path("in"), 0, 0)});
    SPAWN_BADLY(RDAEMON_STEP_OPEN_STREAMS, -ENOENT, .argv = STRINGS("/bin/true"),
                .streams = {file_stream(scratch_path("in"), O_RDWR, 0)});
}

TEST_BOTH_WAYS(a_file_of_the_wrong_kind_is_refused) {
    const char *fifo = scratch_path("fifo"), *link = scratch_path("link");
    CHECK_INT(mkfifo(fifo, 0600), 0);
    CHECK_INT(symlink(make_file("file", ""), link), 0);
    SPAWN_BADLY(RDAEMON_STEP_OPEN_STREAMS, -EISDIR, .argv = STRINGS("/bin/true"),
                .streams = {[1] = file_stream(scratch(), 0, 0)});
    SPAWN_BADLY(RDAEMON_STEP_OPEN_STREAMS, -ENXIO, .argv = STRINGS("/bin/true"),
                .streams = {[2] = file_stream(fifo, 0, 0)});
    SPAWN_BADLY(RDAEMON_STEP_OPEN_STREAMS, -ELOOP, .argv = STRINGS("/bin/true"),
                .streams = {[1] = file_stream(link, O_NOFOLLOW, 0)});
}

TEST_BOTH_WAYS(rule_2_5_files_are_opened_by_the_caller_in_its_directory) {
    make_directory("here", 0755);
    make_directory("there", 0755);
    CHECK_INT(chdir(scratch_path("here")), 0);
    OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "pwd"), .working_directory = scratch_path("there"),
              .streams = {[1] = file_stream("out", 0, 0)});
    char expected[256];
    snprintf(expected, sizeof expected, "%s\n", scratch_path("there"));
    CHECK_STR(file_text("out"), expected);
    CHECK_STR(tree(scratch()), "here/ here/out there/");
}

TEST_BOTH_WAYS(rule_2_5_files_are_opened_with_the_caller_s_rights) {
    REQUIRE_ROOT();
    const char *out = make_file("out", "");
    CHECK_INT(chmod(out, 0600), 0);
    OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "echo written"),
              .identity = {.flags = RDAEMON_IDENTITY_UID, .uid = TEST_UID},
              .streams = {[1] = file_stream(out, 0, 0)});
    CHECK_STR(file_text(out), "written\n");
}

TEST_BOTH_WAYS(created_files_are_removed_when_a_later_step_fails) {
    const char *first = scratch_path("1"), *second = scratch_path("2"), *third = scratch_path("3");
    struct rdaemon_fd_mapping map = {.child_fd = 9, .source = file_stream(third, 0, 0)};
    Config config = {
        .argv = STRINGS("/nonexistent"),
        .streams = {[1] = file_stream(first, 0, 0), [2] = file_stream(second, O_EXCL, 0)},
        .fd_map = &map,
        .fd_map_len = 1,
    };
    spawn_badly(&config, RDAEMON_STEP_EXEC, -ENOENT);
    config.argv = STRINGS("/bin/true");
    config.working_directory = "/nonexistent";
    spawn_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
    config.streams[0] = file_stream(scratch_path("4"), 0, 0);
    spawn_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ENOENT);
    config.streams[0] = plain_stream(RDAEMON_STREAM_DEFAULT);
    map.source.path = "/nonexistent/3";
    spawn_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ENOENT);
}

TEST_BOTH_WAYS(files_that_were_there_stay_when_a_later_step_fails) {
    const char *out = make_file("out", "old");
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"),
                .streams = {[1] = file_stream(out, 0, 0), [2] = file_stream(out, 0, 0)});
    CHECK_STR(file_text(out), "old");
}

/* ---- the fd map ---- */

TEST_EACH_WAY(the_map_takes_fds_to_any_number) {
    static const int targets[] = {3, 4, 5, 6, 7, 8, 10, 63, 64, 255, 256, 1000};
    open_at(40, O_CLOEXEC);
    for (size_t i = 0; i < LENGTH(targets); i++) {
        struct rdaemon_fd_mapping map = map_fd(targets[i], 40);
        char fds[32];
        report_quietly(&(Config){.fd_map = &map, .fd_map_len = 1});
        snprintf(fds, sizeof fds, "0 1 2 %d", targets[i]);
        CHECK_STR(told("fds"), fds);
        CHECK_STR(told_fd(targets[i]), identity_of_fd(40));
    }
}

/* Every function from four numbers to four: all permutations, swaps, cycles and duplicates. */
static void check_all_functions(int lowest) {
    for (int fd = lowest; fd < lowest + 4; fd++)
        open_at(fd, fd >= 3 && fd % 2 ? O_CLOEXEC : 0);
    for (int code = 0; code < 256; code++) {
        struct rdaemon_fd_mapping map[4];
        for (int i = 0; i < 4; i++)
            map[i] = map_fd(lowest + i, lowest + (code >> 2 * i & 3));
        report_of(&(Config){.fd_map = map, .fd_map_len = 4});
        for (int i = 0; i < 4; i++)
            CHECK_STR(told_fd(map[i].child_fd), identity_of_fd(map[i].source.fd));
        CHECK_STR(told("fds"), lowest == 3 ? "0 1 2 3 4 5 6" : "0 1 2 3");
    }
}

TEST(rule_2_4_every_assignment_of_four_fds) {
    check_all_functions(3);
}

TEST(rule_2_4_every_assignment_of_four_fds_forked) {
    way = RDAEMON_SPAWN_FORCE_FORK;
    check_all_functions(0);
}

TEST_EACH_WAY(rule_2_4_a_cycle_of_all_that_a_map_can_hold) {
    struct rdaemon_fd_mapping map[64];
    char fds[256] = "0 1 2";
    for (int i = 0; i < 64; i++) {
        open_at(3 + i, O_CLOEXEC);
        map[i] = map_fd(3 + i, 3 + (i * 5 + 1) % 64);
        sprintf(fds + strlen(fds), " %d", 3 + i);
    }
    report_quietly(&(Config){.fd_map = map, .fd_map_len = 64});
    CHECK_STR(told("fds"), fds);
    for (int i = 0; i < 64; i++)
        CHECK_STR(told_fd(map[i].child_fd), identity_of_fd(map[i].source.fd));
}

TEST_EACH_WAY(one_fd_goes_to_many_numbers) {
    struct rdaemon_fd_mapping map[8];
    open_at(5, O_CLOEXEC);
    for (int i = 0; i < 8; i++)
        map[i] = map_fd(3 + i, 5);
    report_quietly(&(Config){
        .streams = {fd_stream(5), fd_stream(5), fd_stream(5)}, .fd_map = map, .fd_map_len = 8});
    CHECK_STR(told("fds"), "0 1 2 3 4 5 6 7 8 9 10");
    for (int fd = 0; fd <= 10; fd++)
        CHECK_STR(told_fd(fd), identity_of_fd(5));
}

TEST_EACH_WAY(standard_streams_and_mapped_fds_trade_places) {
    tell_streams_apart();
    open_at(3, O_CLOEXEC);
    open_at(4, O_CLOEXEC);
    struct rdaemon_fd_mapping map[] = {map_fd(4, 1), map_fd(3, 0), map_fd(2, 4)};
    report_quietly(
        &(Config){.streams = {fd_stream(3), fd_stream(2)}, .fd_map = map, .fd_map_len = 3});
    CHECK_STR(told("fds"), "0 1 2 3 4");
    CHECK_STR(told_fd(0), identity_of_fd(3));
    CHECK_STR(told_fd(1), identity_of_fd(2));
    CHECK_STR(told_fd(2), identity_of_fd(4));
    CHECK_STR(told_fd(3), identity_of_fd(0));
    CHECK_STR(told_fd(4), identity_of_fd(1));
}

TEST_EACH_WAY(the_map_makes_a_standard_stream_whose_action_is_the_default) {
    tell_streams_apart();
    open_at(7, O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++) {
        struct rdaemon_fd_mapping map = map_fd(fd, 7);
        report_quietly(&(Config){.fd_map = &map, .fd_map_len = 1});
        for (int other = 0; other < 3; other++)
            CHECK_STR(told_fd(other), identity_of_fd(other == fd ? 7 : other));
    }
}

TEST_EACH_WAY(the_map_makes_an_fd_of_the_same_number_inheritable) {
    open_at(6, O_CLOEXEC);
    struct rdaemon_fd_mapping map = {.child_fd = 6, .source = plain_stream(RDAEMON_STREAM_INHERIT)};
    report_quietly(&(Config){.fd_map = &map, .fd_map_len = 1});
    CHECK_STR(told("fds"), "0 1 2 6");
    CHECK_STR(told_fd(6), identity_of_fd(6));
}

TEST_EACH_WAY(the_map_gives_null_and_files_too) {
    const char *in = make_file("in", "read me"), *out = scratch_path("out");
    const char *both = scratch_path("both");
    struct rdaemon_fd_mapping map[] = {
        {.child_fd = 5, .source = plain_stream(RDAEMON_STREAM_NULL)},
        {.child_fd = 3, .flags = RDAEMON_FD_MAPPING_INPUT, .source = file_stream(in, 0, 0)},
        {.child_fd = 20, .source = file_stream(out, 0, 0604)},
        {.child_fd = 4, .source = file_stream(both, O_RDWR, 0)},
    };
    umask(0777);
    Config config = {.fd_map = map, .fd_map_len = LENGTH(map)};
    report_of(&config);
    CHECK_STR(told("fds"), "0 1 2 3 4 5 20");
    check_is_null(5);
    check_is_file(3, in, "r");
    check_is_file(20, out, "w");
    check_is_file(4, both, "rw");
    check_file_made(out, 0604);
    check_file_made(both, 0640);
    CHECK_INT(told_flags(20) & (O_APPEND | O_NONBLOCK), O_APPEND);
    CHECK_INT(told_flags(4) & (O_APPEND | O_NONBLOCK), 0);
}

TEST_EACH_WAY(mapped_fds_are_the_same_as_standard_output) {
    struct spawned spawned;
    tell_streams_apart();
    open_at(5, O_CLOEXEC);
    struct rdaemon_fd_mapping map[] = {
        {.child_fd = 5, .source = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)},
        {.child_fd = 9, .source = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)}};
    report_and_stop(&spawned,
                    &(Config){.streams = {[1] = fd_stream(5)}, .fd_map = map, .fd_map_len = 2});
    CHECK_STR(told("fds"), "0 1 2 5 9");
    CHECK(shares_description(spawned.result, 5, 5));
    CHECK(shares_description(spawned.result, 9, 5));
    kill_and_reap(&spawned);
}

TEST_BOTH_WAYS(mapped_pipes_go_both_ways) {
    int32_t ends[3] = {-7, -7, -7};
    struct spawned spawned;
    struct rdaemon_fd_mapping map[] = {
        {.child_fd = 3,
         .flags = RDAEMON_FD_MAPPING_INPUT,
         .source = plain_stream(RDAEMON_STREAM_PIPE),
         .ret_fd = &ends[0]},
        {.child_fd = 7, .source = plain_stream(RDAEMON_STREAM_PIPE), .ret_fd = &ends[1]},
        {.child_fd = 0, .source = plain_stream(RDAEMON_STREAM_PIPE), .ret_fd = &ends[2]},
    };
    Config config = {.fd_map = map, .fd_map_len = 3};
    report_and_stop(&spawned, &config);
    CHECK_STR(told("fds"), "0 1 2 3 7");
    check_parent_end(ends[0], O_WRONLY);
    check_parent_end(ends[1], O_RDONLY);
    check_parent_end(ends[2], O_WRONLY);
    check_other_end(3, ends[0]);
    check_other_end(7, ends[1]);
    check_other_end(0, ends[2]);
    CHECK_INT(spawned.child.fds[0], -1);
    kill_and_reap(&spawned);
}

TEST_BOTH_WAYS(mapped_pipes_carry_what_is_written) {
    int32_t to = -1, from = -1;
    struct spawned spawned;
    char text[8] = "";
    struct rdaemon_fd_mapping map[] = {
        {.child_fd = 4, .source = plain_stream(RDAEMON_STREAM_PIPE), .ret_fd = &from},
        {.child_fd = 3,
         .flags = RDAEMON_FD_MAPPING_INPUT,
         .source = plain_stream(RDAEMON_STREAM_PIPE),
         .ret_fd = &to},
    };
    spawn_well(
        &spawned,
        &(Config){.argv = STRINGS("/bin/sh", "-c", "cat <&3 >&4"), .fd_map = map, .fd_map_len = 2});
    CHECK_INT(write(to, "across", 6), 6);
    close(to);
    CHECK_INT(read(from, text, 6), 6);
    CHECK_STR(text, "across");
    CHECK_INT(read(from, text, 1), 0);
    CHECK_INT(reap(&spawned), 0);
}

TEST_BOTH_WAYS(a_failure_leaves_the_place_for_a_mapped_pipe_alone) {
    int32_t end = -7;
    struct rdaemon_fd_mapping map = {
        .child_fd = 3, .source = plain_stream(RDAEMON_STREAM_PIPE), .ret_fd = &end};
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"), .fd_map = &map,
                .fd_map_len = 1);
    CHECK_INT(end, -7);
}

TEST_BOTH_WAYS(targets_may_be_the_numbers_that_the_library_s_own_fds_get) {
    /* Everything that it makes for itself lands on the lowest free numbers, 3 and up. */
    const char *out = scratch_path("out");
    struct rdaemon_fd_mapping map[20];
    int32_t ends[20];
    open_at(60, O_CLOEXEC);
    open_at(61, 0);
    /* The odd entries go up from 3, the even ones come down from 22. */
    for (int i = 0; i < 20; i++) {
        map[i] = map_fd(i % 2 ? 3 + i / 2 : 22 - i / 2, 60 + i % 2);
        if (i % 4 == 2) {
            map[i].source = plain_stream(RDAEMON_STREAM_PIPE);
            map[i].ret_fd = &ends[i];
        }
    }
    Config config = {.flags = RDAEMON_SPAWN_PIDFD,
                     .streams = {plain_stream(RDAEMON_STREAM_PIPE),
                                 plain_stream(RDAEMON_STREAM_PIPE), file_stream(out, 0, 0)},
                     .fd_map = map,
                     .fd_map_len = 20};
    struct spawned spawned;
    report_and_stop(&spawned, &config);
    CHECK_STR(told("fds"), "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22");
    check_other_end(0, spawned.child.fds[0]);
    check_other_end(1, spawned.child.fds[1]);
    check_is_file(2, out, "w");
    for (int i = 0; i < 20; i++)
        if (i % 4 == 2)
            check_other_end(map[i].child_fd, ends[i]);
        else
            CHECK_STR(told_fd(map[i].child_fd), identity_of_fd(map[i].source.fd));
    kill_and_reap(&spawned);
}

TEST_BOTH_WAYS(a_failure_is_reported_whatever_number_the_report_s_fd_has) {
    struct rdaemon_fd_mapping map[64];
    for (int i = 0; i < 64; i++)
        map[i] = map_fd(3 + i, 0);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"), .fd_map = map,
                .fd_map_len = 64);
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, .argv = STRINGS("/bin/true"), .fd_map = map,
                .fd_map_len = 64, .working_directory = "/nonexistent");
}

static void limit_nofile(rlim_t soft) {
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = soft;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TEST_BOTH_WAYS(targets_may_be_as_high_as_the_limit_allows) {
    limit_nofile(64);
    struct rdaemon_fd_mapping map[] = {map_fd(63, 0), map_fd(62, 1), map_fd(61, 2)};
    report_quietly(&(Config){.fd_map = map, .fd_map_len = 3});
    CHECK_STR(told("fds"), "0 1 2 61 62 63");
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"), .fd_map = map,
                .fd_map_len = 3);
}

TEST(all_numbers_that_the_limit_allows_may_be_targets) {
    limit_nofile(32);
    struct rdaemon_fd_mapping map[32];
    for (int i = 0; i < 32; i++)
        map[i] = map_fd(i, i % 3);
    Config config = {.argv = STRINGS("/nonexistent"), .fd_map = map, .fd_map_len = 32};
    spawn_badly(&config, RDAEMON_STEP_EXEC, -ENOENT);
    /* Only the child on shared memory needs no number for its report. */
    config.flags = RDAEMON_SPAWN_FORCE_FORK;
    spawn_badly(&config, RDAEMON_STEP_CHANNEL, -EMFILE);
    config.flags = 0;
    /* A program without shared libraries would need no free number; this one gets some. */
    config.argv = NULL;
    config.limits = &(struct rdaemon_limit){.resource = RLIMIT_NOFILE, .soft = 64, .hard = 1024};
    config.limits_len = 1;
    report_quietly(&config);
    CHECK_STR(told("fds"), "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 "
                           "27 28 29 30 31");
    for (int i = 0; i < 32; i++)
        CHECK_STR(told_fd(i), identity_of_fd(i % 3));
}

TEST_EACH_WAY(a_target_above_the_limit_is_refused) {
    limit_nofile(1024);
    struct rdaemon_fd_mapping map = map_fd(1024, 0);
    SPAWN_BADLY(RDAEMON_STEP_MAP_FDS, -EBADF, .argv = STRINGS("/bin/true"), .fd_map = &map,
                .fd_map_len = 1);
    map.child_fd = INT32_MAX;
    SPAWN_BADLY(RDAEMON_STEP_MAP_FDS, -EBADF, .argv = STRINGS("/bin/true"), .fd_map = &map,
                .fd_map_len = 1);
}

TEST(fds_that_trade_places_need_one_to_spare) {
    struct rdaemon_fd_mapping map[] = {map_fd(3, 4), map_fd(4, 3)};
    Config config = {.argv = STRINGS("/bin/true"), .fd_map = map, .fd_map_len = 2};
    struct spawned spawned;
    struct rlimit all, five = {5, 5};
    open_at(3, O_CLOEXEC);
    open_at(4, O_CLOEXEC);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
    five.rlim_max = all.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &five), 0);
    spawn(&spawned, &config);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
    CHECK_INT(spawned.result, -EMFILE);
    CHECK_INT(spawned.status.step, RDAEMON_STEP_MAP_FDS);
    CHECK_STR(open_fds(0), "0 1 2 3 4");
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST_BOTH_WAYS(sources_may_be_above_the_limit) {
    open_at(500, O_CLOEXEC);
    limit_nofile(64);
    struct rdaemon_fd_mapping map = map_fd(5, 500);
    report_quietly(&(Config){.streams = {fd_stream(500)}, .fd_map = &map, .fd_map_len = 1});
    CHECK_STR(told("fds"), "0 1 2 5");
    CHECK_STR(told_fd(0), identity_of_fd(500));
    CHECK_STR(told_fd(5), identity_of_fd(500));
}

TEST_BOTH_WAYS(o_path_fds_are_mapped_too) {
    int fd = open(scratch(), O_PATH | O_CLOEXEC);
    struct rdaemon_fd_mapping map = map_fd(9, fd);
    report_quietly(&(Config){.fd_map = &map, .fd_map_len = 1});
    CHECK_STR(told("fds"), "0 1 2 9");
    CHECK_INT(told_flags(9) & O_PATH, O_PATH);
}

/* ---- fds passed on, and all others ---- */

TEST_EACH_WAY(all_other_fds_are_closed) {
    for (int fd = 3; fd < 12; fd++)
        open_at(fd, fd % 2 ? O_CLOEXEC : 0);
    open_at(900, 0);
    report_quietly(&(Config){0});
    CHECK_STR(told("fds"), "0 1 2");
}

TEST_EACH_WAY(fds_are_passed_on_under_their_number) {
    static const int32_t pass[] = {9, 4, 900, 9, 7};
    for (int fd = 3; fd < 12; fd++)
        open_at(fd, fd % 2 ? O_CLOEXEC : 0);
    open_at(900, O_CLOEXEC);
    report_quietly(&(Config){.pass_fds = pass, .pass_fds_len = LENGTH(pass)});
    CHECK_STR(told("fds"), "0 1 2 4 7 9 900");
    for (size_t i = 0; i < LENGTH(pass); i++)
        CHECK_STR(told_fd(pass[i]), identity_of_fd(pass[i]));
}

TEST_EACH_WAY(thousands_of_fds_are_passed_on) {
    enum { COUNT = 1000 };
    static int32_t pass[COUNT];
    static char fds[8 * COUNT] = "0 1 2";
    int length = 5;
    limit_nofile(4096);
    for (int i = 0; i < COUNT; i++) {
        CHECK_INT(dup3(0, 3 + 2 * i, O_CLOEXEC), 3 + 2 * i);
        CHECK_INT(dup3(0, 4 + 2 * i, 0), 4 + 2 * i);
        pass[COUNT - 1 - i] = 3 + 2 * i;
        length += sprintf(fds + length, " %d", 3 + 2 * i);
    }
    report_quietly(&(Config){.pass_fds = pass, .pass_fds_len = COUNT});
    CHECK_STR(told("fds"), fds);
}

TEST_EACH_WAY(a_passed_fd_may_be_a_source_too) {
    static const int32_t pass[] = {5};
    open_at(5, O_CLOEXEC);
    struct rdaemon_fd_mapping map = map_fd(6, 5);
    report_quietly(&(Config){.streams = {[1] = fd_stream(5)},
                             .pass_fds = pass,
                             .pass_fds_len = 1,
                             .fd_map = &map,
                             .fd_map_len = 1});
    CHECK_STR(told("fds"), "0 1 2 5 6");
    CHECK_STR(told_fd(1), identity_of_fd(5));
    CHECK_STR(told_fd(5), identity_of_fd(5));
    CHECK_STR(told_fd(6), identity_of_fd(5));
}

TEST_EACH_WAY(fds_that_are_not_cloexec_stay_open_on_demand) {
    for (int fd = 3; fd < 9; fd++)
        open_at(fd, fd % 2 ? O_CLOEXEC : 0);
    static const int32_t pass[] = {7};
    struct rdaemon_fd_mapping map = map_fd(4, 3);
    report_quietly(&(Config){.flags = RDAEMON_SPAWN_KEEP_FDS,
                             .pass_fds = pass,
                             .pass_fds_len = 1,
                             .fd_map = &map,
                             .fd_map_len = 1});
    CHECK_STR(told("fds"), "0 1 2 4 6 7 8");
    CHECK_STR(told_fd(4), identity_of_fd(3));
    CHECK_STR(told_fd(6), identity_of_fd(6));
    CHECK_STR(told_fd(7), identity_of_fd(7));
}

TEST_BOTH_WAYS(nothing_of_the_library_s_stays_open_with_the_others) {
    Config config = {.flags = RDAEMON_SPAWN_KEEP_FDS | RDAEMON_SPAWN_PIDFD,
                     .streams = {plain_stream(RDAEMON_STREAM_PIPE),
                                 file_stream(scratch_path("out"), 0, 0),
                                 plain_stream(RDAEMON_STREAM_NULL)}};
    struct spawned spawned;
    report_and_stop(&spawned, &config);
    CHECK_STR(told("fds"), "0 1 2");
    kill_and_reap(&spawned);
}

TEST_EACH_WAY(rule_2_2_an_fd_above_a_lowered_limit_is_closed_too) {
    open_at(950, 0);
    open_at(951, O_CLOEXEC);
    limit_nofile(940);
    report_of(&(Config){0});
    CHECK_STR(told("fds"), "0 1 2");
}

TEST_BOTH_WAYS(an_fd_above_a_lowered_limit_is_passed_on) {
    static const int32_t pass[] = {800, 801};
    open_at(800, 0);
    open_at(801, O_CLOEXEC);
    limit_nofile(64);
    report_quietly(&(Config){.pass_fds = pass, .pass_fds_len = 2});
    CHECK_STR(told("fds"), "0 1 2 800 801");
}

TEST_BOTH_WAYS(rule_2_2_all_others_are_closed_without_close_range) {
    static const int32_t pass[] = {9};
    for (int fd = 3; fd < 12; fd++)
        open_at(fd, fd % 2 ? O_CLOEXEC : 0);
    deny_syscall(SYS_close_range, EPERM);
    report_quietly(&(Config){.pass_fds = pass, .pass_fds_len = 1});
    CHECK_STR(told("fds"), "0 1 2 9");
}

TEST_BOTH_WAYS(rule_2_2_all_others_are_closed_with_neither_close_range_nor_proc) {
    static const int32_t pass[] = {9};
    for (int fd = 3; fd < 12; fd++)
        open_at(fd, fd % 2 ? O_CLOEXEC : 0);
    open_at(900, 0);
    limit_nofile(256);
    const char *root = jail();
    mount_tmpfs("/proc", "size=4096");
    deny_syscall(SYS_close_range, ENOSYS);
    report_of(&(Config){
        .pass_fds = pass, .pass_fds_len = 1, .paths = STRINGS("/mnt/program"), .argv = NULL});
    CHECK_STR(told("fds"), "0 1 2 9");
    report_of(&(Config){.chroot_directory = root, .pass_fds = pass, .pass_fds_len = 1});
    CHECK_STR(told("fds"), "0 1 2 9");
}

/* ---- closed standard streams ---- */

enum { SUBSETS = 8 };

static bool is_closed(int subset, int fd) {
    return subset >> fd & 1;
}

/* What the stream must be, the caller's fds being what they are. */
static void check_stream(const struct rdaemon_stream *stream, int fd, int subset,
                         const struct spawned *spawned) {
    switch (stream->action) {
    case RDAEMON_STREAM_DEFAULT:
    case RDAEMON_STREAM_INHERIT:
        CHECK_STR(told_fd(fd), is_closed(subset, fd) ? "(not told)" : identity_of_fd(fd));
        break;
    case RDAEMON_STREAM_NULL:
        check_is_null(fd);
        break;
    case RDAEMON_STREAM_FD:
        CHECK_STR(told_fd(fd), identity_of_fd(stream->fd));
        break;
    case RDAEMON_STREAM_FILE:
        check_is_file(fd, stream->path, fd == 0 ? "r" : "w");
        break;
    case RDAEMON_STREAM_SAME_AS_STDOUT:
        CHECK_STR(told_fd(fd), told_fd(1));
        break;
    case RDAEMON_STREAM_PIPE:
        check_other_end(fd, spawned->child.fds[fd]);
        break;
    }
}

static void check_streams_of_subset(const Config *config, int subset) {
    struct spawned spawned;
    char fds[16] = "", before[64];
    IN_CHILD {
        tell_streams_apart();
        close_standard_fds(subset);
        open_at(17, O_CLOEXEC);
        snprintf(before, sizeof before, "%s", open_fds(0));
        report_and_stop(&spawned, config);
        for (int fd = 0; fd < 3; fd++) {
            check_stream(&config->streams[fd], fd, subset, &spawned);
            if (strcmp(told_fd(fd), "(not told)") != 0)
                sprintf(fds + strlen(fds), fds[0] ? " %d" : "%d", fd);
        }
        CHECK_STR(told("fds"), fds);
        kill_and_reap(&spawned);
        CHECK_STR(open_fds(0), before);
    }
}

TEST_BOTH_WAYS(rule_1_6_every_action_whatever_standard_fds_are_closed) {
    const char *file = make_file("file", "");
    struct rdaemon_stream streams[] = {
        plain_stream(RDAEMON_STREAM_DEFAULT),
        plain_stream(RDAEMON_STREAM_NULL),
        plain_stream(RDAEMON_STREAM_INHERIT),
        fd_stream(17),
        file_stream(file, 0, 0),
        plain_stream(RDAEMON_STREAM_PIPE),
    };
    for (int subset = 0; subset < SUBSETS; subset++)
        for (int fd = 0; fd < 3; fd++)
            for (size_t i = 0; i < LENGTH(streams); i++) {
                Config config = {0};
                config.streams[fd] = streams[i];
                check_streams_of_subset(&config, subset);
            }
}

TEST_BOTH_WAYS(rule_1_6_each_action_on_all_streams_whatever_standard_fds_are_closed) {
    const char *file = make_file("file", "");
    struct rdaemon_stream streams[] = {
        plain_stream(RDAEMON_STREAM_DEFAULT),
        plain_stream(RDAEMON_STREAM_NULL),
        fd_stream(17),
        file_stream(file, 0, 0),
        plain_stream(RDAEMON_STREAM_PIPE),
    };
    for (int subset = 0; subset < SUBSETS; subset++)
        for (size_t i = 0; i < LENGTH(streams); i++) {
            Config config = {.streams = {streams[i], streams[i], streams[i]}};
            check_streams_of_subset(&config, subset);
            if (streams[i].action == RDAEMON_STREAM_DEFAULT)
                continue;
            config.streams[2] = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT);
            check_streams_of_subset(&config, subset);
        }
}

TEST_BOTH_WAYS(rule_1_6_a_failure_is_reported_whatever_standard_fds_are_closed) {
    make_file("file", "");
    for (int subset = 0; subset < SUBSETS; subset++)
        IN_CHILD {
            close_standard_fds(subset);
            SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"));
            SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"),
                        .flags = RDAEMON_SPAWN_PIDFD,
                        .streams = {plain_stream(RDAEMON_STREAM_PIPE),
                                    plain_stream(RDAEMON_STREAM_NULL),
                                    plain_stream(RDAEMON_STREAM_PIPE)});
        }
}

/* ---- anything at all, against a model ---- */

enum { FD_SPACE = 32, ROUNDS = 400 };

static uint32_t random_state = 20240229;

static uint32_t below(uint32_t limit) {
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)(random_state >> 8) * limit >> 24);
}

struct model {
    Config config;
    struct rdaemon_fd_mapping map[16];
    int32_t ends[16];
    int32_t pass[16];
    char expected[FD_SPACE][80]; /* empty: closed; "pipe": known after the call */
    bool taken[FD_SPACE];        /* an fd map, a stream or a passed fd says what it is */
};

/* The standard fds may be closed but not CLOEXEC; all others may be both. */
static void open_some_fds(void) {
    for (int fd = 0; fd < FD_SPACE; fd++) {
        close(fd);
        if (below(5) < 3)
            open_at(fd, fd >= 3 && below(2) ? O_CLOEXEC : 0);
    }
}

/* Gives up after a while, as none may be open. */
static int some_open_fd(void) {
    for (int tries = 0; tries < 200; tries++) {
        int fd = (int)below(FD_SPACE);
        if (fd_is_open(fd))
            return fd;
    }
    return -1;
}

static void write_expected(char *expected, const char *path, const char *mode) {
    snprintf(expected, 80, "%s:%s", identity_of(path), mode);
}

/* A random source, and what the child must then have; SAME_AS_STDOUT is left out for the output
 * itself. */
static struct rdaemon_stream some_source(char *expected, const char *file, bool input) {
    int fd = some_open_fd();
    switch (fd < 0 ? 1 + below(3) : below(8)) {
    case 1:
        write_expected(expected, "/dev/null", "");
        return plain_stream(RDAEMON_STREAM_NULL);
    case 2:
        strcpy(expected, "pipe");
        return plain_stream(RDAEMON_STREAM_PIPE);
    case 3:
        write_expected(expected, file, input ? "r" : "w");
        return file_stream(file, 0, 0);
    default:
        snprintf(expected, 80, "%s", identity_of_fd(fd));
        return fd_stream(fd);
    }
}

static void choose_streams(struct model *model, const char *file) {
    for (int fd = 0; fd < 3; fd++)
        if (below(3)) {
            model->config.streams[fd] = some_source(model->expected[fd], file, fd == 0);
            model->taken[fd] = true;
        }
    if (model->taken[1] && strcmp(model->expected[1], "pipe") != 0 && below(4) == 0) {
        model->config.streams[2] = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT);
        strcpy(model->expected[2], model->expected[1]);
        model->taken[2] = true;
    }
}

static void choose_map(struct model *model, const char *file) {
    model->config.fd_map = model->map;
    for (uint32_t wanted = below(17); model->config.fd_map_len < wanted;) {
        int target = (int)below(FD_SPACE);
        if (model->taken[target])
            continue;
        size_t index = model->config.fd_map_len++;
        bool input = below(2);
        struct rdaemon_fd_mapping *entry = &model->map[index];
        *entry = (struct rdaemon_fd_mapping){.child_fd = target};
        entry->source = some_source(model->expected[target], file, input || target == 0);
        if (entry->source.action == RDAEMON_STREAM_PIPE)
            entry->ret_fd = &model->ends[index];
        if (input && (entry->source.action == RDAEMON_STREAM_PIPE ||
                      entry->source.action == RDAEMON_STREAM_FILE))
            entry->flags = RDAEMON_FD_MAPPING_INPUT;
        model->taken[target] = true;
    }
}

static void choose_others(struct model *model) {
    model->config.pass_fds = model->pass;
    if (below(2))
        model->config.flags |= RDAEMON_SPAWN_KEEP_FDS;
    if (below(4) == 0)
        model->config.flags |= RDAEMON_SPAWN_PIDFD;
    for (int fd = 0; fd < FD_SPACE; fd++) {
        if (model->taken[fd] || !fd_is_open(fd))
            continue;
        bool pass = fd >= 3 && below(3) == 0 && model->config.pass_fds_len < 16;
        if (pass)
            model->pass[model->config.pass_fds_len++] = fd;
        if (pass || fd < 3 || (model->config.flags & RDAEMON_SPAWN_KEEP_FDS && !fd_is_cloexec(fd)))
            snprintf(model->expected[fd], sizeof model->expected[fd], "%s", identity_of_fd(fd));
    }
}

static void check_against_model(const struct model *model, const struct spawned *spawned) {
    char fds[4 * FD_SPACE] = "";
    for (int fd = 0; fd < FD_SPACE; fd++) {
        const char *expected = model->expected[fd];
        if (strcmp(expected, "pipe") == 0) {
            int end = fd < 3 ? spawned->child.fds[fd] : -1;
            for (size_t i = 0; i < model->config.fd_map_len; i++)
                if (model->map[i].child_fd == fd)
                    end = model->ends[i];
            check_other_end(fd, end);
            close(end);
        } else if (expected[0]) {
            CHECK_INT(strncmp(told_fd(fd), expected, strlen(expected)), 0);
        }
        if (expected[0])
            sprintf(fds + strlen(fds), fds[0] ? " %d" : "%d", fd);
    }
    CHECK_STR(told("fds"), fds);
}

TEST(rule_2_4_random_fd_tables_are_what_a_model_says, .time_limit_ms = 60000) {
    const char *file = make_file("file", "");
    static struct snapshot before;
    for (int round = 0; round < ROUNDS; round++) {
        static struct model model;
        struct spawned spawned;
        memset(&model, 0, sizeof model);
        open_some_fds();
        choose_streams(&model, file);
        choose_map(&model, file);
        choose_others(&model);
        way = below(2) ? RDAEMON_SPAWN_FORCE_FORK : 0;
        if (round % 8 == 0)
            snapshot_take(&before);
        report_and_stop(&spawned, &model.config);
        check_against_model(&model, &spawned);
        for (int i = 0; i < 3; i++)
            spawned.child.fds[i] = -1;
        kill_and_reap(&spawned);
        if (round % 8 == 0)
            CHECK(snapshot_same(&before));
    }
}

TEST(rule_2_4_random_failures_leave_nothing_behind, .time_limit_ms = 60000) {
    const char *file = make_file("file", "");
    random_state = 4711;
    for (int round = 0; round < ROUNDS / 4; round++) {
        static struct model model;
        memset(&model, 0, sizeof model);
        open_some_fds();
        choose_streams(&model, file);
        choose_map(&model, file);
        choose_others(&model);
        way = below(2) ? RDAEMON_SPAWN_FORCE_FORK : 0;
        model.config.argv = STRINGS("/nonexistent");
        spawn_badly(&model.config, RDAEMON_STEP_EXEC, -ENOENT);
    }
}

/* The file cannot stay on a number below 3, nor go anywhere else. */
TEST(a_file_that_finds_no_number_above_the_streams_is_not_left) {
    const char *path = scratch_path("created");
    struct rlimit limit = {3, 3};
    CHECK_INT(close(0), 0);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    Config config = {.argv = STRINGS("/bin/true"), .streams[1] = file_stream(path, 0, 0)};
    CHECK_INT(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, NULL, 0), -EMFILE);
    CHECK_INT(access(path, F_OK), -1);
}

TEST_EACH_WAY(a_file_that_was_created_stays) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", scratch_path("created"));
    OUTPUT_OF(.argv = STRINGS("/bin/echo", "written"), .streams[1] = file_stream(path, 0, 0));
    CHECK_STR(file_text(path), "written\n");
}
