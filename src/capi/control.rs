use super::daemonize::{rdaemon_config, rdaemon_daemon, with_config};
use super::intake::{Sized_, answer, limit, out, path, sized, sized_in};
use super::status::rdaemon_status;
use crate::control::{self, Hook, Hooks, Patience, Signalled, Started, State, Stopped};
use crate::daemon::{Daemon, Daemonized};
use crate::error::{Error, Step, refuse};
use core::ffi::{c_char, c_int, c_void};
use rustix::fd::IntoRawFd;
use rustix::io::Errno;

/// What rdaemon_control_query(), _signal() and _stop() return on success.
#[repr(C)]
pub enum rdaemon_control_result {
    /// No daemon runs.
    RDAEMON_CONTROL_NOT_RUNNING = 0,
    /// A daemon runs; of rdaemon_control_signal(): it has got the signal.
    RDAEMON_CONTROL_RUNNING = 1,
    /// A daemon is starting, or only workers of a dead one remain, or the daemon is outside of this pid namespace.
    /// There is nobody to signal.
    RDAEMON_CONTROL_HELD = 2,
    /// Of rdaemon_control_stop(): the daemon has ended after SIGTERM.
    RDAEMON_CONTROL_STOPPED = 3,
    /// Of rdaemon_control_stop(): SIGTERM was not enough, SIGKILL was.
    RDAEMON_CONTROL_KILLED = 4,
}

use rdaemon_control_result::{
    RDAEMON_CONTROL_HELD, RDAEMON_CONTROL_KILLED, RDAEMON_CONTROL_NOT_RUNNING, RDAEMON_CONTROL_RUNNING,
    RDAEMON_CONTROL_STOPPED,
};

/// What a daemon does that rdaemon_control_start() makes. The hooks must be async-signal-safe, as signal handlers call
/// them (at_exit also the end of run); all signals are blocked in their thread meanwhile. A process that the daemon
/// forks calls none: a signal that terminates the daemon ends it, and those with a hook do nothing.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_worker {
    /// What the daemon is there for. Its result is the exit status, for exit(3). daemon has its pid, its ready_fd with
    /// RDAEMON_NOTIFY_READY, and its pidfile, which is removed when this has returned. If it calls exit(3) itself, the
    /// pidfile stays, and at_exit is not called. Not NULL.
    pub run: Option<extern "C" fn(context: *mut c_void, daemon: *const rdaemon_daemon) -> c_int>,
    /// For SIGUSR1. NULL: its disposition stays.
    pub on_user1: Option<extern "C" fn(context: *mut c_void)>,
    /// For SIGUSR2. NULL: its disposition stays.
    pub on_user2: Option<extern "C" fn(context: *mut c_void)>,
    /// For SIGTERM, unless the signal map gives it another action, and for each signal that the map makes
    /// RDAEMON_SIGNAL_TERMINATE, whenever one comes. 0, or NULL here: the daemon ends now, by that signal; else it goes
    /// on, and run is to return soon. Do not rely on EINTR in run: read(2) goes on, as handlers have SA_RESTART, and
    /// poll(2) may begin only after the signal. Let the hook write to a pipe that run polls.
    pub on_terminate: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Called once, when run has returned or a signal terminates the daemon; then the pidfile is removed. NULL:
    /// nothing.
    pub at_exit: Option<extern "C" fn(context: *mut c_void)>,
    /// For all of these.
    pub context: *mut c_void,
}

sized! { rdaemon_worker = size_of::<rdaemon_worker>(), }

/// A worker, checked.
struct Worker {
    run: extern "C" fn(*mut c_void, *const rdaemon_daemon) -> c_int,
    hooks: Hooks,
}

