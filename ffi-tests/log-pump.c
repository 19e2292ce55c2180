/* rdaemon_log_pump, and the streams of a daemon that go to syslog: RDAEMON_STREAM_SYSLOG. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>

#include "child.h"
#include "probe.h"
#include "program.h"
#include "rdaemon.h"
#include "receiver.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"
#include "traced.h"

static struct receiver receiver;
static char path[512];
static struct start started;

/* ---- what the cases are made of ---- */

static void begin_receiving(void) {
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    receiver = receiver_start(path);
}

/* Standard output and error go to syslog. */
static struct rdaemon_config pumped(void) {
    struct rdaemon_config config = {
        .streams[1] = {.action = RDAEMON_STREAM_SYSLOG},
        .streams[2] = {.action = RDAEMON_STREAM_SYSLOG},
        .syslog = {.flags = RDAEMON_SYSLOG_PID, .ident = "served", .path = path}};
    return config;
}

/* Starts a receiver and a daemon. */
static pid_t begin(void (*life)(const struct start *start)) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    return start_well(&started, &config, life);
}

/* "<PRI>served[pid]: text" of that process. Valid until the eighth call after. */
static const char *message(int level, pid_t pid, const char *text) {
    static char messages[8][1200];
    static unsigned turn;
    char *place = messages[turn++ % 8];
    snprintf(place, sizeof messages[0], "<%d>served[%d]: %s", LOG_DAEMON | level, (int)pid, text);
    return place;
}

static const char *of_daemon(int level, const char *text) {
    return message(level, started.result, text);
}

static void comes(int number, const char *expected) {
    CHECK_STR(receiver_message(&receiver, number), expected);
}

static void say_to(int fd, const char *text) {
    CHECK_INT(write(fd, text, strlen(text)), strlen(text));
}

static void say(const char *text) {
    say_to(STDOUT_FILENO, text);
}

/* Waits until somebody has read all that was written to the pipe. */
static void until_taken(int fd) {
    for (int left = 1; left > 0; sched_yield())
        CHECK_INT(ioctl(fd, FIONREAD, &left), 0);
}

/* Living children of this process, which is a subreaper, but for the receiver and the daemon. */
static int find_children(pid_t *children, int most) {
    int count = 0;
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(directory)) && count < most;) {
        char name[64], state = 'X';
        pid_t pid = atoi(entry->d_name);
        int parent = 0;
        snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
        FILE *file = pid > 0 ? fopen(name, "r") : NULL;
        if (!file)
            continue; /* it may have ended meanwhile */
        if (fscanf(file, "%*d (%*[^)]) %c %d", &state, &parent) == 2 && parent == getpid() &&
            state != 'X' && state != 'Z' && pid != receiver.pid && pid != started.result)
            children[count++] = pid;
        fclose(file);
    }
    closedir(directory);
    return count;
}

/* The pumps, of which there is one at least; those that are not are 0. They have settled once a
 * line has come. */
enum { PUMPS_MAX = 4 };
static pid_t pumps[PUMPS_MAX];
static int find_pumps(void) {
    memset(pumps, 0, sizeof pumps);
    int count = find_children(pumps, PUMPS_MAX);
    CHECK(count > 0);
    return count;
}

/* After the end of all writers: the pumps end well, and then no child is left. */
static void all_ends(void) {
    for (pid_t rest; (rest = waitpid(-1, NULL, __WALL | WNOHANG)) > 0;)
        continue;
    while (find_children(pumps, 1) > 0)
        CHECK_INT(wait_for_exit(pumps[0]), 0);
    receiver_end(&receiver);
    while (waitpid(-1, NULL, __WALL) > 0)
        continue;
    CHECK_INT(errno, ECHILD);
}

/* The daemon lives its life, to its end. */
static void live(void (*life)(const struct start *start)) {
    begin(life);
    lived(&started);
}

/* ---- lines ---- */

static void speaks_on_both(const struct start *start) {
    (void)start;
    say_to(STDOUT_FILENO, "out\n");
    until_taken(STDOUT_FILENO);
    say_to(STDERR_FILENO, "err\n");
}

TEST(stdout_has_level_info_and_stderr_err) {
    live(speaks_on_both);
    receiver_message(&receiver, 1);
    CHECK(receiver_has(&receiver, 0, of_daemon(LOG_INFO, "out")));
    CHECK(receiver_has(&receiver, 0, of_daemon(LOG_ERR, "err")));
    CHECK_INT(receiver_count(&receiver), 2);
    all_ends();
}

TEST(stderr_may_be_the_same_as_stdout) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.streams[2].action = RDAEMON_STREAM_SAME_AS_STDOUT;
    start_well(&started, &config, speaks_on_both);
    lived(&started);
    comes(0, of_daemon(LOG_INFO, "out"));
    comes(1, of_daemon(LOG_INFO, "err"));
    all_ends();
}

static void speaks_on_stderr(const struct start *start) {
    (void)start;
    CHECK_STR(fd_target(0, STDOUT_FILENO), "/dev/null");
    say_to(STDERR_FILENO, "err\n");
}

TEST(stderr_alone_may_go_to_syslog) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.streams[1].action = RDAEMON_STREAM_DEFAULT;
    start_well(&started, &config, speaks_on_stderr);
    lived(&started);
    comes(0, of_daemon(LOG_ERR, "err"));
    all_ends();
}

TEST(the_facility_is_that_of_the_config) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.syslog.facility = LOG_LOCAL3;
    config.syslog.flags = 0;
    start_well(&started, &config, speaks_on_both);
    lived(&started);
    receiver_message(&receiver, 1);
    CHECK(receiver_has(&receiver, 0, "<158>served: out"));
    CHECK(receiver_has(&receiver, 0, "<155>served: err"));
    all_ends();
}

static void speaks_with_prefixes(const struct start *start) {
    (void)start;
    say("<0>zero\n<3>three\n<7>seven\nnone\n<8>eight\n<10>ten\n<3 three\n<a>a\n <3>blank\nx<3>in\n<"
        "3><4>twice\n<3>\n<-1>minus\n<3>end");
}

