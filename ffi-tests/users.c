/* The accounts of people and the ids of a user, as a made-up /etc has them. */
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "probe.h"
#include "rdaemon.h"
#include "sandbox.h"
#include "start.h"
#include "tap.h"

/* ---- /etc ---- */

/* From now on /etc has these files alone. NULL: not even this one. */
static void make_etc(const char *passwd, const char *group, const char *login_defs) {
    make_directory("etc", 0755);
    make_file("etc/nsswitch.conf", "passwd: files\ngroup: files\ninitgroups: files\n");
    make_file("etc/passwd", passwd);
    make_file("etc/group", group);
    if (login_defs)
        make_file("etc/login.defs", login_defs);
    enter_mount_namespace();
    mount_over(scratch_path("etc"), "/etc");
}

static const char some_people[] = "root:x:0:0:root:/root:/bin/bash\n"
                                  "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
                                  "u499:x:499:100::/:/bin/sh\n"
                                  "u500:x:500:100::/:/bin/sh\n"
                                  "u999:x:999:100::/:/bin/sh\n"
                                  "u1000:x:1000:100::/:/bin/sh\n"
                                  "u1001:x:1001:100::/:/bin/sh\n"
                                  "u5000:x:5000:100::/:/bin/sh\n";

/* ---- real_users ---- */

static char visited[4096];
static int visits, stop_after, stop_with;

static int note_name(void *context, const struct rdaemon_user *user) {
    CHECK(context == visited);
    size_t length = strlen(visited);
    snprintf(visited + length, sizeof visited - length, length ? " %s" : "%s", user->name);
    errno = EDOM;
    return ++visits == stop_after ? stop_with : 0;
}

static int visit_all(void) {
    visited[0] = '\0';
    visits = 0;
    return rdaemon_real_users(note_name, visited);
}

static void are_visited(const char *names) {
    CHECK_INT(QUIET(visit_all()), 0);
    CHECK_STR(visited, names);
    CHECK_STR(open_fds(0), "0 1 2");
}

TEST(rule_10_3_uid_min_of_login_defs_is_where_people_begin) {
    make_etc(some_people, "", "UID_MIN 1000\nUID_MAX 60000\n");
    are_visited("u1000 u1001 u5000");
    make_file("etc/login.defs", "UID_MIN 1001\n");
    are_visited("u1001 u5000");
    make_file("etc/login.defs", "UID_MIN 0\n");
    are_visited("root u499 u500 u999 u1000 u1001 u5000");
    make_file("etc/login.defs", "UID_MIN 4294967295\n");
    are_visited("");
}

TEST(rule_10_3_without_login_defs_it_is_500) {
    make_etc(some_people, "", NULL);
    are_visited("u500 u999 u1000 u1001 u5000");
}

TEST(a_login_defs_that_cannot_be_read_is_an_error) {
    make_etc(some_people, "", NULL);
    make_directory("etc/login.defs", 0755);
    CHECK_INT(QUIET(visit_all()), -EISDIR);
    CHECK_INT(visits, 0);
    rmdir(scratch_path("etc/login.defs"));
    CHECK_INT(chmod(make_file("etc/login.defs", "UID_MIN 1000\n"), 0), 0);
    become_user();
    CHECK_INT(QUIET(visit_all()), -EACCES);
    CHECK_INT(visits, 0);
}

/* What begins at 500 takes the line as not there. */
static const struct {
    const char *text;
    int begins_at;
} login_defs[] = {
    {"", 500},
    {"\n\n \n\t\n", 500},
    {"GID_MIN 1000\nSYS_UID_MIN 100\nUID_MINIMUM 1001\nUID_MI 1001\nuid_min 1001\n", 500},
    {"UID_MIN 1000", 1000}, /* no newline */
    {"UID_MIN\t\t\t 1000\n", 1000},
    {" \t UID_MIN 1000 \t \n", 1000},
    {"UID_MIN 1000\r\n", 1000},
    {"UID_MIN \"1000\"\n", 1000},
    {"UID_MIN 0x3e8\n", 1000},
    {"UID_MIN 0X3E8\n", 1000},
    {"UID_MIN 01750\n", 1000},
    {"# UID_MIN 5000\n#UID_MIN 5000\n  # UID_MIN 5000\nUID_MIN 1000\n#UID_MIN 1\n", 1000},
    {"UID_MIN 5000\nUID_MAX 1\nUID_MIN 1000\n", 1000}, /* the last one counts */
    {"UID_MIN 1000\nUID_MIN 5000\n", 5000},
    {"UID_MIN\n1000\n", 500},
    {"UID_MIN \n", 500},
    {"UID_MIN thousand\n", 500},
    {"UID_MIN 1000x\n", 500},
    {"UID_MIN 0x\n", 500},
    {"UID_MIN 08\n", 500},
    {"UID_MIN 0x3eg\n", 500},
    {"UID_MIN -1\n", 500},
    {"UID_MIN 1e3\n", 500},
    {"UID_MIN 4294968296\n", 500}, /* 1000 above what fits */
    {"UID_MIN 18446744073709552616\n", 500},
    {"UID_MIN=1000\n", 500},
    {"UID_MIN1000\n", 500},
    {"UID_MIN 1000\nUID_MIN garbage\n", 1000},
};

