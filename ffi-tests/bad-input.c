#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "probe.h"
#include "tap.h"

/* ---- sized structs that are read ---- */

/* A struct as a later version of the library may have it. */
union grown {
    struct rdaemon_identity identity;
    struct rdaemon_pidfile_options options;
    struct rdaemon_pidfile pidfile;
    struct rdaemon_status status;
    unsigned char bytes[512];
};

/* Calls a function with the struct and a size; what it answers when the struct is all zero. */
struct reader {
    const char *name;
    size_t size;
    int (*call)(const void *bytes, size_t size);
    int answer;
};

static int drop_privileges(const void *bytes, size_t size) {
    return QUIET(rdaemon_drop_privileges(bytes, size));
}

static int open_pidfile(const void *bytes, size_t size) {
    struct rdaemon_pidfile pidfile;
    int result = QUIET(
        rdaemon_pidfile_open(scratch_path("pid"), bytes, size, RDAEMON_SIZED(&pidfile), NULL, 0));
    if (result == 0)
        CHECK_INT(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile)), 0);
    return result;
}

static int remove_pidfile(const void *bytes, size_t size) {
    return QUIET(rdaemon_pidfile_remove(bytes, size));
}

static int set_signals(const void *bytes, size_t size) {
    static const struct rdaemon_signal_action map[] = {
        {.signal = 15, .action = RDAEMON_SIGNAL_DEFAULT}};
    return QUIET(rdaemon_set_signals(map, 1, bytes, size));
}

static int status_message(const void *bytes, size_t size) {
    char text[64];
    return QUIET(rdaemon_status_message(bytes, size, text, sizeof text));
}

static const struct reader readers[] = {
    {"drop_privileges", sizeof(struct rdaemon_identity), drop_privileges, 0},
    {"pidfile_open", sizeof(struct rdaemon_pidfile_options), open_pidfile, 0},
    {"pidfile_remove", sizeof(struct rdaemon_pidfile), remove_pidfile, -EPERM},
    {"set_signals", sizeof(struct rdaemon_pidfile), set_signals, 0},
    {"status_message", sizeof(struct rdaemon_status), status_message, 7 /* "success" */},
};

static void check_answer(const struct reader *reader, const union grown *grown, size_t size,
                         int expected) {
    int result = reader->call(grown, size);
    if (result != expected)
        NOTE("%s with %zu bytes instead of %zu:", reader->name, size, reader->size);
    CHECK_INT(result, expected);
}

TEST(first_versions_have_no_padding) {
    CHECK_INT(sizeof(struct rdaemon_status), 64);
    CHECK_INT(sizeof(struct rdaemon_pidfile_options), 16);
    CHECK_INT(sizeof(struct rdaemon_pidfile_state), 16);
    CHECK_INT(sizeof(struct rdaemon_pidfile), 4 * 4 + 2 * 8 + 256);
    CHECK_INT(sizeof(struct rdaemon_identity), 4 * 4 + sizeof(void *) + sizeof(size_t));
    CHECK_INT(sizeof(struct rdaemon_limit), 2 * 4 + 2 * 8);
    CHECK_INT(sizeof(struct rdaemon_signal_action), 2 * 4 + sizeof(void *));
}

TEST(short_structs_are_refused) {
    static const union grown zero;
    for (size_t i = 0; i < LENGTH(readers); i++) {
        check_answer(&readers[i], &zero, 0, -EINVAL);
        check_answer(&readers[i], &zero, 4, -EINVAL);
        check_answer(&readers[i], &zero, readers[i].size - 1, -EINVAL);
        check_answer(&readers[i], &zero, readers[i].size, readers[i].answer);
    }
}

TEST(longer_structs_with_a_zero_tail_are_taken) {
    static const union grown zero;
    for (size_t i = 0; i < LENGTH(readers); i++) {
        check_answer(&readers[i], &zero, readers[i].size + 1, readers[i].answer);
        check_answer(&readers[i], &zero, sizeof zero, readers[i].answer);
    }
}

