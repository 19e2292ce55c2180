/* A program in one call: started, spoken to, waited for, and never left behind. */
#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "program.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

/* ---- the programs ---- */

/* Writes its first argument to standard output, its second to standard error, exits with the
 * third. */
HELPER(say) {
    for (int i = 0; i < 2; i++)
        CHECK_INT(write(i + 1, arguments[i], strlen(arguments[i])), strlen(arguments[i]));
    return atoi(arguments[2]);
}

HELPER(die) {
    raise(SIGKILL);
    return 99;
}

HELPER(say_and_live) {
    CHECK_INT(write(1, arguments[0], strlen(arguments[0])), strlen(arguments[0]));
    while (pause() < 0)
        continue;
    return 99;
}

HELPER(close_all_and_live) {
    close(0);
    close(1);
    close(2);
    while (pause() < 0)
        continue;
    return 99;
}

/* Its own child keeps the pipes until the valve opens. */
HELPER(leave_a_grandchild) {
    if (fork() == 0) {
        await_valve();
        _exit(0);
    }
    CHECK_INT(write(1, "parent", 6), 6);
    return 3;
}

/* Set-user-id, it becomes a process that the caller may not kill. */
HELPER(become_root_and_await_the_valve) {
    if (geteuid() != 0)
        return 77;
    CHECK_INT(setresuid(0, 0, 0), 0);
    CHECK_INT(write(1, "root", 4), 4);
    await_valve();
    return 0;
}

/* Says what its three streams are, into the file that is its argument. */
HELPER(tell_streams) {
    FILE *file = fopen(arguments[0], "w");
    CHECK(file);
    for (int fd = 0; fd < 3; fd++) {
        const char *target = fd_target(0, fd);
        fprintf(file, "%s\n", strncmp(target, "pipe:", 5) == 0 ? "pipe" : target);
    }
    return fclose(file);
}

HELPER(print_cwd_and_environment) {
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd));
    printf("%s\n", cwd);
    for (char **entry = environ; *entry; entry++)
        printf("%s\n", *entry);
    return 0;
}

/* ---- what the cases are made of ---- */

static Config config;
static struct rdaemon_communication talk;
static struct rdaemon_exit ended;
static struct rdaemon_status status;
static char output[2][512];

#define PREPARE(...) prepare((Config){__VA_ARGS__})

/* Both outputs are wanted, and no input is sent. */
static void prepare(Config wanted) {
    config = wanted;
    memset(&talk, 0, sizeof talk);
    memset(output, 0, sizeof output);
    for (int i = 0; i < 2; i++)
        talk.outputs[i] =
            (struct rdaemon_output){.buffer = output[i], .size = sizeof output[i] - 1};
}

static void send(const char *input) {
    talk.input = input;
    talk.input_len = strlen(input);
}

/* Runs it; whatever happens, nothing may be left of it but its output. */
static int run(int timeout_ms) {
    static struct snapshot before;
    snapshot_take(&before);
    memset(&ended, 0xa5, sizeof ended);
    memset(&status, 0xa5, sizeof status);
    int result = QUIET(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), timeout_ms,
                                   RDAEMON_SIZED(&ended), RDAEMON_SIZED(&status)));
    CHECK(result <= 0);
    for (int i = 0; i < 2; i++)
        if (talk.outputs[i].buffer == output[i])
            output[i][talk.outputs[i].len] = '\0';
    CHECK_INT(status.error, result);
    CHECK_INT(status.step == RDAEMON_STEP_NONE, result == 0);
    if (result != 0)
        for (size_t i = 0; i < sizeof ended; i++)
            CHECK_INT(((unsigned char *)&ended)[i], 0xa5);
    CHECK(snapshot_same(&before));
    return result;
}

static void runs(int exit_status) {
    int result = run(-1);
    if (result != 0)
        FAIL("the run failed: %s, %s", rdaemon_step_name(status.step), error_name(result));
    check_exit(&ended, RDAEMON_EXIT_EXITED, exit_status);
}

static void fails(int timeout_ms, int step, int error) {
    int result = run(timeout_ms);
    if (result != error || status.step != step)
        FAIL("the run gave %s at %s, where it should give %s at %s", error_name(result),
             rdaemon_step_name(status.step), error_name(error), rdaemon_step_name(step));
}

static void refused(void) {
    fails(-1, RDAEMON_STEP_CONFIG, -EINVAL);
    CHECK_INT(talk.outputs[0].len, 0);
}

/* ---- what comes back ---- */

