/*
 * One cell of the matrix after the other: an operation of which one system call fails, or whose
 * process is killed there; and what must be true afterwards. Which cells there are the script
 * `matrix` says, which also judges the outcomes.
 *
 *   cells --helper trace OPERATION   prints the system calls of an undisturbed run, and of which
 *                                    process they are
 *   cells --helper disturb           reads lines "operation process call number action value" and
 *                                    answers each with "ok" or "not ok", outcome, and milliseconds
 */
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "operations.h"
#include "probe.h"
#include "start.h"
#include "tap.h"
#include "trace.h"

enum { ANSWER_MS = 2000, TRACE_MS = 20000, CELL_MS = 90000, MOST_CALLS = 4096 };

struct cell {
    const struct operation *operation;
    char process[24], call[24];
    int number;
    enum trace_action action;
    int value;
};

/* What the processes of a cell tell each other, beside the scene. */
static struct shared {
    struct trace_result trace;
    int trace_error;
    double waited_ms;   /* by the tracer, for a processor, until there was an answer */
    double lingered_ms; /* the other processes, after the caller had ended */
    struct gate *ended;
    struct outcome again;
    int seen;
    struct {
        char process[24], call[24];
    } calls[MOST_CALLS];
    char verdict[256];
} * shared;

static bool is_kill(const struct cell *cell) {
    return cell->action == TRACE_SIGNAL;
}

/* ---- in the processes that are traced ---- */

/* The limit of two seconds is one for the library, not for what else this machine does: a new
 * session starves for longer on a busy one. A container may forbid it. */
static void be_urgent(void) {
    struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR, &first) != 0 && errno != EPERM)
        FAIL("SCHED_RR: %s", strerror(errno));
}

static void handle(int signal) {
    (void)signal;
}

/* None is the default that a reset gives. SIGCHLD has it, as who ignores that gets no status. */
static void have_dispositions(void) {
    for (int number = 1; number <= SIGRTMAX; number++)
        if (number != SIGCHLD)
            signal(number, number == SIGUSR2 || number == SIGRTMIN ? handle : SIG_IGN);
}

static void caller(void *context) {
    const struct cell *cell = context;
    const struct operation *operation = cell->operation;
    static struct snapshot before;
    struct outcome outcome = {0};
    be_urgent();
    have_dispositions();
    if (operation->undoes_settle)
        snapshot_take(&before);
    if (operation->settle)
        operation->settle();
    if (operation->begin)
        operation->begin();
    if (!operation->undoes_settle)
        snapshot_take(&before);
    trace_enter();
    operation->run(&outcome);
    scene->outcome = outcome;
    scene->returned = true;
    trace_return(outcome.result);
    operation->release(&outcome);
    scene->same = (operation->changes_caller && outcome.result >= 0) || snapshot_same(&before);
    _exit(0);
}

/* ---- in the tracer ---- */

static const char *role_of(const struct operation *operation, const char *lineage) {
    static char role[24];
    if (*lineage == '\0')
        return "caller";
    for (const char *at = operation->processes; *at;
         at += strcspn(at, ","), at += strspn(at, ", ")) {
        size_t length = strcspn(at, " ");
        if (strlen(lineage) == length && strncmp(at, lineage, length) == 0) {
            snprintf(role, sizeof role, "%.*s", (int)strcspn(at + length + 1, ","),
                     at + length + 1);
            return role;
        }
    }
    snprintf(role, sizeof role, "process-%s", lineage);
    return role;
}

/* How long this process was ready to run and did not. */
static double waited_ms(void) {
    unsigned long long ran = 0, waited = 0;
    sscanf(file_text("/proc/self/schedstat"), "%llu %llu", &ran, &waited);
    return (double)waited / 1e6;
}

/* With the command of fcntl(2) and the most important flag of openat(2), which decide how they can
 * fail. */
static const char *name_of(long number, const uint64_t *arguments) {
    static const struct {
        unsigned long command;
        const char *name;
    } commands[] = {{F_GETFD, "fcntl-getfd"},         {F_SETFD, "fcntl-setfd"},
                    {F_GETFL, "fcntl-getfl"},         {F_SETFL, "fcntl-setfl"},
                    {F_DUPFD_CLOEXEC, "fcntl-dupfd"}, {F_SETLK, "fcntl-setlk"},
                    {F_GETLK, "fcntl-getlk"}};
    for (size_t i = 0; number == SYS_fcntl && i < sizeof commands / sizeof *commands; i++)
        if (commands[i].command == arguments[1])
            return commands[i].name;
    if (number == SYS_openat && arguments[2] & O_CREAT)
        return "openat-create";
    return trace_call_name(number);
}

