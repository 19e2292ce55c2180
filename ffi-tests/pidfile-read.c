#include "rdaemon.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "pidfile.h"
#include "probe.h"
#include "sandbox.h"
#include "tap.h"

TEST(read_without_a_file) {
    check_state(scratch_path("pid"), RDAEMON_PIDFILE_FREE, 0, 0);
    CHECK(!exists(scratch_path("pid")));
}

struct content {
    const char *text;
    size_t length;
    int written; /* 0: empty, -1: garbage */
};

#define CONTENT(text, written)                                                                     \
    { text, sizeof text - 1, written }

TEST(rule_4_5_contents) {
    static const struct content contents[] = {
        CONTENT("", 0),
        CONTENT("12\n", 12),
        CONTENT("12", 12),
        CONTENT("12\n34\n", 12),
        CONTENT("12\nabc", 12),
        CONTENT("2147483647\n", 2147483647),
        CONTENT("abc\n", -1),
        CONTENT("12x\n", -1),
        CONTENT("x12\n", -1),
        CONTENT("1 2\n", -1),
        CONTENT("-1\n", -1),
        CONTENT("0\n", -1),
        CONTENT("0", -1),
        CONTENT("2147483648\n", -1),
        CONTENT("4294967308\n", -1),
        CONTENT("99999999999\n", -1),
        CONTENT("18446744073709551628\n", -1),
        CONTENT("\0\0\0", -1),
        CONTENT("12\0\n", -1),
        CONTENT("\xff\xfe", -1),
        CONTENT("0x10\n", -1),
        CONTENT("1e3\n", -1),
    };
    const char *path = scratch_path("pid");
    for (size_t i = 0; i < LENGTH(contents); i++) {
        write_file(path, contents[i].text, contents[i].length);
        memset(&state, 0, sizeof state);
        int result = read_pidfile(path), expected = contents[i].written;
        bool right = expected < 0 ? result == -EBADMSG
                                  : result == RDAEMON_PIDFILE_FREE && state.written == expected;
        if (!right)
            NOTE("content %zu \"%s\": result %d, number %d", i, contents[i].text, result,
                 state.written);
        CHECK(right);
    }
}

TEST(rule_4_5_endless_number) {
    static char digits[1 << 20];
    const char *path = scratch_path("pid");
    memset(digits, '1', sizeof digits);
    write_file(path, digits, sizeof digits);
    check_read_refused(path, -EBADMSG);
}

TEST(rule_4_5_garbage_hides_no_running_daemon) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    write_file(path, "garbage\n", 8);
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, -1);
    end_holder(holder);
    check_read_refused(path, -EBADMSG);
}

TEST(rule_4_5_leading_zeros_change_no_number) {
    const char *path = scratch_path("pid");
    write_file(path, "00000000000000000000000000000000000000000000000000\n", 51);
    check_read_refused(path, -EBADMSG);
    /* A number that a small buffer would cut off. */
    for (int zeros = 0; zeros < 80; zeros++) {
        char text[128];
        int length = sprintf(text, "%0*d\n", zeros + 6, 123456);
        write_file(path, text, (size_t)length);
        int result = read_pidfile(path);
        CHECK(result == -EBADMSG || (result == 0 && state.written == 123456));
    }
}

TEST(read_of_an_unreadable_file) {
    const char *path = scratch_path("pid");
    write_file(path, "12\n", 3);
    CHECK_INT(chmod(path, 0), 0);
    become_user();
    check_read_refused(path, -EACCES);
}

TEST(read_needs_no_write_permission) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    CHECK_INT(chmod(path, 0444), 0);
    become_user();
    check_state(path, RDAEMON_PIDFILE_RUNNING, holder.pid, holder.pid);
    gate_open(holder.end);
    CHECK_INT(wait_for_exit(holder.pid), 0);
}

TEST(read_changes_nothing) {
    const char *path = scratch_path("pid");
    struct holder holder = start_holder(path, true);
    static struct snapshot before;
    snapshot_take(&before);
    struct stat then = stat_of(path);
    CHECK_INT(read_pidfile(path), RDAEMON_PIDFILE_RUNNING);
    CHECK(snapshot_same(&before));
    CHECK_INT(stat_of(path).st_ctim.tv_nsec, then.st_ctim.tv_nsec);
    CHECK_INT(stat_of(path).st_mtim.tv_nsec, then.st_mtim.tv_nsec);
    end_holder(holder);
}
