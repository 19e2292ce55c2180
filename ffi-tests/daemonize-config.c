/* Every configuration that is refused: by rdaemon_check and by rdaemon_daemonize alike, with the
 * error and the step that the value belongs to, and with nothing changed. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

static void check_status(const struct rdaemon_status *status, int error, int subject) {
    if (status->subject != subject)
        FAIL("the refusal is blamed on %s instead of %s", rdaemon_step_name(status->subject),
             rdaemon_step_name(subject));
    CHECK_INT(status->step, RDAEMON_STEP_CONFIG);
    CHECK_INT(status->error, error);
    CHECK_INT(status->pid, 0);
    CHECK_INT(status->signal, 0);
}

static void refused_as(const void *config, size_t size, int error, int subject) {
    static struct rdaemon_daemon daemon, untouched;
    static struct rdaemon_status status;
    memset(&untouched, 0x5a, sizeof untouched);
    memset(&daemon, 0x5a, sizeof daemon);
    CHECK_REFUSED(rdaemon_check(config, size, RDAEMON_SIZED(&status)), error);
    check_status(&status, error, subject);
    memset(&status, 0x5a, sizeof status);
    CHECK_REFUSED(rdaemon_daemonize(config, size, RDAEMON_SIZED(&daemon), RDAEMON_SIZED(&status)),
                  error);
    check_status(&status, error, subject);
    CHECK(memcmp(&daemon, &untouched, sizeof daemon) == 0);
}

static void refused(struct rdaemon_config config, int error, int subject) {
    refused_as(RDAEMON_SIZED(&config), error, subject);
}

static void accepted(struct rdaemon_config config) {
    struct rdaemon_status status;
    memset(&status, 0xa5, sizeof status);
    CHECK_REFUSED(rdaemon_check(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status)), 0);
    CHECK_INT(status.step, RDAEMON_STEP_NONE);
    CHECK_INT(status.error, 0);
    CHECK_INT(status.subject, 0);
}

/* ---- the struct ---- */

TEST(a_short_config_is_refused) {
    struct rdaemon_config config = {0};
    refused_as(&config, 0, -EINVAL, RDAEMON_STEP_CONFIG);
    refused_as(&config, 8, -EINVAL, RDAEMON_STEP_CONFIG);
    refused_as(&config, sizeof config - 1, -EINVAL, RDAEMON_STEP_CONFIG);
}

TEST(no_config_with_a_size_is_refused) {
    refused_as(NULL, sizeof(struct rdaemon_config), -EINVAL, RDAEMON_STEP_CONFIG);
}

TEST(a_longer_config_must_end_with_zeros) {
    struct {
        struct rdaemon_config config;
        char tail[16];
    } longer = {0};
    CHECK_INT(rdaemon_check(&longer.config, sizeof longer, NULL, 0), 0);
    longer.tail[15] = 1;
    refused_as(&longer, sizeof longer, -E2BIG, RDAEMON_STEP_CONFIG);
}

TEST(a_config_of_absurd_size_is_refused) {
    static const union {
        struct rdaemon_config config;
        char bytes[8192];
    } zero;
    CHECK_INT(rdaemon_check(&zero.config, 4096, NULL, 0), 0);
    refused_as(&zero, 4097, -E2BIG, RDAEMON_STEP_CONFIG);
    refused_as(&zero, SIZE_MAX, -E2BIG, RDAEMON_STEP_CONFIG);
}

TEST(unknown_flags_are_refused) {
    for (uint32_t flag = RDAEMON_CLASSIC_FORK * 2U; flag; flag <<= 1)
        refused((struct rdaemon_config){.flags = flag}, -EINVAL, RDAEMON_STEP_CONFIG);
}

TEST(a_negative_time_limit_is_refused) {
    refused((struct rdaemon_config){.timeout_ms = -1}, -EINVAL, RDAEMON_STEP_CONFIG);
    refused((struct rdaemon_config){.timeout_ms = INT_MIN}, -EINVAL, RDAEMON_STEP_CONFIG);
    accepted((struct rdaemon_config){.timeout_ms = INT_MAX});
}

TEST(an_unknown_detach_is_refused) {
    refused((struct rdaemon_config){.detach = 3}, -EINVAL, RDAEMON_STEP_DOUBLE_FORK);
    refused((struct rdaemon_config){.detach = UINT32_MAX}, -EINVAL, RDAEMON_STEP_DOUBLE_FORK);
}

