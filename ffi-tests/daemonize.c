/* The daemon's state, read from the kernel: what rdaemon_daemonize makes of a process. */
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe.h"
#include "rdaemon.h"
#include "start.h"
#include "tap.h"

/* ---- session, parent, terminal ---- */

static pid_t original_session;

static void is_no_session_leader(const struct start *start) {
    (void)start;
    CHECK(getsid(0) != getpid());
    CHECK(getsid(0) != original_session);
    CHECK_INT(getpgrp(), getsid(0));
    CHECK(setsid() > 0); /* refused to a process group leader only */
}

TEST(the_daemon_is_in_a_session_of_its_own_that_it_does_not_lead) {
    original_session = getsid(0);
    run_daemon(NULL, is_no_session_leader);
}

TEST(the_daemon_is_an_orphan_when_the_call_returns) {
    pid_t reaper = getpid();
    IN_CHILD {
        struct start started;
        pid_t pid = start_well(&started, NULL, live_on);
        CHECK_INT(stat_field(pid, 4), reaper);
        CHECK_INT(stat_field(pid, 5), stat_field(pid, 6)); /* group and session */
        CHECK(stat_field(pid, 6) != getsid(0));
        CHECK(stat_field(pid, 6) != pid);
        CHECK_INT(first_child_of(getpid()), 0);
        kill(pid, SIGKILL);
    }
    int status;
    CHECK(wait(&status) > 0);
    CHECK_INT(status, SIGKILL);
}

static void has_no_terminal_and_gets_none(const struct start *start) {
    (void)start;
    CHECK_INT(stat_field(0, 7), 0);
    CHECK_INT(open("/dev/tty", O_RDWR), -1);
    CHECK_INT(errno, ENXIO);
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    char name[64];
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    CHECK_INT(ptsname_r(master, name, sizeof name), 0);
    CHECK(open(name, O_RDWR) >= 0); /* a session leader would get it as its terminal */
    CHECK_INT(stat_field(0, 7), 0);
    CHECK_INT(open("/dev/tty", O_RDWR), -1);
}

TEST(a_daemon_has_no_terminal_and_cannot_get_one) {
    IN_CHILD {
        int master, slave;
        CHECK_INT(openpty(&master, &slave, NULL, NULL, NULL), 0);
        CHECK(setsid() > 0);
        CHECK_INT(ioctl(slave, TIOCSCTTY, 0), 0);
        CHECK(stat_field(0, 7) != 0);
        signal(SIGHUP, SIG_IGN);
        struct start started;
        start_well(&started, NULL, has_no_terminal_and_gets_none);
    }
    int status;
    CHECK(wait(&status) > 0); /* the daemon, an orphan by now */
    CHECK_INT(status, 0);
}

/* ---- descriptors ---- */

static int32_t kept[8];
static char expected_fds[256];

static void has_exactly_the_kept_fds(const struct start *start) {
    (void)start;
    CHECK_STR(open_fds(0), expected_fds);
    for (int fd = 0; fd < 3; fd++) {
        CHECK_STR(fd_target(0, fd), "/dev/null");
        CHECK(!fd_is_cloexec(fd));
    }
}

static void open_many(void) {
    for (int i = 0; i < 100; i++)
        CHECK(open("/dev/zero", O_RDONLY) >= 3);
    CHECK_INT(dup2(0, 900), 900);
}

TEST(the_daemon_has_0_1_2_on_dev_null_and_nothing_else) {
    open_many();
    strcpy(expected_fds, "0 1 2");
    run_daemon(NULL, has_exactly_the_kept_fds);
}

TEST(files_preserve_may_be_unsorted_and_hold_duplicates) {
    open_many();
    memcpy(kept, (int32_t[]){900, 7, 50, 7, 900, 3, 1}, 7 * sizeof *kept);
    struct rdaemon_config config = {.files_preserve = kept, .files_preserve_len = 7};
    strcpy(expected_fds, "0 1 2 3 7 50 900");
    run_daemon(&config, has_exactly_the_kept_fds);
    CHECK_INT(kept[0], 900);
    CHECK_INT(kept[4], 900);
}

static void has_the_same_descriptions(const struct start *start) {
    (void)start;
    CHECK_STR(fd_target(0, 5), "/dev/zero");
    CHECK(!fd_is_cloexec(5));
    CHECK(fd_is_cloexec(6));
    CHECK_INT(lseek(7, 0, SEEK_CUR), 5);
}

