/* Another program is started: its arguments, its environment, its path, and what the caller gets.
 */
#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

extern char **environ;

/* ---- helpers ---- */

static int copy_to_stdout(const char *path) {
    char bytes[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 1;
    while (fd >= 0 && got > 0) {
        got = read(fd, bytes, sizeof bytes);
        if (got > 0 && write(STDOUT_FILENO, bytes, (size_t)got) != got)
            return 1;
    }
    return fd < 0 || got < 0;
}

/* Its arguments, argv[0] included, each with its NUL. */
HELPER(show_arguments) {
    return copy_to_stdout("/proc/self/cmdline");
}

HELPER(show_environment) {
    for (char **entry = environ; *entry; entry++)
        if (write(STDOUT_FILENO, *entry, strlen(*entry) + 1) < 0)
            return 1;
    return 0;
}

HELPER(linger) {
    while (pause() != 0)
        ;
    return 0;
}

/* A program in the scratch directory, which prints its own name. */
static const char *make_script(const char *name, mode_t mode) {
    const char *path = make_file(name, "#!/bin/sh\necho \"$0\"\n");
    CHECK_INT(chmod(path, mode), 0);
    return path;
}

/* Checks the texts of the latest output, which end with a NUL each. */
static void check_texts(const char *output, const char *const *expected) {
    const char *end = output + output_length;
    for (; *expected; expected++, output += strlen(output) + 1) {
        CHECK(output < end);
        CHECK_STR(output, *expected);
    }
    CHECK(output == end);
}

/* ---- the program runs ---- */

TEST_BOTH_WAYS(a_program_runs_as_a_child_of_the_caller) {
    struct spawned spawned;
    Config config = {0};
    report_and_stop(&spawned, &config);
    CHECK_INT(told_pid("pid"), spawned.result);
    CHECK_INT(told_pid("ppid"), getpid());
    CHECK_INT(told_pid("pgid"), getpgrp());
    CHECK_INT(told_pid("sid"), getsid(0));
    CHECK_STR(status_field(spawned.result, "Tgid"), status_field(spawned.result, "Pid"));
    CHECK_INT(first_child_of(getpid()), spawned.result);
    kill_and_reap(&spawned);
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST_BOTH_WAYS(the_exit_status_is_the_program_s) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/sh", "-c", "exit 42")});
    CHECK_INT(reap(&spawned), 42 << 8);
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/sh", "-c", "kill -USR1 $$")});
    CHECK_INT(reap(&spawned), SIGUSR1);
}

TEST_BOTH_WAYS(the_call_does_not_wait_for_the_program) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){THE_HELPER(linger)});
    CHECK_INT(waitpid(spawned.result, NULL, WNOHANG), 0);
    kill_and_reap(&spawned);
}

TEST_BOTH_WAYS(the_end_of_the_program_raises_sigchld) {
    sigset_t child;
    siginfo_t info;
    struct spawned spawned;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/sh", "-c", "exit 3")});
    CHECK_INT(sigwaitinfo(&child, &info), SIGCHLD);
    CHECK_INT(info.si_pid, spawned.result);
    CHECK_INT(info.si_status, 3);
    CHECK_INT(reap(&spawned), 3 << 8);
}

TEST_BOTH_WAYS(any_waitpid_finds_the_program) {
    struct spawned spawned;
    int status;
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/true")});
    CHECK_INT(waitpid(-1, &status, 0), spawned.result);
    CHECK_INT(status, 0);
}

TEST_BOTH_WAYS(the_caller_stays_as_it_is) {
    static struct snapshot before;
    snapshot_take(&before);
    struct spawned spawned;
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/true")});
    reap(&spawned);
    CHECK(snapshot_same(&before));
}

static void *spawn_in_thread(void *context) {
    spawn_well(context, &(Config){.argv = STRINGS("/bin/sh", "-c", "exit 5")});
    return NULL;
}

TEST_BOTH_WAYS(a_thread_spawns_as_well) {
    struct spawned spawned;
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, spawn_in_thread, &spawned), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(reap(&spawned), 5 << 8);
}

