/* Talking with a program over its three pipes. */
#include "rdaemon.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "child.h"
#include "probe.h"
#include "program.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

enum { KIB = 1024, MIB = 1024 * 1024, ALL_PIPES = 3 };

/* ---- bytes that are wrong when one is lost, doubled or moved ---- */

/* A prime, so that no multiple of a pipe's or a buffer's size fits in. */
enum { PERIOD = 65537 };

/* Where in the pattern the three streams begin. */
static const size_t phase[] = {0, 20000, 40000};

static const char *pattern(void) {
    static char bytes[2 * PERIOD];
    if (bytes[0] == 0) {
        uint32_t state = 1;
        for (size_t i = 0; i < PERIOD; i++) {
            state = state * 1664525 + 1013904223;
            bytes[i] = bytes[i + PERIOD] = (char)(state >> 24);
        }
        bytes[0] = bytes[PERIOD] = '!';
    }
    return bytes;
}

/* How much of it, up to `length`, is in one piece from `offset` on. */
static size_t piece(size_t offset, size_t length) {
    size_t left = 2 * PERIOD - offset % PERIOD;
    return length < left ? length : left;
}

static bool follows_pattern(const char *bytes, size_t length, size_t offset) {
    for (size_t part; length > 0; bytes += part, offset += part, length -= part) {
        part = piece(offset, length);
        if (memcmp(bytes, pattern() + offset % PERIOD, part) != 0)
            return false;
    }
    return true;
}

static const char *make_input(size_t length) {
    char *bytes = malloc(length), *next = bytes;
    CHECK(bytes);
    for (size_t part, offset = phase[0]; length > 0; next += part, offset += part, length -= part) {
        part = piece(offset, length);
        memcpy(next, pattern() + offset % PERIOD, part);
    }
    return bytes;
}

static void write_pattern(int fd, size_t offset, size_t length) {
    while (length > 0) {
        ssize_t put = write(fd, pattern() + offset % PERIOD, piece(offset, length));
        CHECK(put > 0);
        offset += (size_t)put;
        length -= (size_t)put;
    }
}

static void read_pattern(int fd, size_t offset, size_t length) {
    char bytes[64 * KIB];
    ssize_t got;
    while ((got = read(fd, bytes, sizeof bytes)) > 0) {
        CHECK(follows_pattern(bytes, (size_t)got, offset));
        offset += (size_t)got;
        CHECK((size_t)got <= length);
        length -= (size_t)got;
    }
    CHECK_INT(got, 0);
    CHECK_INT(length, 0);
}

/* ---- the programs ---- */

/* Reads and writes that many bytes, on all three streams at once. */
HELPER(flood) {
    size_t length = strtoul(arguments[0], NULL, 10);
    pid_t writers[2];
    for (int i = 0; i < 2; i++) {
        writers[i] = fork();
        if (writers[i] == 0) {
            close(0);
            close(2 - i);
            write_pattern(i + 1, phase[i + 1], length);
            _exit(0);
        }
    }
    close(1);
    close(2);
    read_pattern(0, phase[0], length);
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(waitpid(writers[i], &status, 0) == writers[i] && status == 0);
    }
    return 0;
}

/* Writes its first argument to standard output and its second to standard error. */
HELPER(say) {
    for (int i = 0; i < 2; i++)
        CHECK_INT(write(i + 1, arguments[i], strlen(arguments[i])), strlen(arguments[i]));
    return 0;
}

HELPER(say_one_and_later_two) {
    CHECK_INT(write(1, "one", 3), 3);
    await_valve();
    CHECK_INT(write(1, "two", 3), 3);
    return 0;
}

HELPER(read_late) {
    await_valve();
    read_pattern(0, phase[0], strtoul(arguments[0], NULL, 10));
    return 0;
}

HELPER(write_pattern_on_stdout) {
    write_pattern(1, phase[1], strtoul(arguments[0], NULL, 10));
    return 0;
}

HELPER(write_pattern_and_await_the_valve) {
    write_pattern(1, phase[1], strtoul(arguments[0], NULL, 10));
    await_valve();
    return 0;
}

HELPER(close_stdin) {
    close(0);
    CHECK_INT(write(1, "closed", 6), 6);
    return 7;
}

HELPER(close_stdout_and_await_the_valve) {
    close(1);
    await_valve();
    return 0;
}

HELPER(close_all_and_await_the_valve) {
    close(0);
    close(1);
    close(2);
    await_valve();
    return 5;
}

HELPER(await_the_valve) {
    await_valve();
    return 0;
}

HELPER(read_a_little_and_die) {
    char bytes[1000];
    CHECK(read(0, bytes, sizeof bytes) > 0);
    raise(SIGKILL);
    return 0;
}

HELPER(find_all_pipes_blocking) {
    for (int fd = 0; fd < 3; fd++)
        CHECK_INT(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    return 0;
}

/* Its own child keeps the three pipes until the valve opens. */
HELPER(leave_a_silent_grandchild) {
    if (fork() == 0) {
        await_valve();
        _exit(0);
    }
    write_pattern(1, phase[1], strtoul(arguments[0], NULL, 10));
    return 3;
}

/* Its own child writes until nobody reads. */
HELPER(leave_a_talking_grandchild) {
    if (fork() == 0)
        while (write(1, pattern(), 1000) > 0)
            continue;
    return 3;
}

/* ---- the conversation of a case ---- */

static struct rdaemon_child child;
static struct rdaemon_communication talk;

static int communicate(int timeout_ms) {
    return QUIET(rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&talk), timeout_ms));
}

/* With pipes for all streams whose action is the default. */
static void begin(Config config) {
    for (int i = 0; i < ALL_PIPES; i++)
        if (config.streams[i].action == RDAEMON_STREAM_DEFAULT)
            config.streams[i].action = RDAEMON_STREAM_PIPE;
    child = begin_program(&config);
    memset(&talk, 0, sizeof talk);
}