TEST(a_prefix_gives_the_level) {
    live(speaks_with_prefixes);
    comes(0, of_daemon(LOG_EMERG, "zero"));
    comes(1, of_daemon(LOG_ERR, "three"));
    comes(2, of_daemon(LOG_DEBUG, "seven"));
    comes(3, of_daemon(LOG_INFO, "none"));
    comes(4, of_daemon(LOG_INFO, "<8>eight"));
    comes(5, of_daemon(LOG_INFO, "<10>ten"));
    comes(6, of_daemon(LOG_INFO, "<3 three"));
    comes(7, of_daemon(LOG_INFO, "<a>a"));
    comes(8, of_daemon(LOG_INFO, " <3>blank"));
    comes(9, of_daemon(LOG_INFO, "x<3>in"));
    comes(10, of_daemon(LOG_ERR, "<4>twice"));
    comes(11, of_daemon(LOG_INFO, "<-1>minus"));
    comes(12, of_daemon(LOG_ERR, "end"));
    CHECK_INT(receiver_count(&receiver), 13);
    all_ends();
}

static void speaks_byte_by_byte(const struct start *start) {
    (void)start;
    for (const char *byte = "<3>one\n<8>two\n<\n<4\n"; *byte; byte++) {
        CHECK_INT(write(STDOUT_FILENO, byte, 1), 1);
        until_taken(STDOUT_FILENO);
    }
}

TEST(a_prefix_may_come_in_several_writes) {
    live(speaks_byte_by_byte);
    comes(0, of_daemon(LOG_ERR, "one"));
    comes(1, of_daemon(LOG_INFO, "<8>two"));
    comes(2, of_daemon(LOG_INFO, "<"));
    comes(3, of_daemon(LOG_INFO, "<4"));
    CHECK_INT(receiver_count(&receiver), 4);
    all_ends();
}

static struct gate *seen;

static void speaks_half_a_line(const struct start *start) {
    (void)start;
    say("one\nhal");
    until_taken(STDOUT_FILENO);
    gate_wait(seen);
    say("f\n\n\nlast");
}

TEST(a_line_is_a_message_when_its_end_has_come) {
    seen = gate_new();
    begin(speaks_half_a_line);
    comes(0, of_daemon(LOG_INFO, "one"));
    CHECK_INT(receiver_count(&receiver), 1);
    gate_open(seen);
    lived(&started);
    comes(1, of_daemon(LOG_INFO, "half"));
    comes(2, of_daemon(LOG_INFO, "last"));
    all_ends();
}

static void speaks_control_bytes(const struct start *start) {
    (void)start;
    CHECK_INT(write(STDOUT_FILENO, "a\0b\033[1mc\177\td\r\n", 13), 13);
}

TEST(control_bytes_are_escaped) {
    live(speaks_control_bytes);
    comes(0, of_daemon(LOG_INFO, "a\\x00b\\x1b[1mc\\x7f\td\\x0d"));
    all_ends();
}

/* What looks like a prefix, everywhere, so that also pieces of a line begin with one. */
static char *mebibyte(void) {
    static const char mixture[] = "<3>\0<4>\0\xf0\x90\x8d\x88<5>";
    char *text = malloc((1 << 20) + 1);
    for (size_t i = 0; i < 1 << 20; i++)
        text[i] = i % 32 < 15 ? mixture[i % 32] : (char)('0' + (i >> (i % 8 * 3)) % 8);
    text[0] = 'x';
    text[1 << 20] = '\n';
    return text;
}

static void write_all(int fd, const char *text, size_t length) {
    for (size_t sent = 0; sent < length;) {
        ssize_t now = write(fd, text + sent, length - sent);
        CHECK(now > 0);
        sent += (size_t)now;
    }
}

static void speaks_a_mebibyte(const struct start *start) {
    (void)start;
    write_all(STDOUT_FILENO, mebibyte(), (1 << 20) + 1);
    say("after\n");
}

TEST(a_mebibyte_with_nuls_comes_whole_and_in_order) {
    live(speaks_a_mebibyte);
    int next = 0;
    const char *whole = escaped(mebibyte(), 1 << 20);
    const char *all = reassembled(&receiver, &next, of_daemon(LOG_INFO, ""), strlen(whole));
    CHECK(strcmp(all, whole) == 0);
    comes(next, of_daemon(LOG_INFO, "after"));
    all_ends();
}

static void speaks_long_without_an_end(const struct start *start) {
    (void)start;
    char text[5000];
    memset(text, 'x', sizeof text);
    memcpy(text, "<4>", 3);
    write_all(STDOUT_FILENO, text, sizeof text);
}

TEST(all_pieces_of_a_line_have_its_level) {
    live(speaks_long_without_an_end);
    char whole[4998];
    int next = 0;
    memset(whole, 'x', 4997);
    whole[4997] = '\0';
    CHECK_STR(reassembled(&receiver, &next, of_daemon(LOG_WARNING, ""), 4997), whole);
    all_ends();
    CHECK_INT(receiver_count(&receiver), next);
}

enum { MANY = 2000 };

static void speaks_much(int fd, const char *name) {
    for (int i = 0; i < MANY; i++) {
        char line[64];
        write_all(fd, line, (size_t)sprintf(line, "%s %d\n", name, i));
    }
}

static void speaks_much_on_both(const struct start *start) {
    (void)start;
    if (fork_child() == 0) {
        speaks_much(STDERR_FILENO, "err");
        _exit(0);
    }
    speaks_much(STDOUT_FILENO, "out");
}

TEST(two_streams_at_once_lose_nothing_and_keep_their_order) {
    live(speaks_much_on_both);
    int out = 0, err = 0;
    while (out + err < 2 * MANY) {
        const char *text = receiver_message(&receiver, out + err);
        char name[32];
        bool is_out = strstr(text, ": out ");
        snprintf(name, sizeof name, "%s %d", is_out ? "out" : "err", is_out ? out : err);
        CHECK_STR(text, of_daemon(is_out ? LOG_INFO : LOG_ERR, name));
        *(is_out ? &out : &err) += 1;
    }
    CHECK_INT(out, MANY);
    all_ends();
}

/* ---- ends ---- */

static struct gate *told_gate;

static void speaks_and_lives_on(const struct start *start) {
    say("hello\n");
    live_on(start);
}

TEST(the_pump_ends_when_the_daemon_is_killed) {
    begin(speaks_and_lives_on);
    comes(0, of_daemon(LOG_INFO, "hello"));
    find_pumps();
    slay(&started);
    all_ends();
}

/* Holds the streams, and nothing else of the daemon, which has ended. */
HELPER(worker) {
    await_valve();
    say("the worker's word\n");
    return 0;
}

static struct valve valve;