impl Worker {
    fn take(worker: *const rdaemon_worker, size: usize) -> Result<Worker, Error> {
        let given = refuse(sized_in(worker, size), Step::Config)?;
        let hooks = Hooks {
            user1: given.on_user1.map(|hook| hook as Hook),
            user2: given.on_user2.map(|hook| hook as Hook),
            terminate: given.on_terminate,
            exit: given.at_exit.map(|hook| hook as Hook),
            context: given.context,
        };
        Ok(Worker { run: refuse(given.run.ok_or(Errno::INVAL), Step::Config)?, hooks })
    }

    fn run(&self, own: Daemon) -> c_int {
        let mut daemon = rdaemon_daemon::zeroed();
        rdaemon_daemon::hand_over(Daemonized::Daemon(own), &raw mut daemon, size_of::<rdaemon_daemon>());
        (self.run)(self.hooks.context, &raw const daemon)
    }
}

fn patience(term_timeout_ms: c_int, kill_timeout_ms: c_int) -> Result<Patience, Errno> {
    Ok(Patience { until_killed: limit(term_timeout_ms)?, after_kill: limit(kill_timeout_ms)? })
}

/// Fills the status with the pid, and answers the result.
fn report(
    found: Result<(rdaemon_control_result, i32), Error>,
    ret_status: *mut rdaemon_status,
    size: usize,
) -> Result<c_int, Errno> {
    let (result, pid) = match found {
        Ok((result, pid)) => (result as c_int, Ok(pid)),
        Err(error) => (0, Err(error)),
    };
    rdaemon_status::report(pid, ret_status, size).map(|_| result)
}

/// Asks who runs, and changes nothing. The kernel names the daemon, as the holder of the pidfile's process lock; what
/// is written in the file counts for nothing.
///
/// ret_pidfd, unless NULL, gets a pidfd of the daemon, which poll(2) says to be readable when it has ended (yours to
/// close; elsewhere than on Linux a kqueue), or -1 when none runs. ret_status, which may be NULL, tells the daemon's
/// pid.
///
/// Returns RDAEMON_CONTROL_NOT_RUNNING, also when there is no such file, RDAEMON_CONTROL_RUNNING or
/// RDAEMON_CONTROL_HELD. -EPERM at RDAEMON_STEP_PIDFILE_READ: the file might name anybody, as anybody may write it, or
/// as a daemon runs, and the file's owner is neither root, nor the caller, nor, on Linux where /proc tells, the user as
/// whom the daemon runs.
/// -EINVAL, -EISDIR, -ELOOP, -EMLINK and -ENAMETOOLONG as rdaemon_pidfile_open() does; -ENOENT for an empty path;
/// -EAGAIN when daemons come and go all the time; -ENOSYS on a Linux without pidfds, when a daemon runs; or any error
/// of open(2).
/// Async-signal-safe, thread-safe. The daemon must not call it for its own pidfile: see rdaemon_pidfile_write().
/// Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_control_query(
    pidfile: *const c_char,
    ret_pidfd: *mut c_int,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let found = refuse(path(pidfile), Step::PidfileRead).and_then(control::query).map(|state| match state {
            State::NotRunning => (RDAEMON_CONTROL_NOT_RUNNING, 0, None),
            State::Held => (RDAEMON_CONTROL_HELD, 0, None),
            State::Running { pid, pidfd } => (RDAEMON_CONTROL_RUNNING, pid, Some(pidfd)),
        });
        let found = found.map(|(result, pid, pidfd)| {
            if !ret_pidfd.is_null() {
                out(ret_pidfd, pidfd.map_or(-1, IntoRawFd::into_raw_fd));
            }
            (result, pid)
        });
        report(found, ret_status, ret_status_size)
    })
}

