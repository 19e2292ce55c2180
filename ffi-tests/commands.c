/* Commands by name, as another user, and in pipelines. */
#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
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

/* ---- find_command ---- */

static char found[PATH_MAX];

static int find(const char *name, const char *path) {
    memset(found, '#', sizeof found - 1);
    return QUIET(rdaemon_find_command(name, path, found, sizeof found));
}

static void finds(const char *name, const char *path, const char *expected) {
    int length = find(name, path);
    if (length < 0)
        FAIL("%s in %s: %s", name, path ? path : "$PATH", error_name(length));
    CHECK_STR(found, expected);
    CHECK_INT(length, strlen(expected));
}

/* An empty element of the path may become "./" or nothing: it is the file that counts. */
static void finds_file(const char *name, const char *path, const char *expected) {
    struct stat wanted, got;
    int length = find(name, path);
    CHECK_INT(length, strlen(found));
    CHECK_INT(stat(expected, &wanted), 0);
    CHECK_INT(stat(found, &got), 0);
    CHECK(wanted.st_dev == got.st_dev && wanted.st_ino == got.st_ino);
}

static void finds_nothing(const char *name, const char *path) {
    int result = find(name, path);
    if (result != -ENOENT)
        FAIL("%s in %s: %s, %s", name, path ? path : "$PATH", error_name(result),
             result > 0 ? found : "");
    CHECK_INT(result, -ENOENT);
    CHECK_INT(found[0], '#');
}

static const char *make_program(const char *name, mode_t mode) {
    const char *path = make_file(name, "#!/bin/sh\n");
    CHECK_INT(chmod(path, mode), 0);
    return path;
}

/* The scratch directories a, b and c, as a path. */
static const char *abc(void) {
    static char path[3 * PATH_MAX];
    snprintf(path, sizeof path, "%s:%s:%s", make_directory("a", 0755), make_directory("b", 0755),
             make_directory("c", 0755));
    return path;
}

TEST(the_first_of_the_path_is_found) {
    const char *path = abc();
    finds_nothing("tool", path);
    make_program("c/tool", 0755);
    finds("tool", path, scratch_path("c/tool"));
    make_program("b/tool", 0755);
    finds("tool", path, scratch_path("b/tool"));
    make_program("a/tool", 0755);
    finds("tool", path, scratch_path("a/tool"));
}

TEST(the_environment_has_the_path) {
    const char *path = abc();
    make_program("b/tool", 0755);
    CHECK_INT(setenv("PATH", path, 1), 0);
    finds("tool", NULL, scratch_path("b/tool"));
    CHECK_INT(setenv("PATH", scratch_path("a"), 1), 0);
    finds_nothing("tool", NULL);
    finds("tool", path, scratch_path("b/tool"));
}

TEST(without_a_path_the_default_counts) {
    char expected[PATH_MAX];
    CHECK(rdaemon_find_command("sh", "/usr/bin:/bin", expected, sizeof expected) > 0);
    CHECK_INT(unsetenv("PATH"), 0);
    finds("sh", NULL, expected);
    CHECK_INT(clearenv(), 0);
    finds("sh", NULL, expected);
    CHECK_INT(access(found, X_OK), 0);
    CHECK_INT(chdir(make_directory("cwd", 0755)), 0);
    make_program("cwd/tool", 0755);
    finds_nothing("tool", NULL);
}

TEST(the_path_of_a_set_uid_program_is_not_believed) {
    REQUIRE_ROOT();
    const char *path = abc();
    make_program("a/tool", 0755);
    CHECK_INT(setenv("PATH", path, 1), 0);
    finds("tool", NULL, scratch_path("a/tool"));
    CHECK_INT(setresuid(TEST_UID, 0, 0), 0);
    finds_nothing("tool", NULL);
    CHECK(find("sh", NULL) > 0);
}

TEST(what_is_no_executable_file_is_passed_over) {
    const char *path = abc();
    make_directory("a/directory", 0755);
    make_program("a/text", 0644);
    CHECK_INT(mkfifo(scratch_path("a/fifo"), 0755), 0);
    CHECK_INT(chmod(scratch_path("a/fifo"), 0755), 0);
    CHECK_INT(symlink("nowhere", scratch_path("a/dangling")), 0);
    CHECK_INT(symlink("loop", scratch_path("a/loop")), 0);
    const char *const names[] = {"directory", "text", "fifo", "dangling", "loop"};
    for (size_t i = 0; i < LENGTH(names); i++) {
        char second[32], first[32];
        snprintf(first, sizeof first, "a/%s", names[i]);
        snprintf(second, sizeof second, "c/%s", names[i]);
        finds_nothing(names[i], path);
        finds_nothing(scratch_path(first), path);
        make_program(second, 0755);
        finds(names[i], path, scratch_path(second));
    }
}