static void starts_a_worker(const struct start *start) {
    struct rdaemon_spawn_config config = {THE_HELPER(worker), GATE_MAP(valve)};
    CHECK(rdaemon_spawn(RDAEMON_SIZED(&config), NULL, 0, NULL, 0) > 0);
    close(valve.fds[1]);
    close(valve.fds[0]);
    say("hello\n");
    live_on(start);
}

TEST(a_worker_that_holds_the_stream_keeps_the_pump) {
    begin_receiving();
    valve = valve_new();
    struct rdaemon_config config = pumped();
    config.files_preserve = valve.fds;
    config.files_preserve_len = 2;
    pid_t daemon = start_well(&started, &config, starts_a_worker);
    comes(0, of_daemon(LOG_INFO, "hello"));
    slay(&started);
    CHECK(find_pumps() >= 2); /* the worker is one of these children */
    valve_open(&valve);
    comes(1, message(LOG_INFO, daemon, "the worker's word"));
    all_ends();
}

TEST(a_pump_that_lives_on_does_not_hold_the_pidfile) {
    begin_receiving();
    valve = valve_new();
    struct rdaemon_config config = pumped();
    config.pidfile = scratch_path("pid");
    config.files_preserve = valve.fds;
    config.files_preserve_len = 2;
    start_well(&started, &config, starts_a_worker);
    comes(0, of_daemon(LOG_INFO, "hello"));
    slay(&started);
    find_pumps();
    config.files_preserve_len = 0;
    start_well(&started, &config, speaks_and_lives_on);
    comes(1, of_daemon(LOG_INFO, "hello"));
    slay(&started);
    valve_open(&valve);
    all_ends();
}

static void says_its_last_words(const struct start *start) {
    (void)start;
    say("hello\n");
    gate_wait(told_gate);
    say("last words\n");
}

static void takes_no_signals(pid_t pump) {
    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP)
            CHECK(signal_in(pump, "SigIgn", number) || signal_in(pump, "SigBlk", number));
}

TEST(signals_to_everybody_do_not_stop_the_last_words) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM};
    told_gate = gate_new();
    begin(says_its_last_words);
    comes(0, of_daemon(LOG_INFO, "hello"));
    int count = find_pumps();
    for (int i = 0; i < count; i++) {
        for (size_t k = 0; k < LENGTH(signals); k++)
            CHECK_INT(kill(pumps[i], signals[k]), 0);
        takes_no_signals(pumps[i]);
    }
    gate_open(told_gate);
    lived(&started);
    comes(1, of_daemon(LOG_INFO, "last words"));
    all_ends();
}

static void speaks_much_and_ends(const struct start *start) {
    (void)start;
    speaks_much(STDOUT_FILENO, "line");
    kill(getpid(), SIGKILL);
}

TEST(what_a_daemon_wrote_before_it_was_killed_comes) {
    begin(speaks_much_and_ends);
    CHECK_INT(wait_for_exit(started.result), SIGKILL);
    for (int i = 0; i < MANY; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d", i);
        comes(i, of_daemon(LOG_INFO, line));
    }
    all_ends();
}

static void ignores_the_end_of_its_pump(const struct start *start) {
    (void)start;
    signal(SIGPIPE, SIG_IGN);
    say("hello\n");
    gate_wait(told_gate);
    CHECK_INT(write(STDOUT_FILENO, "x\n", 2), -1);
    CHECK_INT(errno, EPIPE);
}

static void speaks_twice(const struct start *start) {
    (void)start;
    signal(SIGPIPE, SIG_DFL);
    say("hello\n");
    gate_wait(told_gate);
    say("x\n");
}

static void kill_the_pumps(void) {
    comes(0, of_daemon(LOG_INFO, "hello"));
    for (int count = find_pumps(), i = 0; i < count; i++) {
        CHECK_INT(kill(pumps[i], SIGKILL), 0);
        CHECK_INT(wait_for_exit(pumps[i]), SIGKILL);
    }
    gate_open(told_gate);
}

TEST(without_its_pump_a_write_is_epipe) {
    told_gate = gate_new();
    begin(ignores_the_end_of_its_pump);
    kill_the_pumps();
    lived(&started);
    all_ends();
}

TEST(without_its_pump_a_write_raises_sigpipe) {
    told_gate = gate_new();
    begin(speaks_twice);
    kill_the_pumps();
    CHECK_INT(wait_for_exit(started.result), SIGPIPE);
    all_ends();
}

/* ---- what a pump is ---- */

/* Of a pump that has settled: pipes to read, one socket, the null device, and nothing else. */
static void has_no_other_fds(pid_t pump) {
    char fds[256];
    int sockets = 0;
    snprintf(fds, sizeof fds, "%s", open_fds(pump));
    for (char *fd = strtok(fds, " "); fd; fd = strtok(NULL, " ")) {
        const char *target = fd_target(pump, atoi(fd));
        if (strncmp(target, "socket:", 7) == 0)
            sockets++;
        else if (strncmp(target, "pipe:", 5) != 0 && strcmp(target, "/dev/null") != 0)
            FAIL("fd %s of the pump is %s", fd, target);
    }
    CHECK(sockets <= 1);
}

/* Nor does it keep a file system busy. */
static void is_in_the_root_directory(pid_t pump) {
    char name[64], directory[64];
    snprintf(name, sizeof name, "/proc/%d/cwd", (int)pump);
    ssize_t length = readlink(name, directory, sizeof directory - 1);
    CHECK(length == 1 && directory[0] == '/');
}

static int file_at(int fd) {
    int file = open(make_file("kept", ""), O_RDWR);
    CHECK(file >= 0);
    CHECK_INT(dup2(file, fd), fd);
    close(file);
    return fd;
}

static void pumps_have_no_other_fds(struct rdaemon_config *config) {
    config->pidfile = scratch_path("pid");
    start_well(&started, config, speaks_and_lives_on);
    comes(0, of_daemon(LOG_INFO, "hello"));
    for (int count = find_pumps(), i = 0; i < count; i++) {
        has_no_other_fds(pumps[i]);
        is_in_the_root_directory(pumps[i]);
    }
    slay(&started);
    all_ends();
}

TEST(a_pump_has_no_other_fds) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    pumps_have_no_other_fds(&config);
}

TEST(a_pump_has_no_other_fds_though_the_daemon_keeps_some) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.files_preserve = (int32_t[]){file_at(20)};
    config.files_preserve_len = 1;
    file_at(0);
    config.streams[0].action = RDAEMON_STREAM_INHERIT;
    pumps_have_no_other_fds(&config);
}

