/* rdaemon_syslog_open, rdaemon_syslog and rdaemon_syslog_close, with a server of the case's own. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>

#include "probe.h"
#include "program.h"
#include "rdaemon.h"
#include "receiver.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

static struct rdaemon_syslog handle;
static char path[512];

static int open_with(struct rdaemon_syslog_options options) {
    return QUIET(rdaemon_syslog_open(RDAEMON_SIZED(&options), RDAEMON_SIZED(&handle)));
}
#define OPEN_WITH(...) open_with((struct rdaemon_syslog_options){__VA_ARGS__})

static int log_bytes(int priority, const char *text, size_t length) {
    return QUIET(rdaemon_syslog(RDAEMON_SIZED(&handle), priority, text, length));
}

static int log_text(const char *text) {
    return log_bytes(LOG_INFO, text, strlen(text));
}

static int close_handle(void) {
    return QUIET(rdaemon_syslog_close(RDAEMON_SIZED(&handle)));
}

static void set_path(void) {
    snprintf(path, sizeof path, "%s", scratch_path("log"));
}

static void open_well(void) {
    CHECK_INT(OPEN_WITH(.flags = RDAEMON_SYSLOG_PID, .ident = "served", .path = path), 0);
}

/* A server, which is returned, and a handle for it. */
static int begin(void) {
    set_path();
    int server = listen_at(path);
    open_well();
    return server;
}

/* "<PRI>served[pid]: text" of this process. Valid until the eighth call after. */
static const char *message(int priority, const char *text) {
    static char messages[8][1200];
    static unsigned turn;
    char *place = messages[turn++ % 8];
    snprintf(place, sizeof messages[0], "<%d>served[%d]: %s", priority, (int)getpid(), text);
    return place;
}

static const char *info(const char *text) {
    return message(LOG_DAEMON | LOG_INFO, text);
}

/* The number of lines lost comes next, and then the line. */
static void comes_with_count(int server, const char *text, int lost) {
    char count[32];
    snprintf(count, sizeof count, "%d lines lost", lost);
    CHECK_STR(received(server), message(LOG_DAEMON | LOG_WARNING, count));
    CHECK_STR(received(server), info(text));
    CHECK_INT(handle.lost, 0);
}

/* ---- a message ---- */

TEST(a_message_is_priority_tag_and_text) {
    int server = begin();
    char expected[128];
    CHECK_INT(log_text("hello"), 0);
    snprintf(expected, sizeof expected, "<30>served[%d]: hello", (int)getpid());
    CHECK_STR(received(server), expected);
    CHECK_INT(drained(server), 0);
}

TEST(without_the_flag_no_pid_is_told) {
    set_path();
    int server = listen_at(path);
    CHECK_INT(OPEN_WITH(.ident = "served", .path = path), 0);
    CHECK_INT(log_text("hello"), 0);
    CHECK_STR(received(server), "<30>served: hello");
}

TEST(every_level) {
    int server = begin();
    for (int level = LOG_EMERG; level <= LOG_DEBUG; level++) {
        CHECK_INT(log_bytes(level, "x", 1), 0);
        CHECK_STR(received(server), message(LOG_DAEMON | level, "x"));
    }
}

TEST(every_facility_in_the_handle) {
    set_path();
    int server = listen_at(path);
    for (int facility = LOG_USER; facility <= LOG_LOCAL7; facility += LOG_USER) {
        CHECK_INT(OPEN_WITH(.flags = RDAEMON_SYSLOG_PID, .facility = facility, .ident = "served",
                            .path = path),
                  0);
        CHECK_INT(log_text("x"), 0);
        CHECK_STR(received(server), message(facility | LOG_INFO, "x"));
        CHECK_INT(close_handle(), 0);
    }
}

TEST(a_facility_in_the_priority_goes_before_that_of_the_handle) {
    int server = begin();
    CHECK_INT(log_bytes(LOG_LOCAL7 | LOG_DEBUG, "x", 1), 0);
    CHECK_STR(received(server), message(191, "x"));
    CHECK_INT(log_bytes(LOG_DEBUG, "x", 1), 0);
    CHECK_STR(received(server), message(LOG_DAEMON | LOG_DEBUG, "x"));
}

TEST(a_bad_priority_is_refused) {
    static const int bad[] = {-1, INT_MIN, INT_MAX, 0x400, 24 << 3, LOG_LOCAL7 << 3};
    int server = begin();
    for (size_t i = 0; i < LENGTH(bad); i++)
        CHECK_INT(log_bytes(bad[i], "x", 1), -EINVAL);
    CHECK_INT(drained(server), 0);
    CHECK_INT(handle.lost, 0);
}

TEST(the_longest_ident) {
    char ident[65], expected[256];
    set_path();
    int server = listen_at(path);
    memset(ident, '~', 63);
    ident[63] = '\0';
    CHECK_INT(OPEN_WITH(.ident = ident, .path = path), 0);
    CHECK_INT(log_text("x"), 0);
    snprintf(expected, sizeof expected, "<30>%s: x", ident);
    CHECK_STR(received(server), expected);
}

