#include "child.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"
#include "sandbox.h"
#include "start.h"

uint32_t way;
bool by_exec;
size_t output_length;

/* ---- spawning ---- */

static bool is_poison(const void *memory, size_t size) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0xa5)
            return false;
    return true;
}

/* What rdaemon_exec has told when it returned, from the process that ends then. */
struct refusal {
    bool returned;
    int result;
    struct rdaemon_status status;
};

static _Noreturn void exec_or_tell(const Config *config, struct refusal *refusal) {
    refusal->result = QUIET(rdaemon_exec(RDAEMON_SIZED(config), RDAEMON_SIZED(&refusal->status)));
    refusal->returned = true;
    _exit(1);
}

/* The pipe, above all fds of a case, ends with the execve or with the process. */
static void fork_and_exec(struct spawned *spawned, const Config *config) {
    struct refusal *refusal = shared_memory(sizeof *refusal);
    int ends[2], high;
    char byte;
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    high = fcntl(ends[1], F_DUPFD_CLOEXEC, 900);
    close(ends[1]);
    pid_t pid = fork_child();
    if (pid == 0) {
        close(ends[0]);
        exec_or_tell(config, refusal);
    }
    close(high);
    CHECK_INT(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    spawned->result = pid;
    memset(&spawned->status, 0, sizeof spawned->status);
    if (refusal->returned) {
        CHECK_INT(wait_for_exit(pid), 256);
        spawned->result = refusal->result;
        spawned->status = refusal->status;
    } else {
        spawned->child.pid = pid;
        memset(spawned->child.fds, 0xff, sizeof spawned->child.fds);
        spawned->child.pidfd = -1;
    }
    munmap(refusal, sizeof *refusal);
}

void spawn(struct spawned *spawned, const Config *config) {
    Config with_way = *config;
    with_way.flags |= way;
    memset(spawned, 0xa5, sizeof *spawned);
    if (by_exec)
        fork_and_exec(spawned, config);
    else
        spawned->result =
            QUIET(rdaemon_spawn(RDAEMON_SIZED(&with_way), RDAEMON_SIZED(&spawned->child),
                                RDAEMON_SIZED(&spawned->status)));
    if (spawned->result < 0)
        CHECK(is_poison(&spawned->child, sizeof spawned->child));
}

pid_t spawn_well(struct spawned *spawned, const Config *config) {
    spawn(spawned, config);
    if (spawned->result < 0)
        FAIL("the spawn failed: %s, %s", rdaemon_step_name(spawned->status.step),
             error_name(spawned->result));
    CHECK(spawned->result > 0);
    CHECK_INT(spawned->child.pid, spawned->result);
    CHECK_INT(spawned->status.step, RDAEMON_STEP_NONE);
    CHECK_INT(spawned->status.error, 0);
    return spawned->result;
}

void spawn_badly(const Config *config, int step, int error) {
    static struct snapshot before;
    char files[4096];
    struct spawned failed;
    snprintf(files, sizeof files, "%s", tree(scratch()));
    snapshot_take(&before);
    spawn(&failed, config);
    if (failed.result > 0) {
        kill_and_reap(&failed);
        FAIL("the spawn succeeded, where it should fail at %s with %s", rdaemon_step_name(step),
             error_name(error));
    }
    if (failed.status.step != step || failed.result != error)
        FAIL("the spawn failed at %s with %s, where it should fail at %s with %s",
             rdaemon_step_name(failed.status.step), error_name(failed.result),
             rdaemon_step_name(step), error_name(error));
    CHECK_INT(failed.status.error, error);
    CHECK(snapshot_same(&before));
    CHECK_STR(tree(scratch()), files);
}

static void close_handle(struct spawned *spawned) {
    if (spawned->child.pidfd >= 0)
        close(spawned->child.pidfd);
    for (int i = 0; i < 3; i++)
        if (spawned->child.fds[i] >= 0)
            close(spawned->child.fds[i]);
    spawned->child.pidfd = -1;
    memset(spawned->child.fds, 0xff, sizeof spawned->child.fds);
}

int reap(struct spawned *spawned) {
    int status = wait_for_exit(spawned->result);
    close_handle(spawned);
    return status;
}

void kill_and_reap(struct spawned *spawned) {
    kill(spawned->result, SIGKILL);
    reap(spawned);
}

const char *output_of(const Config *config) {
    static char text[256 * 1024];
    Config piped = *config;
    struct spawned spawned;
    int ends[2];
    if (piped.streams[1].action != RDAEMON_STREAM_DEFAULT) {
        spawn_well(&spawned, &piped);
    } else if (by_exec) {
        CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
        piped.streams[1] = (struct rdaemon_stream){.action = RDAEMON_STREAM_FD, .fd = ends[1]};
        spawn_well(&spawned, &piped);
        spawned.child.fds[1] = ends[0];
        close(ends[1]);
    } else {
        piped.streams[1].action = RDAEMON_STREAM_PIPE;
        spawn_well(&spawned, &piped);
    }
    output_length = 0;
    for (ssize_t got = 1; spawned.child.fds[1] >= 0 && got > 0; output_length += (size_t)got) {
        got = read(spawned.child.fds[1], text + output_length, sizeof text - 1 - output_length);
        if (got < 0)
            FAIL("read from the program: %s", strerror(errno));
    }
    text[output_length] = '\0';
    CHECK_INT(reap(&spawned), 0);
    return text;
}

/* ---- what fds are made of ---- */

struct rdaemon_stream fd_stream(int fd) {
    return (struct rdaemon_stream){.action = RDAEMON_STREAM_FD, .fd = fd};
}

struct rdaemon_stream file_stream(const char *path, int flags, uint32_t mode) {
    return (struct rdaemon_stream){
        .action = RDAEMON_STREAM_FILE, .path = path, .open_flags = flags, .mode = mode};
}

struct rdaemon_stream plain_stream(uint32_t action) {
    return (struct rdaemon_stream){.action = action};
}

struct rdaemon_fd_mapping map_fd(int child_fd, int fd) {
    return (struct rdaemon_fd_mapping){.child_fd = child_fd, .source = fd_stream(fd)};
}

void open_at(int fd, int flags) {
    int file = memfd_create("a source", MFD_CLOEXEC);
    CHECK(file >= 0);
    if (file != fd) {
        CHECK_INT(dup3(file, fd, flags & O_CLOEXEC), fd);
        close(file);
    } else {
        CHECK_INT(fcntl(fd, F_SETFD, flags & O_CLOEXEC ? FD_CLOEXEC : 0), 0);
    }
}

/* ---- identities ---- */

static const char *write_identity(const struct stat *status, const char *mode) {
    static char texts[8][80];
    static unsigned turn;
    char *text = texts[turn++ % 8];
    snprintf(text, sizeof texts[0], "%ju:%ju%s", (uintmax_t)status->st_dev,
             (uintmax_t)status->st_ino, mode);
    return text;
}

const char *identity_of(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0)
        FAIL("%s: %s", path, strerror(errno));
    return write_identity(&status, "");
}