TEST(a_pump_has_no_other_fds_though_all_are_kept) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    file_at(20);
    config.flags = RDAEMON_KEEP_FDS;
    pumps_have_no_other_fds(&config);
}

TEST(a_pump_has_no_channel_of_a_daemon_that_is_not_ready) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.flags = RDAEMON_NOTIFY_READY;
    pumps_have_no_other_fds(&config);
}

static void has_pipes_alone(const struct start *start) {
    (void)start;
    CHECK_STR(open_fds(0), "0 1 2");
    for (int fd = 1; fd < 3; fd++) {
        CHECK(strncmp(fd_target(0, fd), "pipe:", 5) == 0);
        CHECK_INT(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY);
        CHECK(!fd_is_cloexec(fd));
    }
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_INT(errno, ECHILD);
}

TEST(a_daemon_has_the_pipes_and_no_child) {
    live(has_pipes_alone);
    all_ends();
}

TEST(the_original_has_no_more_than_before) {
    char before[64];
    begin_receiving();
    struct rdaemon_config config = pumped();
    snprintf(before, sizeof before, "%s", open_fds(0));
    start_well(&started, &config, NULL);
    lived(&started);
    CHECK_STR(open_fds(0), before);
    all_ends();
}

TEST(a_pump_dumps_no_core) {
    begin(speaks_and_lives_on);
    comes(0, of_daemon(LOG_INFO, "hello"));
    for (int count = find_pumps(), i = 0; i < count; i++) {
        struct rlimit core;
        CHECK_INT(prlimit(pumps[i], RLIMIT_CORE, NULL, &core), 0);
        CHECK_INT(core.rlim_cur, 1);
        CHECK_INT(core.rlim_max, 1);
    }
    slay(&started);
    all_ends();
}

/* Its memory is a copy of what the daemon's was. The files in /proc of a process that other
 * processes of its user may not look into are root's. */
TEST(a_pump_is_as_closed_as_the_daemon) {
    struct stat of_the_daemon, of_the_pump;
    begin_receiving();
    CHECK_INT(chmod(scratch(), 0777), 0);
    IN_CHILD {
        become_user();
        adopt_orphans();
        struct rdaemon_config config = pumped();
        config.flags = RDAEMON_UNDUMPABLE | RDAEMON_SET_NO_NEW_PRIVS;
        start_well(&started, &config, speaks_and_lives_on);
        comes(0, of_daemon(LOG_INFO, "hello"));
        char name[64];
        snprintf(name, sizeof name, "/proc/%d/status", (int)started.result);
        CHECK_INT(stat(name, &of_the_daemon), 0);
        for (int count = find_pumps(), i = 0; i < count; i++) {
            snprintf(name, sizeof name, "/proc/%d/status", (int)pumps[i]);
            CHECK_INT(stat(name, &of_the_pump), 0);
            CHECK_INT(of_the_pump.st_uid, of_the_daemon.st_uid);
            CHECK_STR(status_field(pumps[i], "NoNewPrivs"), "1");
        }
        slay(&started);
        while (waitpid(-1, NULL, __WALL) > 0)
            continue;
    }
    receiver_end(&receiver);
}

TEST(a_pump_has_no_terminal_and_leads_no_session) {
    begin(speaks_and_lives_on);
    comes(0, of_daemon(LOG_INFO, "hello"));
    for (int count = find_pumps(), i = 0; i < count; i++) {
        CHECK(getsid(pumps[i]) != getsid(0));
        CHECK_INT(stat_field(pumps[i], 7), 0);
    }
    slay(&started);
    all_ends();
}

static void check_same_rights(void) {
    static const char *const fields[] = {"Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapInh"};
    for (int count = find_pumps(), i = 0; i < count; i++)
        for (size_t k = 0; k < LENGTH(fields); k++) {
            char of_the_daemon[256];
            snprintf(of_the_daemon, sizeof of_the_daemon, "%s",
                     status_field(started.result, fields[k]));
            CHECK_STR(status_field(pumps[i], fields[k]), of_the_daemon);
        }
}

TEST(a_pump_has_the_rights_of_the_daemon) {
    static const uint32_t groups[] = {4711, 4712};
    REQUIRE_ROOT();
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.identity = (struct rdaemon_identity){
        .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS,
        .uid = TEST_UID,
        .gid = TEST_GID,
        .groups = groups,
        .groups_len = 2};
    start_well(&started, &config, speaks_and_lives_on);
    comes(0, of_daemon(LOG_INFO, "hello"));
    CHECK_STR(status_field(started.result, "Groups"), "4711 4712");
    check_same_rights();
    slay(&started);
    all_ends();
}

TEST(a_pump_loses_groups_and_keeps_those_that_it_may) {
    static const gid_t groups[] = {4711, 4712};
    static const uint32_t flags[] = {RDAEMON_IDENTITY_UID,
                                     RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_KEEP_GROUPS, 0};
    REQUIRE_ROOT();
    CHECK_INT(syscall(SYS_setgroups, 2, groups), 0);
    for (size_t i = 0; i < LENGTH(flags); i++) {
        begin_receiving();
        struct rdaemon_config config = pumped();
        config.identity.flags = flags[i];
        config.identity.uid = flags[i] ? TEST_UID : 0;
        start_well(&started, &config, speaks_and_lives_on);
        comes(0, of_daemon(LOG_INFO, "hello"));
        check_same_rights();
        slay(&started);
        all_ends();
    }
}

/* A set-user-id program's effective ids are given up by a daemon unless told otherwise. */
TEST(a_pump_has_not_the_effective_ids_of_a_set_user_id_program) {
    REQUIRE_ROOT();
    begin_receiving();
    CHECK_INT(chmod(scratch(), 0777), 0);
    IN_CHILD {
        CHECK_INT(setresuid(TEST_UID, 0, 0), 0);
        adopt_orphans();
        struct rdaemon_config config = pumped();
        start_well(&started, &config, speaks_and_lives_on);
        comes(0, of_daemon(LOG_INFO, "hello"));
        check_same_rights();
        slay(&started);
        while (waitpid(-1, NULL, __WALL) > 0)
            continue;
    }
    receiver_end(&receiver);
}

/* ---- servers ---- */

static struct gate *second_gate;

static void speaks_three_times(const struct start *start) {
    (void)start;
    say("one\n");
    gate_wait(told_gate);
    say("two\n");
    gate_wait(second_gate);
    say("three\n");
}