TEST(preserved_fds_stay_what_they_were) {
    make_file("data", "0123456789");
    int zero = open("/dev/zero", O_RDONLY);
    dup2(zero, 5);
    dup3(zero, 6, O_CLOEXEC);
    int file = open(scratch_path("data"), O_RDONLY);
    dup2(file, 7);
    lseek(7, 5, SEEK_SET);
    struct rdaemon_config config = {.files_preserve = (int32_t[]){7, 6, 5},
                                    .files_preserve_len = 3};
    run_daemon(&config, has_the_same_descriptions);
}

static void has_the_pidfile_open_too(const struct start *start) {
    const struct rdaemon_pidfile *pidfile = &start->daemon.pidfile;
    char expected[64];
    int low = pidfile->fd < pidfile->directory_fd ? pidfile->fd : pidfile->directory_fd;
    int high = pidfile->fd < pidfile->directory_fd ? pidfile->directory_fd : pidfile->fd;
    CHECK(low >= 3);
    snprintf(expected, sizeof expected, "0 1 2 %d %d", low, high);
    CHECK_STR(open_fds(0), expected);
    CHECK(fd_is_cloexec(low));
    CHECK(fd_is_cloexec(high));
}

TEST(the_pidfile_stays_open_through_the_sweep) {
    open_many();
    struct rdaemon_config config = {.pidfile = scratch_path("pid")};
    run_daemon(&config, has_the_pidfile_open_too);
}

static void has_all_fds(const struct start *start) {
    (void)start;
    for (int fd = 3; fd < 103; fd++)
        CHECK(fd_is_open(fd));
    CHECK(fd_is_open(900));
    CHECK_STR(fd_target(0, 1), "/dev/null");
}

TEST(keep_fds_sweeps_nothing) {
    open_many();
    struct rdaemon_config config = {.flags = RDAEMON_KEEP_FDS};
    run_daemon(&config, has_all_fds);
}

TEST(fds_above_a_lowered_limit_are_closed_too) {
    open_many();
    for (int fd = 10; fd < 30; fd++)
        close(fd);
    struct rlimit limit = {64, 64};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    strcpy(expected_fds, "0 1 2");
    run_daemon(NULL, has_exactly_the_kept_fds);
}

/* ---- umask, directories ---- */

static void has_umask_0(const struct start *start) {
    (void)start;
    CHECK_INT(umask(0), 0);
}

static void has_umask_027(const struct start *start) {
    (void)start;
    CHECK_INT(umask(0), 027);
}

TEST(the_umask_is_0_by_default) {
    umask(077);
    run_daemon(NULL, has_umask_0);
    CHECK_INT(umask(0), 077);
}

TEST(the_umask_is_the_config_s) {
    struct rdaemon_config config = {.umask = 027};
    run_daemon(&config, has_umask_027);
}

TEST(keep_umask_keeps_the_callers) {
    umask(027);
    struct rdaemon_config config = {.flags = RDAEMON_KEEP_UMASK};
    run_daemon(&config, has_umask_027);
}

static const char *expected_cwd;

static void is_there(const struct start *start) {
    (void)start;
    char cwd[4096];
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    CHECK_STR(cwd, expected_cwd);
}

TEST(the_working_directory_is_the_root_by_default) {
    CHECK_INT(chdir(scratch()), 0);
    expected_cwd = "/";
    run_daemon(NULL, is_there);
}

TEST(the_working_directory_is_the_config_s) {
    expected_cwd = scratch();
    struct rdaemon_config config = {.working_directory = expected_cwd};
    run_daemon(&config, is_there);
}

TEST(keep_cwd_keeps_the_callers) {
    expected_cwd = scratch();
    CHECK_INT(chdir(expected_cwd), 0);
    struct rdaemon_config config = {.flags = RDAEMON_KEEP_CWD};
    run_daemon(&config, is_there);
}

static struct stat expected_root;

static void has_that_root(const struct start *start) {
    is_there(start);
    struct stat root;
    CHECK_INT(stat("/", &root), 0);
    CHECK_INT(root.st_ino, expected_root.st_ino);
    CHECK_INT(root.st_dev, expected_root.st_dev);
}

TEST(the_root_stays_by_default) {
    expected_cwd = "/";
    CHECK_INT(stat("/", &expected_root), 0);
    run_daemon(NULL, has_that_root);
}

TEST(the_root_changes_before_the_working_directory) {
    REQUIRE_ROOT();
    const char *root = make_directory("jail", 0755);
    make_directory("jail/inner", 0755);
    CHECK_INT(stat(root, &expected_root), 0);
    struct rdaemon_config config = {.chroot_directory = root};
    expected_cwd = "/";
    run_daemon(&config, has_that_root);
    config.working_directory = expected_cwd = "/inner";
    run_daemon(&config, has_that_root);
}

