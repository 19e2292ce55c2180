/* What a started program is besides its fds: where it is, what it may, who it is, whom it obeys.
 * Most cases come three times: for a child on shared memory, for a forked one, and for
 * rdaemon_exec in a process that the caller forked. */
#include "rdaemon.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

#define TRUE .argv = STRINGS("/bin/true")

HELPER(linger) {
    while (pause() != 0)
        ;
    return 0;
}

/* ---- working directory ---- */

TEST_EACH_WAY(the_working_directory_is_inherited) {
    CHECK_INT(chdir(scratch()), 0);
    REPORT(0);
    CHECK_STR(told("cwd"), identity_of(scratch()));
    CHECK_STR(told("root"), identity_of("/"));
}

TEST_EACH_WAY(the_working_directory_is_given_by_a_path) {
    const char *there = make_directory("there", 0755);
    REPORT(.working_directory = there);
    CHECK_STR(told("cwd"), identity_of(there));
    CHECK_INT(chdir(scratch()), 0);
    REPORT(.working_directory = "there");
    CHECK_STR(told("cwd"), identity_of(there));
    REPORT(.working_directory = "..");
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s/..", scratch());
    CHECK_STR(told("cwd"), identity_of(above));
}

TEST_EACH_WAY(a_working_directory_that_cannot_be_entered_is_an_error_of_chdir) {
    const char *file = make_file("file", "");
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, TRUE, .working_directory = scratch_path("missing"));
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOTDIR, TRUE, .working_directory = file);
    const char *closed = make_directory("closed", 0);
    become_user();
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -EACCES, TRUE, .working_directory = closed);
}

TEST_EACH_WAY(the_working_directory_is_given_by_an_fd) {
    const char *there = make_directory("there", 0755);
    for (int fd = 0; fd < 6; fd++) {
        int directory = open(there, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory != fd) {
            CHECK_INT(dup3(directory, fd, O_CLOEXEC), fd);
            close(directory);
        }
        REPORT(.flags = RDAEMON_SPAWN_CWD_FD, .working_directory_fd = fd,
               .streams = {plain_stream(RDAEMON_STREAM_NULL), plain_stream(RDAEMON_STREAM_NULL),
                           plain_stream(RDAEMON_STREAM_NULL)});
        CHECK_STR(told("cwd"), identity_of(there));
        CHECK_STR(told("fds"), "0 1 2");
    }
}

TEST_EACH_WAY(an_o_path_fd_is_a_working_directory_too) {
    const char *there = make_directory("there", 0755);
    int directory = open(there, O_PATH | O_CLOEXEC);
    REPORT(.flags = RDAEMON_SPAWN_CWD_FD, .working_directory_fd = directory);
    CHECK_STR(told("cwd"), identity_of(there));
}

TEST_EACH_WAY(the_working_directory_s_fd_is_the_caller_s_whatever_the_map_puts_there) {
    const char *there = make_directory("there", 0755), *wrong = make_directory("wrong", 0755);
    int directory = open(there, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int other = open(wrong, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct rdaemon_fd_mapping map[] = {map_fd(directory, other), map_fd(other, directory)};
    REPORT(.flags = RDAEMON_SPAWN_CWD_FD, .working_directory_fd = directory, .fd_map = map,
           .fd_map_len = 2);
    CHECK_STR(told("cwd"), identity_of(there));
    CHECK_INT(dup2(directory, STDIN_FILENO), 0);
    REPORT(.flags = RDAEMON_SPAWN_CWD_FD, .working_directory_fd = 0, .streams = {fd_stream(other)});
    CHECK_STR(told("cwd"), identity_of(there));
}

TEST_EACH_WAY(an_fd_that_is_no_directory_is_an_error_of_chdir) {
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOTDIR, TRUE, .flags = RDAEMON_SPAWN_CWD_FD,
                .working_directory_fd = 0);
}

/* ---- root directory ---- */

TEST_EACH_WAY(a_new_root_is_the_working_directory_too) {
    const char *root = jail();
    CHECK_INT(chdir(scratch()), 0);
    REPORT(.chroot_directory = root);
    CHECK_STR(told("root"), identity_of(root));
    CHECK_STR(told("cwd"), identity_of(root));
    CHECK(strcmp(identity_of("/"), identity_of(root)) != 0);
}

TEST_EACH_WAY(the_working_directory_is_inside_the_new_root) {
    char inner[PATH_MAX];
    const char *root = jail();
    snprintf(inner, sizeof inner, "%s/inner", root);
    CHECK_INT(mkdir(inner, 0755), 0);
    REPORT(.chroot_directory = root, .working_directory = "/inner");
    CHECK_STR(told("cwd"), identity_of(inner));
    REPORT(.chroot_directory = root, .working_directory = "inner");
    CHECK_STR(told("cwd"), identity_of(inner));
    REPORT(.chroot_directory = root, .working_directory = "inner/../../../..");
    CHECK_STR(told("cwd"), identity_of(root));
    make_directory("outside", 0755);
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, TRUE, .chroot_directory = root,
                .working_directory = scratch_path("outside"));
}

TEST_EACH_WAY(the_program_is_looked_for_inside_the_new_root) {
    const char *root = jail();
    make_file("program", "");
    REPORT(.chroot_directory = root, .paths = STRINGS(scratch_path("program"), "/program"));
    CHECK_STR(told("root"), identity_of(root));
    REPORT(.chroot_directory = root, .paths = STRINGS("../../program"));
    CHECK_STR(told("root"), identity_of(root));
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .chroot_directory = root,
                .argv = STRINGS("/mnt/program"));
}

