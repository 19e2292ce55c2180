/*
 * Structs of any size: one with unknown fields that are not zero is refused, one that is too short
 * is refused, any other does what the library's own version of it does; and what is returned fills
 * no more than there is. Behind the struct is no memory.
 *
 * Input: which function, the size (two bytes), how much of the tail is zero, which pointers are
 * set, and the struct's bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "rdaemon.h"

enum { LARGEST = 4096, TEXT = 256, PATTERN = 0xa5 };

/* The byte behind the area is not there. */
static uint8_t *area_end;
/* What a call says besides its result. */
static char said[TEXT];
static const char *missing;

/* ---- inputs: what the struct's bytes may not say is taken out, then the call is made ---- */

static unsigned pointers;

/* Pointers are good ones or NULL. */
static const void *either(unsigned bit, const void *pointer) {
    return pointers & 1U << bit ? pointer : NULL;
}

static void leave(void *bytes) {
    (void)bytes;
}

static int call_status(const void *bytes, size_t size) {
    return rdaemon_status_message(bytes, size, said, sizeof said);
}

static void tame_streams(struct rdaemon_stream *streams) {
    for (int i = 0; i < 3; i++)
        streams[i].path = either((unsigned)i, "/dev/null");
}

static const int32_t some_numbers[] = {2, 0, 1, 3, -1};
static const struct rdaemon_limit some_limits[] = {{.resource = 4, .soft = 1, .hard = 1}};
static const struct rdaemon_signal_action some_signals[] = {{SIGHUP, RDAEMON_SIGNAL_IGNORE, NULL}};
static const uint32_t some_groups[] = {1, 2};