#define BEGIN(...) begin((Config){__VA_ARGS__})

static void await_output(int stream) {
    struct pollfd output = {.fd = child.fds[stream], .events = POLLIN};
    int ready;
    do
        ready = poll(&output, 1, -1);
    while (ready < 0 && errno == EINTR);
    CHECK_INT(ready, 1);
}

static void times_out(int timeout_ms) {
    double begun = now_ms();
    CHECK_INT(communicate(timeout_ms), -ETIMEDOUT);
    double took = now_ms() - begun;
    CHECK(took >= timeout_ms && took < timeout_ms + 3000);
}

static void ends_with(int status) {
    for (int i = 0; i < ALL_PIPES; i++)
        CHECK_INT(child.fds[i], -1);
    exited_with(&child, status);
    nothing_is_left(&child);
}

/* A sink that compares with the pattern. */
struct check {
    int stream;
    size_t taken;
};

static int compare(void *context, const char *bytes, size_t len) {
    struct check *check = context;
    CHECK(len > 0);
    CHECK(follows_pattern(bytes, len, phase[check->stream] + check->taken));
    check->taken += len;
    return 0;
}

/* A sink that collects, and a buffer of the same. */
struct text {
    size_t length;
    char bytes[MIB + 1];
};

static int collect(void *context, const char *bytes, size_t len) {
    struct text *text = context;
    CHECK(text->length + len <= MIB);
    memcpy(text->bytes + text->length, bytes, len);
    text->length += len;
    return 0;
}

/* ---- where pwritev2(2) does less than in the newest kernels ---- */

static void on_this_kernel(void) {
}

static void where_pwritev2_is_missing(void) {
    deny_syscall(SYS_pwritev2, ENOSYS);
}

static void where_its_flags_are_unknown(void) {
    deny_syscall(SYS_pwritev2, EOPNOTSUPP);
}

static void where_pwritev2_is_forbidden(void) {
    deny_syscall(SYS_pwritev2, EPERM);
}

#define TEST_EACH_WRITE(name)                                                                      \
    static void name(void);                                                                        \
    TEST(name##_on_this_kernel) {                                                                  \
        on_this_kernel();                                                                          \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_where_pwritev2_is_missing) {                                                       \
        where_pwritev2_is_missing();                                                               \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_where_its_flags_are_unknown) {                                                     \
        where_its_flags_are_unknown();                                                             \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_where_pwritev2_is_forbidden) {                                                     \
        where_pwritev2_is_forbidden();                                                             \
        name();                                                                                    \
    }                                                                                              \
    static void name(void)

/* ---- with a pidfd, and where there is none ---- */

static uint32_t spawn_flags;

#define TEST_EACH_WAIT(name)                                                                       \
    static void name(void);                                                                        \
    TEST(name##_with_a_pidfd) {                                                                    \
        spawn_flags = RDAEMON_SPAWN_PIDFD;                                                         \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_without_a_pidfd) {                                                                 \
        name();                                                                                    \
    }                                                                                              \
    TEST(name##_where_pidfd_open_is_denied) {                                                      \
        deny_syscall(SYS_pidfd_open, ENOSYS);                                                      \
        name();                                                                                    \
    }                                                                                              \
    static void name(void)

/* ---- much at once ---- */

static struct check checks[2] = {{.stream = 1}, {.stream = 2}};

static void begin_flood(size_t length) {
    char number[24];
    snprintf(number, sizeof number, "%zu", length);
    BEGIN(THE_HELPER(flood, number));
    talk.input = make_input(length);
    talk.input_len = length;
    for (int i = 0; i < 2; i++)
        talk.outputs[i] = (struct rdaemon_output){.sink = compare, .context = &checks[i]};
}

static void the_flood_is_over(size_t length) {
    CHECK_INT(talk.input_sent, length);
    CHECK_INT(checks[0].taken, length);
    CHECK_INT(checks[1].taken, length);
    ends_with(0);
}

static void exchange(size_t length) {
    begin_flood(length);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    the_flood_is_over(length);
}

TEST(sixty_four_mib_three_times_at_once, .time_limit_ms = 60000) {
    exchange(64 * MIB);
}

TEST(sixty_four_mib_three_times_at_once_where_pwritev2_is_missing, .time_limit_ms = 60000) {
    where_pwritev2_is_missing();
    exchange(64 * MIB);
}

TEST_EACH_WRITE(what_does_not_fit_into_pipes_is_no_deadlock) {
    exchange(MIB);
}

TEST(interrupted_calls_go_on) {
    begin_flood(4 * MIB);
    begin_signal_storm();
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    end_signal_storm();
    the_flood_is_over(4 * MIB);
}

TEST(a_conversation_in_many_short_calls_is_complete) {
    int result, calls = 0;
    begin_flood(4 * MIB);
    for (; (result = communicate(1)) == -ETIMEDOUT; calls++)
        CHECK(calls < 100000);
    CHECK_INT(result, RDAEMON_COMMUNICATE_DONE);
    the_flood_is_over(4 * MIB);
}

TEST(a_conversation_in_steps_that_do_not_block_is_complete) {
    int result;
    begin_flood(MIB);
    while ((result = communicate(0)) == -ETIMEDOUT) {
        struct pollfd ends[] = {{.fd = child.fds[0], .events = POLLOUT},
                                {.fd = child.fds[1], .events = POLLIN},
                                {.fd = child.fds[2], .events = POLLIN}};
        CHECK(poll(ends, LENGTH(ends), -1) > 0);
    }
    CHECK_INT(result, RDAEMON_COMMUNICATE_DONE);
    the_flood_is_over(MIB);
}

/* ---- the input ---- */

TEST_EACH_WRITE(cat_gives_back_what_it_gets) {
    static struct text text;
    BEGIN(THE_PROGRAM("cat"));
    talk.input = make_input(300 * KIB);
    talk.input_len = 300 * KIB;
    talk.outputs[0] = (struct rdaemon_output){.sink = collect, .context = &text};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(text.length, 300 * KIB);
    CHECK(follows_pattern(text.bytes, text.length, phase[0]));
    CHECK_INT(talk.input_sent, 300 * KIB);
    ends_with(0);
}