TEST_BOTH_WAYS(files_are_opened_outside_of_the_new_root) {
    const char *root = jail(), *out = scratch_path("out");
    OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "echo inside"), .chroot_directory = root,
              .streams = {[1] = file_stream(out, 0, 0)});
    CHECK_STR(file_text(out), "inside\n");
}

TEST_EACH_WAY(a_root_that_cannot_be_entered_is_an_error_of_chroot) {
    REQUIRE_ROOT();
    SPAWN_BADLY(RDAEMON_STEP_CHROOT, -ENOENT, TRUE, .chroot_directory = "/nonexistent");
    SPAWN_BADLY(RDAEMON_STEP_CHROOT, -ENOTDIR, TRUE, .chroot_directory = "/bin/true");
}

TEST_EACH_WAY(a_user_has_no_right_to_a_new_root) {
    become_user();
    SPAWN_BADLY(RDAEMON_STEP_CHROOT, -EPERM, TRUE, .chroot_directory = "/");
}

/* ---- umask ---- */

TEST_EACH_WAY(the_umask_is_inherited_or_set) {
    umask(027);
    REPORT(0);
    CHECK_STR(told("umask"), "027");
    REPORT(.flags = RDAEMON_SPAWN_UMASK);
    CHECK_STR(told("umask"), "000");
    REPORT(.flags = RDAEMON_SPAWN_UMASK, .umask = 0777);
    CHECK_STR(told("umask"), "777");
    REPORT(.flags = RDAEMON_SPAWN_UMASK, .umask = 0135);
    CHECK_STR(told("umask"), "135");
}

/* ---- limits ---- */

static struct rdaemon_limit limit_of(int resource, uint64_t soft, uint64_t hard) {
    return (struct rdaemon_limit){.resource = resource, .soft = soft, .hard = hard};
}

static const char *told_limit(int resource) {
    char key[16];
    snprintf(key, sizeof key, "limit.%d", resource);
    return told(key);
}

TEST_EACH_WAY(limits_are_inherited_or_set) {
    struct rdaemon_limit limits[] = {
        limit_of(RLIMIT_NOFILE, 40, 80),
        limit_of(RLIMIT_CPU, 1000, 2000),
        limit_of(RLIMIT_CORE, 0, RDAEMON_UNLIMITED),
        limit_of(RLIMIT_FSIZE, RDAEMON_UNLIMITED, RDAEMON_UNLIMITED),
    };
    struct rlimit memlock = {4096, 8192};
    CHECK_INT(setrlimit(RLIMIT_MEMLOCK, &memlock), 0);
    struct rlimit core;
    CHECK_INT(getrlimit(RLIMIT_CORE, &core), 0);
    if (core.rlim_max != RLIM_INFINITY)
        limits[2].hard = core.rlim_max;
    REPORT(.limits = limits, .limits_len = LENGTH(limits));
    CHECK_STR(told_limit(RLIMIT_NOFILE), "40:80");
    CHECK_STR(told_limit(RLIMIT_CPU), "1000:2000");
    CHECK_STR(told_limit(RLIMIT_MEMLOCK), "4096:8192");
    if (core.rlim_max == RLIM_INFINITY)
        CHECK_STR(told_limit(RLIMIT_CORE), "0:18446744073709551615");
}

TEST_EACH_WAY(a_limit_given_twice_is_the_last_one) {
    struct rdaemon_limit limits[] = {limit_of(RLIMIT_CPU, 1000, 2000),
                                     limit_of(RLIMIT_CPU, 900, 1900)};
    REPORT(.limits = limits, .limits_len = 2);
    CHECK_STR(told_limit(RLIMIT_CPU), "900:1900");
}

TEST_EACH_WAY(rule_5_6_a_low_limit_of_fds_hinders_no_mapping) {
    struct rdaemon_limit limits[] = {limit_of(RLIMIT_NOFILE, 8, 8), limit_of(RLIMIT_CPU, 900, 900)};
    struct rdaemon_fd_mapping map[] = {map_fd(50, 0), map_fd(60, 1)};
    REPORT(.limits = limits, .limits_len = 2, .fd_map = map, .fd_map_len = 2);
    CHECK_STR(told("fds"), "0 1 2 50 60");
    CHECK_STR(told_limit(RLIMIT_NOFILE), "8:8");
    CHECK_STR(told_limit(RLIMIT_CPU), "900:900");
}

TEST_EACH_WAY(a_limit_that_may_not_be_raised_is_an_error_of_the_limits) {
    struct rlimit low = {100, 200};
    CHECK_INT(setrlimit(RLIMIT_CPU, &low), 0);
    become_user();
    struct rdaemon_limit limits[] = {limit_of(RLIMIT_CORE, 0, 0), limit_of(RLIMIT_CPU, 100, 201)};
    SPAWN_BADLY(RDAEMON_STEP_SET_LIMITS, -EPERM, TRUE, .limits = limits, .limits_len = 2);
}

/* ---- session, process group, terminal ---- */

TEST_EACH_WAY(a_new_session_is_the_program_s_own) {
    REPORT(.flags = RDAEMON_SPAWN_SETSID);
    CHECK_STR(told("sid"), told("pid"));
    CHECK_STR(told("pgid"), told("pid"));
}