const char *identity_of_fd(int fd) {
    static const char *const modes[] = {":r", ":w", ":rw", ":?"};
    struct stat status;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &status) != 0)
        FAIL("fd %d: %s", fd, strerror(errno));
    return write_identity(&status, modes[flags & O_ACCMODE]);
}

bool shares_description(pid_t pid, int its_fd, int own_fd) {
    int answer = (int)syscall(SYS_kcmp, pid, getpid(), 0 /* KCMP_FILE */, its_fd, own_fd);
    if (answer < 0 && (errno == ENOSYS || errno == EPERM))
        SKIP_PLATFORM("kcmp: %s", strerror(errno));
    return answer == 0;
}

/* ---- the reporting program ---- */

static FILE *story;

static void tell_processes(void) {
    int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    fprintf(story, "pid %d\nppid %d\npgid %d\nsid %d\nterminal %d\nforeground %d\n", (int)getpid(),
            (int)getppid(), (int)getpgrp(), (int)getsid(0), terminal >= 0,
            terminal >= 0 && tcgetpgrp(terminal) == getpgrp());
    if (terminal >= 0)
        close(terminal);
}

static void tell_ids(void) {
    uid_t uid[3];
    gid_t gid[3], groups[64];
    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    fprintf(story, "uid %u %u %u\ngid %u %u %u\ngroups", uid[0], uid[1], uid[2], gid[0], gid[1],
            gid[2]);
    int count = getgroups(64, groups);
    for (int i = 0; i < count; i++)
        fprintf(story, " %u", groups[i]);
    fprintf(story, "%s\n", count > 0 ? "" : " ");
}