TEST(an_empty_input_is_an_end_of_file) {
    const char *const inputs[] = {NULL, ""};
    for (size_t i = 0; i < LENGTH(inputs); i++) {
        BEGIN(THE_PROGRAM("cat"));
        talk.input = inputs[i];
        CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
        ends_with(0);
    }
}

TEST(an_empty_input_closes_stdin_at_once) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(await_the_valve), GATE_MAP(valve));
    int stdin_end = child.fds[0];
    times_out(0);
    CHECK_INT(child.fds[0], -1);
    CHECK(!fd_is_open(stdin_end));
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    ends_with(0);
}

TEST(no_input_is_needed_without_a_pipe) {
    static struct text text;
    BEGIN(THE_HELPER(say, "out", "err"), .streams[0] = {.action = RDAEMON_STREAM_NULL});
    talk.outputs[0] = (struct rdaemon_output){.sink = collect, .context = &text};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_STR(text.bytes, "out");
    ends_with(0);
}

TEST(input_that_is_not_read_yet_is_sent_later) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(read_late, "1048576"), GATE_MAP(valve));
    talk.input = make_input(MIB);
    talk.input_len = MIB;
    times_out(0);
    times_out(40);
    CHECK(talk.input_sent > 0 && talk.input_sent < MIB);
    size_t sent = talk.input_sent;
    times_out(20);
    CHECK_INT(talk.input_sent, sent); /* the pipe is full */
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(talk.input_sent, MIB);
    ends_with(0);
}

/* ---- a program that does not read its input: no error, and no SIGPIPE ---- */

static volatile sig_atomic_t sigpipes;

static void count_sigpipe(int signal_number) {
    (void)signal_number;
    sigpipes++;
}

static void block_sigpipe(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    CHECK_INT(sigprocmask(how, &set, NULL), 0);
}

static bool sigpipe_is_pending(void) {
    sigset_t set;
    CHECK_INT(sigpending(&set), 0);
    return sigismember(&set, SIGPIPE);
}

static void input_that_nobody_reads_is_no_error(void) {
    struct sigaction before = {0}, after = {0};
    static struct text text;
    static sigset_t mask_before, mask_after;
    memset(&text, 0, sizeof text);
    BEGIN(THE_HELPER(close_stdin));
    talk.input = make_input(MIB);
    talk.input_len = MIB;
    talk.outputs[0] = (struct rdaemon_output){.sink = collect, .context = &text};
    bool was_pending = sigpipe_is_pending();
    sigaction(SIGPIPE, NULL, &before);
    sigprocmask(SIG_SETMASK, NULL, &mask_before);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    sigaction(SIGPIPE, NULL, &after);
    sigprocmask(SIG_SETMASK, NULL, &mask_after);
    CHECK(before.sa_handler == after.sa_handler && before.sa_flags == after.sa_flags);
    CHECK(memcmp(&mask_before, &mask_after, sizeof mask_before) == 0);
    CHECK_INT(sigpipe_is_pending(), was_pending);
    CHECK_INT(sigpipes, 0);
    CHECK(talk.input_sent < MIB);
    CHECK_STR(text.bytes, "closed");
    ends_with(7);
}

TEST_EACH_WRITE(rule_6_2_no_sigpipe_kills_the_caller) {
    input_that_nobody_reads_is_no_error();
}

TEST_EACH_WRITE(rule_6_2_no_sigpipe_reaches_a_handler) {
    struct sigaction action = {.sa_handler = count_sigpipe, .sa_flags = SA_RESTART | SA_NODEFER};
    sigaction(SIGPIPE, &action, NULL);
    input_that_nobody_reads_is_no_error();
}

TEST_EACH_WRITE(rule_6_2_an_ignored_sigpipe_stays_ignored) {
    signal(SIGPIPE, SIG_IGN);
    input_that_nobody_reads_is_no_error();
}

TEST_EACH_WRITE(rule_6_2_a_blocked_sigpipe_is_not_pending_afterwards) {
    block_sigpipe(SIG_BLOCK);
    input_that_nobody_reads_is_no_error();
}

TEST_EACH_WRITE(rule_6_2_a_pending_sigpipe_of_the_callers_own_survives) {
    signal(SIGPIPE, count_sigpipe);
    block_sigpipe(SIG_BLOCK);
    raise(SIGPIPE);
    input_that_nobody_reads_is_no_error();
    block_sigpipe(SIG_UNBLOCK);
    CHECK_INT(sigpipes, 1);
}

TEST_EACH_WRITE(rule_6_2_a_pending_sigpipe_of_the_process_survives) {
    signal(SIGPIPE, count_sigpipe);
    block_sigpipe(SIG_BLOCK);
    kill(getpid(), SIGPIPE);
    input_that_nobody_reads_is_no_error();
    block_sigpipe(SIG_UNBLOCK);
    CHECK(sigpipes >= 1);
}

TEST_EACH_WRITE(a_program_that_dies_while_it_reads_is_no_error) {
    BEGIN(THE_HELPER(read_a_little_and_die));
    talk.input = make_input(MIB);
    talk.input_len = MIB;
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    killed_by(&child, SIGKILL);
    nothing_is_left(&child);
}

/* ---- buffers ---- */

static void take_into_buffers_of(size_t size, size_t total) {
    static char bytes[2][4096];
    static struct text texts[2];
    int result, turns = 0;
    memset(texts, 0, sizeof texts);
    for (int i = 0; i < 2; i++)
        talk.outputs[i] = (struct rdaemon_output){.buffer = bytes[i], .size = size};
    do {
        result = communicate(-1);
        CHECK(result >= 0 && result <= 3);
        for (int i = 0; i < 2; i++) {
            CHECK(talk.outputs[i].len <= size);
            if (result >> i & 1)
                CHECK_INT(talk.outputs[i].len, size);
            if (result >> i & 1 || result == RDAEMON_COMMUNICATE_DONE) {
                collect(&texts[i], bytes[i], talk.outputs[i].len);
                talk.outputs[i].len = 0;
            }
        }
        CHECK(turns++ < 10000);
    } while (result != RDAEMON_COMMUNICATE_DONE);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(texts[i].length, total);
        CHECK(follows_pattern(texts[i].bytes, total, phase[i + 1]));
    }
}