/* ---- limits, core, privileges ---- */

static void has_the_limits(const struct start *start) {
    (void)start;
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_INT(limit.rlim_cur, 40);
    CHECK_INT(limit.rlim_max, 50);
    CHECK_INT(getrlimit(RLIMIT_CPU, &limit), 0);
    CHECK_INT(limit.rlim_cur, 1000);
    CHECK_INT(limit.rlim_max, RLIM_INFINITY);
}

TEST(the_limits_are_set) {
    struct rdaemon_limit limits[] = {
        {.resource = RLIMIT_NOFILE, .soft = 40, .hard = 50},
        {.resource = RLIMIT_CPU, .soft = 1000, .hard = RDAEMON_UNLIMITED},
    };
    struct rdaemon_config config = {.limits = limits, .limits_len = 2};
    run_daemon(&config, has_the_limits);
}

static void cannot_dump_core(const struct start *start) {
    (void)start;
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_CORE, &limit), 0);
    CHECK_INT(limit.rlim_cur, 1); /* 0 would still allow a dump into a pipe */
    CHECK_INT(limit.rlim_max, 1);
    CHECK_INT(prctl(PR_GET_DUMPABLE), 1);
}

static void cannot_dump_at_all(const struct start *start) {
    (void)start;
    CHECK_INT(prctl(PR_GET_DUMPABLE), 0);
}

static struct rlimit callers_core_limit;

static void has_the_callers_core_limit(const struct start *start) {
    (void)start;
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_CORE, &limit), 0);
    CHECK_INT(limit.rlim_cur, callers_core_limit.rlim_cur);
    CHECK_INT(limit.rlim_max, callers_core_limit.rlim_max);
}

static void allow_cores(void) {
    CHECK_INT(getrlimit(RLIMIT_CORE, &callers_core_limit), 0);
    if (callers_core_limit.rlim_max < 4096)
        SKIP("needs a hard RLIMIT_CORE of 4096 bytes");
    callers_core_limit.rlim_cur = 4096;
    CHECK_INT(setrlimit(RLIMIT_CORE, &callers_core_limit), 0);
}

TEST(core_dumps_are_prevented) {
    allow_cores();
    run_daemon(NULL, cannot_dump_core);
}

TEST(undumpable_clears_the_dumpable_bit) {
    struct rdaemon_config config = {.flags = RDAEMON_UNDUMPABLE};
    run_daemon(&config, cannot_dump_at_all);
}

TEST(keep_core_keeps_the_limit) {
    allow_cores();
    struct rdaemon_config config = {.flags = RDAEMON_KEEP_CORE};
    run_daemon(&config, has_the_callers_core_limit);
}

static void has_no_new_privs(const struct start *start) {
    (void)start;
    CHECK_STR(status_field(0, "NoNewPrivs"), "1");
}

static void may_gain_privileges(const struct start *start) {
    (void)start;
    CHECK_STR(status_field(0, "NoNewPrivs"), "0");
}

TEST(no_new_privs_is_set_on_request_only) {
    if (strcmp(status_field(0, "NoNewPrivs"), "0") != 0)
        SKIP("needs a runner without no_new_privs");
    run_daemon(NULL, may_gain_privileges);
    struct rdaemon_config config = {.flags = RDAEMON_SET_NO_NEW_PRIVS};
    run_daemon(&config, has_no_new_privs);
    CHECK_STR(status_field(0, "NoNewPrivs"), "0");
}

/* ---- identity ---- */

static const char *expected_uids, *expected_gids, *expected_groups;

static void has_the_identity(const struct start *start) {
    (void)start;
    CHECK_STR(status_field(0, "Uid"), expected_uids);
    CHECK_STR(status_field(0, "Gid"), expected_gids);
    CHECK_STR(status_field(0, "Groups"), expected_groups);
}

static void cannot_come_back(const struct start *start) {
    has_the_identity(start);
    CHECK_STR(status_field(0, "CapPrm"), "0000000000000000");
    CHECK_STR(status_field(0, "CapEff"), "0000000000000000");
    CHECK_INT(setuid(0), -1);
    CHECK_INT(setresuid(0, 0, 0), -1);
    CHECK_INT(setgid(0), -1);
}

static void join_groups(void) {
    REQUIRE_ROOT();
    CHECK_INT(setgroups(3, (gid_t[]){0, 4, 20}), 0);
}