/* By system call, as libc hides two of the signals. */
static void tell_signals(void) {
    unsigned long long blocked = 0, ignored = 0, caught = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, 8);
    for (int i = 1; i <= 64; i++) {
        struct {
            void (*handler)(int);
            unsigned long rest[7];
        } action = {0};
        syscall(SYS_rt_sigaction, i, NULL, &action, 8);
        if (action.handler == SIG_IGN)
            ignored |= 1ULL << (i - 1);
        else if (action.handler != SIG_DFL)
            caught |= 1ULL << (i - 1);
    }
    fprintf(story, "blocked %016llx\nignored %016llx\ncaught %016llx\n", blocked, ignored, caught);
}

static void tell_attributes(void) {
    mode_t mask = umask(0);
    int death_signal = 0;
    prctl(PR_GET_PDEATHSIG, &death_signal);
    fprintf(story, "umask %03o\ncwd %s\nroot %s\nno_new_privs %d\ndeath_signal %d\n",
            (unsigned)mask, identity_of("."), identity_of("/"),
            prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), death_signal);
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        if (getrlimit(i, &limit) == 0)
            fprintf(story, "limit.%d %ju:%ju\n", i, (uintmax_t)limit.rlim_cur,
                    (uintmax_t)limit.rlim_max);
    }
}

enum { FDS_TEXT = 64 * 1024 };

/* Without /proc by counting, up to what a case may use. */
static void look_at_fds(char *list, char *details) {
    DIR *directory = opendir("/proc/self/fd");
    char *end = list, *details_end = details;
    int highest = -1;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (atoi(entry->d_name) > highest && atoi(entry->d_name) != dirfd(directory))
            highest = atoi(entry->d_name);
    if (!directory)
        highest = 32767;
    else
        closedir(directory);
    *list = *details = '\0';
    for (int fd = 0; fd <= highest; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        end += sprintf(end, " %d", fd);
        details_end += sprintf(details_end, "fd.%d %s\nflags.%d %o\n", fd, identity_of_fd(fd), fd,
                               (unsigned)fcntl(fd, F_GETFL));
    }
}

/* Arguments: the file, which is there, "go" or "stop". */
HELPER(report) {
    static char fds[FDS_TEXT], details[FDS_TEXT];
    look_at_fds(fds, details);
    story = fopen(arguments[0], "r+e");
    if (!story)
        return 1;
    fprintf(story, "fds%s\n%s", fds[0] ? fds : " ", details);
    tell_processes();
    tell_ids();
    tell_signals();
    tell_attributes();
    if (fclose(story) != 0)
        return 1;
    if (strcmp(arguments[1], "stop") == 0)
        raise(SIGSTOP);
    return 0;
}

/* ---- reports ---- */

static char told_text[2 * FDS_TEXT + 16 * 1024];

