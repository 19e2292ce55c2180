/*
 * UID_MIN of /etc/login.defs: whom rdaemon_real_users() visits.
 *
 * Input: the file. The model says where people begin; of the accounts there are the one at that
 * number and the one below it, so that another answer is seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "rdaemon.h"

enum { UID_MIN = 500, LONGEST_LINE = 256 };

static int login_defs, passwd;

/* ---- model ---- */

/* A number as strtoull(3) reads it, if it is nothing else. */
static bool number_in(const char *word, uint32_t *number) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(word, &end, 0);
    if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno || value > UINT32_MAX)
        return false;
    *number = (uint32_t)value;
    return true;
}

static void read_line(struct input line, uint32_t *least) {
    static const char separators[] = " \t\r\f\"";
    char text[LONGEST_LINE + 1] = "", *rest;
    if (line.left > LONGEST_LINE)
        return;
    /* A NUL is as good as any byte that belongs to no word. */
    for (size_t i = 0; i < line.left; i++)
        text[i] = line.bytes[i] ? (char)line.bytes[i] : '\1';
    const char *name = strtok_r(text, separators, &rest);
    const char *value = name ? strtok_r(NULL, separators, &rest) : NULL;
    if (value && strcmp(name, "UID_MIN") == 0)
        number_in(value, least);
}

static uint32_t uid_min(struct input file) {
    uint32_t least = UID_MIN;
    while (file.left > 0)
        read_line(take_field(&file, '\n'), &least);
    return least;
}

/* ---- /etc ---- */

static int make_file(const char *name, const char *text) {
    int fd = open(scratch_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    CHECK(fd >= 0, "%s: %m", name);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %m", name);
    return fd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    CHECK(mkdir(scratch_path("etc"), 0755) == 0, "etc: %m");
    close(make_file("etc/nsswitch.conf", "passwd: files\n"));
    login_defs = make_file("etc/login.defs", "");
    passwd = make_file("etc/passwd", "");
    if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(scratch_path("etc"), "/etc", NULL, MS_BIND, NULL) != 0)
        skip("no mount namespace here");
    return 0;
}

/* ---- runs ---- */

static unsigned visits;

static int is_person(void *context, const struct rdaemon_user *user) {
    uint32_t least = *(uint32_t *)context;
    CHECK(user->uid >= least, "%" PRIu32 " is visited, people begin at %" PRIu32, user->uid, least);
    visits++;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    uint32_t least = uid_min((struct input){bytes, length});
    const uint32_t uids[] = {0, least ? least - 1 : 0, least, UINT32_MAX - 1};
    char accounts[512];
    size_t end = 0, people = 0;
    for (size_t i = 0; i < sizeof uids / sizeof *uids; i++) {
        end += (size_t)snprintf(accounts + end, sizeof accounts - end,
                                "u%zu:x:%" PRIu32 ":1::/:/bin/sh\n", i, uids[i]);
        people += uids[i] >= least;
    }
    fill(passwd, accounts, end);
    fill(login_defs, bytes, length);
    visits = 0;
    int result = rdaemon_real_users(is_person, &least);
    CHECK(result == 0, "%d", result);
    CHECK(visits == people, "%u visits, not %zu, people begin at %" PRIu32, visits, people, least);
    return 0;
}