TEST(a_symlink_to_a_program_is_one) {
    const char *path = abc();
    make_program("a/tool", 0755);
    CHECK_INT(symlink("tool", scratch_path("a/link")), 0);
    finds("link", path, scratch_path("a/link"));
}

TEST(elements_that_are_no_directories_are_passed_over) {
    char path[4 * PATH_MAX], *deep = malloc(20001);
    const char *tool = (abc(), make_program("c/tool", 0755));
    memset(deep, 'd', 20000);
    deep[20000] = '\0';
    deep[0] = '/';
    snprintf(path, sizeof path, "%s:/no/such:/dev/null:%.5000s:%s", tool, deep, scratch_path("c"));
    finds("tool", path, tool);
    snprintf(path, sizeof path, "%.300s:%s", deep, scratch_path("c"));
    finds("tool", path, tool);
    free(deep);
}

TEST(directories_that_may_not_be_searched_are_passed_over) {
    const char *path = abc();
    make_program("a/tool", 0755);
    make_program("a/other", 0755);
    make_program("c/tool", 0755);
    CHECK_INT(chmod(scratch_path("a"), 0600), 0);
    become_user();
    finds("tool", path, scratch_path("c/tool"));
    finds_nothing("other", path);
    finds_nothing(scratch_path("a/other"), path);
}

TEST(directories_that_may_only_be_searched_will_do) {
    const char *path = abc();
    make_program("a/tool", 0755);
    CHECK_INT(chmod(scratch_path("a"), 0711), 0);
    become_user();
    finds("tool", path, scratch_path("a/tool"));
}

TEST(programs_of_another_user_are_passed_over) {
    REQUIRE_ROOT();
    const char *path = abc();
    make_program("a/tool", 0700);
    make_program("b/tool", 0701);
    make_program("a/other", 0700);
    finds("tool", path, scratch_path("a/tool"));
    become_user();
    finds("tool", path, scratch_path("b/tool"));
    finds_nothing("other", path);
}

/* As execve(2) does. */
TEST(the_effective_user_decides) {
    REQUIRE_ROOT();
    const char *path = abc();
    make_program("a/tool", 0700);
    CHECK_INT(setresuid(0, TEST_UID, 0), 0);
    finds_nothing("tool", path);
    CHECK_INT(setresuid(0, 0, 0), 0);
    CHECK_INT(setresuid(TEST_UID, 0, 0), 0);
    finds("tool", path, scratch_path("a/tool"));
}

TEST(not_even_root_runs_what_nobody_may) {
    REQUIRE_ROOT();
    abc();
    make_program("a/tool", 0600);
    finds_nothing("tool", scratch_path("a"));
}

TEST(a_name_with_a_slash_is_only_checked) {
    const char *path = abc();
    make_program("a/tool", 0755);
    CHECK_INT(chdir(scratch()), 0);
    finds("a/tool", path, "a/tool");
    finds("./a/tool", "", "./a/tool");
    finds("a//tool", NULL, "a//tool");
    finds(scratch_path("a/tool"), "/no/such", scratch_path("a/tool"));
    finds_nothing("./tool", path);
    finds_nothing("b/tool", path);
    finds_nothing("a/tool/", path);
    finds_nothing("/", path);
    finds_nothing("a/", path);
}

TEST(an_empty_element_is_the_current_directory) {
    static const char *const forms[] = {"%s:", ":%s", "%s::/no/such"};
    const char *tool = make_program("tool", 0755), *other = make_directory("other", 0755);
    CHECK_INT(chdir(scratch()), 0);
    for (size_t i = 0; i < LENGTH(forms); i++) {
        char path[PATH_MAX];
        const char *place = strstr(forms[i], "%s");
        snprintf(path, sizeof path, "%.*s%s%s", (int)(place - forms[i]), forms[i], other,
                 place + 2);
        finds_file("tool", path, tool);
    }
    finds_file("tool", ".", tool);
    finds_nothing("tool", other);
}