TEST(login_defs_is_read_as_its_owner_does) {
    make_etc(some_people, "", "");
    for (size_t i = 0; i < LENGTH(login_defs); i++) {
        char expected[128];
        make_file("etc/login.defs", login_defs[i].text);
        snprintf(expected, sizeof expected, "%su1000 u1001 u5000",
                 login_defs[i].begins_at == 500 ? "u500 u999 " : "");
        if (login_defs[i].begins_at == 5000)
            strcpy(expected, "u5000");
        CHECK_INT(visit_all(), 0);
        if (strcmp(visited, expected) != 0)
            FAIL("with \"%s\" those visited are %s", login_defs[i].text, visited);
    }
}

TEST(a_long_line_of_login_defs_is_one_line) {
    static char text[1 << 20];
    make_etc(some_people, "", "");
    for (int length = 200; length < 5000; length += 7) {
        memset(text, '#', (size_t)length);
        strcpy(text + length, "\nUID_MIN 1000\n");
        make_file("etc/login.defs", text);
        are_visited("u1000 u1001 u5000");
        memset(text, 'x', (size_t)length); /* the entry is a part of the line */
        strcpy(text + length, " UID_MIN 5000\nUID_MIN 1000\n UID_MIN");
        make_file("etc/login.defs", text);
        are_visited("u1000 u1001 u5000");
    }
    memset(text, 'x', sizeof text - 20);
    strcpy(text + sizeof text - 20, "\nUID_MIN 1000\n");
    make_file("etc/login.defs", text);
    are_visited("u1000 u1001 u5000");
    text[1000] = '\0';
    make_file("etc/login.defs", text);
    are_visited("u500 u999 u1000 u1001 u5000");
}

TEST(rule_10_3_accounts_that_nobody_logs_in_to_are_left_out) {
    make_etc("a:x:1000:1::/:/usr/sbin/nologin\n"
             "b:x:1000:1::/:/sbin/nologin\n"
             "c:x:1000:1::/:/bin/false\n"
             "d:x:1000:1::/:nologin\n"
             "e:x:1000:1::/:/opt/odd/false\n"
             "f:x:1000:1::/:\n" /* is /bin/sh */
             "g:x:1000:1::/:/bin/falsehood\n"
             "h:x:1000:1::/:/bin/nologin/zsh\n"
             "i:x:1000:1::/:/bin/nologin-shell\n"
             "j:x:1000:1::/:/bin/xfalse\n"
             "k:!:1000:1::/:/bin/sh\n",
             "", "UID_MIN 1000\n");
    are_visited("f g h i j k");
}

static int sees_everything(void *context, const struct rdaemon_user *user) {
    ++*(int *)context;
    CHECK_STR(user->name, "ada");
    CHECK_STR(user->gecos, "Ada Lovelace,,,");
    CHECK_STR(user->home, "/home/a d a");
    CHECK_STR(user->shell, "/bin/zsh");
    CHECK_INT(user->uid, 3000000000U);
    CHECK_INT(user->gid, 4000000000U);
    return 0;
}

TEST(the_visitor_sees_the_whole_account) {
    int seen = 0;
    make_etc("ada:secret:3000000000:4000000000:Ada Lovelace,,,:/home/a d a:/bin/zsh\n", "", NULL);
    CHECK_INT(QUIET(rdaemon_real_users(sees_everything, &seen)), 0);
    CHECK_INT(seen, 1);
}

static int sees_emptiness(void *context, const struct rdaemon_user *user) {
    ++*(int *)context;
    CHECK_STR(user->gecos, "");
    CHECK_STR(user->home, "");
    CHECK_STR(user->shell, "");
    return 0;
}

TEST(empty_fields_are_empty_strings) {
    int seen = 0;
    make_etc("ada:x:1000:1000:::\n", "", NULL);
    CHECK_INT(QUIET(rdaemon_real_users(sees_emptiness, &seen)), 0);
    CHECK_INT(seen, 1);
}