TEST_BOTH_WAYS(a_thread_with_little_stack_spawns) {
    struct spawned spawned;
    size_t least = (size_t)PTHREAD_STACK_MIN, size = least > 32 * 1024 ? least : 32 * 1024;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    CHECK_INT(pthread_attr_setstacksize(&attributes, size), 0);
    CHECK_INT(pthread_create(&thread, &attributes, spawn_in_thread, &spawned), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(reap(&spawned), 5 << 8);
}

static int *forks_seen;

static void see_fork(void) {
    ++*forks_seen;
}

TEST_BOTH_WAYS(no_handler_of_pthread_atfork_runs) {
    struct spawned spawned;
    forks_seen = shared_memory(sizeof *forks_seen);
    CHECK_INT(pthread_atfork(see_fork, see_fork, see_fork), 0);
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/true")});
    CHECK_INT(reap(&spawned), 0);
    CHECK_INT(*forks_seen, 0);
}

/* ---- arguments ---- */

TEST_BOTH_WAYS(argv_0_is_independent_of_the_path) {
    const char *const *argv = STRINGS("any name at all", "--helper", "show_arguments");
    check_texts(OUTPUT_OF(.paths = STRINGS("/proc/self/exe"), .argv = argv), argv);
}

TEST_BOTH_WAYS(argv_0_may_be_empty) {
    const char *const *argv = STRINGS("", "--helper", "show_arguments");
    check_texts(OUTPUT_OF(.paths = STRINGS("/proc/self/exe"), .argv = argv), argv);
}

TEST_BOTH_WAYS(the_program_is_argv_0_when_no_path_is_given) {
    CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/echo", "a b", "c")), "a b c\n");
}

static const char *const hostile[] = {
    "",
    " ",
    "  two  blanks  ",
    "'",
    "\"",
    "'\"'\"'",
    "; exit 3",
    "$(exit 3)",
    "`exit 3`",
    "$HOME ${PATH}",
    "\\",
    "\\n\\0\\c",
    "a\nb\n\n",
    "\r\n\t\v\f\a\b\033[2J",
    "%s %n %d %%",
    "*?[a-z]~!#&|<>(){}^",
    "-c",
    "--",
    "--helper",
    "\xff\xfe\x80\xc0\xaf",
    "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
    "\xed\xa0\x80 surrogate, \xf4\x90\x80\x80 beyond",
    "\x01\x7f\x1b",
};

TEST_BOTH_WAYS(hostile_arguments_arrive_unchanged) {
    const char *argv[LENGTH(hostile) + 4] = {"helper", "--helper", "show_arguments"};
    memcpy(argv + 3, hostile, sizeof hostile);
    check_texts(OUTPUT_OF(.paths = STRINGS("/proc/self/exe"), .argv = argv), argv);
}

TEST(every_byte_but_nul_arrives_unchanged) {
    char text[256];
    for (int i = 0; i < 255; i++)
        text[i] = (char)(i + 1);
    text[255] = '\0';
    const char *const *argv = STRINGS("helper", "--helper", "show_arguments", text);
    check_texts(OUTPUT_OF(.paths = STRINGS("/proc/self/exe"), .argv = argv), argv);
}

TEST(hostile_arguments_arrive_unchanged_through_a_shell) {
    for (size_t i = 0; i < LENGTH(hostile); i++)
        CHECK_STR(OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "printf %s \"$1\"", "sh", hostile[i])),
                  hostile[i]);
}

TEST(thousands_of_arguments_arrive) {
    enum { COUNT = 5000 };
    static char texts[COUNT][8];
    static const char *argv[COUNT + 4] = {"helper", "--helper", "show_arguments"};
    for (int i = 0; i < COUNT; i++) {
        sprintf(texts[i], "%d", i);
        argv[3 + i] = texts[i];
    }
    check_texts(OUTPUT_OF(.paths = STRINGS("/proc/self/exe"), .argv = argv), argv);
}