TEST_EACH_WAY(a_new_process_group_is_the_program_s_own) {
    REPORT(.flags = RDAEMON_SPAWN_PROCESS_GROUP);
    CHECK_STR(told("pgid"), told("pid"));
    CHECK_INT(told_pid("sid"), getsid(0));
}

TEST_EACH_WAY(a_program_joins_a_process_group) {
    struct spawned leader, member;
    Config config = {THE_HELPER(linger), .flags = RDAEMON_SPAWN_PROCESS_GROUP};
    spawn_well(&leader, &config);
    CHECK_INT(getpgid(leader.result), leader.result);
    config.process_group = leader.result;
    spawn_well(&member, &config);
    CHECK_INT(getpgid(member.result), leader.result);
    CHECK_INT(killpg(leader.result, SIGKILL), 0);
    CHECK_INT(reap(&member), SIGKILL);
    CHECK_INT(reap(&leader), SIGKILL);
}

TEST_EACH_WAY(a_process_group_that_cannot_be_joined_is_an_error_of_setpgid) {
    SPAWN_BADLY(RDAEMON_STEP_SETPGID, -EPERM, TRUE, .flags = RDAEMON_SPAWN_PROCESS_GROUP,
                .process_group = INT_MAX);
    struct spawned leader;
    spawn_well(&leader, &(Config){THE_HELPER(linger), .flags = RDAEMON_SPAWN_SETSID});
    SPAWN_BADLY(RDAEMON_STEP_SETPGID, -EPERM, TRUE, .flags = RDAEMON_SPAWN_PROCESS_GROUP,
                .process_group = leader.result);
    kill_and_reap(&leader);
}

struct terminal {
    int master, slave;
};