TEST(the_visitors_result_ends_the_visit_and_is_returned) {
    static const int results[] = {1, 42, -EBUSY, INT_MIN, INT_MAX};
    make_etc(some_people, "", "UID_MIN 1000\n");
    for (size_t i = 0; i < LENGTH(results); i++) {
        stop_after = 2;
        stop_with = results[i];
        CHECK_INT(QUIET(visit_all()), results[i]);
        CHECK_STR(visited, "u1000 u1001");
        CHECK_STR(open_fds(0), "0 1 2");
        stop_after = 0;
        are_visited("u1000 u1001 u5000"); /* from the first again */
    }
}

TEST(a_visit_without_a_visitor_is_refused) {
    CHECK_REFUSED(rdaemon_real_users(NULL, NULL), -EINVAL);
    CHECK_REFUSED(rdaemon_real_users(NULL, visited), -EINVAL);
}

TEST(nobody_is_no_error) {
    make_etc("root:x:0:0:root:/root:/bin/bash\n", "", NULL);
    are_visited("");
}

/* ---- find_user ---- */

static uint32_t groups[400];
static struct rdaemon_identity identity;

static int find(const char *name, size_t room) {
    memset(groups, 0xa5, sizeof groups);
    memset(&identity, 0xa5, sizeof identity);
    return QUIET(rdaemon_find_user(name, groups, room, RDAEMON_SIZED(&identity)));
}

static bool in_groups(uint32_t gid, int count) {
    int times = 0;
    for (int i = 0; i < count; i++)
        times += groups[i] == gid;
    if (times > 1)
        FAIL("group %u is there %d times", gid, times);
    return times == 1;
}

static void is_found(const char *name, size_t room, uint32_t uid, uint32_t gid, int count) {
    CHECK_INT(find(name, room), count);
    CHECK_INT(identity.flags,
              RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS);
    CHECK_INT(identity.uid, uid);
    CHECK_INT(identity.gid, gid);
    CHECK_INT(identity.reserved, 0);
    CHECK(identity.groups == groups);
    CHECK_INT(identity.groups_len, count);
    CHECK(in_groups(gid, count));
    CHECK_INT(groups[count], 0xa5a5a5a5);
    CHECK_STR(open_fds(0), "0 1 2");
}

static void is_not_found(const char *name, size_t room, int error) {
    CHECK_INT(find(name, room), error);
    CHECK_INT(identity.flags, 0xa5a5a5a5);
    CHECK_INT(identity.uid, 0xa5a5a5a5);
    CHECK_STR(open_fds(0), "0 1 2");
}

static void make_a_few(void) {
    make_etc("root:x:0:0:root:/root:/bin/bash\n"
             "ada:x:1000:2000::/:/bin/false\n"
             "big:x:3000000000:4000000000::/:/bin/sh\n",
             "root:x:0:\n"
             "ada:x:2000:root,ada\n" /* her primary group names her again */
             "audio:x:29:ada\n"
             "video:x:44:someone,ada,root\n"
             "other:x:45:adam,xada\n"
             "huge:x:4100000000:big\n",
             NULL);
}

TEST(a_user_has_uid_gid_and_groups) {
    make_a_few();
    is_found("ada", LENGTH(groups), 1000, 2000, 3);
    CHECK(in_groups(29, 3) && in_groups(44, 3) && !in_groups(45, 3));
    is_found("root", LENGTH(groups), 0, 0, 3);
    CHECK(in_groups(2000, 3) && in_groups(44, 3));
    is_found("big", LENGTH(groups), 3000000000U, 4000000000U, 2);
    CHECK(in_groups(4100000000U, 2));
}

TEST(an_array_that_just_fits_is_large_enough) {
    make_a_few();
    is_found("ada", 3, 1000, 2000, 3);
    is_not_found("ada", 2, -E2BIG);
    CHECK_INT(groups[2], 0xa5a5a5a5);
    is_not_found("ada", 0, -E2BIG);
    CHECK_INT(groups[0], 0xa5a5a5a5);
    CHECK_REFUSED(rdaemon_find_user("ada", NULL, 0, RDAEMON_SIZED(&identity)), -E2BIG);
}

TEST(a_name_that_nobody_has_is_told) {
    static char long_name[20000];
    make_a_few();
    memset(long_name, 'a', sizeof long_name - 1);
    is_not_found("nobody-here", LENGTH(groups), -ENOENT);
    is_not_found("ad", LENGTH(groups), -ENOENT);
    is_not_found("ada ", LENGTH(groups), -ENOENT);
    is_not_found("1000", LENGTH(groups), -ENOENT);
    is_not_found("ada:x", LENGTH(groups), -ENOENT);
    is_not_found(long_name, LENGTH(groups), -ENAMETOOLONG);
    long_name[300] = '\0';
    is_not_found(long_name, LENGTH(groups), -ENOENT);
}

