#include "traced.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "probe.h"
#include "sandbox.h"
#include "tap.h"

enum { NOT_YET = 1 << 30, LIMIT_MS = 5000 };

static const char *const role_names[] = {"original", "intermediate", "daemon", "other"};

bool classic_fork;

static struct start *original;

static void body(void *context) {
    struct traced *traced = context;
    static struct snapshot before;
    struct start here;
    if (traced->compare)
        snapshot_take(&before);
    trace_enter();
    here.result = rdaemon_daemonize(RDAEMON_SIZED(&traced->config), RDAEMON_SIZED(&here.daemon),
                                    RDAEMON_SIZED(&here.status));
    trace_return(here.result);
    if (here.result < 0 && traced->compare)
        *traced->changed = !snapshot_same(&before);
    if (here.result != 0)
        *traced->original = here;
    else if (traced->life)
        traced->life(&here);
    _exit(EXIT_SUCCESS);
}

enum { SURVIVED_A_FAILURE = 7 };

/* The default life: until the original has returned. By then a daemon that failed must be dead. */
static void outlast_the_call(const struct start *here) {
    (void)here;
    while (*(volatile int *)&original->result == NOT_YET)
        usleep(200);
    _exit(original->result > 0 ? EXIT_SUCCESS : SURVIVED_A_FAILURE);
}

void traced_init(struct traced *traced) {
    static const struct rdaemon_limit limit = {
        .resource = RLIMIT_CPU, .soft = 1000, .hard = RDAEMON_UNLIMITED};
    memset(traced, 0, sizeof *traced);
    traced->original = original = shared_memory(sizeof *traced->original);
    traced->life = outlast_the_call;
    traced->changed = shared_memory(sizeof *traced->changed);
    traced->request = (struct trace_request){.body = body, .context = traced};
    traced->config = (struct rdaemon_config){
        .flags = RDAEMON_SET_NO_NEW_PRIVS | (classic_fork ? RDAEMON_CLASSIC_FORK : 0),
        .umask = 022,
        .working_directory = scratch(),
        .pidfile = strdup(scratch_path("pid")), /* to stay valid for more than a few calls */
        .streams = {{0},
                    {.action = RDAEMON_STREAM_FILE, .path = strdup(scratch_path("log"))},
                    {.action = RDAEMON_STREAM_SAME_AS_STDOUT}},
        .limits = &limit,
        .limits_len = 1,
    };
    if (geteuid() == 0) {
        traced->config.identity.flags =
            RDAEMON_IDENTITY_UID | RDAEMON_IDENTITY_GID | RDAEMON_IDENTITY_GROUPS;
        traced->config.identity.uid = TEST_UID;
        traced->config.identity.gid = TEST_GID;
    }
}

void traced_run(struct traced *traced) {
    if (traced->config.pidfile)
        unlink(traced->config.pidfile);
    if (traced->config.streams[1].path)
        unlink(traced->config.streams[1].path);
    traced->original->result = NOT_YET;
    *traced->changed = false;
    int error = trace_run(&traced->request, LIMIT_MS, &traced->trace);
    if (error == -EPERM || error == -ENOSYS || error == -EIO)
        SKIP_PLATFORM("ptrace: %s", strerror(-error));
    CHECK_INT(error, 0);
}

int traced_calls(struct traced *traced, enum trace_role role) {
    traced->request.action = TRACE_WATCH;
    traced_run(traced);
    CHECK(traced->original->result > 0);
    int calls = traced->trace.of[role].calls;
    CHECK(calls > 2);
    NOTE("the %s makes %d system calls", role_names[role], calls);
    return calls;
}

const char *traced_where(const struct traced *traced) {
    static char text[96];
    snprintf(text, sizeof text, "%s, call %d (%s)", role_names[traced->request.role],
             traced->request.index, trace_call_name(traced->trace.acted_on));
    return text;
}

static void nothing_is_left(const struct traced *traced) {
    struct rdaemon_pidfile_state state;
    if (tree(scratch())[0])
        FAIL("%s: left %s", traced_where(traced), tree(scratch()));
    CHECK_INT(rdaemon_pidfile_read(traced->config.pidfile, RDAEMON_SIZED(&state)),
              RDAEMON_PIDFILE_FREE);
}

bool traced_answered(const struct traced *traced, double limit_ms) {
    const struct trace_process *caller = &traced->trace.of[TRACE_ORIGINAL];
    const struct trace_process *daemon = &traced->trace.of[TRACE_DAEMON];
    const struct start *start = traced->original;
    if (traced->trace.hung)
        FAIL("%s: something hung", traced_where(traced));
    if (!caller->returned || start->result == NOT_YET || caller->wait_status != 0)
        FAIL("%s: the original did not return", traced_where(traced));
    if (traced->trace.answered_ms > limit_ms)
        FAIL("%s: answered after %.0f ms", traced_where(traced), traced->trace.answered_ms);
    if (start->result > 0) {
        CHECK_INT(start->result, daemon->pid);
        return true;
    }
    if (start->status.step < RDAEMON_STEP_CONFIG || start->status.step > RDAEMON_STEP_SIGNAL_MASK)
        FAIL("%s: blamed on step %d", traced_where(traced), start->status.step);
    CHECK_INT(start->status.error, start->result);
    if (*traced->changed)
        FAIL("%s: the original has changed", traced_where(traced));
    if (daemon->ended && WIFEXITED(daemon->wait_status) &&
        WEXITSTATUS(daemon->wait_status) == SURVIVED_A_FAILURE)
        FAIL("%s: the daemon lived on after the failure", traced_where(traced));
    nothing_is_left(traced);
    return false;
}
