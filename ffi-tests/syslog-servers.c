/* Real servers behind rdaemon_syslog and RDAEMON_STREAM_SYSLOG: rsyslogd, and busybox's syslogd. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>

#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

enum { PATIENCE_MS = 20000 };

/* ---- the servers ---- */

static char path[512];     /* the socket */
static char log_file[512]; /* where the server puts the lines */
static const char *option; /* what is given to the library: NULL for the system's own socket */
static char program[64];
static char configuration[512], pid_file[512];
static pid_t server;

static void find_program(const char *name) {
    static const char *const directories[] = {"/usr/sbin", "/usr/bin", "/sbin", "/bin"};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(program, sizeof program, "%s/%s", directories[i], name);
        if (access(program, X_OK) == 0)
            return;
    }
    SKIP("no %s", name);
}

static void run_server(void) {
    char *const rsyslogd[] = {program, "-n", "-f", configuration, "-i", pid_file, NULL};
    char *const busybox[] = {program, "syslogd", "-n", "-O", log_file, NULL};
    server = fork_child();
    if (server == 0) {
        execv(program, strstr(program, "rsyslogd") ? rsyslogd : busybox);
        _exit(127);
    }
}

static const char *whole_log(void) {
    static char *text;
    struct stat status;
    int fd = open(log_file, O_RDONLY | O_CLOEXEC);
    free(text);
    text = calloc(1, 1);
    if (fd < 0)
        return text;
    CHECK_INT(fstat(fd, &status), 0);
    text = realloc(text, (size_t)status.st_size + 1);
    ssize_t length = read(fd, text, (size_t)status.st_size);
    CHECK(length >= 0);
    text[length] = '\0';
    close(fd);
    return text;
}

static bool is_logged(const char *line) {
    return strstr(whole_log(), line) != NULL;
}

/* Looks again and again, as a server tells nobody what it has done. */
static void until(bool (*condition)(const char *), const char *argument) {
    for (double begin = now_ms(); !condition(argument); poll(NULL, 0, 2))
        if (now_ms() - begin > PATIENCE_MS)
            FAIL("in vain waited for: %s", argument);
}

/* Sends a message past the library; it is there once the server listens. */
static bool probe_is_logged(const char *message) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    sendto(client, message, strlen(message), 0, (struct sockaddr *)&address, sizeof address);
    close(client);
    return is_logged(strchr(message, '>') + 1);
}

static void start_server(void) {
    static int starts;
    char message[64];
    run_server();
    snprintf(message, sizeof message, "<30>probe: number %d", ++starts);
    until(probe_is_logged, message);
}

static void stop_server(void) {
    CHECK_INT(kill(server, SIGTERM), 0);
    wait_for_exit(server);
}

/* Pumps end by themselves. */
static void end(void) {
    stop_server();
    while (waitpid(-1, NULL, __WALL) > 0)
        continue;
    CHECK_INT(errno, ECHILD);
}

/* What comes before the text in the file is of one form with both, but for busybox's time and host.
 */
static void begin_with_rsyslogd(void) {
    static const char form[] =
        "module(load=\"imuxsock\" SysSock.Use=\"off\")\n"
        "input(type=\"imuxsock\" Socket=\"%s\")\n"
        "template(name=\"form\" type=\"string\""
        " string=\"%%syslogfacility-text%%.%%syslogseverity-text%% %%syslogtag%%%%msg%%\\n\")\n"
        "action(type=\"omfile\" file=\"%s\" template=\"form\")\n";
    char text[2048];
    find_program("rsyslogd");
    snprintf(path, sizeof path, "%s", scratch_path("socket"));
    snprintf(log_file, sizeof log_file, "%s", scratch_path("messages"));
    snprintf(pid_file, sizeof pid_file, "%s", scratch_path("rsyslogd.pid"));
    snprintf(text, sizeof text, form, path, log_file);
    snprintf(configuration, sizeof configuration, "%s", make_file("rsyslog.conf", text));
    option = path;
    start_server();
}

