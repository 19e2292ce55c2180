/* Every configuration of a program that is refused: by rdaemon_spawn and, in the same words, by
 * rdaemon_exec, before anything is made or changed. */
#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "child.h"
#include "probe.h"
#include "start.h"
#include "tap.h"

/* A program that is not there: a config that should be refused but is not ends with a step of its
 * own, and never replaces the case by a program that ends well. */
static const char *const nothing[] = {"/nonexistent/program", NULL};

static void check_status(const struct rdaemon_status *status, int error, int subject) {
    if (status->step != RDAEMON_STEP_CONFIG)
        FAIL("the step is %s instead of config", rdaemon_step_name(status->step));
    if (status->subject != subject)
        FAIL("the refusal is blamed on %s instead of %s", rdaemon_step_name(status->subject),
             rdaemon_step_name(subject));
    CHECK_INT(status->error, error);
    CHECK_INT(status->pid, 0);
    CHECK_INT(status->signal, 0);
}

static void spawn_refuses_bytes(const void *config, size_t size, int error, int subject) {
    static struct rdaemon_child child, untouched;
    static struct rdaemon_status status;
    memset(&untouched, 0x5a, sizeof untouched);
    memset(&child, 0x5a, sizeof child);
    memset(&status, 0x5a, sizeof status);
    CHECK_REFUSED(rdaemon_spawn(config, size, RDAEMON_SIZED(&child), RDAEMON_SIZED(&status)),
                  error);
    check_status(&status, error, subject);
    CHECK(memcmp(&child, &untouched, sizeof child) == 0);
}

static void exec_refuses_bytes(const void *config, size_t size, int error, int subject) {
    static struct rdaemon_status status;
    memset(&status, 0x5a, sizeof status);
    CHECK_REFUSED(rdaemon_exec(config, size, RDAEMON_SIZED(&status)), error);
    check_status(&status, error, subject);
}

static void refused_as(const void *config, size_t size, int error, int subject) {
    spawn_refuses_bytes(config, size, error, subject);
    exec_refuses_bytes(config, size, error, subject);
}

static void refused(Config config, int error, int subject) {
    if (!config.argv)
        config.argv = nothing;
    refused_as(RDAEMON_SIZED(&config), error, subject);
}

static void spawn_refuses(Config config, int error, int subject) {
    config.argv = nothing;
    spawn_refuses_bytes(RDAEMON_SIZED(&config), error, subject);
}

/* Not refused: it comes as far as the program that is not there. */
static void accepted(Config config) {
    if (!config.argv)
        config.argv = nothing;
    spawn_badly(&config, RDAEMON_STEP_EXEC, -ENOENT);
}

/* ---- the structs ---- */

TEST(a_short_config_is_refused) {
    Config config = {.argv = nothing};
    refused_as(&config, 0, -EINVAL, RDAEMON_STEP_CONFIG);
    refused_as(&config, 8, -EINVAL, RDAEMON_STEP_CONFIG);
    refused_as(&config, sizeof config - 1, -EINVAL, RDAEMON_STEP_CONFIG);
}

TEST(no_config_is_refused) {
    refused_as(NULL, sizeof(Config), -EINVAL, RDAEMON_STEP_CONFIG);
    refused_as(NULL, 0, -EINVAL, RDAEMON_STEP_EXEC);
}

TEST(a_longer_config_must_end_with_zeros) {
    struct {
        Config config;
        char tail[16];
    } longer = {.config.argv = nothing};
    CHECK_INT(rdaemon_spawn(&longer.config, sizeof longer, NULL, 0, NULL, 0), -ENOENT);
    longer.tail[15] = 1;
    refused_as(&longer, sizeof longer, -E2BIG, RDAEMON_STEP_CONFIG);
}

TEST(a_config_of_absurd_size_is_refused) {
    static union {
        Config config;
        char bytes[8192];
    } huge;
    huge.config.argv = nothing;
    refused_as(&huge, 4097, -E2BIG, RDAEMON_STEP_CONFIG);
    refused_as(&huge, SIZE_MAX, -E2BIG, RDAEMON_STEP_CONFIG);
}

TEST(no_handle_or_status_with_a_size_is_refused) {
    Config config = {.argv = nothing};
    struct rdaemon_child child;
    struct rdaemon_status status;
    CHECK_REFUSED(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, sizeof child, RDAEMON_SIZED(&status)),
                  -EINVAL);
    check_status(&status, -EINVAL, RDAEMON_STEP_CONFIG);
}