TEST(longer_structs_with_another_tail_are_refused) {
    for (size_t i = 0; i < LENGTH(readers); i++)
        for (size_t size = readers[i].size + 1; size <= sizeof(union grown); size++) {
            union grown grown = {.bytes = {0}};
            grown.bytes[size - 1] = 1;
            check_answer(&readers[i], &grown, size, -E2BIG);
            check_answer(&readers[i], &grown, size - 1, readers[i].answer);
        }
}

TEST(structs_of_absurd_size_are_refused) {
    static const union {
        union grown grown;
        unsigned char bytes[4096];
    } zero;
    static const size_t absurd[] = {4097, 1 << 20, SIZE_MAX / 2 + 1, SIZE_MAX};
    for (size_t i = 0; i < LENGTH(readers); i++) {
        check_answer(&readers[i], &zero.grown, sizeof zero, readers[i].answer);
        for (size_t j = 0; j < LENGTH(absurd); j++)
            check_answer(&readers[i], &zero.grown, absurd[j], -E2BIG);
    }
}

TEST(null_with_a_size_is_refused) {
    for (size_t i = 0; i < LENGTH(readers); i++)
        check_answer(&readers[i], NULL, readers[i].size, -EINVAL);
}

TEST(null_handles_and_statuses_are_refused) {
    CHECK_REFUSED(rdaemon_pidfile_remove(NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_pidfile_write(NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_pidfile_close(NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_status_message(NULL, 0, NULL, 0), -EINVAL);
}

TEST(null_buffer_with_a_length_is_refused) {
    static const struct rdaemon_status status;
    CHECK_REFUSED(rdaemon_status_message(RDAEMON_SIZED(&status), NULL, 1), -EINVAL);
}

/* ---- sized structs that are written ---- */

TEST(longer_outputs_get_a_zero_tail) {
    union grown pidfile, state, status;
    memset(&pidfile, 0xa5, sizeof pidfile);
    memset(&state, 0xa5, sizeof state);
    memset(&status, 0xa5, sizeof status);
    CHECK_INT(QUIET(rdaemon_pidfile_read(scratch_path("pid"),
                                         (struct rdaemon_pidfile_state *)&state, 300)),
              0);
    CHECK_INT(QUIET(rdaemon_pidfile_open(scratch_path("pid"), NULL, 0, &pidfile.pidfile, 300,
                                         &status.status, 300)),
              0);
    for (size_t i = 0; i < sizeof state; i++)
        CHECK_INT(state.bytes[i], i < 300 ? 0 : 0xa5);
    for (size_t i = sizeof(struct rdaemon_pidfile); i < sizeof pidfile; i++)
        CHECK_INT(pidfile.bytes[i], i < 300 ? 0 : 0xa5);
    for (size_t i = 0; i < sizeof status; i++)
        CHECK_INT(status.bytes[i], i < 300 ? 0 : 0xa5);
}

TEST(shorter_outputs_are_cut) {
    union grown state, status;
    memset(&state, 0xa5, sizeof state);
    memset(&status, 0xa5, sizeof status);
    CHECK_INT(
        QUIET(rdaemon_pidfile_read(scratch_path("pid"), (struct rdaemon_pidfile_state *)&state, 6)),
        0);
    CHECK_INT(QUIET(rdaemon_pidfile_open("", NULL, 0, NULL, 0, &status.status, 8)), -EINVAL);
    for (size_t i = 0; i < sizeof state; i++)
        CHECK_INT(state.bytes[i], i < 6 ? 0 : 0xa5);
    CHECK_INT(status.status.step, RDAEMON_STEP_CONFIG);
    CHECK_INT(status.status.error, -EINVAL);
    for (size_t i = 8; i < sizeof status; i++)
        CHECK_INT(status.bytes[i], 0xa5);
}

TEST(state_may_be_left_out) {
    CHECK_INT(QUIET(rdaemon_pidfile_read(scratch_path("pid"), NULL, 0)), RDAEMON_PIDFILE_FREE);
}

TEST(handle_may_not_be_left_out_or_cut) {
    struct rdaemon_pidfile pidfile;
    const char *path = scratch_path("pid");
    CHECK_REFUSED(rdaemon_pidfile_open(path, NULL, 0, NULL, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_pidfile_open(path, NULL, 0, NULL, sizeof pidfile, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_pidfile_open(path, NULL, 0, &pidfile, sizeof pidfile - 1, NULL, 0),
                  -EINVAL);
    CHECK(access(path, F_OK) != 0);
}

/* ---- pidfile options and handles ---- */

TEST(pidfile_refuses_unknown_flags) {
    struct rdaemon_pidfile pidfile;
    const char *path = scratch_path("pid");
    for (int bit = 3; bit < 32; bit++) {
        struct rdaemon_pidfile_options options = {.flags = 1U << bit};
        CHECK_REFUSED(
            rdaemon_pidfile_open(path, RDAEMON_SIZED(&options), RDAEMON_SIZED(&pidfile), NULL, 0),
            -EINVAL);
    }
    CHECK(access(path, F_OK) != 0);
}

TEST(refusal_is_told_in_the_status) {
    struct rdaemon_pidfile pidfile;
    struct rdaemon_status status;
    struct rdaemon_pidfile_options options = {.flags = 1U << 31};
    memset(&status, 0xa5, sizeof status);
    CHECK_INT(QUIET(rdaemon_pidfile_open(scratch_path("pid"), RDAEMON_SIZED(&options),
                                         RDAEMON_SIZED(&pidfile), RDAEMON_SIZED(&status))),
              -EINVAL);
    CHECK_INT(status.step, RDAEMON_STEP_CONFIG);
    CHECK_INT(status.error, -EINVAL);
    CHECK_INT(status.pid, 0);
    CHECK_INT(status.signal, 0);
    CHECK_INT(status.subject, RDAEMON_STEP_PIDFILE_OPEN);
    for (size_t i = 0; i < LENGTH(status.reserved); i++)
        CHECK_INT(status.reserved[i], 0);
}

TEST(closed_handle) {
    struct rdaemon_pidfile pidfile;
    CHECK_INT(rdaemon_pidfile_open(scratch_path("pid"), NULL, 0, RDAEMON_SIZED(&pidfile), NULL, 0),
              0);
    CHECK_INT(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)), 0);
    CHECK_INT(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile)), 0);
    CHECK_REFUSED(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)), -EBADF);
    CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -EBADF);
    CHECK_REFUSED(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile)), 0);
    CHECK_INT(access(scratch_path("pid"), F_OK), 0);
}