TEST(a_long_line_hides_nobody_who_comes_after_it) {
    static char passwd[40000];
    int length = snprintf(passwd, sizeof passwd, "talkative:x:900:900:");
    memset(passwd + length, 't', 30000);
    strcpy(passwd + length + 30000, ":/:/bin/sh\nada:x:1000:2000::/:/bin/sh\n");
    make_etc(passwd, "", NULL);
    is_found("ada", LENGTH(groups), 1000, 2000, 1);
    is_found("talkative", LENGTH(groups), 900, 900, 1);
    is_not_found("nobody-here", LENGTH(groups), -ENOENT);
}

TEST(a_name_may_lie_where_libc_puts_its_entries) {
    static char passwd[40000];
    int length = snprintf(passwd, sizeof passwd, "talkative:x:900:900:");
    memset(passwd + length, 't', 30000);
    strcpy(passwd + length + 30000, ":/:/bin/sh\nada:x:1000:2000::/:/bin/sh\n");
    make_etc(passwd, "", NULL);
    const struct passwd *ada = getpwnam("ada");
    CHECK(ada != NULL);
    is_found(ada->pw_name, LENGTH(groups), 1000, 2000, 1);
}

TEST(bad_arguments_of_find_user_are_refused) {
    make_a_few();
    CHECK_REFUSED(find("", LENGTH(groups)), -EINVAL);
    CHECK_REFUSED(find(NULL, LENGTH(groups)), -EINVAL);
    CHECK_REFUSED(rdaemon_find_user("ada", NULL, 5, RDAEMON_SIZED(&identity)), -EINVAL);
    CHECK_REFUSED(rdaemon_find_user("ada", groups, SIZE_MAX, RDAEMON_SIZED(&identity)), -EINVAL);
}

TEST(an_identity_of_another_version_is_filled_as_far_as_it_goes) {
    make_a_few();
    struct {
        struct rdaemon_identity identity;
        uint64_t new_field;
    } grown = {.new_field = 1};
    uint32_t shorter[3] = {7, 7, 7};
    CHECK_INT(QUIET(rdaemon_find_user("ada", groups, 400, &grown.identity, sizeof grown)), 3);
    CHECK_INT(grown.identity.uid, 1000);
    CHECK_INT(grown.new_field, 0);
    CHECK_INT(rdaemon_find_user("ada", groups, 400, (struct rdaemon_identity *)shorter, 8), 3);
    CHECK_INT(shorter[1], 1000);
    CHECK_INT(shorter[2], 7);
}

/* Three hundred groups, and one whose line is longer than any buffer. */
static void make_many(void) {
    static char text[200000];
    size_t length = (size_t)sprintf(text, "ada:x:2000:\n");
    for (int i = 0; i < 299; i++)
        length += (size_t)sprintf(text + length, "g%d:x:%d:ada\n", i, 5000 + i);
    length += (size_t)sprintf(text + length, "crowd:x:1:");
    for (int i = 0; i < 5000; i++)
        length += (size_t)sprintf(text + length, "somebody%d,", i);
    sprintf(text + length, "last\n");
    make_etc("ada:x:1000:2000::/:/bin/sh\nlast:x:1001:2000::/:/bin/sh\n", text, NULL);
}

TEST(a_user_may_have_many_groups) {
    make_many();
    is_found("ada", 300, 1000, 2000, 300);
    for (uint32_t i = 0; i < 299; i++)
        CHECK(in_groups(5000 + i, 300));
    is_not_found("ada", 299, -E2BIG);
    is_found("last", 300, 1001, 2000, 2);
    CHECK(in_groups(1, 2));
}

static void becomes(const char *name, const char *uids, const char *gids, int count) {
    IN_CHILD {
        CHECK_INT(find(name, LENGTH(groups)), count);
        CHECK_INT(rdaemon_drop_privileges(RDAEMON_SIZED(&identity)), 0);
        CHECK_STR(status_field(0, "Uid"), uids);
        CHECK_STR(status_field(0, "Gid"), gids);
        CHECK_INT(getgroups(0, NULL), count);
    }
}

TEST(a_process_becomes_the_user_that_was_found) {
    REQUIRE_ROOT();
    make_many();
    becomes("ada", "1000 1000 1000 1000", "2000 2000 2000 2000", 300);
    becomes("last", "1001 1001 1001 1001", "2000 2000 2000 2000", 2);
}

/* ---- a directory service ---- */

