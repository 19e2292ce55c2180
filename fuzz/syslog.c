/*
 * The splitting of text into messages, by rdaemon_syslog() and by rdaemon_log_pump().
 *
 * Input: flags (1: with the pid, 2: through the pump), the ident's length, how often the rest is
 * repeated, the length of the parts in which the pump gets it, and text.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "fuzz.h"
#include "rdaemon.h"

/* The socket holds 11 messages, and nobody reads it meanwhile. */
enum { DATAGRAM = 1024, MOST_MESSAGES = 10, MOST = 4096, HEADER = 128, LONGEST_UNIT = 4 };

static int server, pump;
static char *server_path;

static struct {
    size_t length;
    uint8_t bytes[DATAGRAM + 1];
} messages[MOST_MESSAGES + 1];

/* ---- model ---- */

/* The line as the log has it, and of each byte whether a message may begin there. */
struct line {
    size_t length;
    uint8_t bytes[4 * MOST];
    bool begins[4 * MOST + 1];
};

/* How many bytes the well-formed UTF-8 character has; 1 for what is none. */
static size_t character(const uint8_t *bytes, size_t left) {
    static const struct {
        uint8_t first, last, least, most;
        size_t length;
    } kinds[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
                 {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
                 {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
                 {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (*bytes < kinds[i].first || *bytes > kinds[i].last || left < kinds[i].length)
            continue;
        bool whole = bytes[1] >= kinds[i].least && bytes[1] <= kinds[i].most;
        for (size_t k = 2; k < kinds[i].length; k++)
            whole = whole && (bytes[k] & 0xc0) == 0x80;
        if (whole)
            return kinds[i].length;
    }
    return 1;
}

static void escape(struct input text, struct line *line) {
    line->length = 0;
    for (size_t i = 0; i < text.left;) {
        uint8_t byte = text.bytes[i];
        char escaped[5];
        bool is_control = (byte < ' ' && byte != '\t') || byte == 127;
        size_t taken = is_control ? 1 : character(text.bytes + i, text.left - i);
        size_t length = is_control ? 4 : taken;
        snprintf(escaped, sizeof escaped, "\\x%02x", byte);
        memcpy(line->bytes + line->length, is_control ? (void *)escaped : &text.bytes[i], length);
        memset(line->begins + line->length, 0, length);
        line->begins[line->length] = true;
        line->length += length;
        i += taken;
    }
    line->begins[line->length] = true;
}

/* How many messages the text may become: blank lines make none. */
static size_t messages_of(struct input text, size_t room) {
    size_t lines = 1, length = 0;
    for (size_t i = 0; i < text.left; i++) {
        lines += text.bytes[i] == '\n' && i > 0 && text.bytes[i - 1] != '\n';
        length += text.bytes[i] < ' ' || text.bytes[i] == 127 ? 4 : 1;
    }
    return lines + length / (room - LONGEST_UNIT);
}

static size_t checked;

/* What is next in the messages is this line. */
static void is_next(struct input text, const char *tag, size_t room, bool is_pump) {
    static struct line line;
    int level = LOG_NOTICE;
    escape(text, &line);
    size_t at = 0;
    if (is_pump && line.length >= 3 && line.bytes[0] == '<' && line.bytes[2] == '>' &&
        line.bytes[1] >= '0' && line.bytes[1] <= '7') {
        level = line.bytes[1] - '0';
        at = 3;
    }
    char header[HEADER];
    int length = snprintf(header, sizeof header, "<%d>%s: ", LOG_DAEMON | level, tag);
    for (size_t cut = at, begin = 0; at < line.length; begin = at = cut) {
        CHECK(messages[checked].length > (size_t)length &&
                  memcmp(messages[checked].bytes, header, (size_t)length) == 0,
              "message %zu is not \"%s...\" but \"%.100s\"", checked, header,
              messages[checked].bytes);
        size_t part = messages[checked].length - (size_t)length;
        cut = at + part;
        CHECK(cut <= line.length, "message %zu goes on behind its line", checked);
        CHECK(memcmp(messages[checked].bytes + length, line.bytes + at, part) == 0,
              "message %zu: \"%.100s\"", checked, messages[checked].bytes);
        CHECK(line.begins[cut], "a character is cut at %zu", cut);
        CHECK(cut - begin <= room, "%zu bytes where %zu fit", cut - begin, room);
        CHECK(cut == line.length || cut - begin > room - LONGEST_UNIT, "only %zu of %zu bytes",
              cut - begin, room);
        checked++;
    }
}

/* ---- the log ---- */

/* All that has come; with a last message, waits for that. */
static size_t receive(const char *last) {
    for (size_t count = 0;; count++) {
        CHECK(count <= MOST_MESSAGES, "more than %d messages", MOST_MESSAGES);
        ssize_t length = TEMP_FAILURE_RETRY(
            recv(server, messages[count].bytes, DATAGRAM + 1, last ? 0 : MSG_DONTWAIT));
        CHECK(length >= 0 || errno == EAGAIN, "recv: %m");
        if (length < 0)
            return count;
        CHECK(length <= DATAGRAM, "a message of %zd bytes", length);
        messages[count].length = (size_t)length;
        if (last && (size_t)length == strlen(last) && !memcmp(messages[count].bytes, last, length))
            return count;
    }
}

static void open_log(struct rdaemon_syslog *log, const char *ident, uint32_t flags) {
    struct rdaemon_syslog_options options = {.flags = flags, .ident = ident, .path = server_path};
    int result = rdaemon_syslog_open(RDAEMON_SIZED(&options), RDAEMON_SIZED(log));
    CHECK(result == 0, "open: %d", result);
}

static void write_all(struct input text, size_t part) {
    while (text.left > 0) {
        struct input next = take_bytes(&text, part);
        CHECK(write(pump, next.bytes, next.left) == (ssize_t)next.left, "write: %m");
    }
}

/* As much of the text as the socket holds, and what becomes of it. */
static void log_some(struct rdaemon_syslog *log, struct input text, bool is_pump, size_t part,
                     const char *tag) {
    size_t room = DATAGRAM - strlen("<191>: ") - strlen(tag);
    size_t count;
    if (is_pump) {
        /* A number, lest the text say the same. */
        static unsigned long number;
        char end[64], last[192];
        int length = sprintf(end, "\n<7>the end of %lu\n", ++number);
        sprintf(last, "<%d>%s: the end of %lu", LOG_DAEMON | LOG_DEBUG, tag, number);
        write_all(text, part);
        write_all((struct input){(const uint8_t *)end, (size_t)length}, sizeof end);
        count = receive(last);
    } else {
        int result =
            rdaemon_syslog(RDAEMON_SIZED(log), LOG_NOTICE, (const char *)text.bytes, text.left);
        CHECK(result == 0 && log->lost == 0, "%d", result);
        count = receive(NULL);
    }
    checked = 0;
    memset(&messages[count], 0, sizeof *messages);
    while (text.left > 0)
        is_next(take_field(&text, '\n'), tag, room, is_pump);
    CHECK(checked == count, "%zu messages, not %zu", count, checked);
}

static const char pump_ident[] = "pump";

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    server_path = strdup(scratch_path("log"));
    server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, server_path);
    CHECK(bind(server, (void *)&address, sizeof address) == 0, "%s: %m", server_path);
    struct rdaemon_syslog log;
    open_log(&log, pump_ident, 0);
    pump = rdaemon_log_pump(RDAEMON_SIZED(&log), LOG_NOTICE, NULL, 0);
    CHECK(pump >= 0, "pump: %d", pump);
    rdaemon_syslog_close(RDAEMON_SIZED(&log));
    return 0;
}

/* ---- runs ---- */

static struct input repeated(struct input text, unsigned times) {
    static uint8_t bytes[MOST];
    size_t length = 0;
    do {
        size_t fits = text.left < MOST - length ? text.left : MOST - length;
        if (fits)
            memcpy(bytes + length, text.bytes, fits);
        length += fits;
    } while (times-- > 0 && length < MOST);
    return (struct input){bytes, length};
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct input input = {bytes, length};
    unsigned flags = take_byte(&input);
    char ident[64] = "", tag[96];
    memset(ident, 'i', 1 + take_byte(&input) % 63);
    unsigned times = take_byte(&input);
    size_t part = 1 + 16 * take_byte(&input);
    bool is_pump = flags & 2;
    struct rdaemon_syslog log = {0};
    if (!is_pump)
        open_log(&log, ident, flags & 1 ? RDAEMON_SYSLOG_PID : 0);
    snprintf(tag, sizeof tag, flags & 1 && !is_pump ? "%s[%d]" : "%s", is_pump ? pump_ident : ident,
             (int)getpid());
    struct input text = repeated(input, times);
    while (text.left > 0) {
        size_t most = text.left;
        while (messages_of((struct input){text.bytes, most}, 900) >= MOST_MESSAGES)
            most = most * 3 / 4;
        log_some(&log, take_bytes(&text, most), is_pump, part, tag);
    }
    if (!is_pump)
        rdaemon_syslog_close(RDAEMON_SIZED(&log));
    return 0;
}
