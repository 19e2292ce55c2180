#include "fuzz.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

unsigned take_byte(struct input *input) {
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

struct input take_bytes(struct input *input, size_t most) {
    struct input taken = {input->bytes, input->left < most ? input->left : most};
    input->bytes += taken.left;
    input->left -= taken.left;
    return taken;
}

struct input take_field(struct input *input, uint8_t end) {
    const uint8_t *stop = input->left ? memchr(input->bytes, end, input->left) : NULL;
    struct input field = take_bytes(input, stop ? (size_t)(stop - input->bytes) : input->left);
    take_byte(input);
    return field;
}

/* ---- findings ---- */

/* What a child has found; its coverage is behind it. */
static char *shared;
static bool is_child;
enum { MESSAGE_SIZE = 1024 };

void fail(const char *file, int line, const char *condition, const char *format, ...) {
    char message[MESSAGE_SIZE];
    int length = snprintf(message, sizeof message, "%s:%d: not so: %s: ", file, line, condition);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message + length, sizeof message - (size_t)length, format, arguments);
    va_end(arguments);
    if (is_child) {
        memcpy(shared, message, sizeof message);
        _exit(1);
    }
    fprintf(stderr, "%s\n", message);
    abort();
}

void skip(const char *reason) {
    const char *all = getenv("RDAEMON_REQUIRE_ALL");
    printf("skipped: %s\n", reason);
    exit(all && strcmp(all, "1") == 0);
}

/* ---- children ---- */

/* The counters of clang's coverage, when the target was built with it. */
extern uint8_t first_counter[] __asm__("__start___sancov_cntrs") __attribute__((weak));
extern uint8_t end_of_counters[] __asm__("__stop___sancov_cntrs") __attribute__((weak));

void run_in_child(void (*body)(struct input *input), struct input input) {
    size_t counters = (size_t)(end_of_counters - first_counter);
    if (!shared)
        shared = mmap(NULL, MESSAGE_SIZE + counters, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[0] = '\0';
    pid_t pid = fork();
    CHECK(pid >= 0, "fork: %m");
    if (pid == 0) {
        is_child = true;
        body(&input);
        if (counters)
            memcpy(shared + MESSAGE_SIZE, first_counter, counters);
        _exit(0);
    }
    int status = 0;
    /* libFuzzer has a timer. */
    CHECK(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) == pid, "waitpid: %m");
    CHECK(status == 0, "in a child with wait status %#x: %s", (unsigned)status, shared);
    if (counters)
        memcpy(first_counter, shared + MESSAGE_SIZE, counters);
}

/* ---- files ---- */

static char scratch[] = "/tmp/rdaemon-fuzz-XXXXXX";
static pid_t scratch_owner;

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *ftw) {
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static void remove_scratch(void) {
    if (getpid() == scratch_owner)
        nftw(scratch, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

const char *scratch_path(const char *name) {
    static char path[sizeof scratch + 64];
    if (!scratch_owner) {
        CHECK(mkdtemp(scratch), "%s: %m", scratch);
        scratch_owner = getpid();
        atexit(remove_scratch);
    }
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

bool file_of(int fd, struct file *file) {
    struct stat stat;
    if (fstat(fd, &stat) != 0)
        return false;
    *file = (struct file){stat.st_dev, stat.st_ino};
    return true;
}

void fill(int fd, const void *bytes, size_t length) {
    CHECK(ftruncate(fd, 0) == 0, "ftruncate: %m");
    CHECK(pwrite(fd, bytes, length, 0) == (ssize_t)length, "pwrite: %m");
}