TEST(rule_6_3_full_buffers_are_emptied_and_nothing_is_lost) {
    static const size_t sizes[] = {1, 7, 999, 4096};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        BEGIN(THE_HELPER(flood, "3000"));
        talk.input = make_input(3000);
        talk.input_len = 3000;
        take_into_buffers_of(sizes[i], 3000);
        CHECK_INT(talk.input_sent, 3000);
        ends_with(0);
    }
}

TEST(a_full_buffer_does_not_stop_the_input_for_good) {
    static char bytes[1000];
    static struct text text;
    int result;
    BEGIN(THE_PROGRAM("cat"));
    talk.input = make_input(300 * KIB);
    talk.input_len = 300 * KIB;
    talk.outputs[0] = (struct rdaemon_output){.buffer = bytes, .size = sizeof bytes};
    while ((result = communicate(-1)) == RDAEMON_COMMUNICATE_STDOUT_FULL) {
        collect(&text, bytes, sizeof bytes);
        talk.outputs[0].len = 0;
    }
    CHECK_INT(result, RDAEMON_COMMUNICATE_DONE);
    collect(&text, bytes, talk.outputs[0].len);
    CHECK_INT(text.length, 300 * KIB);
    CHECK(follows_pattern(text.bytes, text.length, phase[0]));
    ends_with(0);
}

TEST(a_buffer_may_be_emptied_in_part) {
    static char bytes[100];
    size_t taken = 0;
    int result;
    BEGIN(THE_HELPER(write_pattern_on_stdout, "1001"));
    talk.outputs[0] = (struct rdaemon_output){.buffer = bytes, .size = sizeof bytes};
    while ((result = communicate(-1)) == RDAEMON_COMMUNICATE_STDOUT_FULL) {
        CHECK(follows_pattern(bytes, 60, phase[1] + taken));
        taken += 60;
        memmove(bytes, bytes + 60, 40);
        talk.outputs[0].len = 40;
    }
    CHECK_INT(result, RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(taken + talk.outputs[0].len, 1001);
    CHECK(follows_pattern(bytes, talk.outputs[0].len, phase[1] + taken));
    ends_with(0);
}

TEST(a_buffer_of_the_exact_size_is_not_full) {
    static char bytes[70000];
    static const char *const lengths[] = {"1", "4096", "65536", "70000"};
    for (size_t i = 0; i < LENGTH(lengths); i++) {
        size_t length = strtoul(lengths[i], NULL, 10);
        BEGIN(THE_HELPER(write_pattern_on_stdout, lengths[i]));
        talk.outputs[0] = (struct rdaemon_output){.buffer = bytes, .size = length};
        CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
        CHECK_INT(talk.outputs[0].len, length);
        CHECK(follows_pattern(bytes, length, phase[1]));
        ends_with(0);
    }
}

TEST(a_buffer_is_full_only_when_there_is_more) {
    static char bytes[3];
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(say_one_and_later_two), GATE_MAP(valve));
    talk.outputs[0] = (struct rdaemon_output){.buffer = bytes, .size = sizeof bytes};
    await_output(1);
    times_out(0);
    CHECK_INT(talk.outputs[0].len, 3);
    times_out(30);
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_STDOUT_FULL);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_STDOUT_FULL);
    CHECK(memcmp(bytes, "one", 3) == 0);
    talk.outputs[0].len = 0;
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK(memcmp(bytes, "two", 3) == 0);
    ends_with(0);
}

TEST(a_buffer_without_room_is_full_at_the_first_byte) {
    static char bytes[8];
    BEGIN(THE_HELPER(say, "", "error"));
    talk.outputs[1] = (struct rdaemon_output){.buffer = bytes, .size = 0};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_STDERR_FULL);
    talk.outputs[1].size = 5;
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_STR(bytes, "error");
    ends_with(0);
}

TEST(what_nobody_wants_is_discarded) {
    BEGIN(THE_HELPER(flood, "1048576"));
    talk.input = make_input(MIB);
    talk.input_len = MIB;
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(talk.outputs[0].len, 0);
    CHECK_INT(talk.outputs[1].len, 0);
    ends_with(0);
}

TEST(one_output_may_be_kept_and_the_other_discarded) {
    static char bytes[1000];
    BEGIN(THE_HELPER(flood, "1000"));
    talk.input = make_input(1000);
    talk.input_len = 1000;
    talk.outputs[1] = (struct rdaemon_output){.buffer = bytes, .size = sizeof bytes};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(talk.outputs[1].len, 1000);
    CHECK(follows_pattern(bytes, 1000, phase[2]));
    ends_with(0);
}

/* ---- sinks that fail ---- */

struct failing {
    struct text text;
    int answer;
};

static int collect_and_answer(void *context, const char *bytes, size_t len) {
    struct failing *failing = context;
    collect(&failing->text, bytes, len);
    return failing->answer;
}

static void the_sink_answers(int answer, int expected) {
    static struct failing failing;
    struct valve valve = valve_new();
    memset(&failing, 0, sizeof failing);
    failing.answer = answer;
    BEGIN(THE_HELPER(say_one_and_later_two), GATE_MAP(valve));
    talk.outputs[0] = (struct rdaemon_output){.sink = collect_and_answer, .context = &failing};
    CHECK_INT(communicate(-1), expected);
    CHECK_STR(failing.text.bytes, "one");
    times_out(20);
    failing.answer = 0;
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_STR(failing.text.bytes, "onetwo");
    ends_with(0);
}