TEST(a_process_forked_from_the_opener_tells_its_own_pid) {
    int server = begin();
    IN_CHILD {
        CHECK_INT(log_text("x"), 0);
        CHECK_STR(received(server), info("x"));
    }
}

TEST(text_needs_no_nul_and_is_not_read_beyond_its_length) {
    int server = begin();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK_INT(mprotect(memory + page, page, PROT_NONE), 0);
    for (size_t length = 1; length <= 5; length++) {
        memcpy(memory + page - length, "\xf0\x90\x8d\x88 \n" + 5 - length, length);
        CHECK_INT(log_bytes(LOG_INFO, memory + page - length, length), 0);
        received(server);
    }
    CHECK_INT(log_bytes(LOG_INFO, "hello, world", 5), 0);
    CHECK_STR(received(server), info("hello"));
}

TEST(a_prefix_is_text_here) {
    int server = begin();
    CHECK_INT(log_text("<3>x"), 0);
    CHECK_STR(received(server), info("<3>x"));
}

/* ---- lines ---- */

TEST(each_line_is_a_message) {
    int server = begin();
    CHECK_INT(log_text("one\ntwo\nthree"), 0);
    CHECK_STR(received(server), info("one"));
    CHECK_STR(received(server), info("two"));
    CHECK_STR(received(server), info("three"));
    CHECK_INT(drained(server), 0);
}

TEST(a_final_newline_makes_no_message) {
    int server = begin();
    CHECK_INT(log_text("one\n"), 0);
    CHECK_STR(received(server), info("one"));
    CHECK_INT(drained(server), 0);
}

TEST(blank_lines_and_no_text_make_no_message) {
    int server = begin();
    CHECK_INT(log_text(""), 0);
    CHECK_INT(log_bytes(LOG_INFO, NULL, 0), 0);
    CHECK_INT(log_text("\n"), 0);
    CHECK_INT(log_text("\n\n\n"), 0);
    CHECK_INT(log_text("\n\none\n\n\ntwo\n\n"), 0);
    CHECK_STR(received(server), info("one"));
    CHECK_STR(received(server), info("two"));
    CHECK_INT(drained(server), 0);
    CHECK_INT(log_bytes(LOG_INFO, NULL, 1), -EINVAL);
}

TEST(control_bytes_are_escaped_but_not_tabs) {
    int server = begin();
    char all[256];
    size_t length = 0;
    for (int byte = 0; byte < 0x80; byte++)
        if (byte != '\n')
            all[length++] = (char)byte;
    CHECK_INT(log_bytes(LOG_INFO, all, length), 0);
    CHECK_STR(received(server), info(escaped(all, length)));
    CHECK_INT(log_bytes(LOG_INFO, "a\0b\033[1mc\177\td\r\n", 13), 0);
    CHECK_STR(received(server), info("a\\x00b\\x1b[1mc\\x7f\td\\x0d"));
}

/* ---- long lines ---- */

static struct receiver receiver;

static void begin_receiving(void) {
    set_path();
    receiver = receiver_start(path);
    open_well();
}

/* Logs one line, and checks that all of it comes: in pieces of which each but the last has at least
 * `least` bytes, after `*next` messages. */
static void comes_in_pieces(const char *text, size_t length, int *next, size_t least) {
    const char *whole = escaped(text, length);
    int first = *next;
    CHECK_INT(log_bytes(LOG_INFO, text, length), 0);
    CHECK(strcmp(reassembled(&receiver, next, info(""), strlen(whole)), whole) == 0);
    for (int i = first; i < *next - 1; i++)
        CHECK(strlen(receiver_message(&receiver, i)) >= least);
}

/* What may be left free by a piece of 1024 bytes: three of a character, and what other priorities
 * and pids may take. */
enum { LEAST = 1024 - 3 - 10 };

TEST(a_line_that_fits_is_not_split) {
    static char text[1025];
    begin_receiving();
    size_t prefix = strlen(info(""));
    memset(text, 'x', sizeof text);
    int next = 0;
    comes_in_pieces(text, LEAST - prefix, &next, LEAST);
    CHECK_INT(next, 1);
    comes_in_pieces(text, 1025 - prefix, &next, LEAST);
    CHECK_INT(next, 3);
    receiver_end(&receiver);
}

static bool is_utf8(const char *text) {
    for (const unsigned char *byte = (const unsigned char *)text; *byte;) {
        int more = *byte < 0x80 ? 0 : *byte < 0xc2 ? -1 : *byte < 0xe0 ? 1 : *byte < 0xf0 ? 2 : 3;
        if (more < 0)
            return false;
        for (byte++; more > 0; more--, byte++)
            if (*byte >> 6 != 2)
                return false;
    }
    return true;
}