static struct terminal open_terminal(void) {
    struct terminal terminal = {.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
    if (terminal.master < 0 || grantpt(terminal.master) != 0 || unlockpt(terminal.master) != 0)
        SKIP("no pseudo-terminal: %s", strerror(errno));
    terminal.slave = open(ptsname(terminal.master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(terminal.slave >= 0);
    return terminal;
}

enum { TERMINAL = RDAEMON_SPAWN_SETSID | RDAEMON_SPAWN_CONTROLLING_TERMINAL };

TEST_EACH_WAY(a_stream_becomes_the_controlling_terminal) {
    struct terminal terminal = open_terminal();
    struct rdaemon_stream slave = fd_stream(terminal.slave);
    for (int fd = 0; fd < 3; fd++) {
        Config config = {.flags = TERMINAL, .terminal_fd = fd};
        config.streams[fd] = slave;
        report_quietly(&config);
        CHECK_STR(told("terminal"), "1");
        CHECK_STR(told("foreground"), "1");
        CHECK_STR(told("sid"), told("pid"));
    }
}

TEST_EACH_WAY(the_terminal_s_fd_is_the_program_s) {
    struct terminal terminal = open_terminal();
    open_at(9, O_CLOEXEC);
    struct rdaemon_fd_mapping map = map_fd(9, terminal.slave);
    REPORT(.flags = TERMINAL, .terminal_fd = 9, .fd_map = &map, .fd_map_len = 1);
    CHECK_STR(told("terminal"), "1");
    CHECK_STR(told("fds"), "0 1 2 9");
    int32_t pass = terminal.slave;
    REPORT(.flags = TERMINAL, .terminal_fd = pass, .pass_fds = &pass, .pass_fds_len = 1);
    CHECK_STR(told("terminal"), "1");
}

TEST_EACH_WAY(a_terminal_is_not_acquired_by_accident) {
    struct terminal terminal = open_terminal();
    struct rdaemon_stream slave = fd_stream(terminal.slave);
    REPORT(.flags = RDAEMON_SPAWN_SETSID, .streams = {slave, slave, slave});
    CHECK_STR(told("terminal"), "0");
    slave = file_stream(ptsname(terminal.master), O_RDWR, 0);
    REPORT(.flags = RDAEMON_SPAWN_SETSID, .streams = {slave, slave, slave});
    CHECK_STR(told("terminal"), "0");
}

TEST_EACH_WAY(the_caller_s_terminal_is_inherited_but_by_a_new_session) {
    struct terminal terminal = open_terminal();
    IN_CHILD {
        CHECK_INT(setsid(), getpid());
        CHECK_INT(ioctl(terminal.slave, TIOCSCTTY, 0), 0);
        signal(SIGHUP, SIG_IGN);
        REPORT(0);
        CHECK_STR(told("terminal"), "1");
        CHECK_STR(told("foreground"), "1");
        REPORT(.flags = RDAEMON_SPAWN_PROCESS_GROUP);
        CHECK_STR(told("terminal"), "1");
        CHECK_STR(told("foreground"), "0");
        REPORT(.flags = RDAEMON_SPAWN_SETSID);
        CHECK_STR(told("terminal"), "0");
    }
}

TEST_EACH_WAY(what_is_no_terminal_is_an_error_of_the_terminal) {
    struct terminal terminal = open_terminal();
    SPAWN_BADLY(RDAEMON_STEP_CONTROLLING_TERMINAL, -ENOTTY, TRUE, .flags = TERMINAL,
                .terminal_fd = 0);
    IN_CHILD {
        /* It belongs to this session. */
        CHECK_INT(setsid(), getpid());
        CHECK_INT(ioctl(terminal.slave, TIOCSCTTY, 0), 0);
        signal(SIGHUP, SIG_IGN);
        SPAWN_BADLY(RDAEMON_STEP_CONTROLLING_TERMINAL, -EPERM, TRUE, .flags = TERMINAL,
                    .streams = {fd_stream(terminal.slave)});
    }
}

/* ---- signals ---- */

static void on_signal(int signal_number) {
    (void)signal_number;
}

/* All but those that nobody can handle, those of libc, and the one that reaps. */
static bool is_ordinary(int signal_number) {
    return signal_number != SIGKILL && signal_number != SIGSTOP && signal_number != SIGCHLD &&
           signal_number != 32 && signal_number != 33;
}

static void for_all_signals(void (*handler)(int)) {
    for (int i = 1; i <= 64; i++)
        if (is_ordinary(i))
            CHECK(signal(i, handler) != SIG_ERR);
}

TEST_EACH_WAY(rule_3_2_handled_signals_get_their_default) {
    for_all_signals(on_signal);
    signal(SIGCHLD, on_signal);
    REPORT(0);
    CHECK_STR(told("caught"), "0000000000000000");
    CHECK_STR(told("ignored"), "0000000000000000");
}

TEST_EACH_WAY(rule_3_2_ignored_signals_stay_ignored) {
    for_all_signals(SIG_IGN);
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, SIG_DFL);
    REPORT(0);
    for (int i = 1; i <= 64; i++)
        if (told_signal("ignored", i) != (is_ordinary(i) && i != SIGUSR1 && i != SIGUSR2))
            FAIL("signal %d", i);
    CHECK_STR(told("caught"), "0000000000000000");
}

TEST_EACH_WAY(all_signals_get_their_default_on_demand) {
    for_all_signals(SIG_IGN);
    signal(SIGUSR1, on_signal);
    REPORT(.flags = RDAEMON_SPAWN_RESET_SIGNALS);
    CHECK_STR(told("ignored"), "0000000000000000");
    CHECK_STR(told("caught"), "0000000000000000");
}

TEST_EACH_WAY(the_signal_map_makes_signals_default_or_ignored) {
    static const struct rdaemon_signal_action map[] = {
        {.signal = SIGUSR1, .action = RDAEMON_SIGNAL_DEFAULT},
        {.signal = SIGUSR2, .action = RDAEMON_SIGNAL_IGNORE},
        {.signal = SIGHUP, .action = RDAEMON_SIGNAL_DEFAULT},
        {.signal = 64, .action = RDAEMON_SIGNAL_IGNORE},
        {.signal = SIGCHLD, .action = RDAEMON_SIGNAL_IGNORE},
    };
    signal(SIGUSR1, SIG_IGN);
    signal(SIGHUP, on_signal);
    signal(SIGPIPE, SIG_IGN);
    for (uint32_t flags = 0; flags <= RDAEMON_SPAWN_RESET_SIGNALS;
         flags += RDAEMON_SPAWN_RESET_SIGNALS) {
        REPORT(.flags = flags, .signal_map = map, .signal_map_len = LENGTH(map));
        CHECK(!told_signal("ignored", SIGUSR1));
        CHECK(told_signal("ignored", SIGUSR2));
        CHECK(!told_signal("ignored", SIGHUP));
        CHECK(told_signal("ignored", 64));
        CHECK(told_signal("ignored", SIGCHLD));
        CHECK_INT(told_signal("ignored", SIGPIPE), flags == 0);
        CHECK_STR(told("caught"), "0000000000000000");
    }
}

/* By system call, so that libc's own signals can be in the set. */
static void block(unsigned long long set) {
    CHECK_INT(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, 8), 0);
}

static void check_told_blocked(unsigned long long set) {
    char expected[24];
    snprintf(expected, sizeof expected, "%016llx", set);
    CHECK_STR(told("blocked"), expected);
}

TEST_EACH_WAY(rule_3_2_the_signal_mask_is_inherited) {
    static const unsigned long long masks[] = {
        0,
        SIGNAL_BIT(SIGUSR1),
        SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGINT) | SIGNAL_BIT(64),
        SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(34),
        SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGPIPE),
        SIGNAL_BIT(32) | SIGNAL_BIT(33) | SIGNAL_BIT(SIGUSR2)};
    for (size_t i = 0; i < LENGTH(masks); i++) {
        block(masks[i]);
        REPORT(0);
        check_told_blocked(masks[i]);
    }
}

TEST_EACH_WAY(the_signal_mask_is_given) {
    static const int32_t blocked[] = {SIGUSR2, SIGTERM, SIGUSR2, 64, SIGHUP};
    block(SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(SIGTERM));
    for (uint32_t flags = 0; flags <= RDAEMON_SPAWN_RESET_SIGNALS;
         flags += RDAEMON_SPAWN_RESET_SIGNALS) {
        REPORT(.flags = flags | RDAEMON_SPAWN_SIGNAL_MASK, .blocked_signals = blocked,
               .blocked_signals_len = LENGTH(blocked));
        check_told_blocked(SIGNAL_BIT(SIGUSR2) | SIGNAL_BIT(SIGTERM) | SIGNAL_BIT(64) |
                           SIGNAL_BIT(SIGHUP));
        REPORT(.flags = flags | RDAEMON_SPAWN_SIGNAL_MASK);
        check_told_blocked(0);
    }
}

TEST_EACH_WAY(reset_signals_empties_the_signal_mask) {
    block(SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(SIGTERM) | SIGNAL_BIT(64));
    REPORT(.flags = RDAEMON_SPAWN_RESET_SIGNALS);
    check_told_blocked(0);
}