TEST(unknown_flags_are_refused) {
    for (uint32_t flag = RDAEMON_SPAWN_DETACHED * 2U; flag; flag <<= 1)
        refused((Config){.flags = flag}, -EINVAL, RDAEMON_STEP_CONFIG);
}

TEST(a_value_without_the_flag_that_makes_it_count_is_refused) {
    static const int32_t blocked[] = {SIGHUP};
    int context;
    refused((Config){.umask = 022}, -EINVAL, RDAEMON_STEP_UMASK);
    refused((Config){.process_group = 1}, -EINVAL, RDAEMON_STEP_SETSID);
    refused((Config){.terminal_fd = 1, .flags = RDAEMON_SPAWN_SETSID}, -EINVAL,
            RDAEMON_STEP_SETSID);
    refused((Config){.working_directory_fd = 1}, -EINVAL, RDAEMON_STEP_CHDIR);
    refused((Config){.blocked_signals = blocked, .blocked_signals_len = 1}, -EINVAL,
            RDAEMON_STEP_SIGNAL_MASK);
    refused((Config){.hook_context = &context}, -EINVAL, RDAEMON_STEP_HOOK);
}

static void needs_handle(uint32_t flags, int stream, int subject) {
    Config config = {.flags = flags, .argv = nothing};
    struct rdaemon_status status;
    if (stream >= 0)
        config.streams[stream] = plain_stream(RDAEMON_STREAM_PIPE);
    CHECK_REFUSED(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status)), -EINVAL);
    check_status(&status, -EINVAL, subject);
}

TEST(pipes_and_pidfds_need_a_handle) {
    for (int fd = 0; fd < 3; fd++)
        needs_handle(0, fd, RDAEMON_STEP_CONFIG);
    needs_handle(RDAEMON_SPAWN_PIDFD, -1, RDAEMON_STEP_CONFIG);
    needs_handle(RDAEMON_SPAWN_DETACHED, -1, RDAEMON_STEP_CONFIG);
}

TEST(a_short_handle_is_refused) {
    Config config = {.argv = nothing, .flags = RDAEMON_SPAWN_PIDFD};
    struct rdaemon_status status;
    unsigned char child[sizeof(struct rdaemon_child)] = {0};
    static const size_t sizes[] = {1, 4, 8, 20, sizeof child - 1};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        CHECK_REFUSED(rdaemon_spawn(RDAEMON_SIZED(&config), (struct rdaemon_child *)child, sizes[i],
                                    RDAEMON_SIZED(&status)),
                      -EINVAL);
        check_status(&status, -EINVAL, RDAEMON_STEP_CONFIG);
    }
}

/* ---- program ---- */

TEST(no_arguments_are_refused) {
    static const char *const none[] = {NULL};
    Config config = {0};
    refused_as(RDAEMON_SIZED(&config), -EINVAL, RDAEMON_STEP_EXEC);
    config.argv = none;
    refused_as(RDAEMON_SIZED(&config), -EINVAL, RDAEMON_STEP_EXEC);
    config.paths = STRINGS("/bin/true");
    refused_as(RDAEMON_SIZED(&config), -EINVAL, RDAEMON_STEP_EXEC);
    config.argv = NULL;
    refused_as(RDAEMON_SIZED(&config), -EINVAL, RDAEMON_STEP_EXEC);
}

TEST(no_candidates_in_a_list_are_refused) {
    static const char *const none[] = {NULL};
    refused((Config){.argv = STRINGS("/bin/true"), .paths = none}, -EINVAL, RDAEMON_STEP_EXEC);
}

TEST(an_empty_path_of_a_program_is_a_missing_one) {
    accepted((Config){.argv = STRINGS("")});
    accepted((Config){.argv = STRINGS("name"), .paths = STRINGS("", "/nonexistent")});
}

TEST(an_entry_of_envp_without_an_equals_sign_is_passed_on) {
    accepted((Config){.envp = STRINGS("NO_EQUALS_SIGN", "")});
}

/* ---- paths ---- */

/* A text of that many characters that ends where the readable memory does, with or without NUL. */
static const char *at_page_end(size_t length, bool terminated) {
    long page = sysconf(_SC_PAGESIZE);
    size_t size = 3 * (size_t)page;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK_INT(mprotect(memory + 2 * page, (size_t)page, PROT_NONE), 0);
    char *text = memory + 2 * page - length - terminated;
    memset(text, 'a', length);
    return text;
}