TEST(elements_may_be_relative_or_end_with_a_slash) {
    char path[PATH_MAX];
    abc();
    make_program("b/tool", 0755);
    CHECK_INT(chdir(scratch()), 0);
    finds("tool", "a:b", "b/tool");
    snprintf(path, sizeof path, "%s/", scratch_path("b"));
    finds_file("tool", path, scratch_path("b/tool"));
}

TEST(directories_by_name_are_no_programs) {
    finds_nothing(".", abc());
    finds_nothing("..", "/bin");
}

TEST(the_result_fits_or_is_refused) {
    const char *path = abc();
    const char *tool = make_program("b/tool", 0755);
    size_t length = strlen(tool);
    char tight[PATH_MAX];
    memset(tight, '#', sizeof tight);
    CHECK_INT(QUIET(rdaemon_find_command("tool", path, tight, length + 1)), length);
    CHECK_STR(tight, tool);
    CHECK_INT(tight[length + 1], '#');
    for (size_t size = 0; size <= length; size++) {
        memset(tight, '#', sizeof tight);
        CHECK_INT(QUIET(rdaemon_find_command("tool", path, tight, size)), -ENAMETOOLONG);
        CHECK_INT(QUIET(rdaemon_find_command(tool, path, tight, size)), -ENAMETOOLONG);
        for (size_t i = 0; i < sizeof tight; i++)
            CHECK_INT(tight[i], '#');
    }
    CHECK_REFUSED(rdaemon_find_command("tool", path, NULL, 0), -ENAMETOOLONG);
}

TEST(names_that_are_too_long_are_refused) {
    static const size_t lengths[] = {NAME_MAX + 2, PATH_MAX, 5000, 100000};
    char *name = malloc(100001);
    for (size_t i = 0; i < LENGTH(lengths); i++) {
        memset(name, 'n', lengths[i]);
        name[lengths[i]] = '\0';
        CHECK_INT(find(name, "/bin:/usr/bin"), -ENAMETOOLONG);
        name[0] = '/';
        CHECK_INT(find(name, "/bin:/usr/bin"), -ENAMETOOLONG);
    }
    free(name);
}

TEST(a_search_for_nothing_is_refused) {
    CHECK_REFUSED(rdaemon_find_command(NULL, "/bin", found, sizeof found), -EINVAL);
    CHECK_REFUSED(rdaemon_find_command("", "/bin", found, sizeof found), -EINVAL);
    CHECK_REFUSED(rdaemon_find_command("sh", "/bin", NULL, 100), -EINVAL);
}

TEST(a_search_changes_nothing) {
    const char *path = abc();
    make_program("a/tool", 0755);
    CHECK_REFUSED(rdaemon_find_command("tool", path, found, sizeof found),
                  (int)strlen(scratch_path("a/tool")));
    CHECK_REFUSED(rdaemon_find_command("other", path, found, sizeof found), -ENOENT);
}

TEST(a_command_that_was_found_runs) {
    struct rdaemon_exit ended;
    CHECK_INT(setenv("PATH", "/no/such:/usr/bin:/bin", 1), 0);
    CHECK(find("true", NULL) > 0);
    Config config = {.argv = STRINGS("true"), .paths = STRINGS(found)};
    CHECK_INT(rdaemon_run(RDAEMON_SIZED(&config), NULL, 0, -1, RDAEMON_SIZED(&ended), NULL, 0), 0);
    check_exit(&ended, RDAEMON_EXIT_EXITED, 0);
}

/* ---- sudo ---- */

static const char *const hostile[] = {"-u", "root", "--",       "-n",       "A=B",      "two words",
                                      "'",  "\"",   "",         "; exit 9", "$(id -u)", "`exit`",
                                      "\\", "a\nb", "\xff\xfe", "*",        "!!",       "%s%n",
                                      "\t", "#0",   "--help",   "-",        "$HOME",    "\x01"};

TEST(sudo_gets_exactly_these_words) {
    const char *const argv[] = {"/bin/prog", "-x", "two words", NULL};
    const char *words[16];
    memset(words, 0xa5, sizeof words);
    CHECK_INT(QUIET(rdaemon_sudo_argv("nobody", argv, words, LENGTH(words))), 8);
    static const char *const expected[] = {"sudo", "-n", "-u", "nobody", "--"};
    for (size_t i = 0; i < LENGTH(expected); i++)
        CHECK_STR(words[i], expected[i]);
    for (size_t i = 0; i < 3; i++)
        CHECK(words[5 + i] == argv[i]);
    CHECK(words[8] == NULL);
    CHECK((uintptr_t)words[9] == (uintptr_t)0xa5a5a5a5a5a5a5a5);
}