TEST(a_line_is_not_split_within_a_character) {
    static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x90\x8d\x88"};
    begin_receiving();
    int next = 0;
    for (size_t i = 0; i < LENGTH(characters); i++)
        for (int shift = 0; shift < 4; shift++) {
            char text[4096];
            int length = sprintf(text, "%.*s", shift, "xxx"), first = next;
            while (length < 4000)
                length += sprintf(text + length, "%s", characters[i]);
            comes_in_pieces(text, (size_t)length, &next, LEAST);
            for (int piece = first; piece < next; piece++)
                CHECK(is_utf8(receiver_message(&receiver, piece)));
        }
    receiver_end(&receiver);
}

TEST(bytes_that_are_no_characters_are_split_somewhere) {
    static const unsigned char bytes[] = {0x80, 0xbf, 0xc3, 0xe2, 0xf0, 0xff};
    begin_receiving();
    int next = 0;
    for (size_t i = 0; i < LENGTH(bytes); i++) {
        char text[4096];
        memset(text, bytes[i], sizeof text);
        comes_in_pieces(text, sizeof text, &next, LEAST);
        for (size_t k = 1; k < sizeof text; k += 2)
            text[k] = 'x';
        comes_in_pieces(text, sizeof text, &next, LEAST);
    }
    for (size_t shift = 0; shift < 7; shift++) { /* a first byte with too many behind it */
        char text[4096];
        memset(text, 0x80, sizeof text);
        for (size_t k = shift; k < sizeof text; k += 7)
            text[k] = (char)0xc3;
        comes_in_pieces(text, sizeof text, &next, LEAST);
    }
    receiver_end(&receiver);
}

TEST(an_escape_is_not_split) {
    begin_receiving();
    int next = 0;
    for (int shift = 0; shift < 4; shift++) {
        char text[2048] = "xxx";
        int first = next;
        comes_in_pieces(text + 3 - shift, 1500, &next, LEAST);
        for (int i = first; i < next; i++)
            CHECK_INT((strlen(receiver_message(&receiver, i)) - strlen(info("")) -
                       (size_t)(i == first ? shift : 0)) %
                          4,
                      0);
    }
    receiver_end(&receiver);
}

TEST(an_escape_before_bytes_that_go_on_is_not_split) {
    begin_receiving();
    int next = 0;
    for (int shift = 0; shift < 6; shift++) {
        char text[2048] = "xxxxxx";
        int first = next;
        for (size_t k = 6; k < sizeof text; k++)
            text[k] = k % 3 ? '\x01' : '\x80';
        comes_in_pieces(text + 6 - shift, 1500, &next, LEAST);
        for (int i = first + 1; i < next; i++) {
            char begins_with = receiver_message(&receiver, i)[strlen(info(""))];
            CHECK(begins_with == '\\' || begins_with == '\x80');
        }
    }
    receiver_end(&receiver);
}

/* A mebibyte that has a bit of everything, and its own position every few bytes. */
static char *mebibyte(void) {
    static const char mixture[] = "\0 \xf0\x90\x8d\x88\x1b<3> \xe2\x82\xac\0\0\x80\t";
    char *text = malloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i++)
        text[i] = i % 32 < 16 ? mixture[i % 32] : (char)('0' + (i >> (i % 8 * 3)) % 8);
    return text;
}

TEST(a_mebibyte_with_nuls_comes_whole_and_in_order) {
    begin_receiving();
    int next = 0;
    comes_in_pieces(mebibyte(), 1 << 20, &next, LEAST);
    CHECK_INT(log_text("after"), 0);
    CHECK_STR(receiver_message(&receiver, next), info("after"));
    CHECK_INT(handle.lost, 0);
    receiver_end(&receiver);
}

TEST(signals_do_not_lose_a_byte_of_a_mebibyte) {
    begin_receiving();
    int next = 0;
    begin_signal_storm();
    comes_in_pieces(mebibyte(), 1 << 20, &next, LEAST);
    end_signal_storm();
    CHECK(signals_of_the_storm() > 0);
    receiver_end(&receiver);
}

TEST(ten_thousand_lines_of_one_text) {
    begin_receiving();
    char *text = malloc(100000), *end = text;
    for (int i = 0; i < 10000; i++)
        end += sprintf(end, "line %d\n", i);
    CHECK_INT(log_text(text), 0);
    for (int i = 0; i < 10000; i++) {
        char line[32];
        sprintf(line, "line %d", i);
        CHECK_STR(receiver_message(&receiver, i), info(line));
    }
    receiver_end(&receiver);
}

/* ---- opening ---- */

TEST(the_fd_is_cloexec) {
    int server = begin();
    CHECK(fd_is_cloexec(handle.fd));
    close(server);
    listen_at(path);
    CHECK_INT(log_text("x"), 0);
    CHECK(fd_is_cloexec(handle.fd));
}