static bool choose(void *context, const char *lineage, long number, const uint64_t *arguments) {
    static int met;
    const struct cell *cell = context;
    const char *role = role_of(cell->operation, lineage), *call = name_of(number, arguments);
    if (shared->seen < MOST_CALLS) {
        int index = shared->seen++;
        strcpy(shared->calls[index].process, role);
        strcpy(shared->calls[index].call, call);
    }
    bool chosen =
        strcmp(role, cell->process) == 0 && strcmp(call, cell->call) == 0 && ++met == cell->number;
    if (chosen)
        shared->waited_ms = waited_ms();
    return chosen;
}

static void caller_ended(void *context) {
    (void)context;
    shared->waited_ms = waited_ms() - shared->waited_ms;
    shared->lingered_ms = now_ms() - waited_ms();
    gate_open(shared->ended);
}

static pid_t run_traced(const struct cell *cell) {
    pid_t tracer = fork_child();
    if (tracer != 0)
        return tracer;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct trace_request request = {.body = caller,
                                    .context = (void *)(uintptr_t)cell,
                                    .action = cell->action,
                                    .value = cell->value,
                                    .choose = choose,
                                    .original_ended = caller_ended};
    shared->trace_error = trace_run(&request, TRACE_MS, &shared->trace);
    shared->lingered_ms = now_ms() - waited_ms() - shared->lingered_ms;
    gate_open(shared->ended);
    _exit(0);
}

/* ---- afterwards ---- */

static const char *outcome_text(const struct outcome *outcome) {
    static char text[128];
    const char *step = outcome->call ? outcome->call : rdaemon_step_name(outcome->status.step);
    if (outcome->result >= 0)
        snprintf(text, sizeof text, "ok%s%s", *scene->ended ? "/" : "", scene->ended);
    else
        snprintf(text, sizeof text, "%s/%s", step, error_name(outcome->result));
    return text;
}

static void run_again(const struct operation *operation, bool whole) {
    pid_t pid = fork_child();
    if (pid == 0) {
        struct outcome outcome = {0};
        be_urgent();
        have_dispositions();
        if (operation->settle)
            operation->settle();
        if (whole && operation->begin)
            operation->begin();
        operation->run(&outcome);
        shared->again = outcome;
        operation->release(&outcome);
        _exit(0);
    }
    if (wait_for_exit(pid) != 0)
        FAIL("the next run did not come to its end");
}

/* After the caller's death, within the time in which a caller must get an answer. */
static const char *next_start(const struct operation *operation) {
    double begin = now_ms(), waited = waited_ms();
    for (;;) {
        run_again(operation, !operation->begin);
        const struct outcome *next = &shared->again;
        if (next->result >= 0)
            return "worked";
        if (next->result != -EEXIST)
            FAIL("the next start: %s", outcome_text(next));
        if (next->status.pid > 0 && daemon_answers(next->status.pid))
            return "named";
        if (now_ms() - begin - (waited_ms() - waited) > ANSWER_MS)
            FAIL("the next start: %s, process %d", outcome_text(next), next->status.pid);
        usleep(1000);
    }
}

/* The process that logs, and who makes it, find out by themselves that the daemon has gone. */
static void check_survivors(const struct operation *operation, const char *lineages) {
    char lineage[24];
    for (int length; sscanf(lineages, "%23s%n", lineage, &length) == 1; lineages += length) {
        const char *role = role_of(operation, lineage);
        if (strncmp(role, "pump", 4) != 0)
            FAIL("the %s has survived the failure", role);
    }
}

