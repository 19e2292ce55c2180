#include "rdaemon.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

static int drop(struct rdaemon_identity identity) {
    return QUIET(rdaemon_drop_privileges(RDAEMON_SIZED(&identity)));
}

#define DROP(...) drop((struct rdaemon_identity){__VA_ARGS__})

/* As drop(), but the call must be refused and change nothing. */
static void check_refused(struct rdaemon_identity identity, int error) {
    CHECK_REFUSED(rdaemon_drop_privileges(RDAEMON_SIZED(&identity)), error);
}

#define CHECK_DROP_REFUSED(error, ...) check_refused((struct rdaemon_identity){__VA_ARGS__}, error)

static const uint32_t two_groups[] = {700, 800};

/* Root in the groups 5 and 6. */
static void become_root_with_groups(void) {
    static const gid_t groups[] = {5, 6};
    REQUIRE_ROOT();
    CHECK_INT(setgroups(LENGTH(groups), groups), 0);
}

/* Real, effective, saved and file system ids, as /proc/self/status lists them. */
static void check_ids(const char *users, const char *groups, const char *supplementary) {
    CHECK_STR(status_field(0, "Uid"), users);
    CHECK_STR(status_field(0, "Gid"), groups);
    CHECK_STR(status_field(0, "Groups"), supplementary);
}

static void check_no_way_back(void) {
    CHECK_INT(setuid(0), -1);
    CHECK_INT(seteuid(0), -1);
    CHECK_INT(setresuid((uid_t)-1, (uid_t)-1, 0), -1);
    CHECK_INT(setgid(0), -1);
    CHECK_INT(setgroups(0, NULL), -1);
    CHECK_STR(status_field(0, "CapEff"), "0000000000000000");
}

/* ---- drop_privileges ---- */

TEST(rule_7_1_uid_and_gid_are_all_changed_and_cannot_be_regained) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = 1234, .gid = 4321),
              0);
    check_ids("1234 1234 1234 1234", "4321 4321 4321 4321", "");
    check_no_way_back();
}

TEST(rule_7_1_saved_ids_are_changed_too) {
    become_root_with_groups();
    CHECK_INT(setresgid(0, 77, 78), 0);
    CHECK_INT(setresuid(99, 0, 98), 0);
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = 1234, .gid = 4321),
              0);
    check_ids("1234 1234 1234 1234", "4321 4321 4321 4321", "");
    check_no_way_back();
}

TEST(gid_alone_keeps_the_groups) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_GID, .gid = 4321), 0);
    check_ids("0 0 0 0", "4321 4321 4321 4321", "5 6");
}

TEST(rule_7_2_groups_are_dropped_when_the_uid_changes) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID, .uid = 1234), 0);
    check_ids("1234 1234 1234 1234", "0 0 0 0", "");
}

TEST(rule_7_2_groups_stay_when_the_uid_does_not_change) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID, .uid = 0), 0);
    check_ids("0 0 0 0", "0 0 0 0", "5 6");
}

TEST(rule_7_2_keep_groups) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_KEEP_GROUPS, .uid = 1234), 0);
    check_ids("1234 1234 1234 1234", "0 0 0 0", "5 6");
}

TEST(groups_given) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS,
                   .uid = 1234, .gid = 4321, .groups = two_groups, .groups_len = 2),
              0);
    check_ids("1234 1234 1234 1234", "4321 4321 4321 4321", "700 800");
}

TEST(groups_given_without_a_uid) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_GROUPS, .groups = two_groups, .groups_len = 1), 0);
    check_ids("0 0 0 0", "0 0 0 0", "700");
}

TEST(groups_given_but_empty_drops_them) {
    become_root_with_groups();
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_GROUPS), 0);
    check_ids("0 0 0 0", "0 0 0 0", "");
}

TEST(nothing_asked_changes_nothing) {
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(DROP(.flags = 0, .uid = 1234, .gid = 4321), 0);
    CHECK_INT(QUIET(rdaemon_drop_privileges(NULL, 0)), 0);
    CHECK(snapshot_same(&before));
}

TEST(own_ids_need_no_right) {
    static struct snapshot before;
    become_user();
    snapshot_take(&before);
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = getuid(),
                   .gid = getgid()),
              0);
    CHECK(snapshot_same(&before));
}

/* ---- relinquish ---- */