TEST(zeroed_handle_is_a_closed_one) {
    struct rdaemon_pidfile pidfile = {0};
    char text[16] = "";
    int file = open(scratch_path("in"), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    CHECK_INT(write(file, "precious", 8), 8);
    CHECK_INT(dup2(file, 0), 0);
    CHECK_REFUSED(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)), -EBADF);
    CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -EPERM);
    CHECK_INT(QUIET(rdaemon_pidfile_close(RDAEMON_SIZED(&pidfile))), 0);
    CHECK(same_description(0, file));
    CHECK_INT(pread(file, text, sizeof text, 0), 8);
    CHECK_STR(text, "precious");
}

TEST(handle_of_negative_descriptors) {
    static const int bad[] = {-1, -100, INT_MIN};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        struct rdaemon_pidfile pidfile = {
            .fd = bad[i], .directory_fd = bad[i], .writer = getpid(), .name = "pid"};
        CHECK_REFUSED(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)), -EBADF);
        pidfile.writer = getpid();
        CHECK_REFUSED(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile)), -EBADF);
    }
}

TEST(handle_whose_name_has_no_end) {
    struct rdaemon_pidfile pidfile;
    CHECK_INT(rdaemon_pidfile_open(scratch_path("pid"), NULL, 0, RDAEMON_SIZED(&pidfile), NULL, 0),
              0);
    CHECK_INT(rdaemon_pidfile_write(RDAEMON_SIZED(&pidfile)), 0);
    memset(pidfile.name, 'x', sizeof pidfile.name);
    CHECK(QUIET(rdaemon_pidfile_remove(RDAEMON_SIZED(&pidfile))) < 0);
    CHECK_INT(access(scratch_path("pid"), F_OK), 0);
}

/* ---- paths ---- */

/* Memory whose next byte faults. */
static char *guarded(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    char *memory =
        mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK_INT(mprotect(memory + whole, page, PROT_NONE), 0);
    return memory + whole - size;
}

