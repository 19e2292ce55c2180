/* Pidfiles that a controller meets: what is in them, whose they are, and what else is there. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "controlled.h"
#include "pidfile.h"
#include "sandbox.h"

static struct witness *witness;

static void nobody_runs(const char *path) {
    check_query(path, RDAEMON_CONTROL_NOT_RUNNING, 0);
    CHECK_INT(signal_by(path, SIGTERM), RDAEMON_CONTROL_NOT_RUNNING);
}

/* Each of the three refuses the path, and leaves everything as it is. */
static void all_refuse(const char *path, int error, int step, int subject) {
    CHECK_FAILS(query_by(path), error, step, subject);
    CHECK_FAILS(signal_by(path, SIGTERM), error, step, subject);
    CHECK_FAILS(stop_within(path, 1000, 1000), error, step, subject);
}

static void all_find_it_unfit(const char *path, int error) {
    all_refuse(path, error, RDAEMON_STEP_PIDFILE_READ, RDAEMON_STEP_NONE);
}

/* ---- what is in them ---- */

static char megabyte[1 << 20];

#define TEXT(literal) literal, sizeof literal - 1
static const struct content {
    const char *text;
    size_t length;
    bool is_pidfile;
} contents[] = {
    {TEXT(""), true},
    {TEXT("4000000\n"), true},
    {TEXT("4000000"), true},
    {TEXT("4000000\nand more\n"), true},
    {TEXT("2147483647\n"), true},
    {TEXT("garbage\n"), false},
    {TEXT("0\n"), false},
    {TEXT("0"), false},
    {TEXT("-1\n"), false},
    {TEXT("-2\n"), false},
    {TEXT("-2147483648\n"), false},
    {TEXT("1 extra\n"), false},
    {TEXT("5 6\n"), false},
    {TEXT("5x\n"), false},
    {TEXT("5\0\n"), false},
    {TEXT("\0\0\0\0"), false},
    {TEXT("0x5\n"), false},
    {TEXT("2147483648\n"), false},
    {TEXT("4294967301\n"), false},           /* 5, to who takes 32 bits of it */
    {TEXT("18446744073709551621\n"), false}, /* 5, to who takes 64 */
    {TEXT("99999999999999999999999999999999999999\n"), false},
    {megabyte, sizeof megabyte, false},
};
enum { CONTENTS = sizeof contents / sizeof *contents };

/* The numbers above would reach processes here; 5 is one of them. */
static void contents_that_nobody_holds(void) {
    const char *path = scratch_path("pid");
    pid_t five = bystander(5);
    for (int i = 0; i < CONTENTS; i++) {
        const struct content *content = &contents[i];
        write_file(path, content->text, content->length);
        nobody_runs(path);
        if (content->is_pidfile) {
            CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
            CHECK_STR(tree(scratch()), "");
        } else {
            CHECK_FAILS(stop_by(path), -EBADMSG, RDAEMON_STEP_PIDFILE_READ, 0);
            CHECK_INT(stat_of(path).st_size, content->length);
        }
    }
    check_untouched(five);
}

TEST(what_nobody_holds_is_nobody_whatever_is_in_it) {
    memset(megabyte, '5', sizeof megabyte);
    in_pid_namespace(contents_that_nobody_holds);
}

static void number_of_a_living_process(void) {
    static const int numbers[] = {1, 5};
    const char *path = scratch_path("pid");
    char line[16];
    pid_t five = bystander(5);
    for (int i = 0; i < 2; i++) {
        snprintf(line, sizeof line, "%d\n", numbers[i]);
        make_file("pid", line);
        nobody_runs(path);
        CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_NOT_RUNNING);
        CHECK_INT(stop_within(path, 0, 0), RDAEMON_CONTROL_NOT_RUNNING);
        CHECK_STR(tree(scratch()), "");
    }
    check_untouched(five);
}

TEST(the_number_of_a_living_process_that_holds_nothing_is_nobody) {
    in_pid_namespace(number_of_a_living_process);
}

static void contents_that_a_daemon_holds(void) {
    const char *path = scratch_path("pid");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    for (int i = 0; i < CONTENTS; i++) {
        write_file(path, contents[i].text, contents[i].length);
        check_answers(path, witness, pid);
    }
    make_file("pid", "-1\n");
    stop_well(path, pid);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_daemon_that_holds_it_is_found_whatever_is_in_it) {
    memset(megabyte, '5', sizeof megabyte);
    in_pid_namespace(contents_that_a_daemon_holds);
}