/// Sends the daemon a signal; signal 0 only asks whether it could be sent. On Linux the signal goes to the very process
/// that holds the lock, by a pidfd: never to another one that has got its number.
///
/// ret_status, which may be NULL, tells the pid that has got the signal.
///
/// Returns RDAEMON_CONTROL_RUNNING when it was sent, RDAEMON_CONTROL_NOT_RUNNING or RDAEMON_CONTROL_HELD when there was
/// nobody to send it to. -EINVAL for a signal that does not exist; -EPERM at RDAEMON_STEP_SIGNAL without the right to
/// signal the daemon; or what rdaemon_control_query() returns.
/// Async-signal-safe, thread-safe. The daemon must not call it for its own pidfile. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_control_signal(
    pidfile: *const c_char,
    signal: c_int,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let sent = refuse(path(pidfile), Step::PidfileRead).and_then(|pidfile| control::signal(pidfile, signal));
        let sent = sent.map(|sent| match sent {
            Signalled::NotRunning => (RDAEMON_CONTROL_NOT_RUNNING, 0),
            Signalled::Held => (RDAEMON_CONTROL_HELD, 0),
            Signalled::Sent(pid) => (RDAEMON_CONTROL_RUNNING, pid),
        });
        report(sent, ret_status, ret_status_size)
    })
}

/// Stops the daemon: SIGTERM, and SIGCONT in case it is stopped; when it has not ended after term_timeout_ms, SIGKILL,
/// and kill_timeout_ms for that to work. Both are time limits (see the conventions). A daemon that is starting is
/// waited for, term_timeout_ms too, and then stopped. A stale pidfile, as SIGKILL leaves it, is removed where the
/// rights suffice.
///
/// ret_status, which may be NULL, tells the pid of the daemon that was stopped.
///
/// Returns RDAEMON_CONTROL_STOPPED or RDAEMON_CONTROL_KILLED; RDAEMON_CONTROL_NOT_RUNNING when there was nobody to
/// stop; RDAEMON_CONTROL_HELD when after term_timeout_ms the file is still held by nobody who could be stopped: workers
/// of a dead daemon. -ETIMEDOUT at RDAEMON_STEP_STOP: the daemon has not ended within kill_timeout_ms of SIGKILL;
/// -EBADMSG: no daemon runs, and the file, which is left, is no pidfile: it is not empty, and its first line is not a
/// positive number; -EPERM at RDAEMON_STEP_SIGNAL; -EINVAL for a bad time limit; or what rdaemon_control_query()
/// returns.
/// Async-signal-safe, thread-safe; needs about 5 KiB of stack. The daemon must not call it for its own pidfile.
/// Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_control_stop(
    pidfile: *const c_char,
    term_timeout_ms: c_int,
    kill_timeout_ms: c_int,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let arguments = || {
            let pidfile = refuse(path(pidfile), Step::PidfileRead)?;
            Ok((pidfile, refuse(patience(term_timeout_ms, kill_timeout_ms), Step::Stop)?))
        };
        let stopped = arguments().and_then(|(pidfile, patience)| control::stop(pidfile, patience));
        let stopped = stopped.map(|stopped| match stopped {
            Stopped::NotRunning => (RDAEMON_CONTROL_NOT_RUNNING, 0),
            Stopped::Held => (RDAEMON_CONTROL_HELD, 0),
            Stopped::Terminated(pid) => (RDAEMON_CONTROL_STOPPED, pid),
            Stopped::Killed(pid) => (RDAEMON_CONTROL_KILLED, pid),
        });
        report(stopped, ret_status, ret_status_size)
    })
}