TEST_BOTH_WAYS(an_argument_that_the_kernel_refuses_fails_at_exec) {
    static char text[256 * 1024];
    memset(text, 'a', sizeof text - 1);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -E2BIG, .argv = STRINGS("/bin/true", text));
}

/* ---- environment ---- */

static const char *environment_of(const char *const *envp) {
    return OUTPUT_OF(THE_HELPER(show_environment), .envp = envp);
}

TEST_BOTH_WAYS(the_environment_is_inherited) {
    clearenv();
    setenv("ONE", "1", 1);
    setenv("TWO", "2 \xff", 1);
    check_texts(environment_of(NULL), STRINGS("ONE=1", "TWO=2 \xff"));
}

TEST_BOTH_WAYS(the_environment_is_inherited_as_of_the_call) {
    setenv("WHEN", "early", 1);
    environment_of(NULL);
    static char *other[] = {"WHEN=now", NULL};
    environ = other;
    check_texts(environment_of(NULL), STRINGS("WHEN=now"));
}

TEST_BOTH_WAYS(a_cleared_environment_is_inherited_as_empty) {
    clearenv();
    CHECK_STR(environment_of(NULL), "");
    CHECK_INT(output_length, 0);
}

TEST_BOTH_WAYS(envp_replaces_the_environment) {
    setenv("ONE", "inherited", 1);
    const char *const *envp = STRINGS("TWO=2", "THREE=a=b", "FOUR=");
    check_texts(environment_of(envp), envp);
}

TEST_BOTH_WAYS(an_empty_envp_is_an_empty_environment) {
    static const char *const none[] = {NULL};
    environment_of(none);
    CHECK_INT(output_length, 0);
}

TEST_BOTH_WAYS(envp_is_passed_on_whatever_is_in_it) {
    const char *const *envp = STRINGS("no equals sign", "", "=", "=x", "A=1", "A=2", "\xff=\n");
    check_texts(environment_of(envp), envp);
}

TEST(the_caller_s_environment_stays_as_it_is) {
    setenv("KEPT", "yes", 1);
    char **before = environ;
    environment_of(STRINGS("KEPT=no"));
    CHECK_STR(getenv("KEPT"), "yes");
    CHECK(environ == before);
}

/* ---- candidates ---- */

TEST_BOTH_WAYS(the_first_candidate_that_is_there_runs) {
    const char *second = make_script("second", 0755), *third = make_script("third", 0755);
    char expected[256];
    snprintf(expected, sizeof expected, "%s\n", second);
    CHECK_STR(
        OUTPUT_OF(.paths = STRINGS(scratch_path("first"), second, third), .argv = STRINGS("name")),
        expected);
}

TEST_BOTH_WAYS(a_candidate_that_may_not_be_executed_is_passed_over) {
    const char *bad = make_script("bad", 0644), *good = make_script("good", 0755);
    char expected[256];
    snprintf(expected, sizeof expected, "%s\n", good);
    CHECK_STR(OUTPUT_OF(.paths = STRINGS(bad, scratch(), good), .argv = STRINGS("name")), expected);
}

TEST_BOTH_WAYS(argv_0_is_no_candidate_beside_others) {
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .paths = STRINGS(scratch_path("missing")),
                .argv = STRINGS("/bin/true"));
}

static void check_exec_error(const char *const *paths, int error) {
    SPAWN_BADLY(RDAEMON_STEP_EXEC, error, .paths = paths, .argv = STRINGS("name"));
}

