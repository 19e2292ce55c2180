#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "tap.h"

void close_standard_fds(int subset) {
    for (int fd = 0; fd < 3; fd++)
        if (subset >> fd & 1)
            close(fd);
}

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

void deny_syscall(long number, int error) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    install_filter(code, sizeof code / sizeof *code);
}

static void filter_by_argument(long number, unsigned index, uint32_t bits, uint32_t value,
                               uint32_t action) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument_offset(index)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    install_filter(code, sizeof code / sizeof *code);
}

void deny_syscall_arg(long number, unsigned index, uint32_t value, int error) {
    filter_by_argument(number, index, ~0U, value, SECCOMP_RET_ERRNO | (uint32_t)error);
}

void deny_syscall_bits(long number, unsigned index, uint32_t bits, int error) {
    filter_by_argument(number, index, bits, bits, SECCOMP_RET_ERRNO | (uint32_t)error);
}

static long (*answer)(const long *arguments);

/* The registers of the system call that was trapped; its result goes where the kernel puts it. */
static void answer_trap(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)info;
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
    int saved_errno = errno;
#if defined __x86_64__
    greg_t *registers = machine->gregs;
    const long arguments[] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                              registers[REG_R10]};
    registers[REG_RAX] = answer(arguments);
#elif defined __aarch64__
    long arguments[4];
    for (int i = 0; i < 4; i++)
        arguments[i] = (long)machine->regs[i];
    machine->regs[0] = (unsigned long long)answer(arguments);
#else
    (void)machine;
#endif
    errno = saved_errno;
}

void answer_syscall_arg(long number, unsigned index, uint32_t value,
                        long (*function)(const long *arguments)) {
    struct sigaction action = {.sa_sigaction = answer_trap, .sa_flags = SA_SIGINFO};
#if !defined __x86_64__ && !defined __aarch64__
    SKIP_PLATFORM("system calls cannot be answered on this architecture yet");
#endif
    answer = function;
    sigaction(SIGSYS, &action, NULL);
    filter_by_argument(number, index, ~0U, value, SECCOMP_RET_TRAP);
}

/* ---- held system calls ---- */

enum { HELD_MAX = 6 };

int hold_syscalls(const long *numbers, unsigned count) {
    struct sock_filter code[HELD_MAX + 3];
    unsigned length = 0;
    if (count > HELD_MAX)
        FAIL("%u system calls are too many to hold", count);
    code[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < count; i++)
        code[length++] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[i], (unsigned char)(count - i), 0);
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog program = {.len = (unsigned short)length, .filter = code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                          &program);
    if (fd < 0)
        SKIP_PLATFORM("seccomp: %s", strerror(errno));
    return fd;
}

struct held_call held_next(int fd) {
    struct seccomp_notif request;
    do
        memset(&request, 0, sizeof request);
    while (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0 &&
           (errno == EINTR || errno == ENOENT));
    if (request.id == 0)
        FAIL("no system call to hold: %s", strerror(errno));
    struct held_call call = {request.id, (pid_t)request.pid, request.data.nr, {0}};
    for (int i = 0; i < 3; i++)
        call.arguments[i] = request.data.args[i];
    return call;
}

static bool respond(int fd, struct seccomp_notif_resp response) {
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0)
        return true;
    if (errno != ENOENT)
        FAIL("the system call could not be let go: %s", strerror(errno));
    return false;
}

bool held_release(int fd, const struct held_call *call) {
    return respond(
        fd, (struct seccomp_notif_resp){.id = call->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE});
}

bool held_answer(int fd, const struct held_call *call, int result, uint64_t address,
                 const void *bytes, size_t size) {
    struct iovec from = {(void *)(uintptr_t)bytes, size}, to = {(void *)(uintptr_t)address, size};
    if (size > 0 && process_vm_writev(call->pid, &from, 1, &to, 1, 0) != (ssize_t)size)
        SKIP_PLATFORM("process_vm_writev: %s", strerror(errno));
    return respond(fd, (struct seccomp_notif_resp){.id = call->id,
                                                   .val = result < 0 ? 0 : result,
                                                   .error = result < 0 ? result : 0});
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