/* The server is restarted, and the daemon's next line comes. */
static void survives_a_restart(struct rdaemon_config *config) {
    told_gate = gate_new();
    second_gate = gate_new();
    start_well(&started, config, speaks_three_times);
    comes(0, of_daemon(LOG_INFO, "one"));
    receiver_end(&receiver);
    receiver = receiver_start(path);
    gate_open(told_gate);
    comes(0, of_daemon(LOG_INFO, "two"));
    gate_open(second_gate);
    comes(1, of_daemon(LOG_INFO, "three"));
    lived(&started);
    all_ends();
}

TEST(a_pump_finds_the_new_server_after_a_restart) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    survives_a_restart(&config);
}

TEST(a_pump_finds_the_new_server_though_the_daemon_is_in_another_root) {
    REQUIRE_ROOT();
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.chroot_directory = make_directory("jail", 0755);
    config.identity = (struct rdaemon_identity){.flags = RDAEMON_IDENTITY_UID, .uid = TEST_UID};
    survives_a_restart(&config);
}

static void speaks_and_waits_for_its_pump(const struct start *start) {
    (void)start;
    say("one\n");
    gate_wait(told_gate);
    say("two\nthree\n");
    until_taken(STDOUT_FILENO);
    gate_open(seen);
    gate_wait(second_gate);
    say("four\n");
}

TEST(a_pump_tells_how_many_lines_it_lost) {
    seen = gate_new();
    told_gate = gate_new();
    second_gate = gate_new();
    begin(speaks_and_waits_for_its_pump);
    comes(0, of_daemon(LOG_INFO, "one"));
    receiver_end(&receiver);
    gate_open(told_gate);
    gate_wait(seen);
    /* Taken by a pump, which sleeps again when it is done with them. */
    for (int count = find_pumps(), i = 0; i < count; i++)
        wait_for_state(pumps[i], 'S');
    receiver = receiver_start(path);
    gate_open(second_gate);
    lived(&started);
    comes(0, of_daemon(LOG_WARNING, "2 lines lost"));
    comes(1, of_daemon(LOG_INFO, "four"));
    all_ends();
}

static void speaks_much_to_nobody(const struct start *start) {
    (void)start;
    speaks_much(STDOUT_FILENO, "line");
    until_taken(STDOUT_FILENO);
    gate_open(seen);
    gate_wait(second_gate);
    say("last\n");
}

TEST(a_server_that_does_not_read_does_not_stop_the_daemon) {
    seen = gate_new();
    second_gate = gate_new();
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    int server = listen_at(path), came = 0, lost = 0;
    CHECK(fill(path) > 0);
    struct rdaemon_config config = pumped();
    start_well(&started, &config, speaks_much_to_nobody);
    double begin = now_ms();
    gate_wait(seen);
    CHECK(now_ms() - begin < 4000);
    for (int count = find_pumps(), i = 0; i < count; i++)
        wait_for_state(pumps[i], 'S');
    CHECK(drained(server) > 0);
    gate_open(second_gate);
    while (lost == 0 || came == 0) {
        const char *text = received(server);
        if (told_lost(text) >= 0)
            lost += told_lost(text);
        else
            came += strcmp(text, of_daemon(LOG_INFO, "last")) == 0;
    }
    CHECK_INT(lost, MANY);
    lived(&started);
    while (find_children(pumps, 1) > 0)
        CHECK_INT(wait_for_exit(pumps[0]), 0);
}

/* ---- without detaching ---- */

static void deny_every_fork(void) {
    deny_syscall(SYS_clone, EAGAIN);
    deny_syscall(SYS_clone3, EAGAIN);
#ifdef SYS_fork
    deny_syscall(SYS_fork, EAGAIN);
    deny_syscall(SYS_vfork, EAGAIN);
#endif
}

TEST(it_works_without_detaching) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.detach = RDAEMON_DETACH_NO;
    pid_t child = fork_child();
    if (child == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 0);
        start(&started, &config, NULL);
        CHECK_INT(started.result, 0);
        CHECK_INT(first_child_of(getpid()), 0);
        CHECK_INT(waitpid(-1, NULL, __WALL | WNOHANG), -1);
        speaks_on_both(NULL);
        _exit(0);
    }
    CHECK_INT(wait_for_exit(child), 0);
    receiver_message(&receiver, 1);
    CHECK(receiver_has(&receiver, 0, message(LOG_INFO, child, "out")));
    CHECK(receiver_has(&receiver, 0, message(LOG_ERR, child, "err")));
    started.result = 0;
    all_ends();
}

TEST(a_process_that_did_not_detach_has_its_own_streams_elsewhere) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.detach = RDAEMON_DETACH_NO;
    config.streams[2].action = RDAEMON_STREAM_DEFAULT;
    IN_CHILD {
        file_at(STDERR_FILENO);
        start(&started, &config, NULL);
        CHECK_INT(started.result, 0);
        CHECK_STR(fd_target(0, STDERR_FILENO), scratch_path("kept"));
        CHECK_STR(open_fds(0), "0 1 2");
    }
    started.result = 0;
    all_ends();
}

TEST(without_detaching_and_without_a_process_for_the_pump) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.detach = RDAEMON_DETACH_NO;
    IN_CHILD {
        deny_every_fork();
        start(&started, &config, NULL);
        CHECK_INT(started.result, -EAGAIN);
        CHECK_INT(started.status.step, RDAEMON_STEP_LOG_PUMP);
    }
    started.result = 0;
    all_ends();
}

/* ---- refusals ---- */

/* As rdaemon_check does. */
static void refused(const struct rdaemon_config *config, int error, int subject) {
    struct rdaemon_status status;
    start_badly(config, RDAEMON_STEP_CONFIG, error);
    CHECK_INT(QUIET(rdaemon_check(RDAEMON_SIZED(config), RDAEMON_SIZED(&status))), error);
    CHECK_INT(status.subject, subject);
}

static struct rdaemon_config for_refusal(void) {
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    listen_at(path);
    return pumped();
}

TEST(standard_input_cannot_come_from_syslog) {
    struct rdaemon_config config = for_refusal();
    config.streams[0].action = RDAEMON_STREAM_SYSLOG;
    refused(&config, -EINVAL, RDAEMON_STEP_REDIRECT_STDIO);
}

TEST(syslog_needs_an_ident) {
    struct rdaemon_config config = for_refusal();
    config.syslog.ident = NULL;
    refused(&config, -EINVAL, RDAEMON_STEP_LOG_PUMP);
    config.syslog.ident = "";
    refused(&config, -EINVAL, RDAEMON_STEP_LOG_PUMP);
    config.syslog.ident = "a b";
    refused(&config, -EINVAL, RDAEMON_STEP_LOG_PUMP);
}

