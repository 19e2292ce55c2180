#include "failing.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"
#include "start.h"
#include "tap.h"

#define MISSING "/nonexistent/rdaemon"

int32_t many_options_pipe;

void many_options(struct rdaemon_spawn_config *config, uint32_t flags) {
    static const char *const argv[] = {"/bin/true", NULL};
    static const struct rdaemon_limit limits[] = {
        {.resource = RLIMIT_CPU, .soft = 1000, .hard = RDAEMON_UNLIMITED},
        {.resource = RLIMIT_NOFILE, .soft = 128, .hard = 256}};
    static const struct rdaemon_signal_action signal_map[] = {
        {.signal = SIGUSR1, .action = RDAEMON_SIGNAL_IGNORE},
        {.signal = SIGUSR2, .action = RDAEMON_SIGNAL_DEFAULT}};
    static const int32_t blocked[] = {SIGHUP};
    static struct rdaemon_fd_mapping map[2];
    static char file[PATH_MAX];
    static int32_t passed[1];
    if (passed[0] == 0) {
        snprintf(file, sizeof file, "%s/output", scratch());
        passed[0] = fcntl(0, F_DUPFD_CLOEXEC, 20);
    }
    map[0] = (struct rdaemon_fd_mapping){
        .child_fd = 30, .source.action = RDAEMON_STREAM_PIPE, .ret_fd = &many_options_pipe};
    map[1] = (struct rdaemon_fd_mapping){.child_fd = 31,
                                         .source = {.action = RDAEMON_STREAM_FD, .fd = 1}};
    *config = (struct rdaemon_spawn_config){
        .flags = flags | RDAEMON_SPAWN_PIDFD | RDAEMON_SPAWN_UMASK | RDAEMON_SPAWN_RESET_SIGNALS |
                 RDAEMON_SPAWN_SIGNAL_MASK | RDAEMON_SPAWN_NO_NEW_PRIVS,
        .argv = argv,
        .streams = {{.action = RDAEMON_STREAM_PIPE},
                    {.action = RDAEMON_STREAM_FILE, .path = file},
                    {.action = RDAEMON_STREAM_SAME_AS_STDOUT}},
        .fd_map = map,
        .fd_map_len = 2,
        .pass_fds = passed,
        .pass_fds_len = 1,
        .working_directory = "/",
        .umask = 077,
        .limits = limits,
        .limits_len = 2,
        .signal_map = signal_map,
        .signal_map_len = 2,
        .blocked_signals = blocked,
        .blocked_signals_len = 1,
    };
    if (!(flags & RDAEMON_SPAWN_DETACHED)) {
        config->death_signal = SIGTERM;
        if (!(flags & RDAEMON_SPAWN_PROCESS_GROUP))
            config->flags |= RDAEMON_SPAWN_SETSID;
    }
}

bool failing_config(const struct failing_spawn *failing, uint32_t flags,
                    struct rdaemon_spawn_config *config) {
    flags |= failing->needs;
    if (flags & failing->excludes)
        return false;
    many_options(config, flags);
    failing->arrange(config);
    return true;
}

/* ---- in the parent ---- */

static void second_stream_is_missing(struct rdaemon_spawn_config *config) {
    config->streams[2] =
        (struct rdaemon_stream){.action = RDAEMON_STREAM_FILE, .path = MISSING "/output"};
}

static void mapped_file_is_missing(struct rdaemon_spawn_config *config) {
    static struct rdaemon_fd_mapping map[2];
    map[0] = config->fd_map[0];
    map[1] = (struct rdaemon_fd_mapping){
        .child_fd = 31,
        .flags = RDAEMON_FD_MAPPING_INPUT,
        .source = {.action = RDAEMON_STREAM_FILE, .path = MISSING},
    };
    config->fd_map = map;
}