TEST(the_error_of_a_sink_ends_the_call_and_nothing_is_lost) {
    the_sink_answers(-EIO, -EIO);
    the_sink_answers(-EAGAIN, -EAGAIN);
}

TEST(any_other_answer_of_a_sink_is_ecanceled) {
    static const int answers[] = {1, 2, EIO, INT_MAX, INT_MIN, -100000};
    for (size_t i = 0; i < LENGTH(answers); i++)
        the_sink_answers(answers[i], -ECANCELED);
}

/* ---- time ---- */

TEST(rule_6_3_what_came_before_the_time_was_up_is_kept) {
    static char bytes[16];
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(say_one_and_later_two), GATE_MAP(valve));
    talk.outputs[0] = (struct rdaemon_output){.buffer = bytes, .size = sizeof bytes};
    await_output(1);
    times_out(50);
    CHECK_INT(talk.outputs[0].len, 3);
    CHECK(memcmp(bytes, "one", 3) == 0);
    valve_open(&valve);
    CHECK_INT(communicate(60000), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(talk.outputs[0].len, 6);
    CHECK(memcmp(bytes, "onetwo", 6) == 0);
    ends_with(0);
}

TEST(interrupted_calls_last_as_long_as_asked) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(await_the_valve), GATE_MAP(valve));
    begin_signal_storm();
    times_out(100);
    CHECK(signals_of_the_storm() > 10);
    end_signal_storm();
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    ends_with(0);
}

/* A sink that returns when there is more again. */
static int await_more(void *context, const char *bytes, size_t len) {
    (void)bytes;
    *(size_t *)context += len;
    await_output(1);
    return 0;
}

TEST(a_program_that_never_stops_talking_does_not_outtalk_the_limit) {
    size_t taken = 0;
    BEGIN(THE_HELPER(leave_a_talking_grandchild));
    talk.outputs[0] = (struct rdaemon_output){.sink = await_more, .context = &taken};
    times_out(0);
    times_out(50);
    CHECK(taken > 0);
    exited_with(&child, 3);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    reap_orphans();
    nothing_is_left(&child);
}

/* ---- an event loop of the caller's own ---- */

TEST(several_programs_share_one_event_loop) {
    enum { PROGRAMS = 5, SIZE = 200 * KIB };
    static struct rdaemon_child children[PROGRAMS];
    static struct rdaemon_communication talks[PROGRAMS];
    static struct text texts[PROGRAMS];
    const char *input = make_input(SIZE + PROGRAMS);
    for (int i = 0; i < PROGRAMS; i++) {
        BEGIN(THE_PROGRAM("cat"), .streams[2] = {.action = RDAEMON_STREAM_INHERIT});
        children[i] = child;
        talks[i].input = input + i;
        talks[i].input_len = SIZE;
        talks[i].outputs[0] = (struct rdaemon_output){.sink = collect, .context = &texts[i]};
    }
    for (int running = PROGRAMS; running > 0;) {
        struct pollfd ends[2 * PROGRAMS];
        for (int i = 0; i < PROGRAMS; i++) {
            ends[2 * i] = (struct pollfd){.fd = children[i].fds[0], .events = POLLOUT};
            ends[2 * i + 1] = (struct pollfd){.fd = children[i].fds[1], .events = POLLIN};
        }
        CHECK(poll(ends, LENGTH(ends), -1) > 0);
        for (int i = 0; i < PROGRAMS; i++) {
            if (ends[2 * i].revents == 0 && ends[2 * i + 1].revents == 0)
                continue;
            size_t before = talks[i].input_sent + texts[i].length;
            int result = QUIET(
                rdaemon_communicate(RDAEMON_SIZED(&children[i]), RDAEMON_SIZED(&talks[i]), 0));
            CHECK(result == -ETIMEDOUT || result == RDAEMON_COMMUNICATE_DONE);
            running -= result == RDAEMON_COMMUNICATE_DONE;
            if (result == -ETIMEDOUT) /* what poll(2) promised was taken */
                CHECK(talks[i].input_sent + texts[i].length > before);
        }
    }
    for (int i = 0; i < PROGRAMS; i++) {
        CHECK_INT(texts[i].length, SIZE);
        CHECK(follows_pattern(texts[i].bytes, SIZE, (size_t)i));
        exited_with(&children[i], 0);
        CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&children[i])), 0);
    }
    nothing_is_left(&children[0]);
}

TEST_EACH_WRITE(a_step_never_blocks) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(await_the_valve), GATE_MAP(valve));
    talk.input = make_input(MIB);
    talk.input_len = MIB;
    for (int i = 0; i < 100; i++)
        CHECK_INT(communicate(0), -ETIMEDOUT);
    CHECK(talk.input_sent > 0 && talk.input_sent < MIB);
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    ends_with(0);
}

/* ---- the pipes ---- */

static int non_blocking(void) {
    int bits = 0;
    for (int i = 0; i < ALL_PIPES; i++)
        if (child.fds[i] >= 0 && fcntl(child.fds[i], F_GETFL) & O_NONBLOCK)
            bits |= 1 << i;
    return bits;
}

/* A sink during whose call, as at any time, the pipes must block, or not, as they did. One that has
 * ended may be closed before the handle tells. */
static int look_at_the_pipes(void *context, const char *bytes, size_t len) {
    (void)bytes, (void)len;
    for (int i = 0; i < ALL_PIPES; i++) {
        int flags = child.fds[i] < 0 ? -1 : fcntl(child.fds[i], F_GETFL);
        if (flags >= 0)
            CHECK_INT(flags & O_NONBLOCK, *(int *)context);
    }
    return 0;
}