#define TAME_ARRAY(config, field, bit, array)                                                      \
    ((config)->field = either(bit, array),                                                         \
     (config)->field##_len = (config)->field ? sizeof(array) / sizeof *(array) : 0)

static void tame_config(void *bytes) {
    struct rdaemon_config *config = bytes;
    tame_streams(config->streams);
    config->working_directory = either(3, "/");
    config->chroot_directory = either(4, "/");
    config->pidfile = either(5, missing);
    config->syslog.ident = either(6, "fuzz");
    config->syslog.path = either(7, missing);
    TAME_ARRAY(config, files_preserve, 8, some_numbers);
    TAME_ARRAY(config, limits, 9, some_limits);
    TAME_ARRAY(config, signal_map, 10, some_signals);
    TAME_ARRAY(config, identity.groups, 11, some_groups);
}

static int call_check(const void *bytes, size_t size) {
    struct rdaemon_status status;
    int result = rdaemon_check(bytes, size, RDAEMON_SIZED(&status));
    rdaemon_status_message(RDAEMON_SIZED(&status), said, sizeof said);
    CHECK(result == status.error && (result == 0) == (status.step == RDAEMON_STEP_NONE),
          "%d, but error %d at step %d", result, status.error, status.step);
    return result;
}

static void tame_spawn(void *bytes) {
    struct rdaemon_spawn_config *config = bytes;
    static const char *const argv[] = {"/proc/no such program", NULL};
    tame_streams(config->streams);
    config->argv = either(3, argv);
    config->paths = NULL;
    config->envp = NULL;
    config->fd_map = NULL;
    config->fd_map_len = 0;
    TAME_ARRAY(config, pass_fds, 4, some_numbers);
    config->working_directory = either(5, "/");
    config->chroot_directory = either(6, "/");
    TAME_ARRAY(config, limits, 7, some_limits);
    TAME_ARRAY(config, signal_map, 8, some_signals);
    TAME_ARRAY(config, blocked_signals, 9, some_numbers);
    TAME_ARRAY(config, identity.groups, 10, some_groups);
    config->hook = NULL;
    config->hook_context = NULL;
    /* No pid is so high: the number of a child that is to come would be its to join. */
    if (config->process_group > 0)
        config->process_group |= 1 << 30;
    /* A child that fails is gone afterwards. */
    config->flags &= ~(uint32_t)RDAEMON_SPAWN_NO_REAP;
}

static int call_spawn(const void *bytes, size_t size) {
    struct rdaemon_child child;
    struct rdaemon_status status;
    int result = rdaemon_spawn(bytes, size, RDAEMON_SIZED(&child), RDAEMON_SIZED(&status));
    CHECK(result < 0 && result == status.error && status.step != RDAEMON_STEP_NONE,
          "%d, but error %d at step %d", result, status.error, status.step);
    /* Of the kind that only this makes: libFuzzer has a child of its own at times. */
    CHECK(waitpid(-1, NULL, WNOHANG | __WCLONE) == -1, "a child is left");
    rdaemon_status_message(RDAEMON_SIZED(&status), said, sizeof said);
    return result;
}

static int call_options(const void *bytes, size_t size) {
    struct rdaemon_pidfile pidfile;
    return rdaemon_pidfile_open(missing, bytes, size, RDAEMON_SIZED(&pidfile), NULL, 0);
}

static void tame_pidfile(void *bytes) {
    ((struct rdaemon_pidfile *)bytes)->fd = -1;
}

static int call_pidfile(const void *bytes, size_t size) {
    return rdaemon_pidfile_remove(bytes, size);
}

static void tame_identity(void *bytes) {
    struct rdaemon_identity *identity = bytes;
    identity->flags &= ~15U;
    TAME_ARRAY(identity, groups, 0, some_groups);
}

static int call_identity(const void *bytes, size_t size) {
    return rdaemon_drop_privileges(bytes, size);
}

/* Signal 0: whoever it is, he gets none. */
static int call_child(const void *bytes, size_t size) {
    return rdaemon_child_signal(bytes, size, 0);
}

static void tame_notification(void *bytes) {
    ((struct rdaemon_notification *)bytes)->status = either(0, "well");
}

static int call_notification(const void *bytes, size_t size) {
    return rdaemon_notify(bytes, size);
}

static void tame_syslog_options(void *bytes) {
    struct rdaemon_syslog_options *options = bytes;
    options->ident = either(0, "fuzz");
    options->path = missing;
}

static int call_syslog_options(const void *bytes, size_t size) {
    struct rdaemon_syslog log;
    return rdaemon_syslog_open(bytes, size, RDAEMON_SIZED(&log));
}

static void tame_worker(void *bytes) {
    struct rdaemon_worker *worker = bytes;
    memset(worker, 0, sizeof *worker);
    worker->context = (void *)either(0, said);
}

/* Without a pidfile it never starts. */
static int call_worker(const void *bytes, size_t size) {
    return rdaemon_control_start(NULL, 0, bytes, size, NULL, 0, NULL, 0);
}

static void tame_communication(void *bytes) {
    struct rdaemon_communication *talk = bytes;
    static char buffer[16];
    talk->flags &= ~(uint32_t)RDAEMON_COMMUNICATE_UNTIL_EXIT;
    talk->input = either(0, said);
    talk->input_len %= TEXT;
    for (unsigned i = 0; i < 2; i++) {
        talk->outputs[i].buffer = (char *)either(1 + i, buffer);
        talk->outputs[i].size %= sizeof buffer + 1;
        talk->outputs[i].sink = NULL;
    }
}

/* A child without pipes: there is nothing to say. */
static int call_communication(const void *bytes, size_t size) {
    struct rdaemon_child child = {.pid = 1, .pidfd = -1, .fds = {-1, -1, -1}};
    return rdaemon_communicate(RDAEMON_SIZED(&child), (void *)bytes, size, 0);
}

static const struct door {
    const char *name;
    /* That of the first version too: none has grown yet. */
    size_t size;
    void (*tame)(void *bytes);
    int (*call)(const void *bytes, size_t size);
} doors[] = {
    {"status", sizeof(struct rdaemon_status), leave, call_status},
    {"config", sizeof(struct rdaemon_config), tame_config, call_check},
    {"spawn_config", sizeof(struct rdaemon_spawn_config), tame_spawn, call_spawn},
    {"pidfile_options", sizeof(struct rdaemon_pidfile_options), leave, call_options},
    {"pidfile", sizeof(struct rdaemon_pidfile), tame_pidfile, call_pidfile},
    {"identity", sizeof(struct rdaemon_identity), tame_identity, call_identity},
    {"child", sizeof(struct rdaemon_child), leave, call_child},
    {"notification", sizeof(struct rdaemon_notification), tame_notification, call_notification},
    {"syslog_options", sizeof(struct rdaemon_syslog_options), tame_syslog_options,
     call_syslog_options},
    {"worker", sizeof(struct rdaemon_worker), tame_worker, call_worker},
    {"communication", sizeof(struct rdaemon_communication), tame_communication, call_communication},
};

static bool is_zero(const uint8_t *bytes, size_t length) {
    while (length > 0 && *bytes == 0)
        bytes++, length--;
    return length == 0;
}

static void put_in(const struct door *door, size_t size, size_t zeros, struct input bytes) {
    static uint8_t whole[LARGEST + 8], copy[LARGEST + 8];
    memset(whole, 0, sizeof whole);
    if (bytes.left)
        memcpy(whole, bytes.bytes, bytes.left < size ? bytes.left : size);
    if (zeros < size)
        memset(whole + size - zeros, 0, zeros);
    door->tame(whole);
    memset(whole + size, 0, sizeof whole - size);
    uint8_t *given = area_end - size;
    memcpy(given, whole, size);
    memcpy(copy, whole, size);
    memset(said, 0, sizeof said);
    int result = door->call(given, size);
    CHECK(memcmp(given, copy, size) == 0, "%s: changed", door->name);
    if (size < door->size) {
        CHECK(result == -EINVAL, "%s: %d for %zu bytes", door->name, result, size);
    } else if (!is_zero(whole + door->size, size - door->size)) {
        CHECK(result == -E2BIG, "%s: %d for %zu bytes", door->name, result, size);
    } else {
        char first[TEXT];
        memcpy(first, said, TEXT);
        memset(said, 0, sizeof said);
        int again = door->call(whole, door->size);
        CHECK(result == again && memcmp(first, said, TEXT) == 0,
              "%s: %d \"%s\" for %zu bytes, %d \"%s\" for the library's own", door->name, result,
              first, size, again, said);
    }
}

/* ---- outputs ---- */

static int get_status(void *bytes, size_t size) {
    static const struct rdaemon_config bad = {.flags = ~0U};
    return rdaemon_check(RDAEMON_SIZED(&bad), bytes, size) == -EINVAL ? 0 : -1;
}

static int get_state(void *bytes, size_t size) {
    return rdaemon_pidfile_read(missing, bytes, size);
}

static int get_identity(void *bytes, size_t size) {
    return rdaemon_find_user("root", NULL, 0, bytes, size) == -E2BIG ? 1 : -1;
}

static int get_log(void *bytes, size_t size) {
    const struct rdaemon_syslog_options options = {
        .flags = RDAEMON_SYSLOG_LATER, .ident = "fuzz", .path = missing};
    return rdaemon_syslog_open(RDAEMON_SIZED(&options), bytes, size);
}

static const struct outlet {
    const char *name;
    size_t size;
    int (*call)(void *bytes, size_t size);
    /* A handle that is cut off is of no use, and refused. */
    bool is_handle;
    bool is_left_alone;
} outlets[] = {
    {"status", sizeof(struct rdaemon_status), get_status, false, false},
    {"state", sizeof(struct rdaemon_pidfile_state), get_state, false, false},
    {"identity", sizeof(struct rdaemon_identity), get_identity, false, true},
    {"log", sizeof(struct rdaemon_syslog), get_log, true, false},
};

static bool is_pattern(const uint8_t *bytes, size_t length) {
    while (length > 0 && *bytes == PATTERN)
        bytes++, length--;
    return length == 0;
}

static void take_out(const struct outlet *outlet, size_t size) {
    uint8_t own[LARGEST], *given = area_end - size;
    int expected = outlet->call(own, outlet->size);
    memset(area_end - 2 * LARGEST, PATTERN, 2 * LARGEST);
    int result = outlet->call(given, size);
    CHECK(is_pattern(area_end - 2 * LARGEST, 2 * LARGEST - size), "%s: before it", outlet->name);
    if (outlet->is_left_alone || (outlet->is_handle && size < outlet->size)) {
        CHECK(outlet->is_left_alone || result == -EINVAL, "%s: %d", outlet->name, result);
        CHECK(is_pattern(given, size), "%s: written on failure", outlet->name);
        return;
    }
    size_t known = size < outlet->size ? size : outlet->size;
    CHECK(result == expected, "%s: %d, not %d", outlet->name, result, expected);
    CHECK(memcmp(given, own, known) == 0, "%s: other bytes", outlet->name);
    CHECK(is_zero(given + known, size - known), "%s: the tail is not zero", outlet->name);
}

/* ---- runs ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    unsetenv("NOTIFY_SOCKET");
    missing = strdup(scratch_path("missing/file"));
    size_t size = 2 * LARGEST;
    uint8_t *area =
        mmap(NULL, size + LARGEST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED, "mmap: %m");
    area_end = area + size;
    CHECK(mprotect(area_end, LARGEST, PROT_NONE) == 0, "mprotect: %m");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    enum { DOORS = sizeof doors / sizeof *doors, OUTLETS = sizeof outlets / sizeof *outlets };
    struct input input = {bytes, length};
    unsigned which = take_byte(&input) % (DOORS + OUTLETS);
    size_t size = take_byte(&input) << 8;
    size |= take_byte(&input);
    size_t zeros = take_byte(&input);
    pointers = take_byte(&input) << 8;
    pointers |= take_byte(&input);
    if (which < DOORS)
        put_in(&doors[which], size % (LARGEST + 1), zeros, input);
    else
        take_out(&outlets[which - DOORS], size % (LARGEST + 1));
    return 0;
}