TEST(bad_options_of_syslog_are_refused) {
    char too_long[109];
    struct rdaemon_config config = for_refusal();
    config.syslog.facility = 1;
    refused(&config, -EINVAL, RDAEMON_STEP_LOG_PUMP);
    config = pumped();
    config.syslog.flags = 1U << 31;
    refused(&config, -EINVAL, RDAEMON_STEP_LOG_PUMP);
    config = pumped();
    memset(too_long, 'x', sizeof too_long);
    too_long[108] = '\0';
    config.syslog.path = too_long;
    refused(&config, -ENAMETOOLONG, RDAEMON_STEP_LOG_PUMP);
}

TEST(fields_that_a_stream_to_syslog_does_not_use_are_zero) {
    struct rdaemon_config config = for_refusal();
    config.streams[1].path = path;
    refused(&config, -EINVAL, RDAEMON_STEP_REDIRECT_STDIO);
    config = pumped();
    config.streams[1].fd = 1;
    refused(&config, -EINVAL, RDAEMON_STEP_REDIRECT_STDIO);
    config = pumped();
    config.streams[1].mode = 0600;
    refused(&config, -EINVAL, RDAEMON_STEP_REDIRECT_STDIO);
    config = pumped();
    config.streams[1].open_flags = O_TRUNC;
    refused(&config, -EINVAL, RDAEMON_STEP_REDIRECT_STDIO);
}

TEST(a_spawned_program_cannot_have_it) {
    SPAWN_BADLY(RDAEMON_STEP_CONFIG, -EINVAL, .argv = STRINGS("/bin/true"),
                .streams[1] = {.action = RDAEMON_STREAM_SYSLOG});
    SPAWN_BADLY(RDAEMON_STEP_CONFIG, -EINVAL, .argv = STRINGS("/bin/true"),
                .streams[2] = {.action = RDAEMON_STREAM_SYSLOG});
    struct rdaemon_fd_mapping mapping = {.child_fd = 9,
                                         .source = {.action = RDAEMON_STREAM_SYSLOG}};
    SPAWN_BADLY(RDAEMON_STEP_CONFIG, -EINVAL, .argv = STRINGS("/bin/true"), .fd_map = &mapping,
                .fd_map_len = 1);
}

/* ---- failures ---- */

TEST(without_a_server_the_start_fails) {
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    struct rdaemon_config config = pumped();
    config.pidfile = scratch_path("pid");
    start_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ENOENT);
    close(listen_at(path));
    start_badly(&config, RDAEMON_STEP_OPEN_STREAMS, -ECONNREFUSED);
    CHECK_INT(first_child_of(getpid()), 0);
}

TEST(later_starts_without_a_server) {
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    told_gate = gate_new();
    second_gate = gate_new();
    struct rdaemon_config config = pumped();
    config.syslog.flags |= RDAEMON_SYSLOG_LATER;
    gate_open(told_gate);
    start_well(&started, &config, says_its_last_words);
    lived(&started);
    while (find_children(pumps, 1) > 0)
        CHECK_INT(wait_for_exit(pumps[0]), 0);
    told_gate = gate_new();
    start_well(&started, &config, says_its_last_words);
    receiver = receiver_start(path);
    gate_open(told_gate);
    lived(&started);
    for (int i = 0; strcmp(receiver_message(&receiver, i), of_daemon(LOG_INFO, "last words")); i++)
        continue;
    all_ends();
}

/* The pump is no child of the caller, and ends by itself: as its last writer has gone. */
TEST(a_failure_of_a_later_step_ends_the_pump) {
    begin_receiving();
    struct rdaemon_config config = pumped();
    config.pidfile = scratch_path("pid");
    config.working_directory = scratch_path("missing");
    start(&started, &config, NULL);
    CHECK_INT(started.result, -ENOENT);
    CHECK_INT(started.status.step, RDAEMON_STEP_CHDIR);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_STR(tree(scratch()), "log");
    all_ends();
    CHECK_INT(receiver_count(&receiver), 0);
}

static bool makes_a_process(long number) {
    const char *name = trace_call_name(number);
    return strcmp(name, "clone") == 0 || strcmp(name, "clone3") == 0 || strcmp(name, "fork") == 0 ||
           strcmp(name, "vfork") == 0;
}

static void do_nothing(void *context) {
    (void)context;
}

/* The daemon makes no other processes than pumps, so each call that makes one is denied in turn. */
TEST(a_process_for_the_pump_is_denied, .time_limit_ms = 60000) {
    struct traced traced;
    int denied = 0;
    if (!trace_can_fail_calls())
        SKIP_PLATFORM("calls cannot be made to fail on this architecture yet");
    traced_init(&traced);
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    int server = listen_at(path);
    traced.config.streams[1] = traced.config.streams[2] =
        (struct rdaemon_stream){.action = RDAEMON_STREAM_SYSLOG};
    traced.config.syslog = pumped().syslog;
    traced.request.role = TRACE_DAEMON;
    int calls = traced_calls(&traced, TRACE_DAEMON);
    for (int i = 1; i <= calls; i++) {
        traced.request.index = i;
        traced.request.action = TRACE_DO;
        traced.request.deed = do_nothing;
        traced_run(&traced);
        if (!makes_a_process(traced.trace.acted_on))
            continue;
        traced.request.action = TRACE_ERROR;
        traced.request.value = EAGAIN;
        traced.compare = true;
        traced_run(&traced);
        traced.compare = false;
        CHECK(!traced.trace.hung);
        CHECK_INT(traced.original->result, -EAGAIN);
        CHECK_INT(traced.original->status.step, RDAEMON_STEP_LOG_PUMP);
        CHECK(!*traced.changed);
        CHECK_STR(tree(scratch()), "log");
        denied++;
    }
    CHECK(denied > 0);
    NOTE("%d processes of the daemon denied", denied);
    close(server);
}

/* Kills a process at each of its system calls. The caller is told soon, a failed start leaves
 * nothing, and pumps end in any case: the tracer waits for them. Returns the failures. */