TEST(privileges_are_dropped_for_good) {
    join_groups();
    struct rdaemon_config config = {
        .identity = {
            .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = 12345, .gid = 23456}};
    expected_uids = "12345 12345 12345 12345";
    expected_gids = "23456 23456 23456 23456";
    expected_groups = "";
    run_daemon(&config, cannot_come_back);
}

TEST(the_groups_are_the_config_s) {
    join_groups();
    struct rdaemon_config config = {
        .identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS,
                     .uid = 12345,
                     .gid = 23456,
                     .groups = (uint32_t[]){7, 23456},
                     .groups_len = 2}};
    expected_uids = "12345 12345 12345 12345";
    expected_gids = "23456 23456 23456 23456";
    expected_groups = "7 23456";
    run_daemon(&config, cannot_come_back);
}

TEST(an_empty_list_of_groups_drops_them_all) {
    join_groups();
    struct rdaemon_config config = {.identity = {.flags = RDAEMON_IDENTITY_GROUPS}};
    expected_uids = expected_gids = "0 0 0 0";
    expected_groups = "";
    run_daemon(&config, has_the_identity);
}

TEST(keep_groups_keeps_them) {
    join_groups();
    struct rdaemon_config config = {
        .identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_KEEP_GROUPS, .uid = 12345}};
    expected_uids = "12345 12345 12345 12345";
    expected_gids = "0 0 0 0";
    expected_groups = "0 4 20";
    run_daemon(&config, has_the_identity);
}

TEST(the_identity_stays_by_default) {
    join_groups();
    expected_uids = expected_gids = "0 0 0 0";
    expected_groups = "0 4 20";
    run_daemon(NULL, has_the_identity);
}

/* As a program with the set-user-id and set-group-id bits of root, started by 12345:23456. */
static void be_set_uid(void) {
    REQUIRE_ROOT();
    CHECK_INT(setgroups(0, NULL), 0);
    CHECK_INT(setresgid(23456, 0, 0), 0);
    CHECK_INT(setresuid(12345, 0, 0), 0);
    expected_groups = "";
}

TEST(a_set_uid_daemon_relinquishes_by_default) {
    be_set_uid();
    expected_uids = "12345 12345 12345 12345";
    expected_gids = "23456 23456 23456 23456";
    run_daemon(NULL, cannot_come_back);
    CHECK_INT(geteuid(), 0);
}

TEST(relinquish_is_the_default_said_aloud) {
    be_set_uid();
    struct rdaemon_config config = {.identity = {.flags = RDAEMON_IDENTITY_RELINQUISH}};
    expected_uids = "12345 12345 12345 12345";
    expected_gids = "23456 23456 23456 23456";
    run_daemon(&config, cannot_come_back);
}

TEST(keep_privileges_keeps_the_effective_ids) {
    be_set_uid();
    struct rdaemon_config config = {.flags = RDAEMON_KEEP_PRIVILEGES};
    expected_uids = "12345 0 0 0";
    expected_gids = "23456 0 0 0";
    run_daemon(&config, has_the_identity);
}

/* ---- order ---- */

static void can_still_write_its_files(const struct start *start) {
    CHECK_INT(getuid(), 12345);
    CHECK_INT(write(1, "hello\n", 6), 6);
    CHECK_INT(lseek(start->daemon.pidfile.fd, 0, SEEK_END) > 0, 1);
}

TEST(everything_is_opened_before_the_root_and_the_privileges_go) {
    REQUIRE_ROOT();
    make_directory("private", 0700);
    const char *log = scratch_path("private/log");
    const char *pidfile = scratch_path("private/pid");
    struct rdaemon_config config = {
        .chroot_directory = make_directory("jail", 0755),
        .pidfile = pidfile,
        .streams = {{0},
                    {.action = RDAEMON_STREAM_FILE, .path = log},
                    {.action = RDAEMON_STREAM_SAME_AS_STDOUT}},
        .identity = {.flags = RDAEMON_IDENTITY_UID, .uid = 12345},
    };
    run_daemon(&config, can_still_write_its_files);
    CHECK_STR(file_text(log), "hello\n");
}

/* ---- again ---- */

static void starts_another(const struct start *start) {
    struct start inner;
    pid_t session = getsid(0);
    (void)start;
    adopt_orphans();
    pid_t pid = start_well(&inner, NULL, live_on);
    CHECK(getsid(pid) != session);
    CHECK(getsid(pid) != pid);
    slay(&inner);
}