TEST(rule_7_3_relinquish_makes_effective_ids_the_real_ones) {
    REQUIRE_ROOT();
    CHECK_INT(setresgid(4321, 0, 0), 0);
    CHECK_INT(setresuid(1234, 0, 0), 0);
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_RELINQUISH), 0);
    CHECK_STR(status_field(0, "Uid"), "1234 1234 1234 1234");
    CHECK_STR(status_field(0, "Gid"), "4321 4321 4321 4321");
    check_no_way_back();
}

TEST(rule_7_3_relinquish_of_a_hidden_saved_id) {
    REQUIRE_ROOT();
    CHECK_INT(setresuid(1234, 1234, 0), 0);
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_RELINQUISH), 0);
    CHECK_STR(status_field(0, "Uid"), "1234 1234 1234 1234");
    CHECK_INT(setuid(0), -1);
}

TEST(rule_7_3_relinquish_of_equal_ids_changes_nothing) {
    static struct snapshot before;
    snapshot_take(&before);
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_RELINQUISH), 0);
    CHECK(snapshot_same(&before));
}

HELPER(relinquish) {
    if (geteuid() != 0)
        return 77;
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_RELINQUISH), 0);
    CHECK_STR(status_field(0, "Uid"), "12345 12345 12345 12345");
    check_no_way_back();
    return 0;
}

/* Installs this program set-uid root. */
static const char *install_set_uid(void) {
    const char *path = scratch_path("set-uid");
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    struct stat status;
    CHECK_INT(fstat(from, &status), 0);
    CHECK_INT(sendfile(to, from, NULL, (size_t)status.st_size), status.st_size);
    CHECK_INT(fchmod(to, 04755), 0);
    close(from);
    close(to);
    return path;
}

TEST(rule_7_3_relinquish_in_a_program_installed_set_uid) {
    REQUIRE_ROOT();
    const char *path = install_set_uid();
    pid_t pid = fork_child();
    if (pid == 0) {
        become_user();
        execl(path, path, "--helper", "relinquish", (char *)NULL);
        FAIL("execl: %s", strerror(errno));
    }
    int status = wait_for_exit(pid);
    if (status == 77 << 8)
        SKIP_PLATFORM("set-uid programs do not work in %s", scratch());
    CHECK_INT(status, 0);
}

/* ---- threads ---- */

struct thread {
    pid_t id;
    struct gate *started, *done;
};

static void *stand_by(void *argument) {
    struct thread *thread = argument;
    thread->id = (pid_t)syscall(SYS_gettid);
    gate_open(thread->started);
    gate_wait(thread->done);
    return NULL;
}

TEST(rule_7_1_every_thread_changes) {
    struct thread thread = {.started = gate_new(), .done = gate_new()};
    pthread_t handle;
    become_root_with_groups();
    CHECK_INT(pthread_create(&handle, NULL, stand_by, &thread), 0);
    gate_wait(thread.started);
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = 1234, .gid = 4321),
              0);
    CHECK_STR(status_field(thread.id, "Uid"), "1234 1234 1234 1234");
    CHECK_STR(status_field(thread.id, "Gid"), "4321 4321 4321 4321");
    CHECK_STR(status_field(thread.id, "Groups"), "");
    gate_open(thread.done);
    pthread_join(handle, NULL);
}

/* ---- failures ---- */

TEST(rule_7_1_without_the_right) {
    become_user();
    CHECK_DROP_REFUSED(-EPERM, .flags = RDAEMON_IDENTITY_UID, .uid = getuid() + 1);
    CHECK_DROP_REFUSED(-EPERM, .flags = RDAEMON_IDENTITY_UID, .uid = 0);
    CHECK_DROP_REFUSED(-EPERM, .flags = RDAEMON_IDENTITY_GID, .gid = getgid() + 1);
    CHECK_DROP_REFUSED(-EPERM, .flags = RDAEMON_IDENTITY_GROUPS, .groups = two_groups,
                       .groups_len = 2);
}

enum { BOTH = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID };

TEST(rule_7_1_setgroups_that_fails_stops_the_step) {
    become_root_with_groups();
    deny_syscall(SYS_setgroups, EPERM);
    CHECK_DROP_REFUSED(-EPERM, .flags = BOTH, .uid = 1234, .gid = 4321);
}

TEST(rule_7_1_setresgid_that_fails_stops_the_step) {
    become_root_with_groups();
    deny_syscall(SYS_setresgid, EPERM);
    CHECK_INT(DROP(.flags = BOTH, .uid = 1234, .gid = 4321), -EPERM);
    check_ids("0 0 0 0", "0 0 0 0", "");
}