TEST(output_and_error_are_captured) {
    PREPARE(THE_HELPER(say, "out", "error", "0"));
    runs(0);
    CHECK_STR(output[0], "out");
    CHECK_STR(output[1], "error");
    CHECK_INT(talk.outputs[0].len, 3);
    CHECK_INT(talk.outputs[1].len, 5);
}

TEST(input_is_sent) {
    PREPARE(THE_PROGRAM("cat", "-", "/dev/null"));
    send("to be or not to be");
    runs(0);
    CHECK_STR(output[0], "to be or not to be");
    CHECK_INT(talk.input_sent, strlen("to be or not to be"));
}

TEST(every_exit_status_is_a_success_of_the_call) {
    static const char *const codes[] = {"0", "1", "127", "255"};
    for (size_t i = 0; i < LENGTH(codes); i++) {
        PREPARE(THE_HELPER(say, "", "", codes[i]));
        runs(atoi(codes[i]));
    }
}

TEST(a_signal_that_ends_the_program_is_told) {
    PREPARE(THE_HELPER(die));
    CHECK_INT(run(-1), 0);
    check_exit(&ended, RDAEMON_EXIT_SIGNALLED, SIGKILL);
}

TEST(the_program_needs_no_conversation) {
    PREPARE(THE_HELPER(say, "", "", "12"));
    CHECK_INT(QUIET(rdaemon_run(RDAEMON_SIZED(&config), NULL, 0, -1, RDAEMON_SIZED(&ended),
                                RDAEMON_SIZED(&status))),
              0);
    check_exit(&ended, RDAEMON_EXIT_EXITED, 12);
    CHECK_INT(QUIET(rdaemon_run(RDAEMON_SIZED(&config), NULL, 0, -1, NULL, 0, NULL, 0)), 0);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_INT(first_child_of(getpid()), 0);
}

static int add_up(void *context, const char *bytes, size_t len) {
    (void)bytes;
    *(size_t *)context += len;
    return 0;
}

TEST(a_sink_takes_more_than_a_buffer_would) {
    static char megabyte[1024 * 1024];
    size_t taken = 0;
    PREPARE(THE_PROGRAM("cat"));
    talk.input = memset(megabyte, 'm', sizeof megabyte);
    talk.input_len = sizeof megabyte;
    talk.outputs[0] = (struct rdaemon_output){.sink = add_up, .context = &taken};
    runs(0);
    CHECK_INT(taken, sizeof megabyte);
}

TEST(the_flags_of_the_conversation_count) {
    PREPARE(THE_HELPER(say, "one\r\ntwo\r", "", "0"));
    talk.flags = RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES;
    runs(0);
    CHECK_STR(output[0], "one\ntwo\n");
}

TEST(the_config_counts) {
    const char *const environment[] = {"ONE=1", "EMPTY=", "no equals sign", NULL};
    char expected[PATH_MAX + 64], *real = realpath(scratch(), NULL);
    PREPARE(THE_HELPER(print_cwd_and_environment), .envp = environment,
            .working_directory = scratch());
    runs(0);
    snprintf(expected, sizeof expected, "%s\nONE=1\nEMPTY=\nno equals sign\n", real);
    CHECK_STR(output[0], expected);
}

/* ---- which streams become pipes ---- */

static const char *streams_of_the_program(void) {
    const char *file = scratch_path("streams");
    config.argv = STRINGS("helper", "--helper", "tell_streams", file);
    config.paths = STRINGS("/proc/self/exe");
    CHECK_INT(run(-1), 0);
    CHECK_INT(ended.wait_status, 0);
    return file_text(file);
}

/* Gives this process, and so its programs, three files of its own. */
static void make_streams_known(void) {
    static const char *const names[] = {"in", "out", "err"};
    for (int fd = 0; fd < 3; fd++) {
        int file = open(make_file(names[fd], ""), O_RDWR);
        CHECK_INT(dup2(file, fd), fd);
        close(file);
    }
}

TEST(streams_become_pipes_where_the_conversation_needs_them) {
    make_streams_known();
    for (int wanted = 0; wanted < 8; wanted++) {
        char expected[3 * PATH_MAX];
        PREPARE(0);
        for (int i = 0; i < 2; i++)
            if (!(wanted >> i & 1))
                talk.outputs[i] = (struct rdaemon_output){0};
        if (wanted & 4)
            send("input");
        snprintf(
            expected, sizeof expected, "%s\n%s\n%s\n", wanted & 4 ? "pipe" : scratch_path("in"),
            wanted & 1 ? "pipe" : scratch_path("out"), wanted & 2 ? "pipe" : scratch_path("err"));
        CHECK_STR(streams_of_the_program(), expected);
    }
}