TEST(sudo_gets_hostile_words_untouched) {
    const char *argv[LENGTH(hostile) + 1], *words[LENGTH(hostile) + 6];
    for (size_t first = 0; first < LENGTH(hostile); first++) {
        for (size_t i = 0; i < LENGTH(hostile); i++)
            argv[i] = hostile[(first + i) % LENGTH(hostile)];
        argv[LENGTH(hostile)] = NULL;
        CHECK_INT(QUIET(rdaemon_sudo_argv("user", argv, words, LENGTH(words))),
                  5 + LENGTH(hostile));
        for (size_t i = 0; i < LENGTH(hostile); i++)
            CHECK(words[5 + i] == argv[i]);
        CHECK(words[LENGTH(words) - 1] == NULL);
    }
}

TEST(words_for_sudo_fit_or_are_refused) {
    const char *const argv[] = {"prog", "argument", NULL};
    const char *words[8];
    CHECK_INT(QUIET(rdaemon_sudo_argv("nobody", argv, words, 8)), 7);
    for (size_t size = 0; size < 8; size++) {
        memset(words, 0xa5, sizeof words);
        CHECK_INT(QUIET(rdaemon_sudo_argv("nobody", argv, words, size)), -E2BIG);
        for (size_t i = size; i < LENGTH(words); i++)
            CHECK((uintptr_t)words[i] == (uintptr_t)0xa5a5a5a5a5a5a5a5);
    }
}

TEST(nobody_and_nothing_are_no_words_for_sudo) {
    const char *const argv[] = {"prog", NULL}, *const nothing[] = {NULL};
    const char *words[8];
    CHECK_REFUSED(rdaemon_sudo_argv("", argv, words, 8), -EINVAL);
    CHECK_REFUSED(rdaemon_sudo_argv(NULL, argv, words, 8), -EINVAL);
    CHECK_REFUSED(rdaemon_sudo_argv("nobody", NULL, words, 8), -EINVAL);
    CHECK_REFUSED(rdaemon_sudo_argv("nobody", nothing, words, 8), -EINVAL);
    CHECK_REFUSED(rdaemon_sudo_argv("nobody", argv, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_sudo_argv("nobody", argv, NULL, 8), -EINVAL);
}

static char said[8192];
static size_t said_length;

/* Runs it as nobody through the sudo of this system. */
static struct rdaemon_exit run_as_nobody(const char *const *argv, const char *input) {
    struct rdaemon_exit ended;
    const char *words[64];
    char sudo[PATH_MAX];
    if (rdaemon_find_command("sudo", "/usr/bin:/bin:/usr/local/bin", sudo, sizeof sudo) < 0)
        SKIP("there is no sudo here");
    CHECK(rdaemon_sudo_argv("nobody", argv, words, LENGTH(words)) > 0);
    Config config = {.argv = words,
                     .paths = STRINGS(sudo),
                     .working_directory = "/",
                     .streams[2] = {.action = RDAEMON_STREAM_NULL}};
    struct rdaemon_communication talk = {.input = input,
                                         .input_len = strlen(input),
                                         .outputs[0] = {.buffer = said, .size = sizeof said - 1}};
    CHECK_INT(QUIET(rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), 8000,
                                RDAEMON_SIZED(&ended), NULL, 0)),
              0);
    said_length = talk.outputs[0].len;
    said[said_length] = '\0';
    return ended;
}

static void require_sudo(void) {
    if (!getpwnam("nobody"))
        SKIP("there is no user nobody here");
    struct rdaemon_exit ended = run_as_nobody(STRINGS("/bin/sh", "-c", ":"), "");
    if (ended.wait_status != 0)
        SKIP("sudo does not let us run programs as nobody");
}

TEST(sudo_makes_it_another_user) {
    char expected[32];
    require_sudo();
    struct rdaemon_exit ended = run_as_nobody(STRINGS("id", "-u"), "");
    check_exit(&ended, RDAEMON_EXIT_EXITED, 0);
    snprintf(expected, sizeof expected, "%u\n", (unsigned)getpwnam("nobody")->pw_uid);
    CHECK_STR(said, expected);
}