TEST(a_file_that_a_start_holds_is_not_removed) {
    const char *path = make_file("pid", "");
    struct holder holder = start_holder(path, false);
    CHECK_INT(stop_within(path, 0, 0), RDAEMON_CONTROL_HELD);
    double begin = now_ms();
    CHECK_INT(stop_within(path, 100, 0), RDAEMON_CONTROL_HELD);
    CHECK(now_ms() - begin >= 99);
    CHECK_INT(outcome.pid, 0);
    CHECK_STR(tree(scratch()), "pid");
    CHECK(is_alive(holder.pid));
    end_holder(holder);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
}

/* ---- whose they are ---- */

TEST(a_file_that_anybody_may_write_is_refused_held_or_not) {
    static const mode_t bad[] = {0666, 0602, 0646, 01777};
    const char *path = scratch_path("pid");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(chmod(path, bad[i]), 0);
        all_find_it_unfit(path, -EPERM);
    }
    CHECK_INT(chmod(path, 0664), 0);
    check_answers(path, witness, pid);
    CHECK_INT(signal_by(path, SIGKILL), RDAEMON_CONTROL_RUNNING);
    wait_for_exit(pid);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(chmod(path, bad[i]), 0);
        all_find_it_unfit(path, -EPERM);
    }
}

TEST(a_file_that_may_not_be_read_is_refused) {
    REQUIRE_ROOT();
    const char *path = make_file("pid", "");
    CHECK_INT(chmod(path, 0600), 0);
    IN_CHILD {
        become_user();
        all_find_it_unfit(path, -EACCES);
    }
    CHECK_INT(mkdir(scratch_path("closed"), 0700), 0);
    IN_CHILD {
        become_user();
        all_find_it_unfit(scratch_path("closed/pid"), -EACCES);
    }
}

struct ids {
    uid_t real, effective, saved;
};

/* A process with these ids that holds a pidfile of this owner. */
static struct holder foreign_holder(const char *path, uid_t owner, struct ids ids) {
    struct holder holder = {.ready = gate_new(), .end = gate_new()};
    holder.pid = fork_child();
    if (holder.pid == 0) {
        hold(path);
        CHECK_INT(chown(path, owner, -1U), 0);
        CHECK_INT(setresuid(ids.real, ids.effective, ids.saved), 0);
        gate_open(holder.ready);
        gate_wait(holder.end);
        _exit(0);
    }
    gate_wait(holder.ready);
    return holder;
}

enum { OTHER_UID = TEST_UID + 1 };

TEST(a_foreign_file_is_believed_of_a_daemon_that_runs_as_its_owner) {
    REQUIRE_ROOT();
    const char *path = scratch_path("pid");
    struct holder holder =
        foreign_holder(path, TEST_UID, (struct ids){TEST_UID, TEST_UID, TEST_UID});
    check_query(path, RDAEMON_CONTROL_RUNNING, holder.pid);
    CHECK_INT(signal_by(path, 0), RDAEMON_CONTROL_RUNNING);
    IN_CHILD { /* the owner himself */
        become_user();
        check_query(path, RDAEMON_CONTROL_RUNNING, holder.pid);
        CHECK_INT(signal_by(path, 0), RDAEMON_CONTROL_RUNNING);
    }
    IN_CHILD { /* a third one */
        CHECK_INT(setresuid(OTHER_UID, OTHER_UID, OTHER_UID), 0);
        check_query(path, RDAEMON_CONTROL_RUNNING, holder.pid);
        CHECK_FAILS(stop_within(path, 0, 0), -EPERM, RDAEMON_STEP_SIGNAL, 0);
    }
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
    CHECK_INT(outcome.pid, holder.pid);
    CHECK_INT(WTERMSIG(wait_for_exit(holder.pid)), SIGTERM);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_foreign_file_is_refused_of_a_daemon_that_does_not_run_as_its_owner_alone) {
    REQUIRE_ROOT();
    static const struct ids bad[] = {
        {0, 0, 0},
        {OTHER_UID, OTHER_UID, OTHER_UID},
        {TEST_UID, TEST_UID, 0},
        {TEST_UID, 0, TEST_UID},
        {0, TEST_UID, TEST_UID},
        {TEST_UID, TEST_UID, OTHER_UID},
    };
    const char *path = scratch_path("pid");
    for (int i = 0; i < 6; i++) {
        struct holder holder = foreign_holder(path, TEST_UID, bad[i]);
        all_find_it_unfit(path, -EPERM);
        IN_CHILD {
            CHECK_INT(setresuid(OTHER_UID, OTHER_UID, OTHER_UID), 0);
            all_find_it_unfit(path, -EPERM);
        }
        CHECK(is_alive(holder.pid));
        end_holder(holder);
    }
}