/// Makes a daemon, as rdaemon_daemonize() does, in which worker->run runs. config must name a pidfile; of many starts,
/// in whatever processes and threads, one succeeds.
///
/// SIGTERM is RDAEMON_SIGNAL_TERMINATE unless the signal map has a line for it. SIGTERM, and SIGUSR1 and SIGUSR2 if
/// they have a hook, are not blocked in the daemon, whatever the calling process blocks. ret_daemon, which may be NULL,
/// gets the daemon's pid and its pidfd, yours to close; its ready_fd is -1. With RDAEMON_NOTIFY_READY the call waits
/// until run has said rdaemon_ready() or rdaemon_fail(); config->timeout_ms is the limit for that as well. A daemon
/// that does not get ready is ended by SIGTERM, and by SIGKILL a second later; without pidfds, as elsewhere than on
/// Linux, one that has said rdaemon_fail() is left to end by itself.
///
/// Returns the daemon's pid (> 0), in the calling process only: the daemon ends with exit(3) when run has returned, or
/// by the signal that terminates it. So it never returns, unless it fails, in a process that does not detach (see enum
/// rdaemon_detach), which then is the daemon itself. -EINVAL without a run or a pidfile, or when the signal map has a
/// line for SIGUSR1 or SIGUSR2 and there is a hook for it; -EEXIST when a daemon runs already: ret_status tells its
/// pid, or 0 (see struct rdaemon_status); what rdaemon_daemonize() returns else; and with RDAEMON_NOTIFY_READY what
/// rdaemon_wait_ready() does. After a failure no daemon and no pidfile of it is left. ret_status may be NULL.
///
/// Call fflush(NULL) first: what is buffered then would be written by both processes. Functions of atexit(3) run in the
/// daemon too, after the pidfile is gone; they should take less than a second, for which a next start waits.
/// Not async-signal-safe; threads as with rdaemon_daemonize(). A process that another thread forks during the call, and
/// that executes no program, inherits the pidfile's lock, and holds it as a worker does. Needs about 22 KiB of stack.
/// Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_control_start(
    config: *const rdaemon_config,
    config_size: usize,
    worker: *const rdaemon_worker,
    worker_size: usize,
    ret_daemon: *mut rdaemon_daemon,
    ret_daemon_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let started = Worker::take(worker, worker_size).and_then(|worker| {
            with_config(config, config_size, &mut |config| {
                let started = control::start_promised(config, &worker.hooks, |daemon| worker.run(daemon));
                started.map(|started| hand_over(started, ret_daemon, ret_daemon_size))
            })
        });
        rdaemon_status::report(started, ret_status, ret_status_size)
    })
}

/// Stops the daemon, as rdaemon_control_stop() does, waits term_timeout_ms for workers of it that hold the pidfile, and
/// starts one, as rdaemon_control_start() does. The configuration is the new daemon's alone; nothing is stopped when it
/// is refused. A file without a number, for which rdaemon_control_stop() returns -EBADMSG, is emptied by the start.
/// term_timeout_ms may pass three times: for a start in progress, after SIGTERM, and for workers. ret_daemon and
/// ret_status may be NULL.
///
/// Returns the new daemon's pid (> 0), or what those two return on failure, but for -EBADMSG. -EEXIST when another
/// start was quicker, or, with a pid of 0 in ret_status, when workers of the old daemon still hold the pidfile.
/// Not async-signal-safe; threads as with rdaemon_control_start(). The daemon must not call it for its own pidfile.
/// Needs about 22 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_control_restart(
    config: *const rdaemon_config,
    config_size: usize,
    worker: *const rdaemon_worker,
    worker_size: usize,
    term_timeout_ms: c_int,
    kill_timeout_ms: c_int,
    ret_daemon: *mut rdaemon_daemon,
    ret_daemon_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let started = Worker::take(worker, worker_size).and_then(|worker| {
            let patience = refuse(patience(term_timeout_ms, kill_timeout_ms), Step::Stop)?;
            with_config(config, config_size, &mut |config| {
                let hooks = &worker.hooks;
                let started = control::restart_promised(config, hooks, patience, |daemon| worker.run(daemon));
                started.map(|started| hand_over(started, ret_daemon, ret_daemon_size))
            })
        });
        rdaemon_status::report(started, ret_status, ret_status_size)
    })
}

fn hand_over(Started { pid, pidfd }: Started, to: *mut rdaemon_daemon, size: usize) -> i32 {
    rdaemon_daemon::hand_over(Daemonized::Original { pid, pidfd, channel: None }, to, size)
}
