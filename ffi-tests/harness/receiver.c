#include "receiver.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"
#include "tap.h"

enum { MESSAGE_MAX = 1024, MAIL_MAX = 16 * 1024, PATIENCE_MS = 8000, LINE_MAX_ESCAPED = 6 << 20 };

/* ---- sockets ---- */

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        SKIP("%s is too long for a socket", path);
    strcpy(address.sun_path, path);
    return address;
}

int listen_at(const char *path) {
    struct sockaddr_un address = address_of(path);
    int server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (unlink(path) != 0 && errno != ENOENT)
        FAIL("%s: %s", path, strerror(errno));
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(path, 0666) != 0)
        FAIL("%s: %s", path, strerror(errno));
    return server;
}

/* One byte more is asked for than a message may have. */
static size_t take(int server, char message[MESSAGE_MAX + 2]) {
    ssize_t length;
    do
        length = recv(server, message, MESSAGE_MAX + 1, 0);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        FAIL("recv: %s", strerror(errno));
    if (length > MESSAGE_MAX)
        FAIL("a message of more than %d bytes", MESSAGE_MAX);
    for (ssize_t i = 0; i < length; i++)
        if (((unsigned char)message[i] < ' ' && message[i] != '\t') || message[i] == 0x7f)
            FAIL("byte %d in a message: %.900s", message[i], message);
    message[length] = '\0';
    return (size_t)length;
}

static bool is_readable(int server, int limit_ms) {
    struct pollfd ready = {.fd = server, .events = POLLIN};
    int answer;
    do
        answer = poll(&ready, 1, limit_ms);
    while (answer < 0 && errno == EINTR);
    return answer > 0;
}

const char *received(int server) {
    static char messages[8][MESSAGE_MAX + 2];
    static unsigned turn;
    char *message = messages[turn++ % 8];
    if (!is_readable(server, PATIENCE_MS))
        FAIL("no message came");
    take(server, message);
    return message;
}

int drained(int server) {
    char message[MESSAGE_MAX + 2];
    int count = 0;
    for (; is_readable(server, 0); count++)
        take(server, message);
    return count;
}

int fill(const char *path) {
    struct sockaddr_un address = address_of(path);
    int client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), count = 0;
    while (sendto(client, "filling", 7, 0, (struct sockaddr *)&address, sizeof address) == 7)
        count++;
    if (errno != EAGAIN)
        FAIL("%s: %s", path, strerror(errno));
    close(client);
    return count;
}

/* ---- a process that receives ---- */

struct mail {
    atomic_uint count;
    char messages[MAIL_MAX][MESSAGE_MAX + 2];
};

struct receiver receiver_start(const char *path) {
    struct receiver receiver = {.mail = shared_memory(sizeof(struct mail))};
    int server = listen_at(path);
    receiver.pid = fork_child();
    if (receiver.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* Else it would hold what the case closes. */
        server = dup2(server, STDIN_FILENO);
        syscall(SYS_close_range, 3, ~0U, 0);
        for (unsigned i = 0; i < MAIL_MAX; i++) {
            take(server, receiver.mail->messages[i]);
            atomic_store(&receiver.mail->count, i + 1);
            syscall(SYS_futex, &receiver.mail->count, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        }
        FAIL("more than %d messages", MAIL_MAX);
    }
    close(server);
    return receiver;
}

void receiver_end(struct receiver *receiver) {
    kill(receiver->pid, SIGKILL);
    wait_for_exit(receiver->pid);
}

int receiver_count(const struct receiver *receiver) {
    return (int)atomic_load(&receiver->mail->count);
}

const char *receiver_message(const struct receiver *receiver, int number) {
    struct timespec patience = {.tv_sec = PATIENCE_MS / 1000};
    for (;;) {
        unsigned count = atomic_load(&receiver->mail->count);
        if (count > (unsigned)number)
            return receiver->mail->messages[number];
        if (syscall(SYS_futex, &receiver->mail->count, FUTEX_WAIT, count, &patience, NULL, 0) !=
                0 &&
            errno == ETIMEDOUT)
            FAIL("message %d did not come", number);
    }
}

bool receiver_has(const struct receiver *receiver, int first, const char *message) {
    for (int i = first; i < receiver_count(receiver); i++)
        if (strcmp(receiver->mail->messages[i], message) == 0)
            return true;
    return false;
}

/* ---- texts ---- */

int told_lost(const char *message) {
    const char *text = strstr(message, ": ");
    int count, end = 0;
    if (!text || sscanf(text, ": %d lines lost%n", &count, &end) != 1)
        return -1;
    return end > 0 && text[end] == '\0' ? count : -1;
}

const char *escaped(const char *text, size_t length) {
    static char line[LINE_MAX_ESCAPED];
    size_t end = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f)
            end += (size_t)sprintf(line + end, "\\x%02x", byte);
        else
            line[end++] = text[i];
    }
    line[end] = '\0';
    return line;
}

const char *reassembled(const struct receiver *receiver, int *number, const char *prefix,
                        size_t length) {
    static char line[LINE_MAX_ESCAPED];
    size_t end = 0, prefix_length = strlen(prefix);
    while (end < length) {
        const char *message = receiver_message(receiver, (*number)++);
        if (strncmp(message, prefix, prefix_length) != 0)
            FAIL("a piece of a line is without \"%s\": %.100s", prefix, message);
        end += (size_t)sprintf(line + end, "%s", message + prefix_length);
    }
    line[end] = '\0';
    return line;
}