TEST(without_proc_a_foreign_file_is_refused) {
    REQUIRE_ROOT();
    const char *path = scratch_path("pid");
    struct holder holder =
        foreign_holder(path, TEST_UID, (struct ids){TEST_UID, TEST_UID, TEST_UID});
    IN_CHILD {
        hide_proc();
        CHECK_INT(query_by(path), -EPERM);
        CHECK_INT(outcome.step, RDAEMON_STEP_PIDFILE_READ);
        CHECK_INT(stop_within(path, 0, 0), -EPERM);
        CHECK_INT(chown(path, 0, -1U), 0);
        CHECK_INT(signal_by(path, 0), RDAEMON_CONTROL_RUNNING);
    }
    end_holder(holder);
}

TEST(a_foreign_file_that_nobody_holds_is_a_stale_one) {
    REQUIRE_ROOT();
    const char *path = make_file("pid", "4000000\n");
    CHECK_INT(chown(path, TEST_UID, -1U), 0);
    nobody_runs(path);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
}

TEST(a_stale_file_that_may_not_be_removed_is_left) {
    REQUIRE_ROOT();
    const char *path = make_file("pid", "4000000\n");
    IN_CHILD {
        become_user();
        nobody_runs(path);
        CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    }
    CHECK_STR(file_text(path), "4000000\n");
}

/* ---- what else is there ---- */

TEST(a_symlink_is_refused_whatever_it_leads_to) {
    const char *path = scratch_path("pid"), *link = scratch_path("link");
    witness = witness_new();
    CHECK_INT(symlink("pid", link), 0);
    all_find_it_unfit(link, -ELOOP); /* to nothing */
    pid_t pid = launch(path, witness);
    all_find_it_unfit(link, -ELOOP);
    check_answers(path, witness, pid);
    stop_well(path, pid);
    CHECK_STR(tree(scratch()), "link");
}

TEST(a_symlink_to_the_directory_is_fine) {
    make_directory("run", 0755);
    CHECK_INT(symlink("run", scratch_path("link")), 0);
    witness = witness_new();
    pid_t pid = launch(scratch_path("link/pid"), witness);
    check_answers(scratch_path("run/pid"), witness, pid);
    stop_well(scratch_path("link/pid"), pid);
    CHECK_STR(tree(scratch()), "link run/");
}

TEST(a_file_with_two_names_is_refused_by_both) {
    const char *path = scratch_path("pid"), *second = scratch_path("second");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    CHECK_INT(link(path, second), 0);
    all_find_it_unfit(path, -EMLINK);
    all_find_it_unfit(second, -EMLINK);
    CHECK_INT(unlink(second), 0);
    check_answers(path, witness, pid);
    stop_well(path, pid);
}

TEST(what_is_no_regular_file_is_refused) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    all_find_it_unfit(make_directory("directory", 0755), -EISDIR);
    CHECK_INT(mkfifo(scratch_path("fifo"), 0644), 0);
    all_find_it_unfit(scratch_path("fifo"), -EINVAL);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", scratch_path("socket"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_INT(chmod(address.sun_path, 0644), 0);
    all_find_it_unfit(address.sun_path, -EINVAL);
    all_find_it_unfit("/dev/null", -EINVAL);
    all_find_it_unfit("/", -EISDIR);
    all_find_it_unfit("/dev/tty", -EINVAL);
}

TEST(where_nothing_is_nobody_runs) {
    CHECK_INT(query_by(scratch_path("none")), RDAEMON_CONTROL_NOT_RUNNING);
    static const char *const paths[] = {"pid", "none/pid", "none/none/pid", "run/none/pid"};
    make_directory("run", 0755);
    for (int i = 0; i < 4; i++) {
        nobody_runs(scratch_path(paths[i]));
        CHECK_INT(stop_by(scratch_path(paths[i])), RDAEMON_CONTROL_NOT_RUNNING);
    }
    make_file("file", "");
    all_find_it_unfit(scratch_path("file/pid"), -ENOTDIR);
    CHECK_STR(tree(scratch()), "file run/");
}

