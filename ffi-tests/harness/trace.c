#include "trace.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

/* A call number that no kernel has: it fails with ENOSYS, and the tracer sees it. */
#define MARK_NUMBER 0x3ead
#define MARK_ENTER 1
#define MARK_RETURN 2
#define KNOWN_MAX 64

struct tracer {
    const struct trace_request *request;
    struct trace_result *result;
    struct known {
        pid_t pid;
        enum trace_role role;
        bool identified; /* the maker's event said whose child it is */
        bool waiting;    /* it stopped at birth before that */
        bool born;       /* the stop at birth is behind it */
        bool failing;    /* the error goes in at the exit stop of its call */
        bool over;       /* it has returned, or executed a program */
        bool ended;
        bool is_made; /* by what is traced: after trace_enter */
        int children;
        char lineage[24];
    } known[KNOWN_MAX];
    int known_len;
    pid_t frozen;
    struct timespec acted_at;
};

static volatile sig_atomic_t out_of_time;

static void on_alarm(int signal) {
    (void)signal;
    out_of_time = 1;
}

void trace_enter(void) {
    int saved = errno;
    syscall(MARK_NUMBER, MARK_ENTER, 0);
    errno = saved;
}

void trace_return(int value) {
    int saved = errno;
    syscall(MARK_NUMBER, MARK_RETURN, value);
    errno = saved;
}

static double ms_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) * 1e3 +
           (double)(now.tv_nsec - start->tv_nsec) / 1e6;
}

/* ---- the registers, the only part that knows the architecture ---- */

#if defined(__x86_64__)
bool trace_can_fail_calls(void) {
    return true;
}

static void skip_call(pid_t pid) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, pid, 0, &registers);
    registers.orig_rax = (unsigned long long)-1;
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
}

static void set_error(pid_t pid, int error) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, pid, 0, &registers);
    registers.rax = (unsigned long long)-error;
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
}
#elif defined(__aarch64__)
#ifndef NT_ARM_SYSTEM_CALL
#define NT_ARM_SYSTEM_CALL 0x404
#endif
bool trace_can_fail_calls(void) {
    return true;
}

static void skip_call(pid_t pid) {
    int number = -1;
    struct iovec iov = {&number, sizeof number};
    ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &iov);
}

static void set_error(pid_t pid, int error) {
    struct user_regs_struct registers;
    struct iovec iov = {&registers, sizeof registers};
    ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov);
    registers.regs[0] = (unsigned long long)-error;
    ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &iov);
}
#else
bool trace_can_fail_calls(void) {
    return false;
}

static void skip_call(pid_t pid) {
    (void)pid;
}

static void set_error(pid_t pid, int error) {
    (void)pid;
    (void)error;
}
#endif

/* ---- who is who ---- */

static struct known *find(struct tracer *t, pid_t pid) {
    for (int i = 0; i < t->known_len; i++)
        if (t->known[i].pid == pid && !t->known[i].ended)
            return &t->known[i];
    return NULL;
}

static struct known *add(struct tracer *t, pid_t pid) {
    if (t->known_len == KNOWN_MAX)
        return NULL;
    struct known *k = &t->known[t->known_len++];
    *k = (struct known){.pid = pid, .role = TRACE_OTHER};
    return k;
}

static struct trace_process *process_of(struct tracer *t, const struct known *k) {
    return &t->result->of[k->role];
}

static void identify(struct tracer *t, struct known *k, struct known *maker) {
    enum trace_role role = maker->role < TRACE_DAEMON ? maker->role + 1 : TRACE_OTHER;
    snprintf(k->lineage, sizeof k->lineage, "%.10s%s%d", maker->lineage, *maker->lineage ? "." : "",
             ++maker->children);
    if (role != TRACE_OTHER && t->result->of[role].pid != 0)
        role = TRACE_OTHER;
    k->role = role;
    k->identified = true;
    k->is_made = t->result->of[TRACE_ORIGINAL].entered;
    t->result->of[role] = (struct trace_process){.pid = k->pid, .entered = true, .last = -1};
}

/* ---- acting ---- */

static void resume(pid_t pid, int signal) {
    ptrace(PTRACE_SYSCALL, pid, 0, (void *)(intptr_t)signal);
}