TEST_EACH_WAY(rule_3_2_a_failure_restores_the_signal_mask) {
    block(SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(SIGTERM) | SIGNAL_BIT(64));
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"));
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, TRUE, .working_directory = "/nonexistent",
                .flags = RDAEMON_SPAWN_RESET_SIGNALS);
}

/* ---- identity ---- */

static const uint32_t two_groups[] = {700, 800};

static void become_root_with_groups(void) {
    static const gid_t groups[] = {5, 6};
    REQUIRE_ROOT();
    CHECK_INT(setgroups(LENGTH(groups), groups), 0);
}

static void check_told_ids(const char *uid, const char *gid, const char *groups) {
    CHECK_STR(told("uid"), uid);
    CHECK_STR(told("gid"), gid);
    CHECK_STR(told("groups"), groups);
}

TEST_EACH_WAY(ids_are_inherited) {
    become_root_with_groups();
    REPORT(0);
    check_told_ids("0 0 0", "0 0 0", "5 6");
}

TEST_EACH_WAY(rule_7_1_uid_gid_and_groups_are_changed) {
    become_root_with_groups();
    struct rdaemon_identity identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID |
                                                 RDAEMON_IDENTITY_GROUPS,
                                        .uid = TEST_UID,
                                        .gid = TEST_GID,
                                        .groups = two_groups,
                                        .groups_len = 2};
    REPORT(.identity = identity);
    check_told_ids("12345 12345 12345", "23456 23456 23456", "700 800");
    CHECK_STR(told("fds"), "0 1 2");
    identity.groups_len = 0;
    REPORT(.identity = identity);
    check_told_ids("12345 12345 12345", "23456 23456 23456", "");
}

TEST_EACH_WAY(rule_7_2_groups_go_with_the_user_unless_kept) {
    become_root_with_groups();
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_UID, .uid = TEST_UID});
    check_told_ids("12345 12345 12345", "0 0 0", "");
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_KEEP_GROUPS,
                        .uid = TEST_UID});
    check_told_ids("12345 12345 12345", "0 0 0", "5 6");
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_GID, .gid = TEST_GID});
    check_told_ids("0 0 0", "23456 23456 23456", "5 6");
}

TEST_EACH_WAY(rule_5_8_groups_given_but_empty_are_dropped) {
    become_root_with_groups();
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_GROUPS});
    check_told_ids("0 0 0", "0 0 0", "");
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_GROUPS, .groups = two_groups, .groups_len = 1});
    check_told_ids("0 0 0", "0 0 0", "700");
}

TEST_EACH_WAY(rule_7_3_effective_ids_are_relinquished) {
    REQUIRE_ROOT();
    CHECK_INT(setresgid(TEST_GID, 0, 0), 0);
    CHECK_INT(setresuid(TEST_UID, 0, 0), 0);
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_RELINQUISH});
    CHECK_STR(told("uid"), "12345 12345 12345");
    CHECK_STR(told("gid"), "23456 23456 23456");
}

TEST_EACH_WAY(one_s_own_ids_need_no_right) {
    become_user();
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID,
                        .uid = getuid(),
                        .gid = getgid()});
    CHECK_INT(told_pid("uid"), getuid());
}

TEST_EACH_WAY(ids_without_the_right_to_them_are_an_error_of_the_privileges) {
    become_user();
    SPAWN_BADLY(RDAEMON_STEP_DROP_PRIVILEGES, -EPERM, TRUE,
                .identity = {.flags = RDAEMON_IDENTITY_UID, .uid = 0});
    SPAWN_BADLY(RDAEMON_STEP_DROP_PRIVILEGES, -EPERM, TRUE,
                .identity = {.flags = RDAEMON_IDENTITY_GROUPS});
    SPAWN_BADLY(RDAEMON_STEP_DROP_PRIVILEGES, -EPERM, TRUE,
                .identity = {.flags = RDAEMON_IDENTITY_GID, .gid = 0});
}

TEST_EACH_WAY(a_program_that_the_new_user_may_not_execute_is_an_error_of_exec) {
    REQUIRE_ROOT();
    const char *path = make_file("program", "#!/bin/sh\n");
    CHECK_INT(chmod(path, 0700), 0);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -EACCES, .argv = STRINGS(path),
                .identity = {.flags = RDAEMON_IDENTITY_UID, .uid = TEST_UID});
}

struct bystander {
    struct gate *end;
    pid_t tid;
    struct gate *started;
};

static void *stand_by(void *context) {
    struct bystander *bystander = context;
    bystander->tid = (pid_t)syscall(SYS_gettid);
    gate_open(bystander->started);
    gate_wait(bystander->end);
    return NULL;
}

TEST_BOTH_WAYS(rule_5_5_no_thread_of_the_caller_changes_its_ids_or_stops_being_dumpable) {
    become_root_with_groups();
    struct bystander bystander = {.end = gate_new(), .started = gate_new()};
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, stand_by, &bystander), 0);
    gate_wait(bystander.started);
    REPORT(.identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID,
                        .uid = TEST_UID,
                        .gid = TEST_GID});
    CHECK_STR(told("uid"), "12345 12345 12345");
    CHECK_STR(status_field(bystander.tid, "Uid"), "0 0 0 0");
    CHECK_STR(status_field(bystander.tid, "Gid"), "0 0 0 0");
    CHECK_STR(status_field(bystander.tid, "Groups"), "5 6");
    CHECK_INT(prctl(PR_GET_DUMPABLE), 1);
    gate_open(bystander.end);
    pthread_join(thread, NULL);
}