static int kill_at_each_call(enum trace_role role) {
    struct traced traced;
    int failures = 0;
    traced_init(&traced);
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    traced.config.streams[1] = traced.config.streams[2] =
        (struct rdaemon_stream){.action = RDAEMON_STREAM_SYSLOG};
    traced.config.syslog = pumped().syslog;
    traced.config.syslog.flags |= RDAEMON_SYSLOG_LATER; /* so that no file is in the directory */
    int calls = traced_calls(&traced, role);
    traced.request.action = TRACE_SIGNAL;
    traced.request.role = role;
    traced.request.value = SIGKILL;
    for (int i = 0; i <= calls; i++) {
        traced.request.index = i;
        traced_run(&traced);
        const struct start *told = traced.original;
        if (traced.trace.hung || !traced.trace.of[TRACE_ORIGINAL].returned)
            FAIL("%s: something hung", traced_where(&traced));
        if (traced.trace.answered_ms > 2000)
            FAIL("%s: answered after %.0f ms", traced_where(&traced), traced.trace.answered_ms);
        if (told->result > 0)
            continue;
        failures++;
        if (told->result != -ESRCH || tree(scratch())[0])
            FAIL("%s: failed with %s, left %s", traced_where(&traced), error_name(told->result),
                 tree(scratch()));
        if (role == TRACE_OTHER)
            CHECK_INT(told->status.step, RDAEMON_STEP_LOG_PUMP);
    }
    return failures;
}

TEST(the_daemon_killed_at_each_system_call, .time_limit_ms = 60000) {
    CHECK(kill_at_each_call(TRACE_DAEMON) > 30);
}

TEST(the_intermediate_killed_at_each_system_call, .time_limit_ms = 60000) {
    CHECK(kill_at_each_call(TRACE_INTERMEDIATE) > 0);
}

TEST(the_pump_killed_at_each_system_call, .time_limit_ms = 60000) {
    CHECK(kill_at_each_call(TRACE_OTHER) > 0);
}

/* ---- rdaemon_log_pump ---- */

static struct rdaemon_syslog handle;

static void open_handle(uint32_t flags) {
    struct rdaemon_syslog_options options = {
        .flags = flags | RDAEMON_SYSLOG_PID, .ident = "served", .path = path};
    CHECK_INT(rdaemon_syslog_open(RDAEMON_SIZED(&options), RDAEMON_SIZED(&handle)), 0);
}

static int pump_with(int priority, const struct rdaemon_identity *identity) {
    return QUIET(rdaemon_log_pump(RDAEMON_SIZED(&handle), priority, identity,
                                  identity ? sizeof *identity : 0));
}

/* Starts a receiver and a pump; returns the fd. */
static int begin_pump(int priority) {
    begin_receiving();
    open_handle(0);
    CHECK_STR(open_fds(0), "0 1 2 3");
    int fd = pump_with(priority, NULL);
    CHECK(fd >= 4);
    CHECK(fd_is_cloexec(fd));
    CHECK_INT(strlen(open_fds(0)), strlen("0 1 2 3 4"));
    CHECK_INT(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY);
    return fd;
}

static const char *mine(int level, const char *text) {
    return message(level, getpid(), text);
}

TEST(pump_logs_what_is_written) {
    int fd = begin_pump(LOG_NOTICE);
    say_to(fd, "one\n<3>two\nthree");
    close(fd);
    comes(0, mine(LOG_NOTICE, "one"));
    comes(1, mine(LOG_ERR, "two"));
    comes(2, mine(LOG_NOTICE, "three"));
    all_ends();
}

TEST(pump_takes_a_facility_with_the_priority) {
    int fd = begin_pump(LOG_LOCAL7 | LOG_DEBUG);
    say_to(fd, "one\n<3>two\n");
    close(fd);
    char line[64];
    snprintf(line, sizeof line, "<191>served[%d]: one", (int)getpid());
    comes(0, line);
    snprintf(line, sizeof line, "<187>served[%d]: two", (int)getpid());
    comes(1, line);
    all_ends();
}

TEST(pump_needs_the_handle_no_longer) {
    int fd = begin_pump(LOG_INFO);
    CHECK_INT(rdaemon_syslog_close(RDAEMON_SIZED(&handle)), 0);
    say_to(fd, "one\n");
    comes(0, mine(LOG_INFO, "one"));
    receiver_end(&receiver);
    receiver = receiver_start(path);
    say_to(fd, "two\n");
    comes(0, mine(LOG_INFO, "two"));
    close(fd);
    all_ends();
}

TEST(pump_leaves_the_handle_as_it_is) {
    begin_receiving();
    open_handle(0);
    struct rdaemon_syslog before = handle;
    int fd = pump_with(LOG_INFO, NULL);
    CHECK(memcmp(&handle, &before, sizeof handle) == 0);
    CHECK_INT(rdaemon_syslog(RDAEMON_SIZED(&handle), LOG_INFO, "mine", 4), 0);
    comes(0, mine(LOG_INFO, "mine"));
    close(fd);
    all_ends();
}

TEST(pump_does_not_tell_of_the_lines_that_the_handle_has_lost) {
    begin_receiving();
    open_handle(0);
    handle.lost = 5;
    int fd = pump_with(LOG_INFO, NULL);
    say_to(fd, "one\ntwo\n");
    close(fd);
    comes(0, mine(LOG_INFO, "one"));
    comes(1, mine(LOG_INFO, "two"));
    CHECK_INT(handle.lost, 5);
    CHECK_INT(rdaemon_syslog(RDAEMON_SIZED(&handle), LOG_INFO, "mine", 4), 0);
    CHECK_INT(handle.lost, 0);
    all_ends();
}

TEST(pump_has_a_cloexec_fd_that_is_no_standard_one) {
    begin_receiving();
    open_handle(0);
    IN_CHILD {
        for (int i = 0; i < 3; i++)
            close(i);
        int fd = pump_with(LOG_INFO, NULL);
        CHECK(fd >= 3);
        CHECK(fd_is_cloexec(fd));
        for (int i = 0; i < 3; i++)
            CHECK(!fd_is_open(i));
        say_to(fd, "one\n");
        comes(0, mine(LOG_INFO, "one"));
    }
    all_ends();
}

TEST(pump_is_not_a_child_and_has_no_other_fds) {
    begin_receiving();
    open_handle(0);
    file_at(20);
    int fd = -1;
    struct gate *look = gate_new();
    pid_t child = fork_child();
    if (child == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 0);
        fd = pump_with(LOG_INFO, NULL);
        CHECK_INT(first_child_of(getpid()), 0);
        CHECK_INT(waitpid(-1, NULL, __WALL | WNOHANG), -1);
        say_to(fd, "one\n");
        gate_wait(look);
        _exit(0);
    }
    started.result = child;
    comes(0, message(LOG_INFO, child, "one"));
    for (int count = find_pumps(), i = 0; i < count; i++) {
        has_no_other_fds(pumps[i]);
        takes_no_signals(pumps[i]);
    }
    gate_open(look);
    CHECK_INT(wait_for_exit(child), 0);
    all_ends();
}

