/*
 * Universal newlines: what rdaemon_communicate() makes of any text in any parts is what Python
 * makes of the whole.
 *
 * Input: flags (1: translate, 2: the parts are taken when all have come), the buffer's size, and
 * parts, each with a byte for its length before it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fuzz.h"
#include "rdaemon.h"

enum { MOST = 8192 };

struct text {
    size_t length;
    char bytes[MOST];
};

static struct rdaemon_child child;
static struct rdaemon_communication talk;
static char buffer[256];
static struct text got[2];

static void append(struct text *text, const void *bytes, size_t length) {
    CHECK(text->length + length <= MOST, "%zu bytes more", length);
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

static int note(void *context, const char *bytes, size_t length) {
    CHECK(length > 0, "the sink is given nothing");
    append(context, bytes, length);
    return 0;
}

/* "\r\n" first, then what is left of "\r". */
static void translate(const struct text *text, struct text *lines) {
    lines->length = 0;
    for (size_t i = 0; i < text->length; i++) {
        bool pair = text->bytes[i] == '\r' && i + 1 < text->length && text->bytes[i + 1] == '\n';
        append(lines, text->bytes[i] == '\r' ? "\n" : &text->bytes[i], 1);
        i += pair;
    }
}

static void drain_buffer(void) {
    append(&got[0], buffer, talk.outputs[0].len);
    talk.outputs[0].len = 0;
}

static bool is_empty(int fd) {
    int waiting = 0;
    return fd < 0 || (ioctl(fd, FIONREAD, &waiting) == 0 && waiting == 0);
}

/* Takes what is in the pipes, or all up to their end. */
static int take(bool is_end) {
    for (;;) {
        int result = rdaemon_communicate(RDAEMON_SIZED(&child), RDAEMON_SIZED(&talk), 0);
        CHECK(result == 0 || result == -ETIMEDOUT || result == RDAEMON_COMMUNICATE_STDOUT_FULL,
              "%d", result);
        CHECK(result != RDAEMON_COMMUNICATE_STDOUT_FULL ||
                  talk.outputs[0].len == talk.outputs[0].size,
              "full with %zu of %zu", talk.outputs[0].len, talk.outputs[0].size);
        if (result == RDAEMON_COMMUNICATE_STDOUT_FULL || result == 0)
            drain_buffer();
        bool is_waiting = !is_end && is_empty(child.fds[1]) && is_empty(child.fds[2]);
        if (result == 0 || (result < 0 && is_waiting))
            return result;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *const program[] = {"/bin/true", NULL};
    struct rdaemon_spawn_config config = {.argv = program};
    int pid = rdaemon_spawn(RDAEMON_SIZED(&config), RDAEMON_SIZED(&child), NULL, 0);
    CHECK(pid > 0, "spawn: %d", pid);
    int result = rdaemon_child_wait(RDAEMON_SIZED(&child), -1, NULL, 0);
    CHECK(result == 0, "wait: %d", result);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (length > MOST / 2)
        return 0;
    struct input input = {bytes, length};
    unsigned flags = take_byte(&input);
    static struct text sent, expected;
    sent.length = got[0].length = got[1].length = 0;
    int writers[2];
    for (int i = 0; i < 2; i++) {
        int ends[2];
        CHECK(pipe(ends) == 0, "pipe: %m");
        child.fds[1 + i] = ends[0];
        writers[i] = ends[1];
    }
    talk = (struct rdaemon_communication){
        .flags = flags & 1 ? RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES : 0,
        .outputs = {{.buffer = buffer, .size = 1 + take_byte(&input)},
                    {.sink = note, .context = &got[1]}}};
    while (input.left > 0) {
        struct input part = take_bytes(&input, take_byte(&input));
        append(&sent, part.bytes, part.left);
        for (int i = 0; i < 2; i++)
            CHECK(write(writers[i], part.bytes, part.left) == (ssize_t)part.left, "write: %m");
        if (!(flags & 2))
            CHECK(take(false) == -ETIMEDOUT, "done before the end");
    }
    close(writers[0]);
    close(writers[1]);
    CHECK(take(true) == RDAEMON_COMMUNICATE_DONE, "not done at the end");
    CHECK(child.fds[1] == -1 && child.fds[2] == -1, "the pipes are open");
    expected = sent;
    if (flags & 1)
        translate(&sent, &expected);
    for (int i = 0; i < 2; i++) {
        CHECK(got[i].length == expected.length, "output %d has %zu bytes, not %zu", i,
              got[i].length, expected.length);
        CHECK(memcmp(got[i].bytes, expected.bytes, expected.length) == 0, "output %d differs", i);
    }
    return 0;
}