/* ---- no_new_privs ---- */

TEST_EACH_WAY(no_new_privs_is_set_on_demand) {
    REPORT(0);
    CHECK_STR(told("no_new_privs"), "0");
    REPORT(.flags = RDAEMON_SPAWN_NO_NEW_PRIVS);
    CHECK_STR(told("no_new_privs"), "1");
}

/* ---- death signal ---- */

TEST_EACH_WAY(the_death_signal_is_set_on_demand) {
    REPORT(0);
    CHECK_STR(told("death_signal"), "0");
    REPORT(.death_signal = SIGUSR2);
    CHECK_INT(told_pid("death_signal"), SIGUSR2);
    REPORT(.death_signal = 64);
    CHECK_INT(told_pid("death_signal"), 64);
}

TEST_EACH_WAY(rule_5_6_the_death_signal_outlives_a_change_of_ids) {
    REQUIRE_ROOT();
    REPORT(.death_signal = SIGUSR2, .identity = {.flags = RDAEMON_IDENTITY_UID, .uid = TEST_UID});
    CHECK_STR(told("uid"), "12345 12345 12345");
    CHECK_INT(told_pid("death_signal"), SIGUSR2);
}

static pid_t *left_behind;

static void *spawn_and_end(void *context) {
    struct spawned spawned;
    *left_behind = spawn_well(&spawned, &(Config){THE_HELPER(linger), .death_signal = SIGTERM});
    return context;
}

TEST_EACH_WAY(the_program_gets_its_signal_when_the_process_that_made_it_ends) {
    left_behind = shared_memory(sizeof *left_behind);
    IN_CHILD {
        spawn_and_end(NULL);
    }
    CHECK_INT(wait_for_exit(*left_behind), SIGTERM);
}

TEST_EACH_WAY(the_program_gets_its_signal_when_the_thread_that_made_it_ends) {
    pthread_t thread;
    left_behind = shared_memory(sizeof *left_behind);
    CHECK_INT(pthread_create(&thread, NULL, spawn_and_end, NULL), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(wait_for_exit(*left_behind), SIGTERM);
}

/* ---- the hook ---- */

struct witness {
    int calls;
    int result;
    pid_t pid, ppid, sid;
    uid_t uid;
    mode_t mask;
    unsigned long long blocked;
    struct stat cwd;
    int death_signal, no_new_privs;
};

static struct witness *witness;
static int untouched_by_a_hook = 1;

static int record(void *context) {
    struct witness *record = context;
    record->calls++;
    record->pid = getpid();
    record->ppid = getppid();
    record->sid = getsid(0);
    record->uid = getuid();
    record->mask = umask(0);
    umask(record->mask);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &record->blocked, 8);
    stat(".", &record->cwd);
    prctl(PR_GET_PDEATHSIG, &record->death_signal);
    record->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    untouched_by_a_hook = 2;
    errno = EDOM;
    return record->result;
}

static Config hooked(int (*hook)(void *)) {
    witness = shared_memory(sizeof *witness);
    return (Config){.hook = hook, .hook_context = witness};
}

TEST_EACH_WAY(the_hook_runs_once_in_the_program_s_process_with_its_context) {
    Config config = hooked(record);
    report_quietly(&config);
    CHECK_INT(witness->calls, 1);
    CHECK_INT(witness->pid, told_pid("pid"));
    CHECK_INT(witness->ppid, getpid());
    CHECK_INT(untouched_by_a_hook, 1);
}

static int expect_no_context(void *context) {
    return context ? -EIO : 0;
}

TEST_EACH_WAY(the_hook_s_context_may_be_null) {
    REPORT(.hook = expect_no_context);
    CHECK_STR(told("fds"), "0 1 2");
}

TEST_EACH_WAY(the_hook_runs_with_all_signals_blocked_and_the_program_as_asked) {
    Config config = hooked(record);
    block(SIGNAL_BIT(SIGUSR1));
    report_quietly(&config);
    /* SIGKILL and SIGSTOP cannot be blocked; the library may leave libc's two alone. */
    unsigned long long never =
        SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(32) | SIGNAL_BIT(33);
    CHECK_INT(witness->blocked | never, -1);
    check_told_blocked(SIGNAL_BIT(SIGUSR1));
}

TEST_EACH_WAY(the_hook_runs_after_all_other_steps) {
    REQUIRE_ROOT();
    Config config = hooked(record);
    const char *there = make_directory("there", 0755);
    struct stat status;
    config.working_directory = there;
    config.flags = RDAEMON_SPAWN_UMASK | RDAEMON_SPAWN_SETSID | RDAEMON_SPAWN_NO_NEW_PRIVS;
    config.umask = 0123;
    config.death_signal = SIGUSR1;
    config.identity = (struct rdaemon_identity){.flags = RDAEMON_IDENTITY_UID, .uid = TEST_UID};
    report_quietly(&config);
    CHECK_INT(stat(there, &status), 0);
    CHECK_INT(witness->cwd.st_ino, status.st_ino);
    CHECK_INT(witness->mask, 0123);
    CHECK_INT(witness->sid, witness->pid);
    CHECK_INT(witness->uid, TEST_UID);
    CHECK_INT(witness->death_signal, SIGUSR1);
    CHECK_INT(witness->no_new_privs, 1);
}