static void check_answer(const struct operation *operation) {
    const struct trace_process *original = &shared->trace.of[TRACE_ORIGINAL];
    const struct outcome *outcome = &scene->outcome;
    double took = shared->trace.answered_ms - shared->waited_ms;
    if (!scene->returned || original->wait_status != 0)
        FAIL("the caller ended with wait status %x", original->wait_status);
    if (took > ANSWER_MS)
        FAIL("answered after %.0f ms", took);
    if (!scene->same)
        FAIL("the caller is not what it was");
    if (!scene->left)
        check_survivors(operation, shared->trace.survivors);
    if (!outcome->call) {
        CHECK_INT(outcome->status.error, outcome->result < 0 ? outcome->result : 0);
        CHECK_INT(outcome->status.step != RDAEMON_STEP_NONE, outcome->result < 0);
    }
}

static void check_locks(const struct operation *operation) {
    if (!operation->pidfile)
        return;
    int fd = open(scratch_path(operation->pidfile), O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK};
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fcntl(fd, F_GETLK, &lock) != 0 ||
        lock.l_type != F_UNLCK)
        FAIL("the pidfile is locked");
    close(fd);
}

static void check_children(void) {
    if (manager > 0) {
        kill(manager, SIGKILL);
        wait_for_exit(manager);
    }
    while (waitpid(-1, NULL, __WALL) > 0)
        continue;
}