TEST_BOTH_WAYS(rule_5_7_the_error_is_the_first_that_is_not_a_missing_file) {
    const char *denied = make_script("denied", 0644);
    const char *missing = scratch_path("missing"), *below = scratch_path("denied/below");
    const char *loop = scratch_path("loop"), *no_program = make_file("no_program", "");
    CHECK_INT(symlink("loop", loop), 0);
    CHECK_INT(chmod(no_program, 0755), 0);
    check_exec_error(STRINGS(missing), -ENOENT);
    check_exec_error(STRINGS(below), -ENOTDIR);
    check_exec_error(STRINGS(denied), -EACCES);
    check_exec_error(STRINGS(missing, below), -ENOTDIR);
    check_exec_error(STRINGS(below, missing), -ENOENT);
    check_exec_error(STRINGS(missing, denied, below), -EACCES);
    check_exec_error(STRINGS(below, loop, denied, missing), -ELOOP);
    check_exec_error(STRINGS(denied, loop), -EACCES);
    check_exec_error(STRINGS(missing, no_program, missing), -ENOEXEC);
    check_exec_error(STRINGS(scratch(), missing), -EACCES);
}

TEST_BOTH_WAYS(hundreds_of_candidates_are_tried) {
    enum { COUNT = 500 };
    static const char *paths[COUNT + 1];
    for (int i = 0; i < COUNT - 1; i++)
        paths[i] = "/nonexistent/program";
    paths[COUNT - 1] = "/bin/echo";
    CHECK_STR(OUTPUT_OF(.paths = paths, .argv = STRINGS("echo", "last")), "last\n");
    paths[COUNT - 1] = "/nonexistent/program";
    check_exec_error(paths, -ENOENT);
}

TEST_BOTH_WAYS(a_name_is_not_looked_up_in_path) {
    setenv("PATH", "/bin:/usr/bin", 1);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("true"));
}

TEST_BOTH_WAYS(relative_paths_are_those_of_the_new_working_directory) {
    make_directory("below", 0755);
    make_script("below/program", 0755);
    const char *const *argv = STRINGS("./program");
    CHECK_STR(OUTPUT_OF(.argv = argv, .working_directory = scratch_path("below")), "./program\n");
    CHECK_STR(OUTPUT_OF(.paths = STRINGS("elsewhere", "program"), .argv = argv,
                        .working_directory = scratch_path("below")),
              "program\n");
    CHECK_INT(chdir(scratch_path("below")), 0);
    CHECK_STR(OUTPUT_OF(.argv = argv), "./program\n");
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = argv, .working_directory = "/");
}

TEST_BOTH_WAYS(rule_5_7_no_shell_runs_what_the_kernel_does_not) {
    const char *path = make_file("plain", "exit 0\n");
    CHECK_INT(chmod(path, 0755), 0);
    check_exec_error(STRINGS(path), -ENOEXEC);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOEXEC, .argv = STRINGS(path));
}

TEST_BOTH_WAYS(a_script_without_its_interpreter_is_missing) {
    const char *path = make_file("script", "#!/nonexistent/interpreter\n");
    CHECK_INT(chmod(path, 0755), 0);
    check_exec_error(STRINGS(path), -ENOENT);
}

TEST_BOTH_WAYS(a_program_that_is_being_written_is_busy) {
    const char *path = make_script("busy", 0755);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    CHECK(fd >= 3);
    check_exec_error(STRINGS(path), -ETXTBSY);
}

TEST_BOTH_WAYS(a_program_may_be_named_by_an_fd_that_it_does_not_get) {
    int fd = open("/bin/echo", O_RDONLY | O_CLOEXEC);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_STR(OUTPUT_OF(.paths = STRINGS(path), .argv = STRINGS("echo", "here")), "here\n");
}

TEST_BOTH_WAYS(the_kernel_judges_the_length_of_a_candidate_s_name) {
    char name[300] = "/tmp/";
    memset(name + 5, 'a', 290);
    check_exec_error(STRINGS(name), -ENAMETOOLONG);
}

/* ---- the handle ---- */

TEST(the_handle_is_64_bytes) {
    CHECK_INT(sizeof(struct rdaemon_child), 64);
    CHECK_INT(sizeof(struct rdaemon_status), 64);
}

static void check_own_fd(int fd) {
    CHECK(fd >= 3);
    CHECK(fd_is_open(fd));
    CHECK(fd_is_cloexec(fd));
}