TEST(pump_of_a_caller_that_ignores_or_blocks_signals) {
    begin_receiving();
    open_handle(0);
    IN_CHILD {
        sigset_t all, now;
        sigfillset(&all);
        signal(SIGCHLD, SIG_IGN);
        CHECK_INT(sigprocmask(SIG_SETMASK, &all, NULL), 0);
        int fd = pump_with(LOG_INFO, NULL);
        CHECK(fd >= 3);
        CHECK_INT(sigprocmask(SIG_SETMASK, NULL, &now), 0);
        CHECK(sigismember(&now, SIGUSR1));
        CHECK(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
        say_to(fd, "one\n");
        comes(0, mine(LOG_INFO, "one"));
    }
    all_ends();
}

TEST(pump_with_the_rights_of_another) {
    REQUIRE_ROOT();
    begin_receiving();
    open_handle(0);
    struct rdaemon_identity identity = {
        .flags = RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID, .uid = TEST_UID, .gid = TEST_GID};
    int fd = pump_with(LOG_INFO, &identity);
    CHECK(fd >= 3);
    say_to(fd, "one\n");
    comes(0, mine(LOG_INFO, "one"));
    for (int count = find_pumps(), i = 0; i < count; i++) {
        char ids[64];
        snprintf(ids, sizeof ids, "%d %d %d %d", TEST_UID, TEST_UID, TEST_UID, TEST_UID);
        CHECK_STR(status_field(pumps[i], "Uid"), ids);
        snprintf(ids, sizeof ids, "%d %d %d %d", TEST_GID, TEST_GID, TEST_GID, TEST_GID);
        CHECK_STR(status_field(pumps[i], "Gid"), ids);
        CHECK_STR(status_field(pumps[i], "Groups"), "");
    }
    close(fd);
    all_ends();
}

TEST(pump_with_rights_that_cannot_be_had_is_refused) {
    begin_receiving();
    open_handle(0);
    CHECK(chmod(scratch(), 0777) == 0);
    IN_CHILD {
        become_user();
        struct rdaemon_identity identity = {.flags = RDAEMON_IDENTITY_UID, .uid = getuid() + 1};
        CHECK_INT(pump_with(LOG_INFO, &identity), -EPERM);
    }
    CHECK_INT(find_children(pumps, 1), 0);
    all_ends();
}

TEST(pump_for_a_spawned_program) {
    int fd = begin_pump(LOG_INFO);
    rdaemon_syslog_close(RDAEMON_SIZED(&handle));
    struct rdaemon_child child = begin_program(
        &(Config){THE_PROGRAM("sh", "-c", "echo one; echo '<3>two' >&2; printf three"),
                  .streams = {{0}, fd_stream(fd), {.action = RDAEMON_STREAM_SAME_AS_STDOUT}}});
    close(fd);
    exited_with(&child, 0);
    comes(0, mine(LOG_INFO, "one"));
    comes(1, mine(LOG_ERR, "two"));
    comes(2, mine(LOG_INFO, "three"));
    CHECK_INT(rdaemon_child_close(RDAEMON_SIZED(&child)), 0);
    all_ends();
}

TEST(pump_for_the_own_streams) {
    begin_receiving();
    IN_CHILD {
        open_handle(0);
        int fd = pump_with(LOG_INFO, NULL);
        CHECK_INT(rdaemon_redirect_stdio(RDAEMON_FD_INHERIT, fd, fd), 0);
        close(fd);
        printf("printed\n");
        fflush(stdout);
    }
    receiver_message(&receiver, 0);
    CHECK(strstr(receiver_message(&receiver, 0), ": printed") != NULL);
    all_ends();
}

TEST(pump_with_a_handle_that_waits_for_its_server) {
    snprintf(path, sizeof path, "%s", scratch_path("log"));
    open_handle(RDAEMON_SYSLOG_LATER);
    int fd = pump_with(LOG_INFO, NULL);
    CHECK(fd >= 3);
    receiver = receiver_start(path);
    say_to(fd, "one\n");
    comes(0, mine(LOG_INFO, "one"));
    close(fd);
    all_ends();
}

TEST(pump_refuses_bad_arguments) {
    static const int bad[] = {-1, INT_MAX, 0x400, 24 << 3};
    struct rdaemon_identity identity = {.flags = 1U << 31};
    begin_receiving();
    open_handle(0);
    for (size_t i = 0; i < LENGTH(bad); i++)
        CHECK_REFUSED(rdaemon_log_pump(RDAEMON_SIZED(&handle), bad[i], NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_log_pump(NULL, 0, LOG_INFO, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_log_pump(&handle, sizeof handle - 1, LOG_INFO, NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_log_pump(RDAEMON_SIZED(&handle), LOG_INFO, RDAEMON_SIZED(&identity)),
                  -EINVAL);
    CHECK_REFUSED(rdaemon_log_pump(RDAEMON_SIZED(&handle), LOG_INFO, NULL, sizeof identity),
                  -EINVAL);
    CHECK_INT(rdaemon_syslog_close(RDAEMON_SIZED(&handle)), 0);
    CHECK_REFUSED(rdaemon_log_pump(RDAEMON_SIZED(&handle), LOG_INFO, NULL, 0), -EINVAL);
    memset(&handle, 0, sizeof handle);
    CHECK_REFUSED(rdaemon_log_pump(RDAEMON_SIZED(&handle), LOG_INFO, NULL, 0), -EINVAL);
    all_ends();
}

TEST(pump_without_a_process_or_an_fd_leaves_nothing) {
    begin_receiving();
    open_handle(0);
    IN_CHILD {
        struct rlimit none = {5, 5};
        CHECK_STR(open_fds(0), "0 1 2 3");
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
        CHECK_REFUSED(rdaemon_log_pump(RDAEMON_SIZED(&handle), LOG_INFO, NULL, 0), -EMFILE);
    }
    IN_CHILD {
        deny_every_fork();
        CHECK_REFUSED(rdaemon_log_pump(RDAEMON_SIZED(&handle), LOG_INFO, NULL, 0), -EAGAIN);
    }
    all_ends();
}