TEST(sudo_passes_on_input_and_exit_status) {
    require_sudo();
    struct rdaemon_exit ended =
        run_as_nobody(STRINGS("sh", "-c", "cat; exit 41"), "from the caller");
    check_exit(&ended, RDAEMON_EXIT_EXITED, 41);
    CHECK_STR(said, "from the caller");
}

TEST(hostile_words_arrive_through_sudo) {
    const char *argv[4 + LENGTH(hostile) + 1] = {"sh", "-c", "printf '%s\\0' \"$@\"", "sh"};
    require_sudo();
    memcpy(argv + 4, hostile, sizeof hostile);
    struct rdaemon_exit ended = run_as_nobody(argv, "");
    check_exit(&ended, RDAEMON_EXIT_EXITED, 0);
    const char *next = said;
    for (size_t i = 0; i < LENGTH(hostile); i++) {
        CHECK_STR(next, hostile[i]);
        next += strlen(next) + 1;
    }
    CHECK_INT(next - said, said_length);
}

/* Before its "--" sudo takes such a word for the setting of a variable. */
TEST(a_program_with_an_equals_sign_runs_through_sudo) {
    require_sudo();
    const char *program = make_file("A=B", "#!/bin/sh\necho \"A is <$A>, $1\"\n");
    CHECK_INT(chmod(program, 0755), 0);
    struct rdaemon_exit ended = run_as_nobody(STRINGS(program, "C=D"), "");
    check_exit(&ended, RDAEMON_EXIT_EXITED, 0);
    CHECK_STR(said, "A is <>, C=D\n");
}

/* ---- pipelines ---- */

enum { STAGES = 3 };

static struct rdaemon_child stages[STAGES];

/* Each stage's output is the next one's input; the first input and the last output are ours. */
static void begin_pipeline(const Config *commands, uint32_t flags) {
    for (int i = 0; i < STAGES; i++) {
        Config config = commands[i];
        config.flags |= flags;
        config.streams[0] = (struct rdaemon_stream)PIPE;
        if (i > 0)
            config.streams[0] = fd_stream(stages[i - 1].fds[1]);
        config.streams[1] = (struct rdaemon_stream)PIPE;
        stages[i] = begin_program(&config);
        if (i > 0) {
            CHECK_INT(stages[i].fds[0], -1);
            close(stages[i - 1].fds[1]);
            stages[i - 1].fds[1] = -1;
        }
    }
}

/* Sends the input to the first stage, and returns what the last one said. */
static const char *converse(const char *input) {
    static char text[4096];
    struct rdaemon_communication request = {.input = input, .input_len = strlen(input)};
    struct rdaemon_communication answer = {.outputs[0] = {.buffer = text, .size = sizeof text - 1}};
    struct rdaemon_child *first = &stages[0], *last = &stages[STAGES - 1];
    CHECK_INT(QUIET(rdaemon_communicate(RDAEMON_SIZED(first), RDAEMON_SIZED(&request), -1)), 0);
    CHECK_INT(QUIET(rdaemon_communicate(RDAEMON_SIZED(last), RDAEMON_SIZED(&answer), -1)), 0);
    text[answer.outputs[0].len] = '\0';
    return text;
}

static void all_stages_succeed(void) {
    for (int i = 0; i < STAGES; i++) {
        exited_with(&stages[i], 0);
        CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&stages[i])), 0);
    }
    nothing_is_left(&stages[0]);
}

TEST(three_programs_in_a_row) {
    const Config commands[] = {{THE_PROGRAM("seq", "-f", "%.0f0", "1", "120")},
                               {THE_PROGRAM("cut", "-c", "1")},
                               {THE_PROGRAM("uniq", "-c")}};
    begin_pipeline(commands, 0);
    CHECK_STR(converse(""), "      1 1\n      1 2\n      1 3\n      1 4\n      1 5\n      1 6\n"
                            "      1 7\n      1 8\n      1 9\n     10 1\n     10 2\n     10 3\n"
                            "     10 4\n     10 5\n     10 6\n     10 7\n     10 8\n     10 9\n"
                            "     21 1\n");
    all_stages_succeed();
}

static const Config *cat_tr_wc(void) {
    static Config commands[STAGES];
    static const char *const cat[] = {"cat", NULL}, *const tr[] = {"tr", "a-z", "A-Z", NULL},
                             *const wc[] = {"wc", "-c", NULL};
    commands[0] = (Config){.argv = cat, .paths = program_paths("cat")};
    commands[1] = (Config){.argv = tr, .paths = program_paths("tr")};
    commands[2] = (Config){.argv = wc, .paths = program_paths("wc")};
    return commands;
}