TEST_BOTH_WAYS(the_handle_has_only_what_was_asked_for) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){THE_HELPER(linger)});
    CHECK_INT(spawned.child.pidfd, -1);
    for (int i = 0; i < 3; i++)
        CHECK_INT(spawned.child.fds[i], -1);
    for (size_t i = 0; i < LENGTH(spawned.child.reserved); i++)
        CHECK_INT(spawned.child.reserved[i], 0);
    CHECK_STR(open_fds(0), "0 1 2");
    kill_and_reap(&spawned);
}

static void check_only_open_besides(int fd) {
    char fds[32];
    snprintf(fds, sizeof fds, "0 1 2 %d", fd);
    CHECK_STR(open_fds(0), fds);
}

TEST_BOTH_WAYS(the_handle_has_a_pidfd_on_demand) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){THE_HELPER(linger), .flags = RDAEMON_SPAWN_PIDFD});
    if (spawned.child.pidfd == -1) {
        kill_and_reap(&spawned);
        SKIP_PLATFORM("no pidfd here");
    }
    check_own_fd(spawned.child.pidfd);
    CHECK_INT(pidfd_pid(spawned.child.pidfd), spawned.result);
    check_only_open_besides(spawned.child.pidfd);
    struct pollfd end = {.fd = spawned.child.pidfd, .events = POLLIN};
    CHECK_INT(poll(&end, 1, 0), 0);
    CHECK_INT(kill(spawned.result, SIGKILL), 0);
    CHECK_INT(poll(&end, 1, -1), 1);
    CHECK_INT(reap(&spawned), SIGKILL);
}

static void check_pipes(struct spawned *spawned) {
    char text[8] = "";
    for (int i = 0; i < 3; i++)
        check_own_fd(spawned->child.fds[i]);
    check_own_fd(spawned->child.pidfd);
    CHECK_INT(write(spawned->child.fds[0], "word\n", 5), 5);
    CHECK_INT(read(spawned->child.fds[1], text, 5), 5);
    CHECK_STR(text, "word\n");
    CHECK_INT(read(spawned->child.fds[2], text, 5), 5);
    CHECK_STR(text, "none\n");
    CHECK_INT(read(spawned->child.fds[1], text, 1), 0);
    CHECK_INT(read(spawned->child.fds[2], text, 1), 0);
}

static const Config talker = {
    .flags = RDAEMON_SPAWN_PIDFD,
    .argv = (const char *const[]){"/bin/sh", "-c", "read x; echo $x; echo none >&2", NULL},
    .streams = {{.action = RDAEMON_STREAM_PIPE},
                {.action = RDAEMON_STREAM_PIPE},
                {.action = RDAEMON_STREAM_PIPE}},
};

TEST_BOTH_WAYS(the_handle_has_the_parent_s_ends_of_the_pipes) {
    static struct snapshot before;
    snapshot_take(&before);
    struct spawned spawned;
    spawn_well(&spawned, &talker);
    check_pipes(&spawned);
    CHECK_INT(reap(&spawned), 0);
    CHECK(snapshot_same(&before));
}

TEST_BOTH_WAYS(the_handle_s_fds_are_not_standard_ones_even_if_these_are_closed) {
    struct spawned spawned;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    spawn_well(&spawned, &talker);
    CHECK(!fd_is_open(0) && !fd_is_open(1) && !fd_is_open(2));
    check_pipes(&spawned);
    CHECK_INT(reap(&spawned), 0);
    CHECK_STR(open_fds(0), "");
}

TEST_BOTH_WAYS(the_handle_may_be_absent) {
    Config config = {.flags = way, .argv = STRINGS("/bin/true")};
    struct rdaemon_status status;
    int pid = QUIET(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status)));
    CHECK(pid > 0);
    CHECK_INT(status.step, RDAEMON_STEP_NONE);
    CHECK_INT(wait_for_exit(pid), 0);
    pid = QUIET(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, NULL, 0));
    CHECK(pid > 0);
    CHECK_INT(wait_for_exit(pid), 0);
}