/* Leaves `spare` fds to be opened. */
static void limit_fds(int spare) {
    struct rlimit limit;
    int next = fcntl(0, F_DUPFD, 0);
    close(next);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = (rlim_t)(next + spare);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void no_fd_for_the_pipes(struct rdaemon_spawn_config *config) {
    (void)config;
    limit_fds(3);
}

static void no_fd_for_the_channel(struct rdaemon_spawn_config *config) {
    config->flags &= ~(uint32_t)RDAEMON_SPAWN_PIDFD;
    memset(config->streams, 0, sizeof config->streams);
    config->fd_map_len = 0;
    limit_fds(1); /* of the two ends */
}

static void no_process_may_be_made(struct rdaemon_spawn_config *config) {
    (void)config;
    deny_syscall(SYS_clone3, EAGAIN);
    deny_syscall(SYS_clone, EAGAIN);
#ifdef SYS_vfork
    deny_syscall(SYS_fork, EAGAIN);
    deny_syscall(SYS_vfork, EAGAIN);
#endif
}

static void no_memory_for_a_process(struct rdaemon_spawn_config *config) {
    (void)config;
    deny_syscall(SYS_clone3, ENOMEM);
    deny_syscall(SYS_clone, ENOMEM);
#ifdef SYS_vfork
    deny_syscall(SYS_fork, ENOMEM);
    deny_syscall(SYS_vfork, ENOMEM);
#endif
}

/* ---- in the child ---- */

static void number_beyond_the_limit(struct rdaemon_spawn_config *config) {
    static struct rdaemon_fd_mapping map[2];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    map[0] = config->fd_map[0];
    map[1] = config->fd_map[1];
    map[1].child_fd = (int32_t)limit.rlim_cur;
    config->fd_map = map;
}

static void new_session_denied(struct rdaemon_spawn_config *config) {
    (void)config;
    deny_syscall(SYS_setsid, EPERM);
}

static void group_does_not_exist(struct rdaemon_spawn_config *config) {
    config->process_group = INT_MAX;
}

static void terminal_is_none(struct rdaemon_spawn_config *config) {
    config->terminal_fd = 31;
}

static void root_is_missing(struct rdaemon_spawn_config *config) {
    config->chroot_directory = MISSING;
}

static void directory_is_missing(struct rdaemon_spawn_config *config) {
    config->working_directory = MISSING;
}

static void directory_fd_is_a_file(struct rdaemon_spawn_config *config) {
    config->working_directory = NULL;
    config->working_directory_fd = 0;
}

static void limit_above_what_may_be(struct rdaemon_spawn_config *config) {
    static const struct rdaemon_limit limit = {
        .resource = RLIMIT_NOFILE, .soft = RDAEMON_UNLIMITED, .hard = RDAEMON_UNLIMITED};
    config->limits = &limit;
    config->limits_len = 1;
}

static void user_may_not_be_changed(struct rdaemon_spawn_config *config) {
    if (geteuid() == 0)
        CHECK_INT(chown(scratch(), TEST_UID, TEST_GID), 0);
    become_user();
    config->identity.flags = RDAEMON_IDENTITY_UID;
    config->identity.uid = 0;
}

static void disposition_denied(struct rdaemon_spawn_config *config) {
    static const struct rdaemon_signal_action map[] = {
        {.signal = SIGUSR1, .action = RDAEMON_SIGNAL_IGNORE}};
    config->signal_map = map;
    config->signal_map_len = 1;
    deny_syscall_arg(SYS_rt_sigaction, 0, SIGUSR1, EPERM);
}

static void no_new_privs_denied(struct rdaemon_spawn_config *config) {
    (void)config;
    deny_syscall_arg(SYS_prctl, 0, PR_SET_NO_NEW_PRIVS, EPERM);
}

static void death_signal_denied(struct rdaemon_spawn_config *config) {
    (void)config;
    deny_syscall_arg(SYS_prctl, 0, PR_SET_PDEATHSIG, EPERM);
}

static int refuse(void *context) {
    (void)context;
    return -EDOM;
}

static void hook_refuses(struct rdaemon_spawn_config *config) {
    config->hook = refuse;
}

static void program_is_missing(struct rdaemon_spawn_config *config) {
    static const char *const argv[] = {MISSING, NULL};
    config->argv = argv;
}

static void program_is_a_directory(struct rdaemon_spawn_config *config) {
    static const char *const argv[] = {"/", NULL};
    config->argv = argv;
}

#define DETACHED RDAEMON_SPAWN_DETACHED
#define STEP(name) RDAEMON_STEP_##name

const struct failing_spawn failing_spawns[] = {
    {"stream", STEP(OPEN_STREAMS), ENOENT, 0, 0, second_stream_is_missing},
    {"mapped file", STEP(OPEN_STREAMS), ENOENT, 0, 0, mapped_file_is_missing},
    {"pipes", STEP(OPEN_STREAMS), EMFILE, 0, 0, no_fd_for_the_pipes},
    {"channel", STEP(CHANNEL), EMFILE, RDAEMON_SPAWN_FORCE_FORK, DETACHED, no_fd_for_the_channel},
    {"fork", STEP(FORK), EAGAIN, 0, 0, no_process_may_be_made},
    {"fork without memory", STEP(FORK), ENOMEM, 0, 0, no_memory_for_a_process},
    {"map_fds", STEP(MAP_FDS), EBADF, 0, 0, number_beyond_the_limit},
    {"setsid", STEP(SETSID), EPERM, 0, 0, new_session_denied},
    {"setpgid", STEP(SETPGID), EPERM, RDAEMON_SPAWN_PROCESS_GROUP, DETACHED, group_does_not_exist},
    {"terminal", STEP(CONTROLLING_TERMINAL), ENOTTY, RDAEMON_SPAWN_CONTROLLING_TERMINAL, DETACHED,
     terminal_is_none},
    {"chroot", STEP(CHROOT), ENOENT, 0, 0, root_is_missing},
    {"chdir", STEP(CHDIR), ENOENT, 0, 0, directory_is_missing},
    {"fchdir", STEP(CHDIR), ENOTDIR, RDAEMON_SPAWN_CWD_FD, 0, directory_fd_is_a_file},
    {"set_limits", STEP(SET_LIMITS), EPERM, 0, 0, limit_above_what_may_be},
    {"set_signals", STEP(SET_SIGNALS), EPERM, 0, 0, disposition_denied},
    {"drop_privileges", STEP(DROP_PRIVILEGES), EPERM, 0, 0, user_may_not_be_changed},
    {"no_new_privs", STEP(NO_NEW_PRIVS), EPERM, 0, 0, no_new_privs_denied},
    {"death_signal", STEP(DEATH_SIGNAL), EPERM, 0, DETACHED, death_signal_denied},
    {"hook", STEP(HOOK), EDOM, 0, 0, hook_refuses},
    {"exec", STEP(EXEC), ENOENT, 0, 0, program_is_missing},
    {"exec of a directory", STEP(EXEC), EACCES, 0, 0, program_is_a_directory},
    {0},
};