/* It knows one place for its socket. */
static void begin_with_busybox(void) {
    char null[64];
    find_program("busybox");
    enter_mount_namespace();
    make_directory("dev", 0755);
    make_file("dev/null", "");
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    snprintf(null, sizeof null, "/proc/self/fd/%d", fd);
    mount_over(scratch_path("dev"), "/dev");
    mount_over(null, "/dev/null");
    close(fd);
    strcpy(path, "/dev/log");
    snprintf(log_file, sizeof log_file, "%s", scratch_path("messages"));
    option = NULL;
    start_server();
    if (is_logged("applet not found"))
        SKIP("this busybox has no syslogd");
}

/* ---- cases for both ---- */

#define TEST_WITH_EACH(test_name, ...)                                                             \
    static void test_name##_body(void);                                                            \
    TEST(rsyslogd_##test_name, __VA_ARGS__) {                                                      \
        begin_with_rsyslogd();                                                                     \
        test_name##_body();                                                                        \
        end();                                                                                     \
    }                                                                                              \
    TEST(busybox_##test_name, __VA_ARGS__) {                                                       \
        begin_with_busybox();                                                                      \
        test_name##_body();                                                                        \
        end();                                                                                     \
    }                                                                                              \
    static void test_name##_body(void)

static struct rdaemon_syslog handle;

static void open_handle(int facility) {
    struct rdaemon_syslog_options options = {
        .flags = RDAEMON_SYSLOG_PID, .facility = facility, .ident = "served", .path = option};
    CHECK_INT(rdaemon_syslog_open(RDAEMON_SIZED(&options), RDAEMON_SIZED(&handle)), 0);
}

static int log_text(int priority, const char *text) {
    return rdaemon_syslog(RDAEMON_SIZED(&handle), priority, text, strlen(text));
}

/* "daemon.info served[pid]: text" is a line, or the end of one. */
static void comes(const char *source, pid_t pid, const char *text) {
    char line[2048];
    snprintf(line, sizeof line, "%s served[%d]: %s\n", source, (int)pid, text);
    until(is_logged, line);
}

TEST_WITH_EACH(tells_facility_level_ident_and_pid, .time_limit_ms = 60000) {
    static const struct {
        int priority;
        const char *name;
    } sources[] = {{LOG_INFO, "daemon.info"},
                   {LOG_ERR, "daemon.err"},
                   {LOG_WARNING, "daemon.warn"},
                   {LOG_LOCAL7 | LOG_DEBUG, "local7.debug"},
                   {LOG_USER | LOG_NOTICE, "user.notice"},
                   {LOG_MAIL | LOG_CRIT, "mail.crit"}};
    open_handle(0);
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s", sources[i].name);
        if (strstr(name, ".warn") && option)
            strcat(name, "ing"); /* as rsyslogd writes it */
        CHECK_INT(log_text(sources[i].priority, "hello, world"), 0);
        comes(name, getpid(), "hello, world");
    }
}

TEST_WITH_EACH(takes_text_as_it_is, .time_limit_ms = 60000) {
    static const char *const texts[] = {"a: b[1]: c",    "Nov 21 14:00:00 host other: x",
                                        "<3>x",          "100 % \xe2\x82\xac",
                                        "a\\x00b\\x1bc", "- - - [x y=\"z\"]",
                                        "x   y  z  .",   "\"quoted\" \\ and so on"};
    open_handle(LOG_LOCAL0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        CHECK_INT(log_text(LOG_INFO, texts[i]), 0);
        comes("local0.info", getpid(), texts[i]);
    }
}

static void speaks_on_both(const struct start *start) {
    (void)start;
    CHECK_INT(write(STDOUT_FILENO, "out\n<4>careful\n", 15), 15);
    CHECK_INT(write(STDERR_FILENO, "err\nlast words", 14), 14);
}

static struct rdaemon_config pumped(void) {
    struct rdaemon_config config = {
        .streams[1] = {.action = RDAEMON_STREAM_SYSLOG},
        .streams[2] = {.action = RDAEMON_STREAM_SYSLOG},
        .syslog = {.flags = RDAEMON_SYSLOG_PID, .ident = "served", .path = option}};
    return config;
}

TEST_WITH_EACH(gets_the_streams_of_a_daemon, .time_limit_ms = 60000) {
    struct rdaemon_config config = pumped();
    struct start started;
    start_well(&started, &config, speaks_on_both);
    lived(&started);
    comes("daemon.info", started.result, "out");
    comes(option ? "daemon.warning" : "daemon.warn", started.result, "careful");
    comes("daemon.err", started.result, "err");
    comes("daemon.err", started.result, "last words");
}