static void refuse_path(const char *path, int error) {
    refused((Config){.working_directory = path}, error, RDAEMON_STEP_CHDIR);
    refused((Config){.chroot_directory = path}, error, RDAEMON_STEP_CHROOT);
    for (int i = 0; i < 3; i++) {
        Config config = {0};
        config.streams[i] = file_stream(path, 0, 0);
        refused(config, error, RDAEMON_STEP_OPEN_STREAMS);
    }
    struct rdaemon_fd_mapping map = {.child_fd = 5, .source = file_stream(path, 0, 0)};
    refused((Config){.fd_map = &map, .fd_map_len = 1}, error, RDAEMON_STEP_OPEN_STREAMS);
}

TEST(an_empty_path_is_refused) {
    refuse_path("", -ENOENT);
}

TEST(an_overlong_path_is_refused) {
    refuse_path(at_page_end(PATH_MAX, true), -ENAMETOOLONG);
}

TEST(a_path_without_an_end_is_read_no_further_than_a_path_can_be) {
    refuse_path(at_page_end(PATH_MAX, false), -ENAMETOOLONG);
}

TEST(two_working_directories_are_refused) {
    refused((Config){.flags = RDAEMON_SPAWN_CWD_FD,
                     .working_directory = "/",
                     .working_directory_fd = open("/", O_RDONLY | O_CLOEXEC)},
            -EINVAL, RDAEMON_STEP_CHDIR);
}

TEST(rule_5_6_a_working_directory_s_fd_beside_a_new_root_is_refused) {
    refused((Config){.flags = RDAEMON_SPAWN_CWD_FD,
                     .chroot_directory = "/",
                     .working_directory_fd = open("/", O_RDONLY | O_CLOEXEC)},
            -EINVAL, RDAEMON_STEP_CHROOT);
}

/* ---- fds ---- */

static void refuse_fd(int32_t fd) {
    int32_t list[3] = {0, fd, 1};
    refused((Config){.pass_fds = list, .pass_fds_len = 3}, -EBADF, RDAEMON_STEP_MAP_FDS);
    refused((Config){.flags = RDAEMON_SPAWN_CWD_FD, .working_directory_fd = fd}, -EBADF,
            RDAEMON_STEP_CHDIR);
    for (int i = 0; i < 3; i++) {
        Config config = {0};
        config.streams[i] = fd_stream(fd);
        refused(config, -EBADF, RDAEMON_STEP_MAP_FDS);
    }
    struct rdaemon_fd_mapping map = map_fd(5, fd);
    refused((Config){.fd_map = &map, .fd_map_len = 1}, -EBADF, RDAEMON_STEP_MAP_FDS);
}

TEST(a_negative_fd_is_refused) {
    refuse_fd(-1);
    refuse_fd(INT_MIN);
    refuse_fd(AT_FDCWD);
    refuse_fd(RDAEMON_FD_NULL);
}

TEST(an_fd_that_is_not_open_is_refused) {
    refuse_fd(3);
    refuse_fd(77);
    refuse_fd(INT_MAX);
}

TEST(a_standard_fd_that_is_not_open_is_refused) {
    close(0);
    int32_t list[1] = {0};
    refused((Config){.pass_fds = list, .pass_fds_len = 1}, -EBADF, RDAEMON_STEP_MAP_FDS);
    refused((Config){.streams[1] = fd_stream(0)}, -EBADF, RDAEMON_STEP_MAP_FDS);
    struct rdaemon_fd_mapping map = {.child_fd = 0, .source = plain_stream(RDAEMON_STREAM_INHERIT)};
    refused((Config){.fd_map = &map, .fd_map_len = 1}, -EBADF, RDAEMON_STEP_MAP_FDS);
}

TEST(the_fds_that_the_library_would_make_are_no_sources) {
    /* 3 to 6 are free now, and the pipes of the streams would be there. */
    struct rdaemon_stream pipe = plain_stream(RDAEMON_STREAM_PIPE);
    for (int fd = 3; fd < 12; fd++) {
        struct rdaemon_fd_mapping map = map_fd(20, fd);
        spawn_refuses((Config){.streams = {pipe, pipe, pipe}, .fd_map = &map, .fd_map_len = 1},
                      -EBADF, RDAEMON_STEP_MAP_FDS);
        int32_t pass = fd;
        spawn_refuses((Config){.streams = {pipe, pipe, pipe}, .pass_fds = &pass, .pass_fds_len = 1},
                      -EBADF, RDAEMON_STEP_MAP_FDS);
    }
}