/* How many of the process's fds are that file. */
static int holds(pid_t pid, const char *target) {
    int count = 0;
    for (int fd = 0; fd < 64; fd++)
        count += strcmp(fd_target(pid, fd), target) == 0;
    return count;
}

/* An end in a wrong process is an end of file that never comes. */
static void each_stage_holds_its_own_ends(uint32_t flags) {
    char first[64], last[64], targets[STAGES][2][64];
    begin_pipeline(cat_tr_wc(), flags);
    snprintf(first, sizeof first, "%s", fd_target(0, stages[0].fds[0]));
    snprintf(last, sizeof last, "%s", fd_target(0, stages[STAGES - 1].fds[1]));
    for (int i = 0; i < STAGES; i++)
        for (int fd = 0; fd < 2; fd++)
            snprintf(targets[i][fd], sizeof targets[i][fd], "%s", fd_target(stages[i].pid, fd));
    CHECK_STR(targets[0][0], first);
    CHECK_STR(targets[1][0], targets[0][1]);
    CHECK_STR(targets[2][0], targets[1][1]);
    CHECK_STR(targets[2][1], last);
    for (int i = 0; i < STAGES; i++)
        for (int j = 0; j < STAGES; j++)
            for (int fd = 0; fd < 2; fd++) {
                bool its_own = strcmp(targets[i][fd], targets[j][0]) == 0 ||
                               strcmp(targets[i][fd], targets[j][1]) == 0;
                CHECK_INT(holds(stages[j].pid, targets[i][fd]), its_own);
            }
    CHECK_INT(holds(0, first), 1);
    CHECK_INT(holds(0, last), 1);
    CHECK_STR(converse("twelve bytes"), "12\n");
    all_stages_succeed();
}

TEST(each_stage_of_a_pipeline_holds_its_own_ends) {
    each_stage_holds_its_own_ends(0);
}

TEST(each_stage_holds_its_own_ends_where_fds_are_kept) {
    each_stage_holds_its_own_ends(RDAEMON_SPAWN_KEEP_FDS);
}

TEST(the_end_of_one_stage_ends_those_before) {
    const Config commands[] = {
        {THE_PROGRAM("yes")}, {THE_PROGRAM("head", "-n", "2")}, {THE_PROGRAM("tr", "y", "n")}};
    begin_pipeline(commands, 0);
    CHECK_STR(converse(""), "n\nn\n");
    killed_by(&stages[0], SIGPIPE);
    exited_with(&stages[1], 0);
    exited_with(&stages[2], 0);
    for (int i = 0; i < STAGES; i++)
        CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&stages[i])), 0);
    nothing_is_left(&stages[0]);
}

/* What one thread has open while another one spawns must not reach the other's programs. */
static void *run_pipelines(void *cat) {
    const Config config = *(Config *)cat;
    for (int round = 0; round < 20; round++) {
        char byte = 0;
        struct rdaemon_child first = begin_program(&config);
        Config next = config;
        next.streams[0] = fd_stream(first.fds[1]);
        struct rdaemon_child second = begin_program(&next);
        close(first.fds[1]);
        first.fds[1] = -1;
        CHECK_INT(write(first.fds[0], "x", 1), 1);
        close(first.fds[0]);
        first.fds[0] = -1;
        CHECK_INT(read(second.fds[1], &byte, 1), 1);
        CHECK_INT(read(second.fds[1], &byte, 1), 0);
        exited_with(&first, 0);
        exited_with(&second, 0);
        CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&first)), 0);
        CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&second)), 0);
    }
    return NULL;
}

TEST(pipelines_of_several_threads_get_their_ends_of_file) {
    Config cat[] = {{THE_PROGRAM("cat"), .streams = {PIPE, PIPE}},
                    {THE_PROGRAM("cat"), .streams = {PIPE, PIPE}, .flags = RDAEMON_SPAWN_KEEP_FDS}};
    pthread_t threads[4];
    for (size_t i = 0; i < LENGTH(threads); i++)
        CHECK_INT(pthread_create(&threads[i], NULL, run_pipelines, &cat[i % 2]), 0);
    for (size_t i = 0; i < LENGTH(threads); i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST(a_filter_that_does_not_know_faccessat2_hides_no_command) {
    deny_syscall(SYS_faccessat2, EPERM);
    finds("sh", "/bin", "/bin/sh");
}