TEST(the_fd_is_no_standard_one) {
    IN_CHILD {
        begin();
        CHECK_INT(close_handle(), 0);
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        open_well();
        CHECK(handle.fd >= 3);
        CHECK(fd_is_cloexec(handle.fd));
        for (int fd = 0; fd < 3; fd++)
            CHECK(!fd_is_open(fd));
    }
}

TEST(a_new_connection_has_no_standard_fd_either) {
    IN_CHILD {
        int server = begin();
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        int again = listen_at(path);
        close(server);
        int moved = fcntl(again, F_DUPFD_CLOEXEC, 10);
        close(again);
        CHECK_INT(log_text("x"), 0);
        CHECK(handle.fd >= 3);
        CHECK(fd_is_cloexec(handle.fd));
        for (int fd = 0; fd < 3; fd++)
            CHECK(!fd_is_open(fd));
        CHECK_STR(received(moved), info("x"));
    }
}

#define CHECK_OPEN_REFUSED(error, ...)                                                             \
    do {                                                                                           \
        struct rdaemon_syslog_options options_ = {.ident = "served", .path = path};                \
        options_ = (struct rdaemon_syslog_options){__VA_ARGS__};                                   \
        struct rdaemon_syslog untouched_;                                                          \
        memset(&handle, 0xa5, sizeof handle);                                                      \
        memset(&untouched_, 0xa5, sizeof untouched_);                                              \
        CHECK_REFUSED(rdaemon_syslog_open(RDAEMON_SIZED(&options_), RDAEMON_SIZED(&handle)),       \
                      error);                                                                      \
        CHECK(memcmp(&handle, &untouched_, sizeof handle) == 0);                                   \
    } while (0)

TEST(nobody_listens) {
    set_path();
    CHECK_OPEN_REFUSED(-ENOENT, .ident = "served", .path = path);
    CHECK_OPEN_REFUSED(-ENOENT, .ident = "served", .path = scratch_path("missing/log"));
    close(listen_at(path));
    CHECK_OPEN_REFUSED(-ECONNREFUSED, .ident = "served", .path = path);
}