TEST_BOTH_WAYS(a_short_status_is_cut_and_a_long_one_zeroed) {
    Config config = {.flags = way, .argv = STRINGS("/nonexistent")};
    struct {
        struct rdaemon_status status;
        unsigned char tail[8];
    } longer;
    memset(&longer, 0xa5, sizeof longer);
    CHECK_INT(QUIET(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, &longer.status, sizeof longer)),
              -ENOENT);
    CHECK_INT(longer.status.step, RDAEMON_STEP_EXEC);
    CHECK_INT(longer.status.error, -ENOENT);
    for (int i = 0; i < 8; i++)
        CHECK_INT(longer.tail[i], 0);
    memset(&longer, 0xa5, sizeof longer);
    CHECK_INT(QUIET(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, &longer.status, 4)), -ENOENT);
    CHECK_INT(longer.status.step, RDAEMON_STEP_EXEC);
    CHECK_INT(longer.status.error, (int32_t)0xa5a5a5a5);
}

TEST_BOTH_WAYS(a_longer_handle_ends_with_zeros) {
    Config config = {.flags = way, .argv = STRINGS("/bin/true")};
    struct {
        struct rdaemon_child child;
        unsigned char tail[16];
    } longer;
    memset(&longer, 0xa5, sizeof longer);
    int pid = QUIET(rdaemon_spawn(RDAEMON_SIZED(&config), &longer.child, sizeof longer, NULL, 0));
    CHECK(pid > 0);
    CHECK_INT(longer.child.pid, pid);
    for (int i = 0; i < 16; i++)
        CHECK_INT(longer.tail[i], 0);
    CHECK_INT(wait_for_exit(pid), 0);
}

/* ---- the status ---- */

TEST_BOTH_WAYS(the_status_of_a_success_says_so) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/true")});
    CHECK_INT(spawned.status.pid, spawned.result);
    CHECK_INT(spawned.status.signal, 0);
    CHECK_INT(spawned.status.subject, 0);
    for (size_t i = 0; i < LENGTH(spawned.status.reserved); i++)
        CHECK_INT(spawned.status.reserved[i], 0);
    CHECK_INT(reap(&spawned), 0);
}

TEST_BOTH_WAYS(the_status_of_a_failure_names_step_and_error) {
    struct spawned spawned;
    char line[128];
    spawn(&spawned, &(Config){.argv = STRINGS("/nonexistent")});
    CHECK_INT(spawned.result, -ENOENT);
    CHECK_INT(spawned.status.step, RDAEMON_STEP_EXEC);
    CHECK_INT(spawned.status.error, -ENOENT);
    CHECK_INT(spawned.status.pid, 0);
    CHECK_INT(spawned.status.signal, 0);
    CHECK_INT(spawned.status.subject, 0);
    for (size_t i = 0; i < LENGTH(spawned.status.reserved); i++)
        CHECK_INT(spawned.status.reserved[i], 0);
    CHECK(rdaemon_status_message(RDAEMON_SIZED(&spawned.status), line, sizeof line) > 0);
    CHECK_STR(line, "exec: No such file or directory");
}

TEST(the_steps_have_names) {
    static const struct {
        int step;
        const char *name;
    } steps[] = {
        {RDAEMON_STEP_FORK, "fork"},
        {RDAEMON_STEP_MAP_FDS, "map_fds"},
        {RDAEMON_STEP_SETPGID, "setpgid"},
        {RDAEMON_STEP_CONTROLLING_TERMINAL, "controlling_terminal"},
        {RDAEMON_STEP_DEATH_SIGNAL, "death_signal"},
        {RDAEMON_STEP_HOOK, "hook"},
        {RDAEMON_STEP_EXEC, "exec"},
        {RDAEMON_STEP_COMMUNICATE, "communicate"},
        {RDAEMON_STEP_WAIT, "wait"},
    };
    for (size_t i = 0; i < LENGTH(steps); i++)
        CHECK_STR(rdaemon_step_name(steps[i].step), steps[i].name);
}

/* ---- failures ---- */