TEST_EACH_WAY(the_hook_s_non_zero_result_is_an_error_of_its_own) {
    static const struct {
        int result, error;
    } cases[] = {
        {-EACCES, -EACCES},    {EACCES, -EACCES},     {1, -EPERM},
        {-1, -EPERM},          {-ENOENT, -ENOENT},    {4096, -ECANCELED},
        {INT_MAX, -ECANCELED}, {INT_MIN, -ECANCELED}, {-4096, -ECANCELED},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        Config config = hooked(record);
        config.argv = STRINGS("/bin/true");
        witness->result = cases[i].result;
        spawn_badly(&config, RDAEMON_STEP_HOOK, cases[i].error);
        CHECK_INT(witness->calls, 1);
    }
}

TEST_EACH_WAY(the_hook_does_not_run_when_a_step_before_it_fails) {
    Config config = hooked(record);
    config.argv = STRINGS("/bin/true");
    config.working_directory = "/nonexistent";
    spawn_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
    CHECK_INT(witness->calls, 0);
}

TEST_EACH_WAY(a_program_that_cannot_be_executed_is_reported_after_a_hook_too) {
    Config config = hooked(record);
    config.argv = STRINGS("/nonexistent");
    spawn_badly(&config, RDAEMON_STEP_EXEC, -ENOENT);
    CHECK_INT(witness->calls, 1);
}

static int open_some_fds(void *context) {
    (void)context;
    for (int i = 0; i < 5; i++)
        if (open("/dev/null", O_RDWR) < 0)
            return errno;
    if (dup2(STDIN_FILENO, 700) != 700)
        return errno;
    return 0;
}

TEST_EACH_WAY(rule_5_6_fds_that_a_hook_opens_are_not_inherited) {
    open_at(20, O_CLOEXEC);
    int32_t pass = 20;
    REPORT(.hook = open_some_fds, .pass_fds = &pass, .pass_fds_len = 1);
    CHECK_STR(told("fds"), "0 1 2 20");
}

static int write_a_word(void *context) {
    return write(STDOUT_FILENO, context, strlen(context)) < 0 ? errno : 0;
}

TEST_EACH_WAY(the_hook_has_the_program_s_streams) {
    CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/echo", "program"), .hook = write_a_word,
                        .hook_context = "hook "),
              "hook program\n");
}

static int redirect(void *context) {
    (void)context;
    return dup2(STDOUT_FILENO, STDERR_FILENO) == STDERR_FILENO ? 0 : errno;
}

TEST_EACH_WAY(what_a_hook_does_to_its_process_the_program_sees) {
    CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "echo told >&2"), .hook = redirect),
              "told\n");
}

static int close_twenty(void *context) {
    (void)context;
    return close(20) == 0 ? 0 : errno;
}

TEST_EACH_WAY(a_hook_may_close_what_the_program_was_to_have) {
    open_at(20, O_CLOEXEC);
    int32_t pass = 20;
    struct rdaemon_fd_mapping map = map_fd(20, 20);
    REPORT(.hook = close_twenty, .pass_fds = &pass, .pass_fds_len = 1);
    CHECK_STR(told("fds"), "0 1 2");
    REPORT(.hook = close_twenty, .fd_map = &map, .fd_map_len = 1);
    CHECK_STR(told("fds"), "0 1 2");
}

static int end_with_7(void *context) {
    (void)context;
    _exit(7);
}

static int be_killed(void *context) {
    (void)context;
    kill(getpid(), SIGKILL);
    return EIO;
}

TEST_EACH_WAY(a_program_that_a_hook_ends_counts_as_started) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){TRUE, .hook = end_with_7});
    CHECK_INT(reap(&spawned), 7 << 8);
    spawn_well(&spawned, &(Config){TRUE, .hook = be_killed});
    CHECK_INT(reap(&spawned), SIGKILL);
}

TEST_BOTH_WAYS(a_child_that_its_hook_stops_is_left_to_the_caller_on_demand) {
    struct spawned spawned;
    Config config = hooked(record);
    config.argv = STRINGS("/bin/true");
    config.flags = RDAEMON_SPAWN_NO_REAP;
    witness->result = EDOM;
    spawn(&spawned, &config);
    CHECK_INT(spawned.result, -EDOM);
    CHECK_INT(spawned.status.step, RDAEMON_STEP_HOOK);
    CHECK_INT(spawned.status.pid, witness->pid);
    CHECK_INT(waitpid(-1, NULL, 0), witness->pid);
}

TEST_BOTH_WAYS(a_hook_and_a_pidfd_go_together) {
    struct spawned spawned;
    Config config = hooked(record);
    config.flags = RDAEMON_SPAWN_PIDFD;
    report_and_stop(&spawned, &config);
    CHECK(spawned.child.pidfd >= 3);
    CHECK_INT(pidfd_pid(spawned.child.pidfd), spawned.result);
    kill_and_reap(&spawned);
}

static int *ends_seen;

static void see_end(void) {
    ++*ends_seen;
}

TEST_BOTH_WAYS(rule_1_5_a_failing_child_flushes_nothing_and_runs_no_handler_of_atexit) {
    const char *path = scratch_path("buffered");
    ends_seen = shared_memory(sizeof *ends_seen);
    CHECK_INT(atexit(see_end), 0);
    FILE *file = fopen(path, "we");
    CHECK(file && fputs("once", file) >= 0);
    Config config = hooked(record);
    config.argv = STRINGS("/bin/true");
    witness->result = EDOM;
    spawn_badly(&config, RDAEMON_STEP_HOOK, -EDOM);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"));
    CHECK_INT(*ends_seen, 0);
    CHECK_INT(fclose(file), 0);
    CHECK_STR(file_text(path), "once");
}