static void read_report(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    told_text[length++] = '\n';
    for (ssize_t got = 1; fd >= 0 && got > 0; length += got > 0 ? (size_t)got : 0)
        got = read(fd, told_text + length, sizeof told_text - 1 - length);
    told_text[length] = '\0';
    if (fd < 0 || length < 2)
        FAIL("there is no report in %s", path);
    close(fd);
}

/* The file is there before, with all rights, as the program may be anybody. Named inside a jail as
 * the program sees it; the result is how this process does. */
static const char *start_report(struct spawned *spawned, const Config *config, const char *end) {
    static char outside[PATH_MAX];
    const char *root = config->chroot_directory;
    Config whole = *config;
    snprintf(outside, sizeof outside, "%s/report", root ? root : scratch());
    int fd = open(outside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || fchmod(fd, 0666) != 0)
        FAIL("%s: %s", outside, strerror(errno));
    close(fd);
    const char *const *program = STRINGS(root ? "/program" : "/proc/self/exe");
    const char *const *argv =
        STRINGS("helper", "--helper", "report", root ? "/report" : outside, end);
    if (!whole.paths)
        whole.paths = program;
    if (!whole.argv)
        whole.argv = argv;
    spawn_well(spawned, &whole);
    return outside;
}

void report_of(const Config *config) {
    struct spawned spawned;
    const char *path = start_report(&spawned, config, "go");
    CHECK_INT(reap(&spawned), 0);
    read_report(path);
}

void report_quietly(const Config *config) {
    static struct snapshot before;
    snapshot_take(&before);
    report_of(config);
    CHECK(snapshot_same(&before));
}

void report_and_stop(struct spawned *spawned, const Config *config) {
    const char *path = start_report(spawned, config, "stop");
    int status;
    CHECK_INT(waitpid(spawned->result, &status, WUNTRACED | __WALL), spawned->result);
    CHECK(WIFSTOPPED(status));
    read_report(path);
}

const char *told(const char *key) {
    static char values[8][16 * 1024], wanted[64];
    static unsigned turn;
    char *value = values[turn++ % 8];
    snprintf(wanted, sizeof wanted, "\n%s ", key);
    const char *line = strstr(told_text, wanted);
    if (!line)
        return "(not told)";
    line += strlen(wanted);
    snprintf(value, sizeof values[0], "%.*s", (int)strcspn(line, "\n"), line);
    return value;
}

bool told_signal(const char *key, int signal_number) {
    return strtoull(told(key), NULL, 16) >> (signal_number - 1) & 1;
}

pid_t told_pid(const char *key) {
    return atoi(told(key));
}

/* ---- a new root ---- */

static void make_node(const char *path, bool directory) {
    int fd = directory ? mkdir(path, 0755) : open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    if (fd < 0)
        FAIL("%s: %s", path, strerror(errno));
    if (!directory)
        close(fd);
}

/* Not in the scratch directory, which is looked through. */
#define JAIL "/mnt"

/* A directory by a mount, a symlink by its copy; what is not there is not needed. */
static void furnish(const char *name) {
    char from[64], to[64], target[PATH_MAX];
    struct stat status;
    snprintf(from, sizeof from, "/%s", name);
    snprintf(to, sizeof to, JAIL "/%s", name);
    if (lstat(from, &status) != 0)
        return;
    if (S_ISLNK(status.st_mode)) {
        ssize_t length = readlink(from, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        if (symlink(target, to) != 0)
            FAIL("%s: %s", to, strerror(errno));
    } else {
        make_node(to, true);
        mount_over(from, to);
    }
}

const char *jail(void) {
    static const char *const names[] = {"bin", "lib", "lib32", "lib64", "usr"};
    /* By its name: the link would lead into the mount namespace that is left here. */
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    CHECK(length > 0);
    program[length] = '\0';
    enter_mount_namespace();
    mount_tmpfs(JAIL, "size=256k,mode=755");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        furnish(names[i]);
    make_node(JAIL "/program", false);
    mount_over(program, JAIL "/program");
    return JAIL;
}