TEST_BOTH_WAYS(rule_5_3_a_failed_child_is_reaped_without_a_sigchld) {
    sigset_t child, pending;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"));
    CHECK_INT(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGCHLD));
    CHECK_INT(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    CHECK_INT(errno, ECHILD);
}

TEST_BOTH_WAYS(rule_5_1_failures_are_reported_where_sigchld_is_ignored) {
    signal(SIGCHLD, SIG_IGN);
    SPAWN_BADLY(RDAEMON_STEP_EXEC, -ENOENT, .argv = STRINGS("/nonexistent"));
    SPAWN_BADLY(RDAEMON_STEP_CHDIR, -ENOENT, .argv = STRINGS("/bin/true"),
                .flags = RDAEMON_SPAWN_PIDFD, .working_directory = "/nonexistent");
}

TEST_BOTH_WAYS(a_failed_child_is_left_to_the_caller_on_demand) {
    sigset_t child;
    siginfo_t info;
    struct spawned spawned;
    int status;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    spawn(&spawned, &(Config){.flags = RDAEMON_SPAWN_NO_REAP, .argv = STRINGS("/nonexistent")});
    CHECK_INT(spawned.result, -ENOENT);
    CHECK_INT(spawned.status.step, RDAEMON_STEP_EXEC);
    CHECK(spawned.status.pid > 0);
    CHECK_INT(sigwaitinfo(&child, &info), SIGCHLD);
    CHECK_INT(info.si_pid, spawned.status.pid);
    CHECK_INT(waitpid(spawned.status.pid, &status, 0), spawned.status.pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 0);
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST_BOTH_WAYS(no_reap_changes_nothing_of_a_success) {
    struct spawned spawned;
    spawn_well(&spawned, &(Config){.flags = RDAEMON_SPAWN_NO_REAP, .argv = STRINGS("/bin/true")});
    CHECK_INT(reap(&spawned), 0);
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST_BOTH_WAYS(no_reap_leaves_no_fd_behind) {
    struct spawned spawned;
    Config config = talker;
    config.flags |= RDAEMON_SPAWN_NO_REAP;
    config.argv = STRINGS("/nonexistent");
    spawn(&spawned, &config);
    CHECK_INT(spawned.result, -ENOENT);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_INT(waitpid(-1, NULL, __WALL), spawned.status.pid);
}

TEST_BOTH_WAYS(rule_5_9_fork_s_own_error_is_told_apart) {
    REQUIRE_ROOT();
    CHECK_INT(setuid(lonely_uid()), 0);
    struct rlimit one = {1, 1};
    CHECK_INT(setrlimit(RLIMIT_NPROC, &one), 0);
    SPAWN_BADLY(RDAEMON_STEP_FORK, -EAGAIN, .argv = STRINGS("/bin/true"));
}

TEST_BOTH_WAYS(a_failure_leaves_neither_pipe_nor_pidfd) {
    Config config = talker;
    config.argv = STRINGS("/nonexistent");
    spawn_badly(&config, RDAEMON_STEP_EXEC, -ENOENT);
}

TEST_BOTH_WAYS(no_free_fd_for_the_pipes_is_an_error_of_the_streams) {
    static struct snapshot before;
    Config config = talker;
    config.flags = 0;
    for (rlim_t limit = 3; limit < 9; limit++) {
        struct rlimit all, few = {limit, 100};
        struct spawned spawned;
        CHECK_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
        snapshot_take(&before);
        few.rlim_max = all.rlim_max;
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
        spawn(&spawned, &config);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
        CHECK_INT(spawned.result, -EMFILE);
        CHECK_INT(spawned.status.step, RDAEMON_STEP_OPEN_STREAMS);
        CHECK(snapshot_same(&before));
    }
}

TEST_BOTH_WAYS(no_free_fd_for_the_pidfd_is_an_error) {
    static struct snapshot before;
    Config config = {.flags = RDAEMON_SPAWN_PIDFD, .argv = STRINGS("/bin/true")};
    for (rlim_t limit = 3; limit < 5; limit++) {
        struct rlimit all, few = {limit, 100};
        struct spawned spawned;
        CHECK_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
        snapshot_take(&before);
        few.rlim_max = all.rlim_max;
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
        spawn(&spawned, &config);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
        if (limit == 4 && way == 0) {
            CHECK(spawned.result > 0);
            CHECK_INT(reap(&spawned), 0);
        } else {
            CHECK_INT(spawned.result, -EMFILE);
        }
        CHECK(snapshot_same(&before));
    }
}

TEST(a_program_without_fds_of_its_own_needs_no_free_fd) {
    struct rlimit none = {3, 100};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct spawned spawned;
    struct rlimit plenty = {100, 100};
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/true"),
                                   .limits = &(struct rdaemon_limit){.resource = RLIMIT_NOFILE,
                                                                     .soft = 100,
                                                                     .hard = 100},
                                   .limits_len = 1});
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &plenty), 0);
    CHECK_INT(reap(&spawned), 0);
}