/* ---- all together ---- */

static const int32_t usr1[] = {SIGUSR1};

/* Everything that goes together, in a jail made by jail(). */
static Config everything(const char *root, struct terminal terminal) {
    static struct rdaemon_fd_mapping map;
    static struct rdaemon_limit limits[2];
    static int32_t pass;
    static const char *const environment[] = {"ONLY=this", NULL};
    open_at(12, O_CLOEXEC);
    open_at(13, 0);
    map = map_fd(30, 12);
    pass = 12;
    limits[0] = limit_of(RLIMIT_NOFILE, 20, 25);
    limits[1] = limit_of(RLIMIT_CPU, 900, 950);
    return (Config){
        .flags = TERMINAL | RDAEMON_SPAWN_UMASK | RDAEMON_SPAWN_NO_NEW_PRIVS |
                 RDAEMON_SPAWN_RESET_SIGNALS | RDAEMON_SPAWN_SIGNAL_MASK,
        .streams = {fd_stream(terminal.slave), plain_stream(RDAEMON_STREAM_NULL),
                    plain_stream(RDAEMON_STREAM_SAME_AS_STDOUT)},
        .fd_map = &map,
        .fd_map_len = 1,
        .pass_fds = &pass,
        .pass_fds_len = 1,
        .working_directory = "inner",
        .chroot_directory = root,
        .umask = 077,
        .death_signal = SIGUSR2,
        .limits = limits,
        .limits_len = 2,
        .blocked_signals = usr1,
        .blocked_signals_len = 1,
        .identity = {.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS,
                     .uid = TEST_UID,
                     .gid = TEST_GID,
                     .groups = two_groups,
                     .groups_len = 2},
        .envp = environment,
    };
}

static void check_everything(const char *inner, const char *root) {
    CHECK_STR(told("fds"), "0 1 2 12 30");
    CHECK_STR(told("fd.30"), identity_of_fd(12));
    CHECK_STR(told("cwd"), identity_of(inner));
    CHECK_STR(told("root"), identity_of(root));
    CHECK_STR(told("umask"), "077");
    CHECK_STR(told("sid"), told("pid"));
    check_told_ids("12345 12345 12345", "23456 23456 23456", "700 800");
    CHECK_STR(told("no_new_privs"), "1");
    CHECK_INT(told_pid("death_signal"), SIGUSR2);
    check_told_blocked(SIGNAL_BIT(SIGUSR1));
    CHECK_STR(told("ignored"), "0000000000000000");
    CHECK_STR(told_limit(RLIMIT_NOFILE), "20:25");
    CHECK_STR(told_limit(RLIMIT_CPU), "900:950");
}

TEST_EACH_WAY(all_attributes_go_together) {
    REQUIRE_ROOT();
    char inner[PATH_MAX];
    const char *root = jail();
    struct terminal terminal = open_terminal();
    snprintf(inner, sizeof inner, "%s/inner", root);
    CHECK_INT(mkdir(inner, 0755), 0);
    signal(SIGPIPE, SIG_IGN);
    Config config = everything(root, terminal);
    report_quietly(&config);
    check_everything(inner, root);
}

TEST_EACH_WAY(all_attributes_go_together_without_close_range_and_proc) {
    REQUIRE_ROOT();
    char inner[PATH_MAX];
    const char *root = jail();
    struct terminal terminal = open_terminal();
    snprintf(inner, sizeof inner, "%s/inner", root);
    CHECK_INT(mkdir(inner, 0755), 0);
    signal(SIGPIPE, SIG_IGN);
    deny_syscall(SYS_close_range, EPERM);
    Config config = everything(root, terminal);
    config.hook = open_some_fds;
    config.limits = NULL;
    config.limits_len = 0;
    /* The hook needs a device, and its fds are to be found although the jail has no /proc. */
    char null[PATH_MAX];
    snprintf(null, sizeof null, "%s/dev", root);
    CHECK_INT(mkdir(null, 0755), 0);
    snprintf(null, sizeof null, "%s/dev/null", root);
    CHECK(open(null, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) >= 0);
    mount_over("/dev/null", null);
    report_quietly(&config);
    CHECK_STR(told("fds"), "0 1 2 12 30");
    CHECK_STR(told("cwd"), identity_of(inner));
    check_told_ids("12345 12345 12345", "23456 23456 23456", "700 800");
}

TEST_EACH_WAY(a_failure_at_the_end_of_all_leaves_nothing_behind) {
    REQUIRE_ROOT();
    char inner[PATH_MAX];
    const char *root = jail();
    struct terminal terminal = open_terminal();
    snprintf(inner, sizeof inner, "%s/inner", root);
    CHECK_INT(mkdir(inner, 0755), 0);
    Config config = everything(root, terminal);
    config.argv = STRINGS("/nonexistent");
    spawn_badly(&config, RDAEMON_STEP_EXEC, -ENOENT);
    config.working_directory = "/nonexistent";
    spawn_badly(&config, RDAEMON_STEP_CHDIR, -ENOENT);
}

static int change_the_environment(void *context) {
    return putenv(context);
}

/* In the hook's copy of the process. */
TEST(a_hook_changes_the_inherited_environment) {
    static char entry[] = "FROM_THE_HOOK=yes";
    CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "echo $FROM_THE_HOOK"),
                        .hook = change_the_environment, .hook_context = entry),
              "yes\n");
    CHECK(getenv("FROM_THE_HOOK") == NULL);
}