TEST(a_daemon_may_start_another) {
    run_daemon(NULL, starts_another);
}

/* ---- results ---- */

static void knows_itself(const struct start *start) {
    CHECK_INT(start->daemon.pid, getpid());
    CHECK_INT(start->status.pid, getpid());
    CHECK_INT(start->status.step, 0);
    CHECK_INT(start->status.error, 0);
    CHECK_INT(start->status.signal, 0);
    CHECK_INT(start->daemon.pidfd, -1);
    CHECK_INT(start->daemon.ready_fd, -1);
    CHECK_INT(start->daemon.detached, 1);
    CHECK_INT(start->daemon.pidfile.fd, -1);
}

TEST(both_processes_learn_what_was_made) {
    struct start started;
    pid_t pid = start_well(&started, NULL, knows_itself);
    CHECK_INT(started.status.signal, 0);
    CHECK_INT(started.status.subject, 0);
    CHECK_INT(started.daemon.ready_fd, -1);
    CHECK_INT(started.daemon.detached, 1);
    CHECK_INT(started.daemon.pidfile.fd, -1);
    CHECK_INT(started.daemon.pidfile.directory_fd, -1);
    for (int i = 0; i < 11; i++)
        CHECK_INT(started.status.reserved[i], 0);
    CHECK(pid != getpid());
    lived(&started);
}

TEST(the_pidfd_refers_to_the_daemon) {
    struct start started;
    pid_t pid = start_well(&started, NULL, live_on);
    char path[64], line[32];
    CHECK(started.daemon.pidfd >= 3);
    CHECK(fd_is_cloexec(started.daemon.pidfd));
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", started.daemon.pidfd);
    snprintf(line, sizeof line, "\nPid:\t%d\n", pid);
    CHECK(strstr(file_text(path), line) != NULL);
    slay(&started);
}

TEST(the_original_keeps_nothing_but_the_pidfd) {
    char before[256], after[256];
    struct start started;
    struct rdaemon_config config = {
        .pidfile = scratch_path("pid"),
        .streams[1] = {.action = RDAEMON_STREAM_FILE, .path = scratch_path("log")}};
    snprintf(before, sizeof before, "%s", open_fds(0));
    start_well(&started, &config, live_on);
    close(started.daemon.pidfd);
    snprintf(after, sizeof after, "%s", open_fds(0));
    started.daemon.pidfd = -1;
    slay(&started);
    CHECK_STR(after, before);
}

static void exit_0(void) {
    _exit(0);
}

TEST(no_output_is_asked_for) {
    char before[256];
    snprintf(before, sizeof before, "%s", open_fds(0));
    int result = rdaemon_daemonize(NULL, 0, NULL, 0, NULL, 0);
    if (result == 0)
        exit_0();
    CHECK(result > 0);
    CHECK_INT(wait_for_exit(result), 0);
    CHECK_STR(open_fds(0), before); /* a pidfd that nobody asked for would leak */
}

TEST(shorter_outputs_are_filled_in_part) {
    struct rdaemon_daemon daemon;
    struct rdaemon_status status;
    memset(&daemon, 0x11, sizeof daemon);
    memset(&status, 0x11, sizeof status);
    int result = rdaemon_daemonize(NULL, 0, &daemon, 8, &status, 12);
    if (result == 0)
        exit_0();
    CHECK(result > 0);
    CHECK_INT(daemon.pid, result);
    CHECK_INT(daemon.ready_fd, 0x11111111);
    CHECK_INT(status.pid, result);
    CHECK_INT(status.signal, 0x11111111);
    CHECK_INT(wait_for_exit(result), 0);
}

TEST(longer_outputs_get_a_zeroed_tail) {
    struct {
        struct rdaemon_daemon daemon;
        char tail[8];
    } daemon;
    struct {
        struct rdaemon_status status;
        char tail[8];
    } status;
    static const char zero[8];
    memset(&daemon, 0x11, sizeof daemon);
    memset(&status, 0x11, sizeof status);
    int result =
        rdaemon_daemonize(NULL, 0, &daemon.daemon, sizeof daemon, &status.status, sizeof status);
    if (result == 0)
        exit_0();
    CHECK(result > 0);
    CHECK_INT(daemon.daemon.pid, result);
    CHECK_INT(status.status.pid, result);
    CHECK(memcmp(daemon.tail, zero, 8) == 0);
    CHECK(memcmp(status.tail, zero, 8) == 0);
    CHECK_INT(wait_for_exit(result), 0);
}