/* ---- real programs ---- */

TEST_BOTH_WAYS(cat_copies_its_input) {
    struct spawned spawned;
    char text[16] = "";
    spawn_well(&spawned, &(Config){.argv = STRINGS("/bin/cat"),
                                   .streams = {{.action = RDAEMON_STREAM_PIPE},
                                               {.action = RDAEMON_STREAM_PIPE}}});
    CHECK_INT(write(spawned.child.fds[0], "a\0b\n", 4), 4);
    CHECK_INT(read(spawned.child.fds[1], text, sizeof text), 4);
    CHECK_INT(memcmp(text, "a\0b\n", 4), 0);
    close(spawned.child.fds[0]);
    spawned.child.fds[0] = -1;
    CHECK_INT(read(spawned.child.fds[1], text, sizeof text), 0);
    CHECK_INT(reap(&spawned), 0);
}

TEST_BOTH_WAYS(sh_gets_arguments_environment_and_streams) {
    CHECK_STR(
        OUTPUT_OF(.argv = STRINGS("/bin/sh", "-c", "echo \"$0 $# $X\"; exec >&-", "me", "a b"),
                  .envp = STRINGS("X=1 2")),
        "me 1 1 2\n");
}

TEST_BOTH_WAYS(python_gets_arguments_and_environment_as_bytes) {
    static const char script[] = "import os,sys\n"
                                 "print([os.fsencode(a) for a in sys.argv[1:]],"
                                 "os.environb.get(b'X'), os.getcwd())";
    const char *python = "/usr/bin/python3";
    if (access(python, X_OK) != 0)
        SKIP("there is no %s", python);
    CHECK_STR(OUTPUT_OF(.argv = STRINGS(python, "-S", "-c", script, "\xff $(x)", "'\n"),
                        .envp = STRINGS("X=\xfe", "LC_ALL=C"), .working_directory = "/tmp"),
              "[b'\\xff $(x)', b\"'\\n\"] b'\\xfe' /tmp\n");
}

TEST_BOTH_WAYS(a_pipeline_is_made_of_one_program_s_pipe_and_the_next_s_stream) {
    struct spawned first, second;
    spawn_well(&first, &(Config){.argv = STRINGS("/bin/sh", "-c", "echo b; echo a"),
                                 .streams = {[1] = {.action = RDAEMON_STREAM_PIPE}}});
    struct rdaemon_stream input = {.action = RDAEMON_STREAM_FD, .fd = first.child.fds[1]};
    spawn_well(&second, &(Config){.paths = STRINGS("/bin/sort", "/usr/bin/sort"),
                                  .argv = STRINGS("sort"),
                                  .streams = {input, {.action = RDAEMON_STREAM_PIPE}}});
    char text[8] = "";
    CHECK_INT(reap(&first), 0);
    CHECK_INT(read(second.child.fds[1], text, 4), 4);
    CHECK_STR(text, "a\nb\n");
    CHECK_INT(reap(&second), 0);
}
