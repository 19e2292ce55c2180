#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tap.h"

/* ---- system calls ---- */

static void install_filter(struct sock_filter *code, unsigned short length) {
    struct sock_fprog program = {.len = length, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        SKIP_PLATFORM("seccomp: %s", strerror(errno));
}

static unsigned argument_offset(unsigned index) {
    unsigned offset = (unsigned)(offsetof(struct seccomp_data, args) + index * sizeof(uint64_t));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    offset += sizeof(uint32_t);
#endif
    return offset;
}

static void answer_syscall(long number, uint32_t answer) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    install_filter(code, sizeof code / sizeof *code);
}

void deny_syscall(long number, int error) {
    answer_syscall(number, SECCOMP_RET_ERRNO | (uint32_t)error);
}

void trap_syscall(long number) {
    answer_syscall(number, SECCOMP_RET_TRAP);
}

void deny_syscall_arg(long number, unsigned index, uint32_t value, int error) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument_offset(index)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    install_filter(code, sizeof code / sizeof *code);
}

/* ---- rights ---- */

void become_user(void) {
    if (geteuid() != 0)
        return;
    if (setgroups(0, NULL) != 0 || setgid(TEST_GID) != 0 || setuid(TEST_UID) != 0)
        FAIL("cannot become a user: %s", strerror(errno));
    prctl(PR_SET_DUMPABLE, 1);
}

/* ---- mounts ---- */

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        SKIP("%s: %s", path, strerror(errno));
    close(fd);
}

static void enter_user_namespace(void) {
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    if (unshare(CLONE_NEWUSER) != 0)
        SKIP("needs root or user namespaces: %s", strerror(errno));
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", users);
    write_file("/proc/self/gid_map", groups);
}

void enter_mount_namespace(void) {
    if (geteuid() != 0)
        enter_user_namespace();
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        SKIP("needs a mount namespace: %s", strerror(errno));
}

void hide_proc(void) {
    enter_mount_namespace();
    mount_tmpfs("/proc", "size=4096");
}

void mount_tmpfs(const char *directory, const char *options) {
    if (mount("tmpfs", directory, "tmpfs", 0, options) != 0)
        SKIP("tmpfs on %s: %s", directory, strerror(errno));
}

void mount_over(const char *from, const char *to) {
    if (mount(from, to, NULL, MS_BIND, NULL) != 0)
        SKIP("mount %s over %s: %s", from, to, strerror(errno));
}
