#include "rdaemon.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "tap.h"

static const char *const step_names[] = {
    [RDAEMON_STEP_NONE] = "none",
    [RDAEMON_STEP_CONFIG] = "config",
    [RDAEMON_STEP_OPEN_STDIO] = "open_stdio",
    [RDAEMON_STEP_OPEN_STREAMS] = "open_streams",
    [RDAEMON_STEP_PIDFILE_OPEN] = "pidfile_open",
    [RDAEMON_STEP_CHANNEL] = "channel",
    [RDAEMON_STEP_DOUBLE_FORK] = "double_fork",
    [RDAEMON_STEP_SETSID] = "setsid",
    [RDAEMON_STEP_CLOSE_FDS] = "close_fds",
    [RDAEMON_STEP_UMASK] = "umask",
    [RDAEMON_STEP_CHROOT] = "chroot",
    [RDAEMON_STEP_CHDIR] = "chdir",
    [RDAEMON_STEP_PIDFILE_WRITE] = "pidfile_write",
    [RDAEMON_STEP_SET_LIMITS] = "set_limits",
    [RDAEMON_STEP_DROP_PRIVILEGES] = "drop_privileges",
    [RDAEMON_STEP_PREVENT_CORE] = "prevent_core",
    [RDAEMON_STEP_NO_NEW_PRIVS] = "no_new_privs",
    [RDAEMON_STEP_REDIRECT_STDIO] = "redirect_stdio",
    [RDAEMON_STEP_SET_SIGNALS] = "set_signals",
    [RDAEMON_STEP_REPORT] = "report",
    [RDAEMON_STEP_SIGNAL_MASK] = "signal_mask",
    [RDAEMON_STEP_READY] = "ready",
    [RDAEMON_STEP_FORK] = "fork",
    [RDAEMON_STEP_MAP_FDS] = "map_fds",
    [RDAEMON_STEP_SETPGID] = "setpgid",
    [RDAEMON_STEP_CONTROLLING_TERMINAL] = "controlling_terminal",
    [RDAEMON_STEP_DEATH_SIGNAL] = "death_signal",
    [RDAEMON_STEP_HOOK] = "hook",
    [RDAEMON_STEP_EXEC] = "exec",
    [RDAEMON_STEP_COMMUNICATE] = "communicate",
    [RDAEMON_STEP_WAIT] = "wait",
    [RDAEMON_STEP_LOG_PUMP] = "log_pump",
    [RDAEMON_STEP_PIDFILE_READ] = "pidfile_read",
    [RDAEMON_STEP_SIGNAL] = "signal",
    [RDAEMON_STEP_STOP] = "stop",
};
enum { STEPS = sizeof step_names / sizeof *step_names };

static const struct rdaemon_status denied = {.step = RDAEMON_STEP_DROP_PRIVILEGES, .error = -EPERM};
static const char denied_message[] = "drop_privileges: Operation not permitted";

TEST(status_is_64_bytes) {
    CHECK_INT(sizeof(struct rdaemon_status), 64);
}

TEST(each_step_has_its_name) {
    CHECK_INT(STEPS, 35);
    for (int step = 0; step < STEPS; step++)
        CHECK_STR(rdaemon_step_name(step), step_names[step]);
}

TEST(any_other_number_is_an_unknown_step) {
    static const int others[] = {-1, STEPS, 1000, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_STR(rdaemon_step_name(others[i]), "unknown");
}

TEST(message_names_step_and_error) {
    char text[128];
    CHECK_INT(QUIET(rdaemon_status_message(RDAEMON_SIZED(&denied), text, sizeof text)),
              strlen(denied_message));
    CHECK_STR(text, denied_message);
}

TEST(message_is_cut_to_the_buffer_and_tells_its_whole_length) {
    for (size_t size = 1; size < sizeof denied_message; size++) {
        char text[64], expected[64] = "";
        memset(text, 'x', sizeof text);
        memcpy(expected, denied_message, size - 1);
        CHECK_INT(rdaemon_status_message(RDAEMON_SIZED(&denied), text, size),
                  strlen(denied_message));
        CHECK_STR(text, expected);
        CHECK_INT(text[size], 'x');
    }
}

TEST(message_length_can_be_asked_without_a_buffer) {
    CHECK_INT(rdaemon_status_message(RDAEMON_SIZED(&denied), NULL, 0), strlen(denied_message));
}

TEST(message_is_one_line_whatever_the_numbers) {
    static const int errors[] = {0, -1, -EEXIST, -ESRCH, -133, -5000, 7, INT_MAX, INT_MIN};
    for (int step = -1; step <= STEPS; step++)
        for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
            struct rdaemon_status status = {
                .step = step, .error = errors[i], .pid = INT_MAX, .signal = 9};
            char text[256] = "";
            int length = rdaemon_status_message(RDAEMON_SIZED(&status), text, sizeof text);
            CHECK(length > 0 && length < 200);
            CHECK_INT(strlen(text), length);
            CHECK_INT(strcspn(text, "\n"), length);
        }
}

TEST(message_begins_with_the_step) {
    for (int step = RDAEMON_STEP_CONFIG; step < STEPS; step++) {
        struct rdaemon_status status = {.step = step, .error = -EIO};
        char text[128];
        rdaemon_status_message(RDAEMON_SIZED(&status), text, sizeof text);
        CHECK_INT(strncmp(text, step_names[step], strlen(step_names[step])), 0);
        CHECK(strstr(text, strerror(EIO)));
    }
}

TEST(message_of_a_held_pidfile_names_the_holder) {
    struct rdaemon_status status = {
        .step = RDAEMON_STEP_PIDFILE_OPEN, .error = -EEXIST, .pid = 54321};
    char text[128];
    rdaemon_status_message(RDAEMON_SIZED(&status), text, sizeof text);
    CHECK(strstr(text, "54321"));
}

TEST(an_errno_means_what_the_step_means_by_it) {
    struct rdaemon_status status = {.step = RDAEMON_STEP_HOOK, .error = -EEXIST, .pid = 4711};
    char line[128];
    rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
    CHECK_STR(line, "hook: File exists");
    status.error = -ESRCH;
    rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
    CHECK_STR(line, "hook: No such process");
}

TEST(message_of_a_pidfile_that_is_refused_says_why) {
    struct rdaemon_status status = {.step = RDAEMON_STEP_PIDFILE_READ, .error = -EPERM};
    char line[128];
    rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
    CHECK(strstr(line, "not to be believed"));
}