/* What was started, as it has seen itself: that of the latest run. */
static const char *state_of(const struct operation *operation) {
    static long read_until;
    static char text[4096];
    if (!operation->makes_program)
        return strcpy(text, scene->state);
    int fd = open(scratch_path("output"), O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : pread(fd, text, sizeof text - 1, read_until);
    close(fd);
    text[length] = '\0';
    read_until += length;
    return text;
}

static void undisturbed(const struct operation *operation, const char *before) {
    scene->over = false;
    scene->ended[0] = scene->state[0] = '\0';
    run_again(operation, true);
    if (shared->again.result < 0)
        FAIL("the undisturbed run: %s", outcome_text(&shared->again));
    if (operation->look)
        operation->look();
    if (operation->makes_daemon)
        CHECK(daemon_answers(shared->again.result));
    end_daemons();
    check_children();
    check_locks(operation);
    const char *state = state_of(operation);
    if (operation->makes_program || operation->makes_daemon)
        CHECK(*state);
    if (*before)
        CHECK_STR(before, state);
    if (operation->pidfile && access(scratch_path(operation->pidfile), F_OK) == 0)
        FAIL("the undisturbed run has left its pidfile");
}

/* Once nobody is left, whatever has happened. */
static void check_end(const struct cell *cell, bool killed, const char *files_before) {
    const struct operation *operation = cell->operation;
    bool failed = !killed && scene->outcome.result < 0;
    if (!shared->trace.acted && cell->action != TRACE_WATCH)
        FAIL("the call was not made");
    if (shared->trace.hung)
        FAIL("something hung");
    if (!operation->begin && (failed || !operation->makes_daemon) &&
        shared->lingered_ms > ANSWER_MS)
        FAIL("the last process ended after %.0f ms", shared->lingered_ms);
    if (!killed)
        check_answer(operation);
    if (failed && !scene->left && strcmp(files_before, tree(scratch())) != 0)
        FAIL("left: %s", tree(scratch()));
    check_locks(operation);
}

static void check_success(const struct operation *operation) {
    if (operation->makes_daemon)
        CHECK(daemon_answers(scene->outcome.result));
    if (operation->look)
        operation->look();
}

static void examine(const struct cell *cell) {
    const struct operation *operation = cell->operation;
    char files[4096], state[4096];
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (operation->prepare)
        operation->prepare();
    snprintf(files, sizeof files, "%s", tree(scratch()));
    pid_t tracer = run_traced(cell);
    gate_wait(shared->ended);

    bool killed = is_kill(cell) && !scene->returned;
    bool failed = !killed && scene->outcome.result < 0;
    bool whole = scene->returned && !failed && !is_kill(cell);
    const char *next = killed ? next_start(operation) : "";
    if (whole)
        check_success(operation);
    if (!failed || operation->begin)
        end_daemons();
    CHECK_INT(wait_for_exit(tracer), 0);
    CHECK_INT(shared->trace_error, 0);
    if (killed && operation->makes_daemon)
        check_children();
    snprintf(shared->verdict, sizeof shared->verdict, "%s",
             killed ? next : outcome_text(&scene->outcome));
    check_end(cell, killed, files);
    snprintf(state, sizeof state, "%s", state_of(operation));
    undisturbed(operation, whole ? state : "");
}

/* ---- the worker ---- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status, (void)type;
    return ftw->level == 0 ? 0 : remove(path);
}

static void empty_scratch(void) {
    nftw(scratch(), remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Where a process of another user may execute it. */
static void copy_program(void) {
    struct stat status;
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(scratch_path("program"), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    CHECK_INT(fstat(from, &status), 0);
    CHECK_INT(sendfile(to, from, NULL, (size_t)status.st_size), status.st_size);
    close(from);
    close(to);
}

/* Two signals of libc's, which make leaves ignored, as posix_spawn(3) does. */
static void reset_signals_of_libc(void) {
    static const unsigned long all_default[8];
    for (int number = 32; number <= 33; number++)
        syscall(SYS_rt_sigaction, number, all_default, NULL, 8);
}

static void be_in_order(int log) {
    reset_signals_of_libc();
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    syscall(SYS_close_range, 3, ~0U, 0);
    umask(022);
    setsid();
}

static int sweep(void) {
    int alive = 0;
    if (waitpid(-1, NULL, WNOHANG | __WALL) < 0)
        return 0;
    for (pid_t child; (child = first_child_of(getpid())) > 0;) {
        alive += process_state(child) != 'Z';
        kill(child, SIGKILL);
        waitpid(child, NULL, __WALL);
    }
    return alive;
}

/* Runs the cell in a process of its own; whether all was as it must be. */
static bool in_order(const struct cell *cell, int log) {
    memset(shared, 0, sizeof *shared);
    scene_new();
    shared->ended = gate_new();
    if (cell->operation->makes_program)
        copy_program();
    pid_t pid = fork_child();
    if (pid == 0) {
        be_in_order(log);
        examine(cell);
        _exit(0);
    }
    int status, pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    if (poll(&end, 1, CELL_MS) != 1) {
        dprintf(log, "time limit exceeded\n");
        kill(pid, SIGKILL);
    }
    waitpid(pid, &status, 0);
    close(pidfd);
    int strays = sweep();
    if (strays > 0 && status == 0)
        dprintf(log, "left %d processes\n", strays);
    empty_scratch();
    munmap(shared->ended, sizeof(int));
    munmap(scene, sizeof *scene);
    return status == 0 && strays == 0;
}

static void print_log(int log) {
    char text[8192];
    ssize_t length = pread(log, text, sizeof text - 1, 0);
    text[length < 0 ? 0 : length] = '\0';
    for (char *at = text; *at; at++)
        putchar(*at == '\n' ? ';' : *at);
    CHECK_INT(ftruncate(log, 0), 0);
    lseek(log, 0, SEEK_SET);
}

static void begin(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    shared = shared_memory(sizeof *shared);
    scratch();
}

HELPER(disturb) {
    char line[256], name[32], action[16];
    struct cell cell;
    int log = memfd_create("log", MFD_CLOEXEC);
    begin();
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%31s %23s %23s %d %15s %d", name, cell.process, cell.call, &cell.number,
                   action, &cell.value) != 6)
            FAIL("no cell: %s", line);
        cell.operation = operation_named(name);
        cell.action = strcmp(action, "kill") == 0    ? TRACE_SIGNAL
                      : strcmp(action, "after") == 0 ? TRACE_ERROR_AFTER
                                                     : TRACE_ERROR;
        if (is_kill(&cell))
            cell.value = SIGKILL;
        bool ok = in_order(&cell, log);
        printf("%s %s %.0f ", ok ? "ok" : "not-ok", *shared->verdict ? shared->verdict : "-",
               shared->trace.answered_ms - shared->waited_ms);
        print_log(log);
        putchar('\n');
        fflush(stdout);
    }
    rmdir(scratch());
    return 0;
}

HELPER(trace) {
    struct cell cell = {.operation = operation_named(arguments[0]), .action = TRACE_WATCH};
    int log = memfd_create("log", MFD_CLOEXEC);
    begin();
    bool ok = in_order(&cell, log);
    for (int i = 0; i < shared->seen; i++)
        printf("%s %s\n", shared->calls[i].process, shared->calls[i].call);
    if (!ok)
        print_log(log);
    rmdir(scratch());
    return !ok;
}