static int read_pidfile(const char *path) {
    struct rdaemon_pidfile_state state;
    return rdaemon_pidfile_read(path, RDAEMON_SIZED(&state));
}

static int open_path(const char *path) {
    struct rdaemon_pidfile pidfile;
    return rdaemon_pidfile_open(path, NULL, 0, RDAEMON_SIZED(&pidfile), NULL, 0);
}

static int (*const takers_of_paths[])(const char *) = {rdaemon_chdir, rdaemon_chroot, read_pidfile,
                                                       open_path};

TEST(null_path_is_refused) {
    for (size_t i = 0; i < LENGTH(takers_of_paths); i++)
        CHECK_REFUSED(takers_of_paths[i](NULL), -EINVAL);
}

TEST(empty_path_is_refused) {
    for (size_t i = 0; i < LENGTH(takers_of_paths); i++)
        CHECK_REFUSED(takers_of_paths[i](""), -ENOENT);
}

TEST(path_without_an_end_is_not_read_beyond_path_max) {
    char *path = guarded(PATH_MAX);
    memset(path, 'x', PATH_MAX);
    for (size_t i = 0; i < LENGTH(takers_of_paths); i++)
        CHECK_REFUSED(takers_of_paths[i](path), -ENAMETOOLONG);
}

TEST(path_is_not_read_beyond_its_end) {
    static const char none[] = "/nonexistent/nonexistent";
    char *path = guarded(sizeof none);
    strcpy(path, none);
    CHECK_INT(rdaemon_chdir(path), -ENOENT);
    CHECK_INT(open_path(path), -ENOENT);
    CHECK_INT(read_pidfile(path), RDAEMON_PIDFILE_FREE);
    path = guarded(sizeof ".");
    strcpy(path, ".");
    CHECK_INT(rdaemon_chdir(path), 0);
}

TEST(lists_are_not_read_beyond_their_end) {
    int32_t *keep = (int32_t *)guarded(3 * sizeof *keep);
    for (int i = 0; i < 3; i++)
        keep[i] = 5 - i;
    CHECK_INT(rdaemon_close_fds(3, keep, 3, 0), 0);
    struct rdaemon_limit *limit = (struct rdaemon_limit *)guarded(sizeof *limit);
    *limit = (struct rdaemon_limit){.resource = RLIMIT_CORE};
    CHECK_INT(rdaemon_set_limits(limit, 1), 0);
    struct rdaemon_identity *identity = (struct rdaemon_identity *)guarded(sizeof *identity);
    CHECK_INT(rdaemon_drop_privileges(RDAEMON_SIZED(identity)), 0);
}

/* ---- lists of absurd length ---- */

TEST(lengths_that_no_list_can_have) {
    const int32_t keep[1] = {3};
    const struct rdaemon_limit limit = {.resource = RLIMIT_CORE};
    const struct rdaemon_signal_action action = {.signal = 1};
    const uint32_t group = 7;
    const struct rdaemon_identity identity = {
        .flags = RDAEMON_IDENTITY_GROUPS, .groups = &group, .groups_len = SIZE_MAX};
    CHECK_REFUSED(rdaemon_close_fds(3, keep, SIZE_MAX, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_set_limits(&limit, SIZE_MAX), -EINVAL);
    CHECK_REFUSED(rdaemon_set_signals(&action, SIZE_MAX, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_drop_privileges(RDAEMON_SIZED(&identity)), -EINVAL);
}

/* ---- everything NULL or zero at once ---- */

TEST(set_signals_with_a_pidfile_that_was_never_opened) {
    static const struct rdaemon_pidfile never;
    const struct rdaemon_signal_action map[] = {{.signal = 15, .action = RDAEMON_SIGNAL_TERMINATE}};
    pid_t pid = fork_child();
    if (pid == 0) {
        CHECK_INT(QUIET(rdaemon_set_signals(map, 1, RDAEMON_SIZED(&never))), 0);
        kill(getpid(), 15);
        _exit(0);
    }
    CHECK_INT(wait_for_exit(pid), 15);
    CHECK(fd_is_open(0));
}