TEST(a_sink_needs_a_pipe_too) {
    size_t taken = 0;
    make_streams_known();
    PREPARE(THE_HELPER(say, "out", "error", "0"));
    talk.outputs[0] = (struct rdaemon_output){0};
    talk.outputs[1] = (struct rdaemon_output){.sink = add_up, .context = &taken};
    /* Not by run(), as the offset of the caller's file moves. */
    CHECK_INT(
        QUIET(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), -1, NULL, 0, NULL, 0)), 0);
    CHECK_INT(taken, 5);
    CHECK_STR(file_text(scratch_path("out")), "out");
}

TEST(explicit_streams_stay) {
    make_streams_known();
    PREPARE(.streams = {{.action = RDAEMON_STREAM_NULL},
                        {.action = RDAEMON_STREAM_INHERIT},
                        {.action = RDAEMON_STREAM_NULL}});
    char expected[PATH_MAX];
    snprintf(expected, sizeof expected, "/dev/null\n%s\n/dev/null\n", scratch_path("out"));
    CHECK_STR(streams_of_the_program(), expected);
    CHECK_INT(talk.outputs[0].len, 0);
    CHECK_INT(talk.outputs[1].len, 0);

    PREPARE(THE_HELPER(say, "out", "error", "0"),
            .streams[1] = {.action = RDAEMON_STREAM_FILE, .path = scratch_path("log")},
            .streams[2] = {.action = RDAEMON_STREAM_SAME_AS_STDOUT});
    runs(0);
    CHECK_STR(file_text(scratch_path("log")), "outerror");
    CHECK_INT(talk.outputs[0].len, 0);
}

TEST(input_that_would_reach_nobody_is_refused) {
    PREPARE(THE_PROGRAM("cat"), .streams[0] = {.action = RDAEMON_STREAM_NULL});
    send("input");
    CHECK_REFUSED(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), -1, NULL, 0, NULL, 0),
                  -EINVAL);
}

TEST(a_program_that_nobody_would_reap_is_refused) {
    PREPARE(THE_PROGRAM("cat"), .flags = RDAEMON_SPAWN_NO_REAP);
    CHECK_REFUSED(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), -1, NULL, 0, NULL, 0),
                  -EINVAL);
}

TEST(pipes_that_are_asked_for_are_served) {
    PREPARE(THE_PROGRAM("cat"), .streams = {PIPE, PIPE, PIPE});
    runs(0);
    memset(&talk, 0, sizeof talk);
    config.argv = STRINGS("helper", "--helper", "say", "discarded", "discarded", "4");
    config.paths = STRINGS("/proc/self/exe");
    runs(4);
}

TEST(one_pipe_serves_both_outputs) {
    PREPARE(THE_HELPER(say, "out", "error", "0"),
            .streams[2] = {.action = RDAEMON_STREAM_SAME_AS_STDOUT});
    talk.outputs[1] = (struct rdaemon_output){0};
    runs(0);
    CHECK_STR(output[0], "outerror");
}

/* ---- failures: the program is killed and reaped ---- */

static void is_late(int timeout_ms) {
    double begun = now_ms();
    int result = run(timeout_ms);
    double took = now_ms() - begun;
    CHECK_INT(result, -ETIMEDOUT);
    CHECK(status.step == RDAEMON_STEP_COMMUNICATE || status.step == RDAEMON_STEP_WAIT);
    CHECK(took >= timeout_ms && took < timeout_ms + 3000);
}

TEST(a_program_that_is_late_is_killed_and_its_output_kept) {
    PREPARE(THE_HELPER(say_and_live, "so far"));
    is_late(500);
    CHECK_STR(output[0], "so far");
    CHECK_INT(talk.outputs[0].len, 6);
}

TEST(a_late_program_that_has_no_pipes_is_killed) {
    PREPARE(THE_HELPER(say_and_live, ""));
    memset(&talk, 0, sizeof talk);
    is_late(50);
}

TEST(the_limit_counts_for_a_program_that_has_closed_its_pipes) {
    PREPARE(THE_HELPER(close_all_and_live));
    is_late(100);
}

TEST(the_limit_may_be_nothing) {
    PREPARE(THE_HELPER(say_and_live, ""));
    is_late(0);
}

TEST(a_generous_limit_does_not_delay) {
    PREPARE(THE_HELPER(say, "out", "", "0"));
    CHECK_INT(run(INT_MAX), 0);
    CHECK_STR(output[0], "out");
}