TEST_EACH_WRITE(rule_6_2_the_pipes_stay_blocking) {
    int flags = 0;
    BEGIN(THE_HELPER(find_all_pipes_blocking));
    CHECK_INT(non_blocking(), 0);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    ends_with(0);

    BEGIN(THE_HELPER(flood, "1048576"));
    talk.input = make_input(MIB);
    talk.input_len = MIB;
    for (int i = 0; i < 2; i++)
        talk.outputs[i] = (struct rdaemon_output){.sink = look_at_the_pipes, .context = &flags};
    CHECK_INT(communicate(0), -ETIMEDOUT);
    CHECK_INT(non_blocking(), 0);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    ends_with(0);
}

TEST_EACH_WRITE(pipes_that_do_not_block_will_do) {
    int flags = O_NONBLOCK;
    begin_flood(MIB);
    for (int i = 0; i < ALL_PIPES; i++)
        CHECK_INT(fcntl(child.fds[i], F_SETFL, fcntl(child.fds[i], F_GETFL) | O_NONBLOCK), 0);
    talk.outputs[1] = (struct rdaemon_output){.sink = look_at_the_pipes, .context = &flags};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    checks[1].taken = MIB;
    the_flood_is_over(MIB);
}

TEST(a_pipe_is_closed_when_its_other_end_is) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(close_stdout_and_await_the_valve), GATE_MAP(valve));
    int stdout_end = child.fds[1], stderr_end = child.fds[2];
    await_output(1);
    times_out(0);
    CHECK_INT(child.fds[1], -1);
    CHECK(!fd_is_open(stdout_end));
    CHECK_INT(child.fds[2], stderr_end);
    CHECK(fd_is_open(stderr_end));
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    ends_with(0);
}

TEST(an_end_that_the_caller_has_closed_is_ebadf) {
    for (int i = 1; i < ALL_PIPES; i++) {
        BEGIN(THE_HELPER(say, "", ""));
        close(child.fds[i]);
        CHECK_INT(communicate(-1), -EBADF);
        child.fds[i] = -1;
        CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
        CHECK_INT(rdaemon_child_wait(RDAEMON_SIZED(&child), -1, NULL, 0), 0);
        nothing_is_left(&child);
    }
}

TEST(without_pipes_all_is_said) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(close_all_and_await_the_valve), GATE_MAP(valve),
          .streams = {{.action = RDAEMON_STREAM_NULL},
                      {.action = RDAEMON_STREAM_NULL},
                      {.action = RDAEMON_STREAM_NULL}});
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(communicate(0), RDAEMON_COMMUNICATE_DONE);
    CHECK(process_state(child.pid) != 'X');
    valve_open(&valve);
    ends_with(5);
}

TEST(any_of_the_pipes_may_be_missing) {
    for (int pipes = 0; pipes < 8; pipes++) {
        static char bytes[2][16];
        Config config = {THE_HELPER(say, "out", "err")};
        for (int i = 0; i < ALL_PIPES; i++)
            config.streams[i].action = pipes >> i & 1 ? RDAEMON_STREAM_PIPE : RDAEMON_STREAM_NULL;
        begin(config);
        for (int i = 0; i < 2; i++)
            talk.outputs[i] = (struct rdaemon_output){.buffer = bytes[i], .size = sizeof bytes[i]};
        CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
        CHECK_INT(talk.outputs[0].len, pipes & 2 ? 3 : 0);
        CHECK_INT(talk.outputs[1].len, pipes & 4 ? 3 : 0);
        CHECK(memcmp(bytes[0], "out", talk.outputs[0].len) == 0);
        CHECK(memcmp(bytes[1], "err", talk.outputs[1].len) == 0);
        ends_with(0);
    }
}

TEST(one_pipe_serves_both_outputs) {
    static struct text text;
    BEGIN(THE_HELPER(say, "out", "err"), .streams[2] = {.action = RDAEMON_STREAM_SAME_AS_STDOUT});
    CHECK_INT(child.fds[2], -1);
    talk.outputs[0] = (struct rdaemon_output){.sink = collect, .context = &text};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_STR(text.bytes, "outerr");
    ends_with(0);
}

/* ---- until the program has ended ---- */

TEST_EACH_WAIT(pipes_that_a_grandchild_holds_open_are_waited_for) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(leave_a_silent_grandchild, "1000"), GATE_MAP(valve), .flags = spawn_flags);
    talk.outputs[0] = (struct rdaemon_output){.sink = compare, .context = &checks[0]};
    wait_for_state(child.pid, 'Z');
    times_out(0);
    times_out(30);
    CHECK_INT(checks[0].taken, 1000);
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    exited_with(&child, 3);
    reap_orphans();
    ends_with(3);
}

static void the_status_is_known(int status) {
    struct rdaemon_exit ended;
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&child), 0, RDAEMON_SIZED(&ended))), 0);
    check_exit(&ended, RDAEMON_EXIT_EXITED, status);
    CHECK_INT(process_state(child.pid), 'X');
    for (int i = 0; i < ALL_PIPES; i++)
        CHECK_INT(child.fds[i], -1);
}

static void the_grandchild_ends(struct valve *valve) {
    valve_open(valve);
    reap_orphans();
    nothing_is_left(&child);
}

/* What it wrote last must be read, although it has ended by then. */
TEST_EACH_WAIT(until_exit_does_not_wait_for_a_grandchild) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(leave_a_silent_grandchild, "60000"), GATE_MAP(valve), .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.outputs[0] = (struct rdaemon_output){.sink = compare, .context = &checks[0]};
    wait_for_state(child.pid, 'Z');
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(checks[0].taken, 60000);
    the_status_is_known(3);
    the_grandchild_ends(&valve);
}

TEST_EACH_WAIT(until_exit_sees_the_end_while_it_waits) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(leave_a_silent_grandchild, "400000"), GATE_MAP(valve), .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.outputs[0] = (struct rdaemon_output){.sink = compare, .context = &checks[0]};
    CHECK_INT(communicate(60000), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(checks[0].taken, 400000);
    the_status_is_known(3);
    the_grandchild_ends(&valve);
}