TEST(no_path_an_empty_and_an_over_long_one_are_refused) {
    char name[NAME_MAX + 2], path[PATH_MAX + 1];
    all_refuse(NULL, -EINVAL, RDAEMON_STEP_CONFIG, RDAEMON_STEP_PIDFILE_READ);
    all_refuse("", -ENOENT, RDAEMON_STEP_CONFIG, RDAEMON_STEP_PIDFILE_READ);
    memset(name, 'n', sizeof name);
    name[NAME_MAX + 1] = '\0';
    all_find_it_unfit(scratch_path(name), -ENAMETOOLONG);
    name[NAME_MAX] = '\0';
    nobody_runs(scratch_path(name));
    /* Slashes up to "pid" make it the longest path there is, and then one byte longer. */
    memset(path, '/', sizeof path);
    memcpy(path, scratch(), strlen(scratch()));
    strcpy(path + PATH_MAX - 4, "pid");
    pid_t pid = launch(path, witness_new());
    check_query(scratch_path("pid"), RDAEMON_CONTROL_RUNNING, pid);
    stop_well(path, pid);
    strcpy(path + PATH_MAX - 4, "/pid");
    all_refuse(path, -ENAMETOOLONG, RDAEMON_STEP_CONFIG, RDAEMON_STEP_PIDFILE_READ);
}

TEST(a_relative_path_is_one_from_the_callers_directory) {
    witness = witness_new();
    CHECK_INT(chdir(scratch()), 0);
    pid_t pid = launch("pid", witness);
    CHECK_STR(tree(scratch()), "pid");
    check_answers("pid", witness, pid);
    check_answers("./pid", witness, pid);
    stop_well("pid", pid);
    CHECK_STR(tree(scratch()), "");
}

TEST(restart_refuses_what_stop_refuses) {
    struct rdaemon_config config = {.pidfile = scratch_path("link")};
    witness = witness_new();
    struct rdaemon_worker worker = worker_of(witness);
    const char *path = scratch_path("pid");
    pid_t pid = launch(path, witness);
    CHECK_INT(symlink("pid", config.pidfile), 0);
    CHECK_FAILS(restart_by(&config, &worker), -ELOOP, RDAEMON_STEP_PIDFILE_READ, 0);
    config.pidfile = path;
    CHECK_INT(chmod(path, 0666), 0);
    CHECK_FAILS(restart_by(&config, &worker), -EPERM, RDAEMON_STEP_PIDFILE_READ, 0);
    CHECK_INT(chmod(path, 0644), 0);
    CHECK_INT(witness->terminates, 0);
    stop_well(path, pid);
}

/* ---- a file that was replaced ---- */

static void replace(const char *text) {
    make_file("new", text);
    CHECK_INT(rename(scratch_path("new"), scratch_path("pid")), 0);
}

TEST(a_daemon_whose_file_was_removed_is_not_to_be_found) {
    const char *path = scratch_path("pid");
    witness = witness_new();
    pid_t pid = launch(path, witness);
    CHECK_INT(unlink(path), 0);
    nobody_runs(path);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK(is_alive(pid));
    CHECK_INT(witness->terminates, 0);
    kill(pid, SIGTERM);
    wait_for_exit(pid);
}

TEST(the_same_text_in_another_file_names_nobody) {
    const char *path = scratch_path("pid");
    char text[16];
    witness = witness_new();
    pid_t pid = launch(path, witness);
    snprintf(text, sizeof text, "%d\n", (int)pid);
    replace(text);
    nobody_runs(path);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_NOT_RUNNING);
    CHECK_STR(tree(scratch()), "");
    CHECK(is_alive(pid));
    CHECK_INT(witness->terminates, 0);
    replace("4000000\n");
    kill(pid, SIGTERM);
    wait_for_exit(pid);
    CHECK_STR(file_text(path), "4000000\n"); /* not the daemon's to remove */
}

TEST(of_two_daemons_the_one_that_holds_the_file_is_meant) {
    const char *path = scratch_path("pid");
    struct witness *old_witness = witness_new();
    witness = witness_new();
    pid_t old = launch(path, old_witness);
    CHECK_INT(unlink(path), 0);
    pid_t new = launch(path, witness);
    check_answers(path, witness, new);
    kill(old, SIGTERM);
    wait_for_exit(old);
    CHECK_INT(old_witness->user1, 0);
    check_answers(path, witness, new);
    old = launch(scratch_path("other"), old_witness);
    CHECK_INT(rename(path, scratch_path("elsewhere")), 0);
    CHECK_INT(rename(scratch_path("other"), path), 0);
    check_answers(path, old_witness, old);
    stop_well(path, old);
    check_answers(scratch_path("elsewhere"), witness, new);
    stop_well(scratch_path("elsewhere"), new);
}