/* A program is not looked at. */
static void resume_after_exec(struct known *k) {
    k->over = true;
    ptrace(PTRACE_CONT, k->pid, 0, 0);
}

/* Whether the process may be resumed. */
static bool act(struct tracer *t, struct known *k, long number) {
    const struct trace_request *request = t->request;
    t->result->acted = true;
    t->result->acted_on = number;
    ptrace(PTRACE_GETSIGMASK, k->pid, sizeof t->result->blocked, &t->result->blocked);
    clock_gettime(CLOCK_MONOTONIC, &t->acted_at);
    const struct trace_process *intermediate = &t->result->of[TRACE_INTERMEDIATE];
    if (request->orphan && intermediate->pid > 0 && !intermediate->ended)
        kill(intermediate->pid, SIGKILL);
    switch (request->action) {
    case TRACE_SIGNAL:
        kill(k->pid, request->value);
        return true;
    case TRACE_ERROR:
        k->failing = number >= 0;
        if (k->failing)
            skip_call(k->pid);
        return true;
    case TRACE_ERROR_AFTER:
        k->failing = true;
        return true;
    case TRACE_DO:
        request->deed(request->context);
        return true;
    case TRACE_FREEZE: {
        const struct trace_process *original = &t->result->of[TRACE_ORIGINAL];
        bool answered = original->returned || original->ended;
        t->frozen = answered ? 0 : k->pid;
        return answered;
    }
    default:
        return true;
    }
}

static bool act_if_here(struct tracer *t, struct known *k, int index, long number) {
    const struct trace_request *request = t->request;
    if (t->result->acted || request->action == TRACE_WATCH || request->choose ||
        k->role != request->role || index != request->index)
        return true;
    return act(t, k, number);
}

static bool act_if_chosen(struct tracer *t, struct known *k,
                          const struct __ptrace_syscall_info *info) {
    const struct trace_request *request = t->request;
    long number = (long)info->entry.nr;
    if (!request->choose || k->over || !t->result->of[TRACE_ORIGINAL].entered ||
        !request->choose(request->context, k->lineage, number, (const uint64_t *)info->entry.args))
        return true;
    return t->result->acted || act(t, k, number);
}

static void thaw(struct tracer *t) {
    if (t->frozen != 0) {
        pid_t pid = t->frozen;
        t->frozen = 0;
        resume(pid, 0);
    }
}

/* The original has returned or ended: the time it took is known, and nobody needs to be held any
 * longer. */
static void original_answered(struct tracer *t) {
    if (t->result->acted && t->result->answered_ms == 0)
        t->result->answered_ms = ms_since(&t->acted_at);
    thaw(t);
}

static void note_survivors(struct tracer *t) {
    char *text = t->result->survivors;
    for (int i = 0; i < t->known_len; i++) {
        const struct known *k = &t->known[i];
        size_t length = strlen(text);
        if (k->is_made && !k->ended && !strchr("XZ", process_state(k->pid)))
            snprintf(text + length, sizeof t->result->survivors - length, "%s ", k->lineage);
    }
}

/* ---- the events ---- */

static bool on_mark(struct tracer *t, struct known *k, struct trace_process *p,
                    const struct __ptrace_syscall_info *info) {
    if (info->entry.args[0] == MARK_ENTER) {
        p->entered = true;
        return act_if_here(t, k, 0, -1);
    }
    k->over = p->returned = true;
    p->returned_with = (int)info->entry.args[1];
    if (k->role == TRACE_ORIGINAL) {
        if (p->returned_with < 0)
            note_survivors(t);
        original_answered(t);
    }
    return true;
}

static bool on_call(struct tracer *t, struct known *k) {
    struct __ptrace_syscall_info info;
    struct trace_process *p = process_of(t, k);
    if (ptrace(PTRACE_GET_SYSCALL_INFO, k->pid, sizeof info, &info) < 0)
        return true;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && k->failing) {
        k->failing = false;
        set_error(k->pid, t->request->value);
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return true;
    if (info.entry.nr == MARK_NUMBER)
        return on_mark(t, k, p, &info);
    if (!act_if_chosen(t, k, &info))
        return false;
    if (!p->entered || p->returned)
        return true;
    p->calls++;
    p->last = (long)info.entry.nr;
    return act_if_here(t, k, p->calls, p->last);
}