TEST_EACH_WAIT(until_exit_works_in_steps) {
    static char bytes[1000];
    struct valve valve = valve_new();
    size_t taken = 0;
    int result;
    BEGIN(THE_HELPER(leave_a_silent_grandchild, "60000"), GATE_MAP(valve), .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.outputs[0] = (struct rdaemon_output){.buffer = bytes, .size = sizeof bytes};
    wait_for_state(child.pid, 'Z');
    do {
        result = communicate(0);
        CHECK(result == RDAEMON_COMMUNICATE_DONE || result == RDAEMON_COMMUNICATE_STDOUT_FULL ||
              result == -ETIMEDOUT);
        CHECK(follows_pattern(bytes, talk.outputs[0].len, phase[1] + taken));
        taken += talk.outputs[0].len;
        talk.outputs[0].len = 0;
    } while (result != RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(taken, 60000);
    the_status_is_known(3);
    the_grandchild_ends(&valve);
}

TEST_EACH_WAIT(until_exit_gives_up_input_that_nobody_reads) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(leave_a_silent_grandchild, "1"), GATE_MAP(valve), .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.input = make_input(MIB);
    talk.input_len = MIB;
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK(talk.input_sent < MIB);
    the_status_is_known(3);
    the_grandchild_ends(&valve);
}

TEST_EACH_WAIT(until_exit_ends_although_a_grandchild_talks_on) {
    size_t taken = 0;
    BEGIN(THE_HELPER(leave_a_talking_grandchild), .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.outputs[0] = (struct rdaemon_output){.sink = await_more, .context = &taken};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    the_status_is_known(3);
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    reap_orphans();
    nothing_is_left(&child);
}

TEST_EACH_WAIT(until_exit_waits_for_the_exit_when_the_pipes_are_closed) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(close_all_and_await_the_valve), GATE_MAP(valve), .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    await_output(1);
    await_output(2);
    times_out(0);
    times_out(30);
    CHECK_INT(child.fds[1], -1);
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    the_status_is_known(5);
    ends_with(5);
}

TEST_EACH_WAIT(until_exit_times_out_while_the_program_lives) {
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(write_pattern_and_await_the_valve, "500"), GATE_MAP(valve),
          .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.outputs[0] = (struct rdaemon_output){.sink = compare, .context = &checks[0]};
    await_output(1);
    times_out(0);
    times_out(40);
    CHECK_INT(checks[0].taken, 500);
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    the_status_is_known(0);
    nothing_is_left(&child);
}

TEST_EACH_WAIT(until_exit_needs_no_status) {
    struct rdaemon_exit ended;
    struct valve valve = valve_new();
    signal(SIGCHLD, SIG_IGN);
    BEGIN(THE_HELPER(write_pattern_and_await_the_valve, "500"), GATE_MAP(valve),
          .flags = spawn_flags);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.outputs[0] = (struct rdaemon_output){.sink = compare, .context = &checks[0]};
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(checks[0].taken, 500);
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&child), 0, RDAEMON_SIZED(&ended))), -ECHILD);
    nothing_is_left(&child);
}

TEST(until_exit_sees_the_end_of_a_detached_program) {
    struct rdaemon_exit ended;
    BEGIN(THE_HELPER(write_pattern_on_stdout, "400000"), .flags = RDAEMON_SPAWN_DETACHED);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk.outputs[0] = (struct rdaemon_output){.sink = compare, .context = &checks[0]};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(checks[0].taken, 400000);
    CHECK_INT(QUIET(rdaemon_child_wait(RDAEMON_SIZED(&child), 0, RDAEMON_SIZED(&ended))), -ECHILD);
    CHECK_INT(wait_for_exit(child.pid), 0); /* the case has adopted it */
    nothing_is_left(&child);
}

TEST(until_exit_moves_as_much_as_ever) {
    begin_flood(4 * MIB);
    talk.flags = RDAEMON_COMMUNICATE_UNTIL_EXIT;
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(checks[0].taken, 4 * MIB);
    CHECK_INT(checks[1].taken, 4 * MIB);
    the_status_is_known(0);
    nothing_is_left(&child);
}

/* ---- universal newlines ---- */

static const char *const texts_with_newlines[] = {
    "",     "\r",     "\n",     "\r\n",         "\n\r",
    "\r\r", "\r\r\n", "\r\n\r", "\r\n\r\n",     "\n\n",
    "ab\r", "ab\r\n", "a\rb\n", "a\r\nb\rc\nd", "one\r\r\ntwo\n\rthree\r\n\nfour\r"};

/* What it must become. */
static const char *translated(const char *text) {
    static char bytes[64];
    size_t length = 0;
    for (const char *next = text; *next; next++)
        if (*next != '\r')
            bytes[length++] = *next;
        else if (next[1] != '\n')
            bytes[length++] = '\n';
    bytes[length] = '\0';
    return bytes;
}

static struct text received;

/* cat(1), whose input is in the test's hand. Returns the end to write to. */
static int begin_cat(uint32_t flags) {
    int feed[2];
    CHECK_INT(pipe2(feed, O_CLOEXEC), 0);
    BEGIN(THE_PROGRAM("cat"), .streams = {fd_stream(feed[0]), PIPE, PIPE});
    close(feed[0]);
    memset(&received, 0, sizeof received);
    talk.flags = flags;
    talk.outputs[0] = (struct rdaemon_output){.sink = collect, .context = &received};
    return feed[1];
}

static void feed_cat(int feed, const char *text, size_t length) {
    int left;
    if (length == 0)
        return;
    CHECK_INT(write(feed, text, length), length);
    await_output(1);
    times_out(0);
    CHECK_INT(ioctl(child.fds[1], FIONREAD, &left), 0);
    CHECK_INT(left, 0);
}

static void cat_has_said(int feed, const char *expected) {
    close(feed);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    received.bytes[received.length] = '\0';
    CHECK_STR(received.bytes, expected);
    ends_with(0);
}