TEST(no_list_with_a_length_is_refused) {
    refused((Config){.fd_map_len = 1}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    refused((Config){.pass_fds_len = 1}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    refused((Config){.pass_fds_len = SIZE_MAX}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    refused((Config){.limits_len = 1}, -EINVAL, RDAEMON_STEP_SET_LIMITS);
    refused((Config){.signal_map_len = 1}, -EINVAL, RDAEMON_STEP_SET_SIGNALS);
    refused((Config){.flags = RDAEMON_SPAWN_SIGNAL_MASK, .blocked_signals_len = 1}, -EINVAL,
            RDAEMON_STEP_SIGNAL_MASK);
    refused((Config){.identity = {.flags = RDAEMON_IDENTITY_GROUPS, .groups_len = 1}}, -EINVAL,
            RDAEMON_STEP_DROP_PRIVILEGES);
}

TEST(no_list_without_a_length_is_fine) {
    static const int32_t none[1];
    accepted((Config){.flags = RDAEMON_SPAWN_SIGNAL_MASK});
    accepted(
        (Config){.flags = RDAEMON_SPAWN_SIGNAL_MASK, .blocked_signals = none, .pass_fds = none});
}

/* ---- streams ---- */

static void refuse_stream(int index, struct rdaemon_stream stream, int subject) {
    Config config = {0};
    config.streams[index] = stream;
    refused(config, -EINVAL, subject);
}

static void refuse_mapping(struct rdaemon_fd_mapping mapping, int error, int subject) {
    struct rdaemon_fd_mapping map[] = {map_fd(30, 0), mapping};
    refused((Config){.fd_map = map, .fd_map_len = 2}, error, subject);
}

TEST(an_unknown_stream_action_is_refused) {
    for (uint32_t action = 7; action; action = action < 8 ? 8 : action << 1) {
        for (int i = 0; i < 3; i++)
            refuse_stream(i, plain_stream(action), RDAEMON_STEP_MAP_FDS);
        refuse_mapping((struct rdaemon_fd_mapping){.child_fd = 5, .source = plain_stream(action)},
                       -EINVAL, RDAEMON_STEP_MAP_FDS);
    }
}

TEST(daemonize_knows_no_pipes) {
    struct rdaemon_config config = {.streams[1] = plain_stream(RDAEMON_STREAM_PIPE)};
    struct rdaemon_status status;
    CHECK_REFUSED(rdaemon_check(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status)), -EINVAL);
    CHECK_INT(status.step, RDAEMON_STEP_CONFIG);
    CHECK_INT(status.subject, RDAEMON_STEP_REDIRECT_STDIO);
}

TEST(standard_input_and_output_cannot_be_the_same_as_standard_output) {
    struct rdaemon_stream same = plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT);
    refuse_stream(0, same, RDAEMON_STEP_MAP_FDS);
    refuse_stream(1, same, RDAEMON_STEP_MAP_FDS);
    for (int fd = 0; fd < 2; fd++)
        refuse_mapping((struct rdaemon_fd_mapping){.child_fd = fd, .source = same}, -EINVAL,
                       RDAEMON_STEP_MAP_FDS);
    accepted((Config){.streams[2] = same});
}

TEST(a_file_without_a_path_is_refused) {
    for (int i = 0; i < 3; i++)
        refuse_stream(i, plain_stream(RDAEMON_STREAM_FILE), RDAEMON_STEP_OPEN_STREAMS);
    refuse_mapping(
        (struct rdaemon_fd_mapping){.child_fd = 5, .source = plain_stream(RDAEMON_STREAM_FILE)},
        -EINVAL, RDAEMON_STEP_OPEN_STREAMS);
}

TEST(flags_that_would_change_what_a_stream_is_are_refused) {
    static const int flags[] = {O_WRONLY, O_CREAT,  O_NONBLOCK,  O_CLOEXEC, O_PATH, O_TMPFILE,
                                O_ASYNC,  O_NOCTTY, O_DIRECTORY, O_APPEND,  -1,     INT_MIN};
    for (size_t i = 0; i < LENGTH(flags); i++) {
        struct rdaemon_stream file = file_stream("/x", flags[i], 0);
        for (int fd = 0; fd < 3; fd++)
            refuse_stream(fd, file, RDAEMON_STEP_OPEN_STREAMS);
        refuse_mapping((struct rdaemon_fd_mapping){.child_fd = 5, .source = file}, -EINVAL,
                       RDAEMON_STEP_OPEN_STREAMS);
    }
}

TEST(what_is_read_is_neither_truncated_nor_exclusive) {
    static const int flags[] = {O_TRUNC, O_EXCL, O_RDWR | O_TRUNC};
    for (size_t i = 0; i < LENGTH(flags); i++) {
        struct rdaemon_stream file = file_stream("/x", flags[i], 0);
        refuse_stream(0, file, RDAEMON_STEP_OPEN_STREAMS);
        refuse_mapping((struct rdaemon_fd_mapping){.child_fd = 5,
                                                   .flags = RDAEMON_FD_MAPPING_INPUT,
                                                   .source = file},
                       -EINVAL, RDAEMON_STEP_OPEN_STREAMS);
    }
}

TEST(a_mode_beyond_0777_is_refused) {
    refuse_stream(1, file_stream("/x", 0, 01777), RDAEMON_STEP_OPEN_STREAMS);
}

TEST(a_field_that_the_action_does_not_use_must_be_zero) {
    refuse_stream(1, (struct rdaemon_stream){.action = RDAEMON_STREAM_NULL, .path = "/x"},
                  RDAEMON_STEP_MAP_FDS);
    refuse_stream(1, (struct rdaemon_stream){.action = RDAEMON_STREAM_PIPE, .fd = 1},
                  RDAEMON_STEP_MAP_FDS);
    refuse_stream(1, (struct rdaemon_stream){.fd = 1}, RDAEMON_STEP_MAP_FDS);
    refuse_stream(1, (struct rdaemon_stream){.action = RDAEMON_STREAM_FD, .fd = 1, .mode = 1},
                  RDAEMON_STEP_MAP_FDS);
}

/* ---- the map ---- */

TEST(a_target_named_twice_is_refused) {
    struct rdaemon_fd_mapping map[] = {map_fd(5, 0), map_fd(6, 1), map_fd(5, 0)};
    refused((Config){.fd_map = map, .fd_map_len = 3}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    for (int fd = 0; fd < 3; fd++) {
        map[0].child_fd = map[2].child_fd = fd;
        refused((Config){.fd_map = map, .fd_map_len = 3}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    }
}

TEST(a_stream_and_a_mapping_of_the_same_fd_are_refused) {
    static const uint32_t actions[] = {RDAEMON_STREAM_NULL, RDAEMON_STREAM_INHERIT,
                                       RDAEMON_STREAM_FD};
    for (size_t i = 0; i < LENGTH(actions); i++)
        for (int fd = 0; fd < 3; fd++) {
            struct rdaemon_fd_mapping map = map_fd(fd, 1);
            Config config = {.fd_map = &map, .fd_map_len = 1};
            config.streams[fd] = plain_stream(actions[i]);
            refused(config, -EINVAL, RDAEMON_STEP_MAP_FDS);
        }
}

TEST(rule_5_10_a_passed_fd_that_is_a_target_is_refused) {
    open_at(5, O_CLOEXEC);
    struct rdaemon_fd_mapping map = map_fd(5, 0);
    static const int32_t pass[] = {1, 5};
    refused((Config){.fd_map = &map, .fd_map_len = 1, .pass_fds = pass, .pass_fds_len = 2}, -EINVAL,
            RDAEMON_STEP_MAP_FDS);
    refused((Config){.streams[1] = plain_stream(RDAEMON_STREAM_NULL),
                     .pass_fds = pass,
                     .pass_fds_len = 2},
            -EINVAL, RDAEMON_STEP_MAP_FDS);
    accepted((Config){.pass_fds = pass, .pass_fds_len = 2});
}

TEST(rule_5_10_a_passed_fd_that_the_map_inherits_is_refused) {
    open_at(5, O_CLOEXEC);
    static const int32_t pass[] = {5};
    struct rdaemon_fd_mapping map = {.child_fd = 5, .source = plain_stream(RDAEMON_STREAM_INHERIT)};
    refused((Config){.fd_map = &map, .fd_map_len = 1, .pass_fds = pass, .pass_fds_len = 1}, -EINVAL,
            RDAEMON_STEP_MAP_FDS);
}

TEST(a_negative_target_is_refused) {
    static const int32_t targets[] = {-1, INT_MIN, RDAEMON_FD_NULL, AT_FDCWD};
    for (size_t i = 0; i < LENGTH(targets); i++)
        refuse_mapping(map_fd(targets[i], 0), -EBADF, RDAEMON_STEP_MAP_FDS);
}

TEST(a_mapping_must_say_what_the_fd_is) {
    refuse_mapping((struct rdaemon_fd_mapping){.child_fd = 5}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    refuse_mapping(
        (struct rdaemon_fd_mapping){.child_fd = 5, .source = plain_stream(RDAEMON_STREAM_INHERIT)},
        -EBADF, RDAEMON_STEP_MAP_FDS);
}

TEST(unknown_flags_of_a_mapping_are_refused) {
    for (uint32_t flag = RDAEMON_FD_MAPPING_INPUT * 2U; flag; flag <<= 1) {
        struct rdaemon_fd_mapping mapping = map_fd(5, 0);
        mapping.flags = flag;
        refuse_mapping(mapping, -EINVAL, RDAEMON_STEP_MAP_FDS);
    }
}

TEST(only_pipes_and_files_have_a_direction) {
    struct rdaemon_fd_mapping mapping = map_fd(5, 0);
    mapping.flags = RDAEMON_FD_MAPPING_INPUT;
    refuse_mapping(mapping, -EINVAL, RDAEMON_STEP_MAP_FDS);
    mapping.source = plain_stream(RDAEMON_STREAM_NULL);
    refuse_mapping(mapping, -EINVAL, RDAEMON_STEP_MAP_FDS);
}

TEST(a_mapped_pipe_needs_a_place_for_its_other_end_and_nothing_else_has_one) {
    int32_t end = -7;
    struct rdaemon_fd_mapping mapping = {.child_fd = 5,
                                         .source = plain_stream(RDAEMON_STREAM_PIPE)};
    refuse_mapping(mapping, -EINVAL, RDAEMON_STEP_MAP_FDS);
    mapping = map_fd(5, 0);
    mapping.ret_fd = &end;
    refuse_mapping(mapping, -EINVAL, RDAEMON_STEP_MAP_FDS);
    CHECK_INT(end, -7);
}

TEST(a_map_that_is_too_long_is_refused) {
    struct rdaemon_fd_mapping map[65];
    for (int i = 0; i < 65; i++)
        map[i] = map_fd(3 + i, 0);
    refused((Config){.fd_map = map, .fd_map_len = 65}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    refused((Config){.fd_map = map, .fd_map_len = SIZE_MAX}, -EINVAL, RDAEMON_STEP_MAP_FDS);
    accepted((Config){.fd_map = map, .fd_map_len = 64});
}

/* ---- session, group, terminal ---- */

TEST(a_process_group_with_a_new_session_is_refused) {
    refused((Config){.flags = RDAEMON_SPAWN_SETSID | RDAEMON_SPAWN_PROCESS_GROUP}, -EINVAL,
            RDAEMON_STEP_SETSID);
}

TEST(a_negative_process_group_is_refused) {
    refused((Config){.flags = RDAEMON_SPAWN_PROCESS_GROUP, .process_group = -1}, -EINVAL,
            RDAEMON_STEP_SETPGID);
    refused((Config){.flags = RDAEMON_SPAWN_PROCESS_GROUP, .process_group = INT_MIN}, -EINVAL,
            RDAEMON_STEP_SETPGID);
}

TEST(a_controlling_terminal_without_a_new_session_is_refused) {
    refused((Config){.flags = RDAEMON_SPAWN_CONTROLLING_TERMINAL}, -EINVAL, RDAEMON_STEP_SETSID);
    refused((Config){.flags = RDAEMON_SPAWN_CONTROLLING_TERMINAL | RDAEMON_SPAWN_PROCESS_GROUP},
            -EINVAL, RDAEMON_STEP_SETSID);
}

TEST(a_negative_terminal_is_refused) {
    refused((Config){.flags = RDAEMON_SPAWN_SETSID | RDAEMON_SPAWN_CONTROLLING_TERMINAL,
                     .terminal_fd = -1},
            -EBADF, RDAEMON_STEP_CONTROLLING_TERMINAL);
}

/* ---- umask, limits ---- */

TEST(a_umask_beyond_0777_is_refused) {
    refused((Config){.flags = RDAEMON_SPAWN_UMASK, .umask = 01000}, -EINVAL, RDAEMON_STEP_UMASK);
    refused((Config){.flags = RDAEMON_SPAWN_UMASK, .umask = UINT32_MAX}, -EINVAL,
            RDAEMON_STEP_UMASK);
}

TEST(a_limit_that_cannot_be_is_refused) {
    static const struct rdaemon_limit bad[] = {
        {.resource = -1},
        {.resource = RLIM_NLIMITS},
        {.resource = INT_MAX},
        {.resource = RLIMIT_NOFILE, .soft = 2, .hard = 1},
        {.resource = RLIMIT_NOFILE, .soft = RDAEMON_UNLIMITED, .hard = 100},
        {.resource = RLIMIT_NOFILE, .reserved = 1},
    };
    for (size_t i = 0; i < LENGTH(bad); i++) {
        struct rdaemon_limit limits[] = {{.resource = RLIMIT_CPU, .soft = 100, .hard = 100},
                                         bad[i]};
        refused((Config){.limits = limits, .limits_len = 2}, -EINVAL, RDAEMON_STEP_SET_LIMITS);
    }
}

TEST(too_many_limits_are_refused) {
    struct rdaemon_limit limits[33];
    for (int i = 0; i < 33; i++)
        limits[i] = (struct rdaemon_limit){.resource = RLIMIT_CPU, .soft = 100, .hard = 100};
    refused((Config){.limits = limits, .limits_len = 33}, -EINVAL, RDAEMON_STEP_SET_LIMITS);
    accepted((Config){.limits = limits, .limits_len = 32});
}

/* ---- signals ---- */

static void some_handler(int signal_number) {
    (void)signal_number;
}

static void refuse_signal(struct rdaemon_signal_action action) {
    struct rdaemon_signal_action map[] = {{.signal = SIGHUP}, action};
    refused((Config){.signal_map = map, .signal_map_len = 2}, -EINVAL, RDAEMON_STEP_SET_SIGNALS);
}

static const int no_signals[] = {0, -1, 65, 1000, INT_MAX, INT_MIN};

TEST(a_signal_that_is_none_is_refused) {
    for (size_t i = 0; i < LENGTH(no_signals); i++) {
        int32_t blocked[] = {SIGHUP, no_signals[i]};
        refuse_signal((struct rdaemon_signal_action){.signal = no_signals[i]});
        refused((Config){.flags = RDAEMON_SPAWN_SIGNAL_MASK,
                         .blocked_signals = blocked,
                         .blocked_signals_len = 2},
                -EINVAL, RDAEMON_STEP_SIGNAL_MASK);
        if (no_signals[i] != 0)
            refused((Config){.death_signal = no_signals[i]}, -EINVAL, RDAEMON_STEP_DEATH_SIGNAL);
    }
}

TEST(a_signal_that_cannot_be_handled_is_refused) {
    static const int signals[] = {SIGKILL, SIGSTOP, 32, 33};
    for (size_t i = 0; i < LENGTH(signals); i++)
        for (uint32_t action = 0; action <= RDAEMON_SIGNAL_IGNORE; action++)
            refuse_signal((struct rdaemon_signal_action){.signal = signals[i], .action = action});
}

TEST(no_handler_survives_an_execve_so_none_is_taken) {
    refuse_signal((struct rdaemon_signal_action){
        .signal = SIGHUP, .action = RDAEMON_SIGNAL_HANDLER, .handler = some_handler});
    refuse_signal(
        (struct rdaemon_signal_action){.signal = SIGHUP, .action = RDAEMON_SIGNAL_HANDLER});
    refuse_signal(
        (struct rdaemon_signal_action){.signal = SIGTERM, .action = RDAEMON_SIGNAL_TERMINATE});
    refuse_signal((struct rdaemon_signal_action){
        .signal = SIGHUP, .action = RDAEMON_SIGNAL_IGNORE, .handler = some_handler});
}

TEST(an_unknown_signal_action_is_refused) {
    refuse_signal((struct rdaemon_signal_action){.signal = SIGHUP, .action = 4});
    refuse_signal((struct rdaemon_signal_action){.signal = SIGHUP, .action = UINT32_MAX});
}

TEST(a_signal_map_that_is_too_long_is_refused) {
    struct rdaemon_signal_action map[129];
    for (int i = 0; i < 129; i++)
        map[i] = (struct rdaemon_signal_action){.signal = SIGHUP};
    refused((Config){.signal_map = map, .signal_map_len = 129}, -EINVAL, RDAEMON_STEP_SET_SIGNALS);
    accepted((Config){.signal_map = map, .signal_map_len = 128});
}

/* ---- identity ---- */

TEST(an_identity_that_contradicts_itself_is_refused) {
    static const uint32_t groups[] = {1, 2};
    static const struct rdaemon_identity bad[] = {
        {.flags = 32},
        {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_RELINQUISH},
        {.flags = RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_RELINQUISH},
        {.flags = RDAEMON_IDENTITY_GROUPS | RDAEMON_IDENTITY_KEEP_GROUPS, .groups = groups},
        {.flags = RDAEMON_IDENTITY_UID, .uid = UINT32_MAX},
        {.flags = RDAEMON_IDENTITY_GID, .gid = UINT32_MAX},
        {.groups = groups, .groups_len = 2},
        {.reserved = 1},
    };
    for (size_t i = 0; i < LENGTH(bad); i++)
        refused((Config){.identity = bad[i]}, -EINVAL, RDAEMON_STEP_DROP_PRIVILEGES);
}

/* ---- detached ---- */

TEST(what_a_daemon_s_parent_cannot_do_is_refused) {
    static const uint32_t flags[] = {RDAEMON_SPAWN_NO_REAP, RDAEMON_SPAWN_SETSID,
                                     RDAEMON_SPAWN_PROCESS_GROUP};
    for (size_t i = 0; i < LENGTH(flags); i++)
        spawn_refuses((Config){.flags = RDAEMON_SPAWN_DETACHED | flags[i]}, -EINVAL,
                      RDAEMON_STEP_DOUBLE_FORK);
    spawn_refuses((Config){.flags = RDAEMON_SPAWN_DETACHED, .death_signal = SIGTERM}, -EINVAL,
                  RDAEMON_STEP_DOUBLE_FORK);
}

/* ---- rdaemon_exec alone ---- */

TEST(rdaemon_exec_refuses_what_needs_a_parent) {
    static const uint32_t flags[] = {RDAEMON_SPAWN_PIDFD, RDAEMON_SPAWN_FORCE_FORK,
                                     RDAEMON_SPAWN_NO_REAP, RDAEMON_SPAWN_DETACHED};
    for (size_t i = 0; i < LENGTH(flags); i++) {
        Config config = {.flags = flags[i], .argv = nothing};
        exec_refuses_bytes(RDAEMON_SIZED(&config), -EINVAL, RDAEMON_STEP_FORK);
    }
    for (int fd = 0; fd < 3; fd++) {
        Config config = {.argv = nothing};
        config.streams[fd] = plain_stream(RDAEMON_STREAM_PIPE);
        exec_refuses_bytes(RDAEMON_SIZED(&config), -EINVAL, RDAEMON_STEP_OPEN_STREAMS);
    }
    int32_t end = -7;
    struct rdaemon_fd_mapping map = {
        .child_fd = 5, .source = plain_stream(RDAEMON_STREAM_PIPE), .ret_fd = &end};
    Config config = {.argv = nothing, .fd_map = &map, .fd_map_len = 1};
    exec_refuses_bytes(RDAEMON_SIZED(&config), -EINVAL, RDAEMON_STEP_OPEN_STREAMS);
    CHECK_INT(end, -7);
}

/* ---- the status ---- */

TEST(the_status_of_a_refusal_may_be_short_long_or_absent) {
    Config config = {.argv = nothing, .flags = 1U << 31};
    struct {
        struct rdaemon_status status;
        char tail[8];
    } longer;
    memset(&longer, 0xff, sizeof longer);
    CHECK_REFUSED(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, &longer.status, 8), -EINVAL);
    CHECK_INT(longer.status.step, RDAEMON_STEP_CONFIG);
    CHECK_INT(longer.status.error, -EINVAL);
    CHECK_INT(longer.status.pid, -1);
    CHECK_REFUSED(rdaemon_exec(RDAEMON_SIZED(&config), &longer.status, sizeof longer), -EINVAL);
    for (size_t i = 0; i < sizeof longer.tail; i++)
        CHECK_INT(longer.tail[i], 0);
}

TEST(a_refusal_says_what_it_is_about) {
    Config config = {.argv = nothing, .death_signal = 1000};
    struct rdaemon_status status;
    char line[128];
    CHECK_INT(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status)), -EINVAL);
    CHECK(rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line) > 0);
    CHECK(strstr(line, "death_signal") != NULL);
}