/* Of a maker that was killed in the middle of its fork no event will tell. */
static bool is_orphan(const struct known *k) {
    return !k->identified && atoi(status_field(k->pid, "PPid")) == getpid();
}

static void on_birth(struct tracer *t, struct known *k) {
    if (is_orphan(k)) {
        strcpy(k->lineage, "?");
        k->identified = true;
    }
    if (!k->identified) {
        k->waiting = true;
        return;
    }
    bool first = !k->born;
    k->born = true;
    k->waiting = false;
    if (!first || act_if_here(t, k, 0, -1))
        resume(k->pid, 0);
}

static void on_fork(struct tracer *t, struct known *maker) {
    unsigned long made = 0;
    ptrace(PTRACE_GETEVENTMSG, maker->pid, 0, &made);
    struct known *k = find(t, (pid_t)made);
    if (k == NULL)
        k = add(t, (pid_t)made);
    if (k != NULL) {
        identify(t, k, maker);
        if (k->waiting)
            on_birth(t, k);
    }
}

static void on_end(struct tracer *t, struct known *k, int status) {
    k->ended = true;
    for (int i = 0; i < t->known_len; i++)
        if (t->known[i].waiting && !t->known[i].ended && is_orphan(&t->known[i]))
            on_birth(t, &t->known[i]);
    struct trace_process *p = process_of(t, k);
    if (p->pid == k->pid) {
        p->ended = true;
        p->wait_status = status;
    }
    if (k->role == TRACE_ORIGINAL) {
        original_answered(t);
        if (t->request->original_ended)
            t->request->original_ended(t->request->context);
    }
}

static void on_stop(struct tracer *t, struct known *k, int status) {
    int event = status >> 16;
    int signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
        on_fork(t, k);
        resume(k->pid, 0);
    } else if (event == PTRACE_EVENT_EXEC) {
        resume_after_exec(k);
    } else if (event == PTRACE_EVENT_STOP) {
        on_birth(t, k);
    } else if (event != 0) {
        resume(k->pid, 0);
    } else if (signal == (SIGTRAP | 0x80)) {
        if (on_call(t, k))
            resume(k->pid, 0);
    } else {
        resume(k->pid, signal);
    }
}

static void on_wait(struct tracer *t, pid_t pid, int status) {
    struct known *k = find(t, pid);
    if (k == NULL)
        k = WIFSTOPPED(status) ? add(t, pid) : NULL;
    if (k == NULL)
        return; /* an orphan that this process reaps once more, as its new parent */
    if (WIFSTOPPED(status))
        on_stop(t, k, status);
    else
        on_end(t, k, status);
}

static void kill_all(struct tracer *t) {
    t->result->hung = true;
    for (int i = 0; i < t->known_len; i++)
        if (!t->known[i].ended)
            kill(t->known[i].pid, SIGKILL);
}

static void follow(struct tracer *t) {
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid > 0)
            on_wait(t, pid, status);
        else if (errno != EINTR)
            return; /* ECHILD: every one has ended */
        if (out_of_time) {
            out_of_time = 0;
            kill_all(t);
        }
    }
}

/* ---- start and end ---- */