TEST(a_grandchild_that_holds_the_pipes_is_waited_for_until_the_limit) {
    struct valve valve = valve_new();
    PREPARE(THE_HELPER(leave_a_grandchild), GATE_MAP(valve));
    static struct rdaemon_exit untouched;
    memset(&ended, 0xa5, sizeof ended);
    untouched = ended;
    int result = QUIET(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), 300,
                                   RDAEMON_SIZED(&ended), RDAEMON_SIZED(&status)));
    CHECK_INT(result, -ETIMEDOUT);
    CHECK(memcmp(&ended, &untouched, sizeof ended) == 0);
    CHECK_STR(output[0], "parent");
    valve_open(&valve);
    reap_orphans();
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(until_exit_does_not_wait_for_a_grandchild) {
    struct valve valve = valve_new();
    PREPARE(THE_HELPER(leave_a_grandchild), GATE_MAP(valve));
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    CHECK_INT(QUIET(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), -1,
                                RDAEMON_SIZED(&ended), RDAEMON_SIZED(&status))),
              0);
    check_exit(&ended, RDAEMON_EXIT_EXITED, 3);
    CHECK_STR(output[0], "parent");
    valve_open(&valve);
    reap_orphans();
    CHECK_STR(open_fds(0), "0 1 2");
}

static const char *make_set_user_id_copy(void) {
    char bytes[64 * 1024];
    const char *path = scratch_path("set-user-id");
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    for (ssize_t got; (got = read(from, bytes, sizeof bytes)) > 0;)
        CHECK_INT(write(to, bytes, (size_t)got), got);
    CHECK_INT(fchmod(to, 04755), 0);
    close(from);
    close(to);
    return path;
}

/* As sudo(8) is one for its caller. */
TEST(a_late_program_that_may_not_be_killed_is_not_waited_for) {
    REQUIRE_ROOT();
    struct valve valve = valve_new();
    PREPARE(.argv = STRINGS("helper", "--helper", "become_root_and_await_the_valve"),
            .paths = STRINGS(make_set_user_id_copy()), GATE_MAP(valve));
    become_user();
    int result = QUIET(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), 500,
                                   RDAEMON_SIZED(&ended), RDAEMON_SIZED(&status)));
    if (result == 0 && ended.code == 77)
        SKIP("set-user-id programs have no effect in %s", scratch());
    CHECK(result < 0);
    CHECK_INT(status.error, result);
    CHECK(memcmp(output[0], "root", 4) == 0);
    valve_open(&valve);
    CHECK_STR(open_fds(0), "0 1 2");
    reap_orphans();
}

TEST(a_full_buffer_is_enobufs_and_keeps_what_fits) {
    for (int i = 0; i < 2; i++) {
        PREPARE(THE_HELPER(say, "output", "errors", "0"));
        talk.outputs[i].size = 3;
        fails(-1, RDAEMON_STEP_COMMUNICATE, -ENOBUFS);
        CHECK_INT(talk.outputs[i].len, 3);
        CHECK_STR(output[i], i == 0 ? "out" : "err");
    }
}

TEST(a_buffer_of_the_exact_size_is_enough) {
    PREPARE(THE_HELPER(say, "output", "errors", "0"));
    talk.outputs[0].size = talk.outputs[1].size = 6;
    runs(0);
    CHECK_STR(output[0], "output");
    CHECK_STR(output[1], "errors");
}

static int refuse_bytes(void *answer, const char *bytes, size_t len) {
    (void)bytes, (void)len;
    return *(int *)answer;
}

TEST(a_failing_sink_ends_the_program) {
    static int answers[] = {-EDQUOT, 17};
    for (size_t i = 0; i < LENGTH(answers); i++) {
        PREPARE(THE_HELPER(say_and_live, "bytes"));
        talk.outputs[0] = (struct rdaemon_output){.sink = refuse_bytes, .context = &answers[i]};
        fails(-1, RDAEMON_STEP_COMMUNICATE, answers[i] < 0 ? answers[i] : -ECANCELED);
    }
}

TEST(a_missing_program_fails_at_exec) {
    PREPARE(.argv = STRINGS("missing"), .paths = STRINGS(scratch_path("missing")));
    send("input");
    fails(-1, RDAEMON_STEP_EXEC, -ENOENT);
    CHECK_INT(talk.outputs[0].len, 0);
    CHECK_INT(talk.input_sent, 0);
}

TEST(a_step_that_fails_is_told) {
    PREPARE(THE_HELPER(say, "", "", "0"), .working_directory = scratch_path("missing"));
    fails(-1, RDAEMON_STEP_CHDIR, -ENOENT);
}

