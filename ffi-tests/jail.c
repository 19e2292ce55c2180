/* A jail is one that cannot be left, whatever the other options say: from inside, no path leads to
 * a file outside, neither by name nor through the working directory. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

static char outside[4096];

/* scratch/etc/hostname is outside, scratch/a/jail is the root, with the folder `inner` in it. */
static void build(void) {
    REQUIRE_ROOT();
    make_directory("etc", 0755);
    make_file("etc/hostname", "outside");
    make_directory("a", 0755);
    make_directory("a/jail", 0755);
    make_directory("a/jail/inner", 0755);
    make_directory("a/other", 0755);
    snprintf(outside, sizeof outside, "%s/etc/hostname", scratch());
}

static void cannot_open(const char *path) {
    if (open(path, O_RDONLY) >= 0)
        FAIL("%s can be opened", path);
    CHECK_INT(errno, ENOENT);
}

static void is_inside(const struct start *start) {
    (void)start;
    char path[256] = "etc/hostname";
    struct stat root, cwd;
    for (int depth = 0; depth < 8; depth++) {
        cannot_open(path);
        memmove(path + 3, path, strlen(path) + 1);
        memcpy(path, "../", 3);
    }
    cannot_open(outside);
    cannot_open("/etc/hostname");
    cannot_open("../../etc/hostname");
    /* getcwd says "(unreachable)" of a directory outside the root. */
    CHECK(getcwd(path, sizeof path) != NULL && path[0] == '/');
    CHECK_INT(stat("/", &root), 0);
    CHECK_INT(stat("..", &cwd), 0);
    CHECK_INT(cwd.st_ino, root.st_ino); /* from / as from /inner */
}

/* A config that is refused jails nobody, so it is as good as one that holds. */
static int try_to_leave(const struct rdaemon_config *config) {
    struct start started;
    start(&started, config, is_inside);
    if (started.result < 0)
        return 0;
    lived(&started);
    return 1;
}

static const char *const working_directories[] = {
    NULL, "/", "inner", "/inner", ".", "..", "../..", "inner/../../..", "../other", "inner/..",
};

static const struct rdaemon_identity identities[] = {
    {0},
    {.flags = RDAEMON_IDENTITY_UID, .uid = 12345},
    {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS,
     .uid = 12345,
     .gid = 12345},
    {.flags = RDAEMON_IDENTITY_RELINQUISH},
};

static int try_every_identity(struct rdaemon_config config) {
    int held = 0;
    for (size_t i = 0; i < sizeof identities / sizeof *identities; i++) {
        config.identity = identities[i];
        held += try_to_leave(&config);
    }
    return held;
}

static int try_every_directory(struct rdaemon_config config) {
    int held = 0;
    for (size_t i = 0; i < sizeof working_directories / sizeof *working_directories; i++) {
        config.working_directory = working_directories[i];
        held += try_every_identity(config);
    }
    return held;
}

/* Every combination from the caller's directory `from`, with the jail named by `root`. */
static void try_everything(const char *from, const char *root) {
    static const uint32_t flags[] = {0, RDAEMON_KEEP_CWD, RDAEMON_SET_NO_NEW_PRIVS,
                                     RDAEMON_KEEP_CWD | RDAEMON_KEEP_FDS};
    int held = 0;
    CHECK_INT(chdir(from), 0);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct rdaemon_config config = {.flags = flags[i], .chroot_directory = root};
        held += try_every_directory(config);
    }
    CHECK(held >= 40);
}

TEST(a_jail_cannot_be_left_by_a_caller_from_outside) {
    build();
    try_everything(scratch_path("a/other"), scratch_path("a/jail"));
}

TEST(a_jail_cannot_be_left_by_a_caller_from_its_parent) {
    build();
    try_everything(scratch_path("a"), scratch_path("a/jail"));
}

TEST(a_jail_cannot_be_left_by_a_caller_from_inside) {
    build();
    try_everything(scratch_path("a/jail/inner"), scratch_path("a/jail"));
}

TEST(a_jail_given_by_a_relative_path_cannot_be_left) {
    build();
    try_everything(scratch_path("a/other"), "../jail");
}

TEST(a_working_directory_outside_the_jail_does_not_exist) {
    build();
    struct rdaemon_config config = {.chroot_directory = scratch_path("a/jail"),
                                    .working_directory = scratch_path("a/other")};
    start_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
}

TEST(without_a_fork_a_jail_cannot_be_left_either) {
    build();
    IN_CHILD {
        struct rdaemon_config config = {.detach = RDAEMON_DETACH_NO,
                                        .chroot_directory = scratch_path("a/jail"),
                                        .working_directory = "inner"};
        struct start started;
        start(&started, &config, is_inside);
        CHECK_INT(started.result, 0);
    }
}

/* openat from each fd: a directory outside would be a way out. */
static void has_no_way_out_by_fd(const struct start *start) {
    CHECK(start->daemon.pidfile.fd >= 3);
    CHECK_INT(start->daemon.pidfile.directory_fd, -1);
    for (int fd = 0; fd < 256; fd++) {
        char path[256] = "etc/hostname";
        struct stat file;
        if (fstat(fd, &file) == 0 && S_ISDIR(file.st_mode))
            FAIL("fd %d is a directory", fd);
        for (int depth = 0; depth < 8; depth++) {
            CHECK_INT(openat(fd, path, O_RDONLY), -1);
            memmove(path + 3, path, strlen(path) + 1);
            memcpy(path, "../", 3);
        }
    }
}

TEST(a_jail_with_a_pidfile_that_is_only_emptied_has_no_way_out_by_fd) {
    build();
    struct rdaemon_config config = {
        .chroot_directory = scratch_path("a/jail"),
        .pidfile = scratch_path("a/other/pid"),
        .pidfile_options = {.flags = RDAEMON_PIDFILE_ONLY_EMPTY},
    };
    run_daemon(&config, has_no_way_out_by_fd);
}

static void ends_by_sigterm(const struct start *start) {
    (void)start;
    raise(SIGTERM);
}

TEST(a_jailed_daemon_s_pidfile_is_emptied_at_its_end) {
    build();
    struct rdaemon_config config = {
        .chroot_directory = scratch_path("a/jail"),
        .pidfile = scratch_path("a/other/pid"),
        .pidfile_options = {.flags = RDAEMON_PIDFILE_ONLY_EMPTY},
    };
    struct start started;
    pid_t pid = start_well(&started, &config, ends_by_sigterm);
    CHECK_INT(wait_for_exit(pid), SIGTERM);
    CHECK_STR(file_text(scratch_path("a/other/pid")), "");
}