static void set_alarm(int limit_ms) {
    struct itimerval timer = {.it_value = {limit_ms / 1000, limit_ms % 1000 * 1000}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void run_body(const struct trace_request *request, int go) {
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(go, &byte, 1) != 1)
        _exit(99);
    close(go);
    prctl(PR_SET_PDEATHSIG, 0);
    request->body(request->context);
    _exit(0);
}

static pid_t start(const struct trace_request *request, int *ret_go) {
    int go[2];
    if (pipe(go) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        run_body(request, go[0]);
    }
    int error = pid < 0 ? -errno : 0;
    close(go[0]);
    *ret_go = go[1];
    return pid < 0 ? error : pid;
}

int trace_run(const struct trace_request *request, int limit_ms, struct trace_result *result) {
    struct tracer t = {.request = request, .result = result};
    *result = (struct trace_result){.acted_on = -1};
    int go = -1;
    pid_t pid = start(request, &go);
    if (pid < 0)
        return pid;
    struct known *k = add(&t, pid);
    k->role = TRACE_ORIGINAL;
    k->identified = true;
    k->born = true;
    result->of[TRACE_ORIGINAL] = (struct trace_process){.pid = pid, .last = -1};

    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    if (request->choose)
        options |= PTRACE_O_TRACEEXEC;
    int error = 0;
    if (ptrace(PTRACE_SEIZE, pid, 0, options) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0) {
        error = -errno;
        kill(pid, SIGKILL);
    }
    struct sigaction alarm_action = {.sa_handler = on_alarm};
    struct sigaction old_action;
    sigaction(SIGALRM, &alarm_action, &old_action);
    set_alarm(limit_ms);
    if (error == 0 && write(go, "", 1) != 1)
        kill(pid, SIGKILL);
    follow(&t);
    set_alarm(0);
    sigaction(SIGALRM, &old_action, NULL);
    close(go);
    return error;
}

/* ---- names, for messages ---- */

const char *trace_call_name(long number) {
    static const struct {
        long number;
        const char *name;
    } names[] = {
#define CALL(name) {SYS_##name, #name}
        CALL(bind),
        CALL(brk),
        CALL(capget),
        CALL(chdir),
        CALL(chroot),
        CALL(clone),
        CALL(clone3),
        CALL(close),
        CALL(close_range),
        CALL(connect),
        CALL(dup),
        CALL(dup3),
        CALL(clock_nanosleep),
        CALL(execve),
        CALL(exit),
        CALL(exit_group),
        CALL(fchdir),
        CALL(fchmod),
        CALL(fchown),
        CALL(fcntl),
        CALL(flock),
        CALL(fstat),
        CALL(fstatfs),
        CALL(ftruncate),
        CALL(futex),
        CALL(getdents64),
        CALL(getegid),
        CALL(geteuid),
        CALL(getgid),
        CALL(getgroups),
        CALL(getpeername),
        CALL(getpid),
        CALL(getppid),
        CALL(getresgid),
        CALL(getresuid),
        CALL(getsid),
        CALL(getsockname),
        CALL(getsockopt),
        CALL(gettid),
        CALL(getuid),
        CALL(ioctl),
        CALL(kill),
        CALL(lseek),
        CALL(munmap),
        CALL(mmap),
        CALL(nanosleep),
        CALL(newfstatat),
        CALL(openat),
        CALL(pidfd_open),
        CALL(pidfd_send_signal),
        CALL(pipe2),
        CALL(ppoll),
        CALL(prctl),
        CALL(pread64),
        CALL(prlimit64),
        CALL(pwrite64),
        CALL(pwritev2),
        CALL(read),
        CALL(readlinkat),
        CALL(recvfrom),
        CALL(recvmsg),
        CALL(restart_syscall),
        CALL(rseq),
        CALL(rt_sigaction),
        CALL(rt_sigprocmask),
        CALL(rt_sigreturn),
        CALL(sendmsg),
        CALL(sendto),
        CALL(set_robust_list),
        CALL(set_tid_address),
        CALL(setgid),
        CALL(setgroups),
        CALL(setpgid),
        CALL(setregid),
        CALL(setresgid),
        CALL(setresuid),
        CALL(setreuid),
        CALL(setsid),
        CALL(setuid),
        CALL(shutdown),
        CALL(socket),
        CALL(socketpair),
        CALL(statx),
        CALL(tgkill),
        CALL(umask),
        CALL(unlinkat),
        CALL(unshare),
        CALL(wait4),
        CALL(waitid),
        CALL(write),
        CALL(writev),
#ifdef SYS_poll
        CALL(poll),
#endif
#ifdef SYS_dup2
        CALL(dup2),
#endif
#ifdef SYS_fork
        CALL(fork),
        CALL(vfork),
        CALL(open),
        CALL(readlink),
        CALL(unlink),
        CALL(pipe),
        CALL(stat),
        CALL(lstat),
#endif
#undef CALL
    };
    static char other[24];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number)
            return names[i].name;
    snprintf(other, sizeof other, number < 0 ? "birth" : "%ld", number);
    return other;
}