TEST(rule_6_4_newlines_split_across_reads_at_every_place) {
    for (size_t i = 0; i < LENGTH(texts_with_newlines); i++) {
        const char *text = texts_with_newlines[i];
        size_t length = strlen(text);
        for (size_t place = 0; place <= length; place++) {
            int feed = begin_cat(RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES);
            feed_cat(feed, text, place);
            feed_cat(feed, text + place, length - place);
            cat_has_said(feed, translated(text));
        }
    }
}

TEST(rule_6_4_newlines_that_arrive_byte_by_byte) {
    for (size_t i = 0; i < LENGTH(texts_with_newlines); i++) {
        int feed = begin_cat(RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES);
        for (const char *byte = texts_with_newlines[i]; *byte; byte++)
            feed_cat(feed, byte, 1);
        cat_has_said(feed, translated(texts_with_newlines[i]));
    }
}

TEST(without_the_flag_newlines_are_as_they_come) {
    for (size_t i = 0; i < LENGTH(texts_with_newlines); i++) {
        int feed = begin_cat(0);
        feed_cat(feed, texts_with_newlines[i], strlen(texts_with_newlines[i]));
        cat_has_said(feed, texts_with_newlines[i]);
    }
}

static void take_into_a_buffer_of(size_t size, const char *text, uint32_t flags,
                                  const char *expected) {
    char bytes[8];
    int result, feed = begin_cat(flags);
    CHECK_INT(write(feed, text, strlen(text)), strlen(text));
    close(feed);
    talk.outputs[0] = (struct rdaemon_output){.buffer = bytes, .size = size};
    int turns = 0;
    do {
        result = communicate(-1);
        CHECK(result == RDAEMON_COMMUNICATE_DONE || result == RDAEMON_COMMUNICATE_STDOUT_FULL);
        CHECK(result == RDAEMON_COMMUNICATE_DONE || talk.outputs[0].len == size);
        collect(&received, bytes, talk.outputs[0].len);
        talk.outputs[0].len = 0;
        CHECK(turns++ < 100);
    } while (result != RDAEMON_COMMUNICATE_DONE);
    received.bytes[received.length] = '\0';
    CHECK_STR(received.bytes, expected);
    ends_with(0);
}

TEST(newlines_in_buffers_of_every_size) {
    for (size_t i = 0; i < LENGTH(texts_with_newlines); i++) {
        const char *text = texts_with_newlines[i];
        for (size_t size = 1; size <= 4; size++)
            take_into_a_buffer_of(size, text, RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES,
                                  translated(text));
    }
}

TEST(the_two_outputs_have_newlines_of_their_own) {
    static struct text texts[2];
    BEGIN(THE_HELPER(say, "out\r", "\nerr\r"));
    talk.flags = RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES;
    for (int i = 0; i < 2; i++)
        talk.outputs[i] = (struct rdaemon_output){.sink = collect, .context = &texts[i]};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_STR(texts[0].bytes, "out\n");
    CHECK_STR(texts[1].bytes, "\nerr\n");
    ends_with(0);
}

/* Every third byte is of a newline, and every byte may be the last of a read. */
TEST(many_newlines) {
    static char raw[512 * KIB], expected[512 * KIB];
    size_t length = 0;
    const char *bytes = pattern();
    for (size_t i = 0; i < sizeof raw; i++) {
        unsigned char byte = (unsigned char)bytes[i % PERIOD];
        raw[i] = byte < 64 ? '\r' : byte < 128 ? '\n' : (char)byte;
    }
    for (size_t i = 0; i < sizeof raw; i++)
        if (raw[i] != '\r')
            expected[length++] = raw[i];
        else if (i + 1 == sizeof raw || raw[i + 1] != '\n')
            expected[length++] = '\n';
    BEGIN(THE_PROGRAM("cat"));
    talk.flags = RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES;
    talk.input = raw;
    talk.input_len = sizeof raw;
    talk.outputs[0] = (struct rdaemon_output){.sink = collect, .context = &received};
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    CHECK_INT(received.length, length);
    CHECK(memcmp(received.bytes, expected, length) == 0);
    ends_with(0);
}

/* ---- bad input ---- */

TEST(bad_input_is_refused) {
    static char bytes[8];
    struct valve valve = valve_new();
    BEGIN(THE_HELPER(await_the_valve), GATE_MAP(valve));
    struct rdaemon_communication good = talk;
#define REFUSED(...)                                                                               \
    do {                                                                                           \
        talk = good;                                                                               \
        __VA_ARGS__;                                                                               \
        CHECK_REFUSED(rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&talk), 0),         \
                      -EINVAL);                                                                    \
    } while (0)
    REFUSED(talk.flags = 4);
    REFUSED(talk.flags = 1u << 31);
    REFUSED(talk.input_len = 1);
    REFUSED(talk.input = "in"; talk.input_len = 2; talk.input_sent = 3);
    REFUSED(talk.outputs[0].size = 1);
    REFUSED(talk.outputs[1].buffer = bytes; talk.outputs[1].size = 1; talk.outputs[1].len = 2);
    REFUSED(talk.outputs[0].buffer = bytes; talk.outputs[0].sink = collect);
    REFUSED(talk.outputs[1].context = bytes);
#undef REFUSED
    talk = good;
    CHECK_REFUSED(rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&talk), -2), -EINVAL);
    CHECK_REFUSED(rdaemon_communicate(NULL, 0, RDAEMON_SIZED(&talk), 0), -EINVAL);
    CHECK_REFUSED(rdaemon_communicate(&child, sizeof child - 1, RDAEMON_SIZED(&talk), 0), -EINVAL);
    CHECK_REFUSED(rdaemon_communicate(RDAEMON_SIZED(&child), NULL, 0, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_communicate(RDAEMON_SIZED(&child), NULL, sizeof talk, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_communicate(RDAEMON_SIZED(&child), &talk, sizeof talk - 1, 0), -EINVAL);
    valve_open(&valve);
    CHECK_INT(communicate(-1), RDAEMON_COMMUNICATE_DONE);
    ends_with(0);
}
