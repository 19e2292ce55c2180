/*
 * SIGKILL at each system call of start, stop and restart, in the controller and in each process
 * that it makes or ends. Afterwards the next start either works, or names a daemon that lives and
 * answers; and nothing is left over.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "controlled.h"
#include "trace.h"

enum call { START, STOP, RESTART };
enum { NOT_YET = 1 << 30, TRACED_MS = 20000, ANSWER_MS = 10000 };

static const char *const role_names[] = {"controller", "intermediate", "daemon"};

/* What the tracer and the processes that it traces tell the case. */
static struct scene {
    enum call call;
    struct trace_request request;
    bool ready; /* the daemon says when it is ready */
    bool
        to_the_end; /* the daemon's system calls count for as long as it lives, and it is stopped */
    bool restart;   /* by a restart */
    atomic_int controller;
    atomic_int result;
    int error;
    struct trace_result trace;
} * scene;

static const char *path;
static struct witness *witness;
static int worked, named; /* what the next starts said */

static const char *where(void) {
    static char text[96];
    static const char *const calls[] = {"start", "stop", "restart"};
    snprintf(text, sizeof text, "%s, %s, call %d (%s)", calls[scene->call],
             role_names[scene->request.role], scene->request.index,
             trace_call_name(scene->trace.acted_on));
    return text;
}

/* ---- in the processes that are traced ---- */

static int run(void *context, const struct rdaemon_daemon *daemon) {
    rdaemon_ready(daemon->ready_fd);
    if (!scene->to_the_end)
        trace_return(0);
    return run_until_told(context, daemon);
}

static void controller(void *context) {
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = worker_of(witness);
    (void)context;
    worker.run = run;
    config.flags = scene->ready ? RDAEMON_NOTIFY_READY : 0;
    scene->controller = getpid();
    trace_enter();
    if (scene->call == STOP)
        scene->result = rdaemon_control_stop(path, PATIENCE_MS, PATIENCE_MS, NULL, 0);
    else if (scene->call == START)
        scene->result =
            rdaemon_control_start(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker), NULL, 0, NULL, 0);
    else
        scene->result = rdaemon_control_restart(RDAEMON_SIZED(&config), RDAEMON_SIZED(&worker),
                                                PATIENCE_MS, PATIENCE_MS, NULL, 0, NULL, 0);
    trace_return(scene->result);
    _exit(0);
}

/* In a process of its own, as it waits for all its children. */
static pid_t trace(void) {
    scene->controller = 0;
    scene->result = NOT_YET;
    pid_t tracer = fork_child();
    if (tracer == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        scene->error = trace_run(&scene->request, TRACED_MS, &scene->trace);
        _exit(0);
    }
    return tracer;
}

/* ---- afterwards ---- */

static void await_the_controllers_end(pid_t tracer) {
    while (scene->controller == 0 || process_state(scene->controller) != 'X') {
        if (!is_alive(tracer))
            return;
        usleep(100);
    }
}

/* Waits until the daemon that was made has nothing to do, or has ended: its system calls are always
 * the same then. */
static void let_it_settle(int before) {
    if (scene->call == STOP || scene->result <= 0 || scene->result == NOT_YET)
        return;
    while (is_alive(scene->result) &&
           (witness->runs == before || process_state(scene->result) != 'S'))
        usleep(100);
}

/* Whether the daemon answers SIGUSR1; else it has ended by now. */
static bool answers(pid_t pid) {
    double begin = now_ms();
    int before = witness->user1;
    signal_by(path, SIGUSR1);
    while (is_alive(pid)) {
        if (witness->user1 > before && witness->answered == pid)
            return true;
        if (now_ms() - begin > ANSWER_MS)
            FAIL("%s: process %d lives, and does not answer", where(), (int)pid);
        usleep(100);
    }
    return false;
}

/* `old` is the daemon that the call was to stop. It may be on its way out when it is named, as may
 * the one that is killed. */
static void the_next_start(pid_t old) {
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = worker_of(witness);
    double begin = now_ms();
    for (;;) {
        int result = start_by(&config, &worker);
        pid_t pid = outcome.pid;
        if (result > 0) {
            close(made.pidfd);
            if (!answers(result))
                FAIL("%s: the next daemon has ended", where());
            worked++;
            return;
        }
        if (result != -EEXIST)
            FAIL("%s: the next start failed: %s, %s", where(), rdaemon_step_name(outcome.step),
                 error_name(result));
        if (pid > 0 && answers(pid)) {
            named++;
            return;
        }
        if (pid > 0 && pid != old && pid != scene->trace.of[scene->request.role].pid)
            FAIL("%s: the next start named process %d, which had ended", where(), (int)pid);
        if (now_ms() - begin > ANSWER_MS)
            FAIL("%s: no start, and nobody was named", where());
    }
}