/* A service named people: zoe, who is in the groups 3001 and 3002. With PEOPLE_FAIL it is down. */
static const char service[] =
    "#include <errno.h>\n"
    "#include <grp.h>\n"
    "#include <nss.h>\n"
    "#include <pwd.h>\n"
    "#include <stdlib.h>\n"
    "#include <string.h>\n"
    "static int next;\n"
    "static enum nss_status fill(struct passwd *entry, char *text, size_t size, int *error) {\n"
    "    static char name[] = \"zoe\", empty[] = \"\", shell[] = \"/bin/sh\";\n"
    "    (void)text, (void)size;\n"
    "    if (getenv(\"PEOPLE_FAIL\")) {\n"
    "        *error = EIO;\n"
    "        return NSS_STATUS_TRYAGAIN;\n"
    "    }\n"
    "    *entry = (struct passwd){name, empty, 3000, 3000, empty, empty, shell};\n"
    "    return NSS_STATUS_SUCCESS;\n"
    "}\n"
    "enum nss_status _nss_people_setpwent(int stay) {\n"
    "    (void)stay;\n"
    "    next = 0;\n"
    "    return NSS_STATUS_SUCCESS;\n"
    "}\n"
    "enum nss_status _nss_people_endpwent(void) { return NSS_STATUS_SUCCESS; }\n"
    "enum nss_status _nss_people_getpwent_r(struct passwd *entry, char *text, size_t size,\n"
    "                                       int *error) {\n"
    "    if (next++ == 0)\n"
    "        return fill(entry, text, size, error);\n"
    "    *error = ENOENT;\n"
    "    return NSS_STATUS_NOTFOUND;\n"
    "}\n"
    "enum nss_status _nss_people_getpwnam_r(const char *name, struct passwd *entry, char *text,\n"
    "                                       size_t size, int *error) {\n"
    "    if (strcmp(name, \"zoe\") == 0)\n"
    "        return fill(entry, text, size, error);\n"
    "    *error = ENOENT;\n"
    "    return NSS_STATUS_NOTFOUND;\n"
    "}\n"
    "enum nss_status _nss_people_initgroups_dyn(const char *name, gid_t skipped, long *start,\n"
    "                                           long *size, gid_t **groups, long limit,\n"
    "                                           int *error) {\n"
    "    (void)skipped, (void)limit, (void)error;\n"
    "    if (strcmp(name, \"zoe\") != 0)\n"
    "        return NSS_STATUS_NOTFOUND;\n"
    "    for (gid_t gid = 3001; gid <= 3002 && *start < *size; gid++)\n"
    "        (*groups)[(*start)++] = gid;\n"
    "    return NSS_STATUS_SUCCESS;\n"
    "}\n";

/* The service is found by programs started from now on. */
static void make_service(void) {
#ifndef __GLIBC__
    SKIP_PLATFORM("this libc has no services for names");
#endif
    char command[3 * PATH_MAX];
    const char *compiler = getenv("CC");
    snprintf(command, sizeof command, "%s -shared -fPIC -o %s/libnss_people.so.2 %s",
             compiler && *compiler ? compiler : "cc", scratch(), make_file("people.c", service));
    if (system(command) != 0)
        SKIP("the service cannot be compiled by: %s", command);
    make_etc("ada:x:1000:2000::/:/bin/sh\n", "ada:x:2000:\n", NULL);
    make_file("etc/nsswitch.conf", "passwd: files people\ngroup: files people\n");
    setenv("LD_LIBRARY_PATH", scratch(), 1);
}

HELPER(knows_the_service) {
    are_visited("ada zoe");
    is_found("zoe", LENGTH(groups), 3000, 3000, 3);
    CHECK(in_groups(3001, 3) && in_groups(3002, 3));
    is_found("ada", LENGTH(groups), 1000, 2000, 1);
    is_not_found("nobody-here", LENGTH(groups), -ENOENT);
    return 0;
}

TEST(rule_10_3_the_people_of_a_directory_service_count) {
    make_service();
    IN_CHILD {
        EXEC_HELPER(knows_the_service);
    }
}

HELPER(knows_that_the_service_is_down) {
    CHECK_INT(QUIET(visit_all()), -EIO);
    CHECK_STR(visited, "ada");
    is_not_found("zoe", LENGTH(groups), -EIO);
    is_found("ada", LENGTH(groups), 1000, 2000, 1);
    return 0;
}

TEST(a_directory_service_that_is_down_is_an_error_and_not_an_absence) {
    make_service();
    setenv("PEOPLE_FAIL", "1", 1);
    IN_CHILD {
        EXEC_HELPER(knows_that_the_service_is_down);
    }
}