TEST(notify_ready_needs_a_place_for_the_channel) {
    struct rdaemon_config config = {.flags = RDAEMON_NOTIFY_READY};
    struct rdaemon_status status;
    CHECK_REFUSED(rdaemon_daemonize(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status)),
                  -EINVAL);
    CHECK_INT(status.step, RDAEMON_STEP_CONFIG);
    CHECK_INT(status.error, -EINVAL);
    accepted(config);
}

TEST(the_status_of_a_refusal_may_be_short_long_or_absent) {
    struct rdaemon_config config = {.detach = 3};
    struct {
        struct rdaemon_status status;
        char tail[8];
    } longer;
    memset(&longer, 0xff, sizeof longer);
    CHECK_INT(rdaemon_check(RDAEMON_SIZED(&config), NULL, 0), -EINVAL);
    CHECK_INT(rdaemon_check(RDAEMON_SIZED(&config), &longer.status, 8), -EINVAL);
    CHECK_INT(longer.status.step, RDAEMON_STEP_CONFIG);
    CHECK_INT(longer.status.error, -EINVAL);
    CHECK_INT(longer.status.pid, -1);
    CHECK_INT(rdaemon_check(RDAEMON_SIZED(&config), &longer.status, sizeof longer), -EINVAL);
    for (size_t i = 0; i < sizeof longer.tail; i++)
        CHECK_INT(longer.tail[i], 0);
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
    refused((struct rdaemon_config){.working_directory = path}, error, RDAEMON_STEP_CHDIR);
    refused((struct rdaemon_config){.chroot_directory = path}, error, RDAEMON_STEP_CHROOT);
    refused((struct rdaemon_config){.pidfile = path}, error, RDAEMON_STEP_PIDFILE_OPEN);
    for (int i = 0; i < 3; i++) {
        struct rdaemon_config config = {0};
        config.streams[i].action = RDAEMON_STREAM_FILE;
        config.streams[i].path = path;
        refused(config, error, RDAEMON_STEP_OPEN_STREAMS);
    }
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

TEST(a_path_may_end_where_the_memory_does) {
    accepted((struct rdaemon_config){.working_directory = at_page_end(PATH_MAX - 1, true)});
    accepted((struct rdaemon_config){.chroot_directory = at_page_end(5, true)});
    accepted((struct rdaemon_config){.pidfile = at_page_end(7, true)});
}

TEST(a_check_looks_at_no_file) {
    accepted((struct rdaemon_config){
        .working_directory = "/missing/directory",
        .chroot_directory = "/missing/root",
        .pidfile = "/missing/pid",
        .streams[0] = {.action = RDAEMON_STREAM_FILE, .path = "/missing/in"}});
    accepted((struct rdaemon_config){
        .pidfile = scratch_path("pid"),
        .streams[1] = {.action = RDAEMON_STREAM_FILE, .path = scratch_path("log")}});
    CHECK_STR(tree(scratch()), "");
}

TEST(keep_cwd_beside_a_directory_is_refused) {
    refused((struct rdaemon_config){.flags = RDAEMON_KEEP_CWD, .working_directory = "/"}, -EINVAL,
            RDAEMON_STEP_CHDIR);
}

TEST(keep_cwd_beside_a_root_is_refused) {
    refused((struct rdaemon_config){.flags = RDAEMON_KEEP_CWD, .chroot_directory = "/"}, -EINVAL,
            RDAEMON_STEP_CHROOT);
}

/* ---- umask ---- */

TEST(a_umask_beyond_0777_is_refused) {
    refused((struct rdaemon_config){.umask = 01000}, -EINVAL, RDAEMON_STEP_UMASK);
    refused((struct rdaemon_config){.umask = UINT32_MAX}, -EINVAL, RDAEMON_STEP_UMASK);
    accepted((struct rdaemon_config){.umask = 0777});
}

TEST(keep_umask_beside_a_umask_is_refused) {
    refused((struct rdaemon_config){.flags = RDAEMON_KEEP_UMASK, .umask = 022}, -EINVAL,
            RDAEMON_STEP_UMASK);
}

/* ---- fds ---- */

static void refuse_fd(int32_t fd, int error) {
    int32_t list[3] = {0, fd, 1};
    refused((struct rdaemon_config){.files_preserve = list, .files_preserve_len = 3}, error,
            RDAEMON_STEP_CLOSE_FDS);
    for (int i = 0; i < 3; i++) {
        struct rdaemon_config config = {0};
        config.streams[i].action = RDAEMON_STREAM_FD;
        config.streams[i].fd = fd;
        refused(config, error, RDAEMON_STEP_REDIRECT_STDIO);
    }
}

TEST(a_negative_fd_is_refused) {
    refuse_fd(-1, -EBADF);
    refuse_fd(INT_MIN, -EBADF);
    refuse_fd(AT_FDCWD, -EBADF);
}

TEST(an_fd_that_is_not_open_is_refused) {
    refuse_fd(77, -EBADF);
    refuse_fd(INT_MAX, -EBADF);
}

TEST(a_standard_fd_that_is_not_open_is_refused) {
    close(0);
    int32_t list[1] = {0};
    refused((struct rdaemon_config){.files_preserve = list, .files_preserve_len = 1}, -EBADF,
            RDAEMON_STEP_CLOSE_FDS);
    refused((struct rdaemon_config){.streams[1] = {.action = RDAEMON_STREAM_FD, .fd = 0}}, -EBADF,
            RDAEMON_STEP_REDIRECT_STDIO);
}

TEST(no_list_with_a_length_is_refused) {
    refused((struct rdaemon_config){.files_preserve_len = 1}, -EINVAL, RDAEMON_STEP_CLOSE_FDS);
    refused((struct rdaemon_config){.files_preserve_len = SIZE_MAX}, -EINVAL,
            RDAEMON_STEP_CLOSE_FDS);
    refused((struct rdaemon_config){.signal_map_len = 1}, -EINVAL, RDAEMON_STEP_SET_SIGNALS);
    refused((struct rdaemon_config){.limits_len = 1}, -EINVAL, RDAEMON_STEP_SET_LIMITS);
    refused(
        (struct rdaemon_config){.identity = {.flags = RDAEMON_IDENTITY_GROUPS, .groups_len = 1}},
        -EINVAL, RDAEMON_STEP_DROP_PRIVILEGES);
}

TEST(no_list_without_a_length_is_fine) {
    struct rdaemon_signal_action no_signal;
    accepted((struct rdaemon_config){.identity = {.flags = RDAEMON_IDENTITY_GROUPS}});
    accepted((struct rdaemon_config){.signal_map = &no_signal, .signal_map_len = 0});
}

/* ---- streams ---- */

static void refuse_stream(int index, struct rdaemon_stream stream, int subject) {
    struct rdaemon_config config = {0};
    config.streams[index] = stream;
    refused(config, -EINVAL, subject);
}

TEST(an_unknown_stream_action_is_refused) {
    for (int i = 0; i < 3; i++) {
        refuse_stream(i, (struct rdaemon_stream){.action = 6}, RDAEMON_STEP_REDIRECT_STDIO);
        refuse_stream(i, (struct rdaemon_stream){.action = UINT32_MAX},
                      RDAEMON_STEP_REDIRECT_STDIO);
    }
}

TEST(only_stderr_can_be_the_same_as_stdout) {
    struct rdaemon_stream same = {.action = RDAEMON_STREAM_SAME_AS_STDOUT};
    refuse_stream(0, same, RDAEMON_STEP_REDIRECT_STDIO);
    refuse_stream(1, same, RDAEMON_STEP_REDIRECT_STDIO);
    accepted((struct rdaemon_config){.streams[2] = same});
}

TEST(a_file_without_a_path_is_refused) {
    for (int i = 0; i < 3; i++)
        refuse_stream(i, (struct rdaemon_stream){.action = RDAEMON_STREAM_FILE},
                      RDAEMON_STEP_OPEN_STREAMS);
}

TEST(flags_that_would_change_what_a_stream_is_are_refused) {
    static const int flags[] = {O_WRONLY, O_CREAT,           O_NONBLOCK, O_CLOEXEC,
                                O_PATH,   O_WRONLY | O_RDWR, O_TMPFILE,  O_ASYNC,
                                O_NOCTTY, O_DIRECTORY,       -1,         INT_MIN};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        refuse_stream(1,
                      (struct rdaemon_stream){
                          .action = RDAEMON_STREAM_FILE, .path = "/x", .open_flags = flags[i]},
                      RDAEMON_STEP_OPEN_STREAMS);
    static const int allowed[] = {O_TRUNC, O_EXCL, O_SYNC, O_DSYNC, O_NOFOLLOW, O_RDWR};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        accepted((struct rdaemon_config){
            .streams[1] = {.action = RDAEMON_STREAM_FILE, .path = "/x", .open_flags = allowed[i]}});
}

TEST(a_pipe_has_nobody_at_its_other_end) {
    for (int i = 0; i < 3; i++)
        refuse_stream(i, (struct rdaemon_stream){.action = RDAEMON_STREAM_PIPE},
                      RDAEMON_STEP_REDIRECT_STDIO);
}

TEST(stdin_is_neither_truncated_nor_exclusive) {
    static const int flags[] = {O_TRUNC, O_EXCL};
    for (int i = 0; i < 2; i++)
        refuse_stream(0,
                      (struct rdaemon_stream){
                          .action = RDAEMON_STREAM_FILE, .path = "/x", .open_flags = flags[i]},
                      RDAEMON_STEP_OPEN_STREAMS);
}

TEST(a_mode_beyond_0777_is_refused) {
    refuse_stream(
        1, (struct rdaemon_stream){.action = RDAEMON_STREAM_FILE, .path = "/x", .mode = 01777},
        RDAEMON_STEP_OPEN_STREAMS);
}

TEST(a_field_that_the_action_does_not_use_must_be_zero) {
    refuse_stream(1, (struct rdaemon_stream){.action = RDAEMON_STREAM_NULL, .path = "/x"},
                  RDAEMON_STEP_REDIRECT_STDIO);
    refuse_stream(1, (struct rdaemon_stream){.fd = 1}, RDAEMON_STEP_REDIRECT_STDIO);
}

/* ---- signals ---- */

static void refuse_signal(struct rdaemon_signal_action action) {
    struct rdaemon_signal_action map[2] = {{.signal = SIGHUP}, action};
    refused((struct rdaemon_config){.signal_map = map, .signal_map_len = 2, .pidfile = "/x"},
            -EINVAL, RDAEMON_STEP_SET_SIGNALS);
}

static void some_handler(int signal) {
    (void)signal;
}

TEST(a_signal_that_is_none_or_cannot_be_handled_is_refused) {
    static const int signals[] = {0, -1, 65, 1000, INT_MAX, INT_MIN, SIGKILL, SIGSTOP, 32, 33};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        for (uint32_t action = 0; action <= RDAEMON_SIGNAL_TERMINATE; action++)
            refuse_signal((struct rdaemon_signal_action){
                .signal = signals[i],
                .action = action,
                .handler = action == RDAEMON_SIGNAL_HANDLER ? some_handler : NULL});
}

TEST(an_unknown_signal_action_is_refused) {
    refuse_signal((struct rdaemon_signal_action){.signal = SIGHUP, .action = 4});
    refuse_signal((struct rdaemon_signal_action){.signal = SIGHUP, .action = UINT32_MAX});
}

TEST(a_missing_or_superfluous_handler_is_refused) {
    refuse_signal(
        (struct rdaemon_signal_action){.signal = SIGHUP, .action = RDAEMON_SIGNAL_HANDLER});
    refuse_signal((struct rdaemon_signal_action){
        .signal = SIGHUP, .action = RDAEMON_SIGNAL_IGNORE, .handler = some_handler});
}

TEST(a_signal_that_ends_no_process_cannot_terminate) {
    static const int signals[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        refuse_signal((struct rdaemon_signal_action){.signal = signals[i],
                                                     .action = RDAEMON_SIGNAL_TERMINATE});
}

TEST(terminate_needs_no_pidfile) {
    struct rdaemon_signal_action map = {.signal = SIGTERM, .action = RDAEMON_SIGNAL_TERMINATE};
    accepted((struct rdaemon_config){.signal_map = &map, .signal_map_len = 1});
    accepted((struct rdaemon_config){.signal_map = &map, .signal_map_len = 1, .pidfile = "/run/x"});
}

TEST(keep_signals_beside_a_map_is_refused) {
    struct rdaemon_signal_action map = {.signal = SIGHUP};
    refused((struct rdaemon_config){.flags = RDAEMON_KEEP_SIGNALS,
                                    .signal_map = &map,
                                    .signal_map_len = 1},
            -EINVAL, RDAEMON_STEP_SET_SIGNALS);
}

/* ---- limits ---- */

static void refuse_limit(struct rdaemon_limit limit, int subject) {
    struct rdaemon_limit limits[2] = {{.resource = RLIMIT_CPU, .soft = 100, .hard = 100}, limit};
    refused((struct rdaemon_config){.limits = limits, .limits_len = 2}, -EINVAL, subject);
}

TEST(a_limit_that_cannot_be_is_refused) {
    refuse_limit((struct rdaemon_limit){.resource = -1}, RDAEMON_STEP_SET_LIMITS);
    refuse_limit((struct rdaemon_limit){.resource = RLIM_NLIMITS}, RDAEMON_STEP_SET_LIMITS);
    refuse_limit((struct rdaemon_limit){.resource = INT_MAX}, RDAEMON_STEP_SET_LIMITS);
    refuse_limit((struct rdaemon_limit){.resource = RLIMIT_NOFILE, .soft = 2, .hard = 1},
                 RDAEMON_STEP_SET_LIMITS);
    refuse_limit(
        (struct rdaemon_limit){.resource = RLIMIT_NOFILE, .soft = RDAEMON_UNLIMITED, .hard = 100},
        RDAEMON_STEP_SET_LIMITS);
    refuse_limit((struct rdaemon_limit){.resource = RLIMIT_NOFILE, .reserved = 1},
                 RDAEMON_STEP_SET_LIMITS);
}

TEST(a_core_limit_beside_core_prevention_is_refused) {
    struct rdaemon_limit limit = {.resource = RLIMIT_CORE, .soft = 0, .hard = 0};
    refuse_limit(limit, RDAEMON_STEP_PREVENT_CORE);
    accepted(
        (struct rdaemon_config){.flags = RDAEMON_KEEP_CORE, .limits = &limit, .limits_len = 1});
}

TEST(keep_core_beside_undumpable_is_refused) {
    refused((struct rdaemon_config){.flags = RDAEMON_KEEP_CORE | RDAEMON_UNDUMPABLE}, -EINVAL,
            RDAEMON_STEP_PREVENT_CORE);
}

/* ---- identity ---- */

static void refuse_identity(struct rdaemon_identity identity) {
    refused((struct rdaemon_config){.identity = identity}, -EINVAL, RDAEMON_STEP_DROP_PRIVILEGES);
}

TEST(unknown_identity_flags_are_refused) {
    for (uint32_t flag = RDAEMON_IDENTITY_KEEP_GROUPS * 2U; flag; flag <<= 1)
        refuse_identity((struct rdaemon_identity){.flags = flag});
}

TEST(contradictory_identities_are_refused) {
    refuse_identity((struct rdaemon_identity){
        .flags = RDAEMON_IDENTITY_RELINQUISH | RDAEMON_IDENTITY_UID, .uid = 1000});
    refuse_identity((struct rdaemon_identity){
        .flags = RDAEMON_IDENTITY_RELINQUISH | RDAEMON_IDENTITY_GID, .gid = 1000});
    refuse_identity(
        (struct rdaemon_identity){.flags = RDAEMON_IDENTITY_GROUPS | RDAEMON_IDENTITY_KEEP_GROUPS});
}

TEST(the_id_that_is_nobody_s_is_refused) {
    refuse_identity((struct rdaemon_identity){.flags = RDAEMON_IDENTITY_UID, .uid = UINT32_MAX});
    refuse_identity((struct rdaemon_identity){.flags = RDAEMON_IDENTITY_GID, .gid = UINT32_MAX});
    refuse_identity((struct rdaemon_identity){
        .flags = RDAEMON_IDENTITY_GROUPS, .groups = (uint32_t[]){1, UINT32_MAX}, .groups_len = 2});
}

TEST(a_reserved_field_must_be_zero) {
    refuse_identity((struct rdaemon_identity){.reserved = 1});
}

/* ---- pidfile ---- */

TEST(a_bad_pidfile_is_refused) {
    refused((struct rdaemon_config){.pidfile = "/x", .pidfile_options = {.flags = 8}}, -EINVAL,
            RDAEMON_STEP_PIDFILE_OPEN);
    refused((struct rdaemon_config){.pidfile = "/x", .pidfile_options = {.mode = 01000}}, -EINVAL,
            RDAEMON_STEP_PIDFILE_OPEN);
    refused((struct rdaemon_config){.pidfile = "/x", .pidfile_options = {.mode = 0646}}, -EINVAL,
            RDAEMON_STEP_PIDFILE_OPEN);
    accepted((struct rdaemon_config){.pidfile = "/x", .pidfile_options = {.mode = 0664}});
    accepted((struct rdaemon_config){.pidfile = "/x",
                                     .pidfile_options = {.flags = RDAEMON_PIDFILE_ONLY_EMPTY}});
}

/* ---- the two agree ---- */

static uint32_t seed = 1;

static uint32_t draw(uint32_t choices) {
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % choices;
}

static uint32_t draw_flags(int count) {
    uint32_t flags = 0;
    for (int i = 0; i < 2; i++)
        if (draw(3) == 0)
            flags |= 1U << draw((uint32_t)count);
    return flags;
}

/* Most values are harmless, so that refusals meet each other, and acceptances do too. */
static bool rarely(void) {
    return draw(12) == 0;
}

static const char *draw_path(void) {
    static const char *const paths[] = {"/", "/missing/x", NULL};
    return rarely() ? "" : paths[draw(3)];
}

static struct rdaemon_stream draw_stream(int index) {
    struct rdaemon_stream stream = {.action = draw(index == 2 ? 6 : 5)};
    if (rarely())
        stream.action = draw(8);
    if (stream.action == RDAEMON_STREAM_FILE || rarely())
        stream.path = rarely() ? NULL : "/missing/x";
    return stream;
}

static struct rdaemon_config draw_config(void) {
    static int32_t fds[2];
    static struct rdaemon_signal_action map[1];
    static struct rdaemon_limit limits[1];
    fds[0] = rarely() ? 77 : 0;
    map[0] = (struct rdaemon_signal_action){.signal = 1 + (int)draw(rarely() ? 70 : 8),
                                            .action = draw(rarely() ? 5 : 2)};
    limits[0] = (struct rdaemon_limit){.resource = (int)draw(rarely() ? 18 : 4),
                                       .soft = draw(3),
                                       .hard = rarely() ? 1 : RDAEMON_UNLIMITED};
    struct rdaemon_config config = {
        .flags = rarely() ? draw_flags(13) & ~RDAEMON_INETD : 0,
        .detach = rarely() ? 3 : RDAEMON_DETACH_YES,
        .umask = rarely() ? 01000 : 022,
        .timeout_ms = rarely() ? -1 : 0,
        .working_directory = draw_path(),
        .chroot_directory = draw_path(),
        .pidfile = draw_path(),
        .pidfile_options = {.mode = rarely() ? 0666 : 0},
        .files_preserve = fds,
        .files_preserve_len = draw(2),
        .signal_map = map,
        .signal_map_len = draw(2),
        .limits = limits,
        .limits_len = draw(2),
        .identity = {.flags = rarely() ? draw_flags(6) : 0, .uid = getuid(), .gid = getgid()},
    };
    for (int i = 0; i < 3; i++)
        config.streams[i] = draw_stream(i);
    return config;
}

/* No fork can succeed here, so every configuration ends before anything is made of it. */
static void deny_forks(void) {
#ifdef SYS_fork
    deny_syscall(SYS_fork, EAGAIN);
#endif
    deny_syscall(SYS_clone, EAGAIN);
    deny_syscall(SYS_clone3, EAGAIN);
}

TEST(check_and_daemonize_refuse_exactly_the_same, .time_limit_ms = 30000) {
    static struct snapshot before;
    struct rdaemon_status checked, status;
    struct rdaemon_daemon daemon;
    int refusals = 0;
    deny_forks();
    snapshot_take(&before);
    for (int i = 0; i < 20000; i++) {
        struct rdaemon_config config = draw_config();
        int check = rdaemon_check(RDAEMON_SIZED(&config), RDAEMON_SIZED(&checked));
        int result = rdaemon_daemonize(RDAEMON_SIZED(&config), RDAEMON_SIZED(&daemon),
                                       RDAEMON_SIZED(&status));
        CHECK(result < 0);
        if (check < 0) {
            refusals++;
            CHECK_INT(result, check);
            CHECK_INT(status.step, RDAEMON_STEP_CONFIG);
            CHECK_INT(status.subject, checked.subject);
        } else {
            CHECK(status.step > RDAEMON_STEP_CONFIG);
        }
    }
    CHECK(snapshot_same(&before));
    CHECK(refusals > 2000 && refusals < 18000);
    NOTE("%d of 20000 configurations are refused", refusals);
}