TEST(rule_7_1_setresuid_that_fails_is_reported) {
    become_root_with_groups();
    deny_syscall(SYS_setresuid, EAGAIN);
    CHECK_INT(DROP(.flags = BOTH, .uid = 1234, .gid = 4321), -EAGAIN);
}

/* Calls that claim success and do nothing are found by reading the ids back. */
TEST(rule_7_1_uid_that_did_not_change_is_an_error) {
    become_root_with_groups();
    deny_syscall(SYS_setresuid, 0);
    CHECK(DROP(.flags = BOTH, .uid = 1234, .gid = 4321) < 0);
}

TEST(rule_7_1_uid_that_did_not_change_is_an_error_though_root_is_out_of_reach) {
    become_root_with_groups();
    deny_syscall(SYS_setuid, EPERM);
    deny_syscall(SYS_setresuid, 0);
    CHECK(DROP(.flags = BOTH, .uid = 1234, .gid = 4321) < 0);
}

TEST(rule_7_1_gid_that_did_not_change_is_an_error) {
    become_root_with_groups();
    deny_syscall(SYS_setresgid, 0);
    CHECK(DROP(.flags = BOTH, .uid = 1234, .gid = 4321) < 0);
}

TEST(rule_7_1_root_that_can_be_regained_is_an_error) {
    become_root_with_groups();
    /* The capabilities survive the change of the uid, and with them the right to go back. */
    CHECK_INT(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP), 0);
    CHECK(DROP(.flags = BOTH, .uid = 1234, .gid = 4321) < 0);
}

TEST(rule_7_1_root_in_reach_of_a_user_who_stays_is_an_error) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct only_setuid[2] = {
        {.effective = 1U << CAP_SETUID, .permitted = 1U << CAP_SETUID}};
    REQUIRE_ROOT();
    CHECK_INT(prctl(PR_SET_KEEPCAPS, 1), 0);
    CHECK_INT(setresgid(1000, 1000, 1000), 0);
    CHECK_INT(setresuid(1000, 1000, 1000), 0);
    CHECK_INT(syscall(SYS_capset, &header, only_setuid), 0);
    CHECK_INT(DROP(.flags = RDAEMON_IDENTITY_UID, .uid = 1000), -EPERM);
    CHECK_STR(status_field(0, "Uid"), "1000 1000 1000 1000");
}

/* EAGAIN comes after the kernel has found that there is the right to it. */
TEST(rule_7_1_a_proof_that_could_not_be_made_is_an_error) {
    become_root_with_groups();
    deny_syscall(SYS_setuid, EAGAIN);
    CHECK_INT(DROP(.flags = BOTH, .uid = 1234, .gid = 4321), -EPERM);
}

/* ---- refusals ---- */

TEST(refuses_the_id_that_means_none) {
    static const uint32_t groups[] = {700, UINT32_MAX};
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_UID, .uid = UINT32_MAX);
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_GID, .gid = UINT32_MAX);
    CHECK_DROP_REFUSED(-EINVAL, .flags = BOTH, .uid = 1234, .gid = UINT32_MAX);
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_GROUPS, .groups = groups,
                       .groups_len = 2);
}

TEST(refuses_unknown_flags) {
    for (int bit = 5; bit < 32; bit++)
        CHECK_DROP_REFUSED(-EINVAL, .flags = 1U << bit);
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_UID | 32U, .uid = 1234);
}

TEST(refuses_reserved_field) {
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_UID, .uid = 1234, .reserved = 1);
}

TEST(refuses_missing_groups) {
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_GROUPS, .groups_len = 1);
}

TEST(refuses_more_groups_than_the_system_has) {
    static uint32_t groups[65537];
    REQUIRE_ROOT();
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_GROUPS, .groups = groups,
                       .groups_len = LENGTH(groups));
}

TEST(refuses_contradictions) {
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_RELINQUISH,
                       .uid = 1234);
    CHECK_DROP_REFUSED(-EINVAL, .flags = RDAEMON_IDENTITY_GROUPS | RDAEMON_IDENTITY_KEEP_GROUPS,
                       .groups = two_groups, .groups_len = 2);
}

/* ---- no_new_privs ---- */

TEST(no_new_privs_is_set_and_stays) {
    CHECK_STR(status_field(0, "NoNewPrivs"), "0");
    CHECK_INT(QUIET(rdaemon_no_new_privs()), 0);
    CHECK_STR(status_field(0, "NoNewPrivs"), "1");
    CHECK_INT(QUIET(rdaemon_no_new_privs()), 0);
    CHECK_STR(status_field(0, "NoNewPrivs"), "1");
}