TEST(where_sigchld_is_ignored_the_status_is_unknown) {
    signal(SIGCHLD, SIG_IGN);
    PREPARE(THE_HELPER(say, "out", "", "1"));
    fails(-1, RDAEMON_STEP_WAIT, -ECHILD);
    CHECK_STR(output[0], "out");
}

TEST(interrupted_runs_go_on) {
    static char megabyte[1024 * 1024];
    size_t taken = 0;
    PREPARE(THE_PROGRAM("cat"));
    talk.input = megabyte;
    talk.input_len = sizeof megabyte;
    talk.outputs[0] = (struct rdaemon_output){.sink = add_up, .context = &taken};
    begin_signal_storm();
    runs(0);
    end_signal_storm();
    CHECK_INT(taken, sizeof megabyte);
}

TEST(a_hundred_runs_leave_nothing) {
    for (int i = 0; i < 100; i++) {
        switch (i % 4) {
        case 0:
            PREPARE(THE_HELPER(say, "output", "error", "0"));
            runs(0);
            break;
        case 1:
            PREPARE(THE_HELPER(say_and_live, "output"));
            is_late(1);
            break;
        case 2:
            PREPARE(THE_HELPER(say_and_live, "output"));
            talk.outputs[0].size = 2;
            fails(-1, RDAEMON_STEP_COMMUNICATE, -ENOBUFS);
            break;
        default:
            PREPARE(.argv = STRINGS("/no/such/program"));
            fails(-1, RDAEMON_STEP_EXEC, -ENOENT);
        }
    }
}

/* ---- real programs ---- */

TEST(hostile_arguments_reach_a_shell_unchanged) {
    static const char *const hostile[] = {"two words", "'",         "\"", "; exit 9", "$(exit 9)",
                                          "`exit 9`",  "$HOME",     "*",  "\\",       "a\nb",
                                          "\xff\xfe",  "-n",        "--", "",         "%s%n",
                                          "!!",        "& sleep 1", "\t"};
    const char *argv[4 + LENGTH(hostile) + 1] = {"sh", "-c", "printf '%s|' \"$@\"", "sh"};
    char expected[512] = "";
    for (size_t i = 0; i < LENGTH(hostile); i++) {
        argv[4 + i] = hostile[i];
        strcat(strcat(expected, hostile[i]), "|");
    }
    PREPARE(.argv = argv, .paths = program_paths("sh"));
    runs(0);
    CHECK_STR(output[0], expected);
    CHECK_STR(output[1], "");
}

TEST(python_answers) {
    PREPARE(
        THE_PROGRAM("python3", "-c",
                    "import sys; print(sys.stdin.read().upper(), file=sys.stderr); sys.exit(5)"));
    send("in other words");
    runs(5);
    CHECK_STR(output[1], "IN OTHER WORDS\n");
}

/* ---- bad input ---- */

TEST(a_detached_program_is_refused) {
    PREPARE(THE_HELPER(say, "", "", "0"), .flags = RDAEMON_SPAWN_DETACHED);
    refused();
}

TEST(a_pipe_that_nobody_would_serve_is_refused) {
    int end;
    PREPARE(THE_HELPER(say, "", "", "0"),
            .fd_map = &(struct rdaemon_fd_mapping){.child_fd = 5, .source = PIPE, .ret_fd = &end},
            .fd_map_len = 1);
    refused();
}

TEST(bad_input_is_refused_before_anything_starts) {
    PREPARE(.argv = NULL);
    refused();
    PREPARE(THE_HELPER(say, "", "", "0"), .flags = 1u << 31);
    refused();
    PREPARE(THE_HELPER(say, "", "", "0"));
    talk.flags = 1u << 31;
    refused();
    PREPARE(THE_HELPER(say, "", "", "0"));
    talk.outputs[0].sink = add_up;
    refused();
    PREPARE(THE_HELPER(say, "", "", "0"));
    talk.outputs[1] = (struct rdaemon_output){.size = 1};
    refused();
    PREPARE(THE_HELPER(say, "", "", "0"));
    talk.input_len = 1;
    refused();
    PREPARE(THE_HELPER(say, "", "", "0"));
    fails(-2, RDAEMON_STEP_CONFIG, -EINVAL);
    CHECK_REFUSED(rdaemon_run(NULL, 0, NULL, 0, -1, NULL, 0, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_run(RDAEMON_SIZED(&config), NULL, 1, -1, NULL, 0, NULL, 0), -EINVAL);
}