/* ---- restarts ---- */

struct stream {
    atomic_int sent;  /* lines 0 to sent - 1 have been logged */
    atomic_int limit; /* there is no line of this number */
};
static struct stream *stream;

/* Logs line after line, faster than any server is restarted. */
static void send_lines(void (*send)(const char *line)) {
    for (int i = 0; i < atomic_load(&stream->limit); i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d\n", i);
        send(line);
        atomic_store(&stream->sent, i + 1);
        poll(NULL, 0, 1);
    }
}

static bool has_sent(const char *count) {
    return atomic_load(&stream->sent) >= atoi(count);
}

static void until_sent(int count) {
    char text[16];
    snprintf(text, sizeof text, "%d", count);
    until(has_sent, text);
}

static void line_comes(pid_t pid, int number) {
    char line[32];
    snprintf(line, sizeof line, "line %d", number);
    comes("daemon.info", pid, line);
}

/* Stops and starts the server while the process logs. From the moment on in which the new server is
 * known to listen, all lines come: once, and in order. */
static void restart_while_it_logs(pid_t pid) {
    enum { AFTER = 200 };
    line_comes(pid, 10);
    stop_server();
    until_sent(atomic_load(&stream->sent) + 20);
    start_server();
    /* The one of that number may have been on its way before. */
    int first = atomic_load(&stream->sent) + 1;
    atomic_store(&stream->limit, first + AFTER);
    line_comes(pid, first + AFTER - 1);
    const char *place = whole_log();
    for (int i = first; i < first + AFTER; i++) {
        char line[64];
        int length = snprintf(line, sizeof line, "served[%d]: line %d\n", (int)pid, i);
        const char *found = strstr(place, line);
        if (!found)
            FAIL("line %d is lost, or comes late; the first after the restart is %d", i, first);
        place = found + length;
        CHECK(strstr(place, line) == NULL);
    }
    CHECK(is_logged(" lines lost\n"));
}

static void begin_stream(void) {
    stream = shared_memory(sizeof *stream);
    atomic_store(&stream->limit, 1 << 30);
}

static void log_line(const char *line) {
    log_text(LOG_INFO, line);
}

TEST_WITH_EACH(gets_all_lines_after_a_restart, .time_limit_ms = 60000) {
    begin_stream();
    open_handle(0);
    pid_t child = fork_child();
    if (child == 0) {
        send_lines(log_line);
        CHECK_INT(handle.lost, 0);
        _exit(0);
    }
    restart_while_it_logs(child);
    CHECK_INT(wait_for_exit(child), 0);
}

static void print_line(const char *line) {
    CHECK_INT(write(STDOUT_FILENO, line, strlen(line)), strlen(line));
}

static void prints_lines(const struct start *start) {
    (void)start;
    send_lines(print_line);
}

TEST_WITH_EACH(gets_all_lines_of_a_daemon_after_a_restart, .time_limit_ms = 60000) {
    struct rdaemon_config config = pumped();
    struct start started;
    begin_stream();
    start_well(&started, &config, prints_lines);
    restart_while_it_logs(started.result);
    lived(&started);
}

/* ---- long lines ---- */

TEST_WITH_EACH(gets_a_long_line_in_pieces, .time_limit_ms = 60000) {
    char text[5001], prefix[64], joined[6000] = "";
    open_handle(0);
    for (size_t i = 0; i < 5000; i++)
        text[i] = (char)('a' + i / 7 % 26);
    text[5000] = '\0';
    snprintf(prefix, sizeof prefix, "daemon.info served[%d]: ", (int)getpid());
    CHECK_INT(log_text(LOG_INFO, text), 0);
    CHECK_INT(log_text(LOG_INFO, "end"), 0);
    comes("daemon.info", getpid(), "end");
    for (const char *place = strstr(whole_log(), prefix); place; place = strstr(place, prefix)) {
        place += strlen(prefix);
        strncat(joined, place, strcspn(place, "\n"));
    }
    CHECK_INT(strlen(joined), 5003);
    CHECK(strncmp(joined, text, 5000) == 0);
}