TEST(something_else_listens) {
    set_path();
    make_file("log", "");
    CHECK_OPEN_REFUSED(-ECONNREFUSED, .ident = "served", .path = path);
    CHECK_INT(unlink(path), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    CHECK_INT(bind(stream, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_INT(listen(stream, 5), 0);
    CHECK_OPEN_REFUSED(-EPROTOTYPE, .ident = "served", .path = path);
}

TEST(a_socket_that_may_not_be_written_to) {
    REQUIRE_ROOT();
    set_path();
    listen_at(path);
    CHECK_INT(chmod(path, 0600), 0);
    become_user();
    CHECK_OPEN_REFUSED(-EACCES, .ident = "served", .path = path);
}

TEST(a_bad_path_is_refused) {
    char longest[108];
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[107] = '\0';
    CHECK_OPEN_REFUSED(-ENOENT, .ident = "served", .path = longest);
    char too_long[109];
    memset(too_long, 'x', sizeof too_long);
    too_long[108] = '\0';
    CHECK_OPEN_REFUSED(-ENAMETOOLONG, .ident = "served", .path = too_long);
    CHECK_OPEN_REFUSED(-ENOENT, .ident = "served", .path = "");
}

TEST(a_path_of_107_bytes_can_be_served) {
    set_path();
    size_t length = strlen(path);
    memset(path + length, 'x', sizeof path - length);
    path[107] = '\0';
    int server = listen_at(path);
    open_well();
    CHECK_INT(log_text("x"), 0);
    CHECK_STR(received(server), info("x"));
    close(server);
    server = listen_at(path);
    CHECK_INT(log_text("y"), 0);
    CHECK_STR(received(server), info("y"));
}

TEST(a_bad_ident_is_refused) {
    static const char *const bad[] = {"",     " ",    "a b",  "a:",   ":",        "a[b",  "[",
                                      "a\tb", "a\nb", "\177", "\x01", "\xc3\xa9", "a\x80"};
    char too_long[65];
    set_path();
    listen_at(path);
    for (size_t i = 0; i < LENGTH(bad); i++)
        CHECK_OPEN_REFUSED(-EINVAL, .ident = bad[i], .path = path);
    memset(too_long, 'x', sizeof too_long);
    too_long[64] = '\0';
    CHECK_OPEN_REFUSED(-EINVAL, .ident = too_long, .path = path);
    CHECK_OPEN_REFUSED(-EINVAL, .path = path);
}

TEST(a_bad_facility_is_refused) {
    static const int bad[] = {-1, -8, 1, LOG_USER | LOG_ERR, 24 << 3, 0x400, INT_MAX, INT_MIN};
    set_path();
    listen_at(path);
    for (size_t i = 0; i < LENGTH(bad); i++)
        CHECK_OPEN_REFUSED(-EINVAL, .facility = bad[i], .ident = "served", .path = path);
}

TEST(unknown_flags_are_refused) {
    set_path();
    listen_at(path);
    for (uint32_t bit = 4; bit != 0; bit <<= 1)
        CHECK_OPEN_REFUSED(-EINVAL, .flags = bit, .ident = "served", .path = path);
}

TEST(later_is_not_for_bad_arguments) {
    set_path();
    CHECK_OPEN_REFUSED(-EINVAL, .flags = RDAEMON_SYSLOG_LATER, .path = path);
    CHECK_OPEN_REFUSED(-EINVAL, .flags = RDAEMON_SYSLOG_LATER, .facility = 1, .ident = "served",
                       .path = path);
}

TEST(the_default_path_is_dev_log) {
    static const struct rdaemon_syslog_options options = {.ident = "served"};
    enter_mount_namespace();
    mount_over(make_directory("dev", 0755), "/dev");
    CHECK_INT(rdaemon_syslog_open(RDAEMON_SIZED(&options), RDAEMON_SIZED(&handle)), -ENOENT);
    int server = listen_at("/dev/log");
    CHECK_INT(OPEN_WITH(.ident = "served"), 0);
    CHECK_INT(log_text("x"), 0);
    CHECK_STR(received(server), "<30>served: x");
}

/* ---- structs ---- */

TEST(options_of_other_sizes) {
    struct {
        struct rdaemon_syslog_options options;
        uint64_t later;
    } longer = {.options = {.ident = "served", .path = path}};
    set_path();
    listen_at(path);
    CHECK_INT(QUIET(rdaemon_syslog_open(&longer.options, sizeof longer, RDAEMON_SIZED(&handle))),
              0);
    CHECK_INT(close_handle(), 0);
    CHECK_REFUSED(
        rdaemon_syslog_open(&longer.options, sizeof longer.options - 1, RDAEMON_SIZED(&handle)),
        -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_open(NULL, 0, RDAEMON_SIZED(&handle)), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_open(NULL, sizeof longer, RDAEMON_SIZED(&handle)), -EINVAL);
    longer.later = 1;
    CHECK_REFUSED(rdaemon_syslog_open(&longer.options, sizeof longer, RDAEMON_SIZED(&handle)),
                  -E2BIG);
}

TEST(a_handle_may_be_neither_absent_nor_short) {
    struct rdaemon_syslog_options options = {.ident = "served", .path = path};
    set_path();
    listen_at(path);
    CHECK_REFUSED(rdaemon_syslog_open(RDAEMON_SIZED(&options), NULL, 0), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_open(RDAEMON_SIZED(&options), NULL, sizeof handle), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_open(RDAEMON_SIZED(&options), &handle, sizeof handle - 1),
                  -EINVAL);
    CHECK_INT(OPEN_WITH(.ident = "served", .path = path), 0);
    CHECK_REFUSED(rdaemon_syslog(&handle, sizeof handle - 1, LOG_INFO, "x", 1), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog(NULL, 0, LOG_INFO, "x", 1), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog(NULL, sizeof handle, LOG_INFO, "x", 1), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_close(&handle, sizeof handle - 1), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_close(NULL, 0), -EINVAL);
}

TEST(a_longer_handle_gets_zeros_and_must_keep_them) {
    struct {
        struct rdaemon_syslog handle;
        uint64_t later;
    } longer;
    struct rdaemon_syslog_options options = {.ident = "served", .path = path};
    set_path();
    int server = listen_at(path);
    memset(&longer, 0xa5, sizeof longer);
    CHECK_INT(QUIET(rdaemon_syslog_open(RDAEMON_SIZED(&options), &longer.handle, sizeof longer)),
              0);
    CHECK_INT(longer.later, 0);
    CHECK_INT(QUIET(rdaemon_syslog(&longer.handle, sizeof longer, LOG_INFO, "x", 1)), 0);
    CHECK_STR(received(server), "<30>served: x");
    longer.later = 1;
    CHECK_REFUSED(rdaemon_syslog(&longer.handle, sizeof longer, LOG_INFO, "x", 1), -E2BIG);
    CHECK_REFUSED(rdaemon_syslog_close(&longer.handle, sizeof longer), -E2BIG);
    CHECK_INT(drained(server), 0);
}

TEST(a_handle_tells_its_options_and_has_zeros_elsewhere) {
    begin();
    CHECK_INT(handle.flags, RDAEMON_SYSLOG_PID);
    CHECK_INT(handle.facility, LOG_DAEMON);
    CHECK_STR(handle.ident, "served");
    CHECK_STR(handle.path, path);
    CHECK_INT(handle.lost, 0);
    CHECK_INT(handle.reserved, 0);
}

TEST(a_handle_with_reserved_fields_is_refused) {
    int server = begin();
    handle.reserved = 1;
    CHECK_REFUSED(rdaemon_syslog(RDAEMON_SIZED(&handle), LOG_INFO, "x", 1), -EINVAL);
    CHECK_INT(drained(server), 0);
}

TEST(a_handle_with_impossible_fields_is_refused) {
    int server = begin();
    struct rdaemon_syslog sound = handle;
    handle.flags = 1U << 31;
    CHECK_INT(log_text("x"), -EINVAL);
    handle = sound;
    handle.facility = -1;
    CHECK_INT(log_text("x"), -EINVAL);
    handle.facility = LOG_LOCAL7 + 8;
    CHECK_INT(log_text("x"), -EINVAL);
    CHECK_INT(drained(server), 0);
}

TEST(strings_of_a_handle_are_not_read_beyond_it) {
    int server = begin();
    struct rdaemon_syslog sound = handle;
    memset(handle.ident, 'x', sizeof handle.ident);
    char expected[128]; /* of what the handle is before the call, which writes to it */
    snprintf(expected, sizeof expected, "<%d>%.63s[%d]: x", LOG_DAEMON | LOG_INFO, handle.ident,
             (int)getpid());
    CHECK_INT(log_text("x"), 0);
    CHECK_STR(received(server), expected);
    handle = sound;
    close(server);
    memset(handle.path, 'x', sizeof handle.path);
    CHECK(log_text("x") < 0);
}

/* ---- closing ---- */

TEST(a_closed_handle_refuses_and_may_be_closed_again) {
    int server = begin();
    CHECK_INT(close_handle(), 0);
    CHECK_STR(open_fds(0), "0 1 2 3");
    CHECK_REFUSED(rdaemon_syslog(RDAEMON_SIZED(&handle), LOG_INFO, "x", 1), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_close(RDAEMON_SIZED(&handle)), 0);
    CHECK_INT(drained(server), 0);
    open_well();
    CHECK_INT(log_text("x"), 0);
    CHECK_STR(received(server), info("x"));
}

TEST(a_zeroed_handle_is_a_closed_one) {
    int server = begin();
    CHECK_INT(close_handle(), 0);
    memset(&handle, 0, sizeof handle);
    CHECK_REFUSED(rdaemon_syslog(RDAEMON_SIZED(&handle), LOG_INFO, "x", 1), -EINVAL);
    CHECK_REFUSED(rdaemon_syslog_close(RDAEMON_SIZED(&handle)), 0);
    CHECK(fd_is_open(0));
    CHECK_INT(drained(server), 0);
}

TEST(a_handle_that_waits_for_its_server_may_be_closed) {
    set_path();
    CHECK_INT(OPEN_WITH(.flags = RDAEMON_SYSLOG_LATER, .ident = "served", .path = path), 0);
    CHECK_INT(close_handle(), 0);
    CHECK_STR(open_fds(0), "0 1 2");
    CHECK_REFUSED(rdaemon_syslog(RDAEMON_SIZED(&handle), LOG_INFO, "x", 1), -EINVAL);
    listen_at(path);
    CHECK_INT(log_text("x"), -EINVAL);
}

/* A handle from before a sweep of fds, as of a daemon's start, that was not told to keep it. */
TEST(a_file_that_got_the_number_of_the_handle_is_left_alone) {
    int server = begin(), domain = 0;
    socklen_t size = sizeof domain;
    close(handle.fd);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(listener, handle.fd);
    CHECK_INT(listen(listener, 5), 0);
    log_text("x");
    CHECK_INT(getsockopt(listener, SOL_SOCKET, SO_DOMAIN, &domain, &size), 0);
    CHECK_INT(domain, AF_INET);
    close(server);
}

/* ---- servers come and go ---- */

TEST(later_waits_for_the_server) {
    set_path();
    CHECK_INT(OPEN_WITH(.flags = RDAEMON_SYSLOG_LATER | RDAEMON_SYSLOG_PID, .ident = "served",
                        .path = path),
              0);
    CHECK(handle.fd == -1 || handle.fd >= 3);
    CHECK_INT(log_text("x"), -ENOENT);
    CHECK_INT(handle.lost, 1);
    int server = listen_at(path);
    CHECK_INT(log_text("y"), 0);
    comes_with_count(server, "y", 1);
}

TEST(later_with_a_server_that_is_there) {
    set_path();
    int server = listen_at(path);
    CHECK_INT(OPEN_WITH(.flags = RDAEMON_SYSLOG_LATER | RDAEMON_SYSLOG_PID, .ident = "served",
                        .path = path),
              0);
    CHECK_INT(log_text("x"), 0);
    CHECK_STR(received(server), info("x"));
}

TEST(a_stale_socket_is_nobody_that_listens) {
    set_path();
    close(listen_at(path));
    CHECK_INT(OPEN_WITH(.flags = RDAEMON_SYSLOG_LATER | RDAEMON_SYSLOG_PID, .ident = "served",
                        .path = path),
              0);
    CHECK_INT(log_text("x"), -ECONNREFUSED);
    int server = listen_at(path);
    CHECK_INT(log_text("y"), 0);
    comes_with_count(server, "y", 1);
}

/* The server's, the handle's, and the standard ones, whatever their numbers are. */
static bool has_five_fds(void) {
    return strlen(open_fds(0)) == strlen("0 1 2 3 4");
}

/* From the first line after the restart on all come, and nothing else. */
static void goes_on_with(int server) {
    static const char *const lines[] = {"one", "two", "three", "four"};
    for (size_t i = 0; i < LENGTH(lines); i++) {
        CHECK_INT(log_text(lines[i]), 0);
        CHECK_STR(received(server), info(lines[i]));
    }
    CHECK_INT(drained(server), 0);
    CHECK_INT(handle.lost, 0);
    CHECK(has_five_fds());
}

TEST(a_server_that_was_restarted_gets_the_first_line) {
    int server = begin();
    CHECK_INT(log_text("x"), 0);
    close(server);
    CHECK_INT(unlink(path), 0);
    goes_on_with(listen_at(path));
}

TEST(a_server_that_ended_after_the_new_one_began) {
    int server = begin(), again = listen_at(path);
    CHECK_INT(log_text("to the old one"), 0);
    CHECK_STR(received(server), info("to the old one"));
    CHECK_INT(dup2(again, server), server);
    close(again);
    goes_on_with(server);
}

TEST(a_hundred_restarts) {
    int server = begin();
    for (int i = 0; i < 100; i++) {
        close(server);
        server = listen_at(path);
        CHECK_INT(log_text("x"), 0);
        CHECK_STR(received(server), info("x"));
    }
    CHECK(has_five_fds());
}

TEST(lines_without_a_server_are_counted_and_told) {
    int server = begin();
    close(server);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(log_text("a"), -ENOENT);
    CHECK_INT(log_text("b\nc\n\n"), -ENOENT);
    CHECK_INT(handle.lost, 3);
    server = listen_at(path);
    CHECK_INT(log_text("d"), 0);
    comes_with_count(server, "d", 3);
    CHECK_INT(log_text("e"), 0);
    CHECK_STR(received(server), info("e"));
    CHECK_INT(drained(server), 0);
}

TEST(a_line_is_lost_once_in_however_many_pieces) {
    char text[5000];
    int server = begin();
    close(server);
    memset(text, 'x', sizeof text);
    CHECK_INT(log_bytes(LOG_INFO, text, sizeof text), -ECONNREFUSED);
    CHECK_INT(handle.lost, 1);
    server = listen_at(path);
    CHECK_INT(log_text("y"), 0);
    comes_with_count(server, "y", 1);
}

TEST(the_error_of_a_stale_socket_is_told) {
    int server = begin();
    close(server);
    CHECK_INT(log_text("a"), -ECONNREFUSED);
    CHECK_INT(handle.lost, 1);
    server = listen_at(path);
    CHECK_INT(log_text("b"), 0);
    comes_with_count(server, "b", 1);
}

TEST(a_server_that_takes_nothing_more) {
    int server = begin();
    CHECK_INT(shutdown(server, SHUT_RD), 0);
    int again = listen_at(path); /* SIGPIPE would end the case */
    CHECK_INT(log_text("x"), 0);
    CHECK_STR(received(again), info("x"));
}

TEST(no_fd_is_free_for_a_new_connection) {
    int server = begin();
    int again = listen_at(path);
    CHECK_INT(dup2(again, server), server);
    close(again);
    struct rlimit limit, none = {.rlim_cur = 5};
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none.rlim_max = limit.rlim_max;
    CHECK_STR(open_fds(0), "0 1 2 3 4");
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    int result = log_text("x");
    CHECK(result == 0 || result == -EMFILE);
    CHECK_INT(handle.lost, result == 0 ? 0 : 1);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (result == 0)
        CHECK_STR(received(server), info("x"));
    CHECK_INT(log_text("y"), 0);
    if (result == 0)
        CHECK_STR(received(server), info("y"));
    else
        comes_with_count(server, "y", 1);
}

/* ---- full servers ---- */

/* A full server and a handle for it. */
static int begin_full(void) {
    int server = begin();
    CHECK(fill(path) > 0);
    return server;
}

static double time_of_a_lost_line(void) {
    double begin = now_ms();
    CHECK_INT(log_text("x"), -EAGAIN);
    return now_ms() - begin;
}

TEST(a_server_that_does_not_read_is_waited_for_once) {
    int server = begin_full();
    double took = time_of_a_lost_line();
    CHECK(took > 900 && took < 3000);
    CHECK_INT(handle.lost, 1);
    double begin = now_ms();
    for (int i = 0; i < 1000; i++)
        CHECK_INT(log_text("x"), -EAGAIN);
    CHECK(now_ms() - begin < 900);
    CHECK_INT(handle.lost, 1001);
    CHECK(drained(server) > 0);
    CHECK_INT(log_text("y"), 0);
    comes_with_count(server, "y", 1001);
    /* It is waited for again, for all lines of a call at once. */
    CHECK(fill(path) > 0);
    char lines[2000];
    for (int i = 0; i < 1000; i++)
        memcpy(lines + 2 * i, "x\n", 2);
    begin = now_ms();
    CHECK_INT(log_bytes(LOG_INFO, lines, sizeof lines), -EAGAIN);
    took = now_ms() - begin;
    CHECK(took > 900 && took < 3000);
    CHECK_INT(handle.lost, 1000);
}

TEST(a_storm_of_signals_does_not_shorten_the_wait) {
    begin();
    char *text = malloc(100000);
    memset(text, 'x', 100000);
    begin_signal_storm();
    double begin = now_ms();
    CHECK_INT(log_bytes(LOG_INFO, text, 100000), -EAGAIN);
    double took = now_ms() - begin;
    end_signal_storm();
    CHECK(took > 900 && took < 3000);
    CHECK(signals_of_the_storm() > 10);
    CHECK_INT(handle.lost, 1); /* some parts of it came */
}

/* A process that logs one line, which must come. */
static pid_t log_in_a_child(void) {
    pid_t child = fork_child();
    if (child == 0) {
        CHECK_INT(log_text("late"), 0);
        CHECK_INT(handle.lost, 0);
        _exit(0);
    }
    wait_for_state(child, 'S');
    return child;
}

static const char *late_from(pid_t child) {
    static char text[64];
    snprintf(text, sizeof text, "<30>served[%d]: late", (int)child);
    return text;
}

TEST(a_line_that_waits_comes_when_the_server_reads) {
    int server = begin_full();
    pid_t child = log_in_a_child();
    while (strcmp(received(server), late_from(child)) != 0)
        continue;
    CHECK_INT(wait_for_exit(child), 0);
}

TEST(a_line_that_waits_goes_to_a_new_server) {
    int server = begin_full();
    pid_t child = fork_child();
    if (child == 0) {
        close(server);
        CHECK_INT(log_text("late"), 0);
        CHECK_INT(handle.lost, 0);
        _exit(0);
    }
    wait_for_state(child, 'S');
    int again = listen_at(path);
    close(server);
    CHECK_INT(wait_for_exit(child), 0);
    CHECK_STR(received(again), late_from(child));
}

/* Takes what is there of a server; adds the lines and the lost lines that it was told of. */
static int came_and_told(int server) {
    char none[1];
    int count = 0;
    while (server >= 0 && recv(server, none, 0, MSG_PEEK | MSG_DONTWAIT) >= 0) {
        const char *text = received(server);
        count += told_lost(text) >= 0 ? told_lost(text) : 1;
    }
    return count;
}

TEST(every_line_comes_or_is_counted) {
    int server = begin(), logged = 0, known = 0;
    srand(4711);
    for (int round = 0; round < 2000; round++) {
        int deed = rand() % 8;
        if (deed == 0) {
            close(server);
            server = -1;
        } else if (deed == 1) {
            unlink(path);
        } else if (deed == 2) {
            close(server);
            server = listen_at(path);
        }
        for (int lines = rand() % 4; lines > 0; lines--, logged++)
            log_text("x");
        known += came_and_told(server);
        if (known + (int)handle.lost != logged)
            FAIL("round %d: %d lines logged, %d known of, %d counted as lost", round, logged, known,
                 (int)handle.lost);
    }
    CHECK(logged > 1000);
}

/* ---- another root directory ---- */

/* Makes directories in the scratch directory, so that `inner` is the path's place in a new root. */
static void make_place_in(const char *jail, char *inner) {
    snprintf(inner, PATH_MAX, "%s%s", jail, path);
    for (char *slash = inner + strlen(jail) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        CHECK_INT(mkdir(inner, 0755), 0);
        *slash = '/';
    }
}

TEST(after_chroot_it_reconnects_where_the_socket_is_inside) {
    REQUIRE_ROOT();
    int server = begin();
    char inner[PATH_MAX], jail[512];
    snprintf(jail, sizeof jail, "%s", make_directory("jail", 0755));
    struct gate *works = gate_new(), *restarted = gate_new(), *lost = gate_new(),
                *inside = gate_new();
    pid_t child = fork_child();
    if (child == 0) {
        close(server);
        CHECK_INT(rdaemon_chroot(jail), 0);
        CHECK_INT(log_text("works"), 0);
        gate_open(works);
        gate_wait(restarted);
        CHECK_INT(log_text("out of reach"), -ENOENT);
        gate_open(lost);
        gate_wait(inside);
        CHECK_INT(log_text("late"), 0);
        CHECK_INT(handle.lost, 0);
        _exit(0);
    }
    gate_wait(works);
    CHECK(strstr(received(server), ": works") != NULL);
    int again = listen_at(path);
    close(server);
    gate_open(restarted);
    gate_wait(lost);
    CHECK_INT(drained(again), 0);
    make_place_in(jail, inner);
    again = listen_at(inner);
    gate_open(inside);
    CHECK_INT(wait_for_exit(child), 0);
    CHECK_INT(told_lost(received(again)), 1);
    CHECK_STR(received(again), late_from(child));
}