static void nothing_is_left(pid_t tracer) {
    CHECK_INT(wait_for_exit(tracer), 0);
    if (scene->error == -EPERM || scene->error == -ENOSYS || scene->error == -EIO)
        SKIP_PLATFORM("ptrace: %s", strerror(-scene->error));
    CHECK_INT(scene->error, 0);
    if (scene->trace.hung)
        FAIL("%s: something hung", where());
    pid_t pid;
    do
        pid = waitpid(-1, NULL, WNOHANG);
    while (pid > 0);
    if (pid == 0)
        FAIL("%s: process %d is left", where(), (int)first_child_of(getpid()));
    if (strcmp(tree(scratch()), "") != 0)
        FAIL("%s: %s is left", where(), tree(scratch()));
    CHECK_STR(open_fds(0), "0 1 2");
}

static void stop_or_restart(void) {
    struct rdaemon_config config = {.pidfile = path};
    struct rdaemon_worker worker = worker_of(witness);
    int result = scene->restart ? restart_by(&config, &worker) : stop_by(path);
    if (!scene->restart)
        CHECK(result == RDAEMON_CONTROL_STOPPED || result == RDAEMON_CONTROL_NOT_RUNNING);
    else if (result < 0)
        FAIL("%s: the restart failed: %s, %s", where(), rdaemon_step_name(outcome.step),
             error_name(result));
    else
        close(made.pidfd);
}

static void once(void) {
    witness = witness_new();
    pid_t old = scene->call == START ? 0 : launch(path, witness);
    int before = witness->runs;
    pid_t tracer = trace();
    await_the_controllers_end(tracer);
    let_it_settle(before);
    if (scene->to_the_end)
        stop_or_restart();
    the_next_start(old);
    CHECK_INT(stop_by(path), RDAEMON_CONTROL_STOPPED);
    nothing_is_left(tracer);
}

static void scene_new(enum call call) {
    path = scratch_path("pid");
    scene = shared_memory(sizeof *scene);
    scene->call = call;
    scene->request.body = controller;
}

/* Kills at each of the system calls; how many next starts have worked is in `worked`, the others
 * are in `named`. */
static void kill_at_each_call(enum trace_role role) {
    scene->request.role = role;
    scene->request.action = TRACE_WATCH;
    once();
    CHECK(scene->result >= 0);
    int calls = scene->trace.of[role].calls;
    NOTE("the %s makes %d system calls", role_names[role], calls);
    CHECK(calls > 2);
    scene->request.action = TRACE_SIGNAL;
    scene->request.value = SIGKILL;
    worked = named = 0;
    for (int i = 0; i <= calls; i++) {
        scene->request.index = i;
        once();
        const struct trace_process *killed = &scene->trace.of[role];
        /* How often a controller has to look varies with the pace of the others. */
        CHECK(scene->trace.acted || role == TRACE_ORIGINAL);
        if (scene->trace.acted &&
            (!WIFSIGNALED(killed->wait_status) || WTERMSIG(killed->wait_status) != SIGKILL))
            FAIL("%s: ended with wait status %x", where(), killed->wait_status);
    }
    NOTE("the next start worked %d times, and named a daemon %d times", worked, named);
}

TEST(a_start_whose_controller_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(START);
    kill_at_each_call(TRACE_ORIGINAL);
    CHECK(worked > 0 && named > 0);
}

TEST(a_start_whose_intermediate_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(START);
    kill_at_each_call(TRACE_INTERMEDIATE);
    CHECK(worked > 0);
}

TEST(a_start_whose_daemon_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(START);
    kill_at_each_call(TRACE_DAEMON);
    CHECK(worked > 0);
}

TEST(a_start_that_waits_for_readiness_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(START);
    scene->ready = true;
    kill_at_each_call(TRACE_ORIGINAL);
    CHECK(worked > 0 && named > 0);
    kill_at_each_call(TRACE_DAEMON);
    CHECK(worked > 0);
}

TEST(a_restart_whose_controller_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(RESTART);
    kill_at_each_call(TRACE_ORIGINAL);
    CHECK(worked > 0 && named > 0);
}

TEST(a_restart_whose_intermediate_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(RESTART);
    kill_at_each_call(TRACE_INTERMEDIATE);
    CHECK(worked > 0);
}

TEST(a_restart_whose_daemon_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(RESTART);
    kill_at_each_call(TRACE_DAEMON);
    CHECK(worked > 0);
}

TEST(a_stop_whose_controller_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(STOP);
    kill_at_each_call(TRACE_ORIGINAL);
    CHECK(worked > 0 && named > 0);
}

/* From its birth over its terminate handler to its end. */
TEST(a_stopped_daemon_that_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(START);
    scene->to_the_end = true;
    kill_at_each_call(TRACE_DAEMON);
    CHECK_INT(named, 0);
}

TEST(a_restarted_daemon_that_is_killed_at_each_system_call, .time_limit_ms = 120000) {
    scene_new(START);
    scene->to_the_end = scene->restart = true;
    kill_at_each_call(TRACE_DAEMON);
    CHECK_INT(worked, 0);
}
