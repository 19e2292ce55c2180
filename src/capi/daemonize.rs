use super::intake::{Sized_, answer, array, limit, optional_path, sized, sized_in, sized_out};
use super::pidfile::{rdaemon_pidfile, rdaemon_pidfile_options};
use super::status::rdaemon_status;
use super::steps::{Limits, SignalMap, rdaemon_identity, rdaemon_limit, rdaemon_signal_action, step_mode};
use super::stream::rdaemon_stream;
use super::syslog::rdaemon_syslog_options;
use crate::daemon::{self, Config, Daemonized, Detach, Flags, StartedBy, Stream};
use crate::error::{Error, Step, refuse};
use crate::sys::fd::{self, Fd};
use core::ffi::{c_char, c_int};
use core::mem::offset_of;
use core::time::Duration;
use rustix::fd::{IntoRawFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;

/// Whether a new process is made: the field detach of struct rdaemon_config.
#[repr(C)]
pub enum rdaemon_detach {
    /// Yes, unless a service manager started this process, which then is the daemon already: see rdaemon_started_by().
    RDAEMON_DETACH_AUTO = 0,
    /// Yes, as a unit of Type=forking and an init script want it, whose manager awaits the end of this process. Refused
    /// with -EALREADY when this process was given sockets to serve, as its manager would lose sight of it, unless
    /// RDAEMON_DETACH_ACTIVATED insists.
    RDAEMON_DETACH_YES = 1,
    /// No: this process becomes the daemon.
    RDAEMON_DETACH_NO = 2,
}

/// Flags of struct rdaemon_config. They say what is kept of the process as it is, and what is added.
#[repr(C)]
pub enum rdaemon_config_flags {
    /// The channel between the original process and the daemon stays open, until the daemon says rdaemon_ready() or
    /// rdaemon_fail(); the original process waits for that with rdaemon_wait_ready(), so rdaemon_daemonize() needs
    /// ret_daemon. rdaemon_control_start() waits itself.
    RDAEMON_NOTIFY_READY = 1,
    /// Every signal gets its default disposition, before the signal map; and no signal is blocked.
    RDAEMON_RESET_SIGNALS = 2,
    /// There is no default signal map. Not with a signal_map.
    RDAEMON_KEEP_SIGNALS = 4,
    /// No fd is closed.
    RDAEMON_KEEP_FDS = 8,
    /// The working directory stays. Not with a working_directory, nor with a chroot_directory: it would be a way out.
    RDAEMON_KEEP_CWD = 16,
    /// The file creation mask stays. Not with a umask.
    RDAEMON_KEEP_UMASK = 32,
    /// Core dumps stay possible. Not with RDAEMON_UNDUMPABLE.
    RDAEMON_KEEP_CORE = 64,
    /// The effective ids of a set-user-id program stay. By default they become the real ones.
    RDAEMON_KEEP_PRIVILEGES = 128,
    /// Core prevention clears the dumpable attribute as well: see rdaemon_prevent_core().
    RDAEMON_UNDUMPABLE = 256,
    /// As rdaemon_no_new_privs().
    RDAEMON_SET_NO_NEW_PRIVS = 512,
    /// inetd started this process, which counts as having been given a socket. Nothing else could tell.
    RDAEMON_INETD = 1024,
    /// With RDAEMON_DETACH_YES: detach although this process was given sockets to serve, as for a unit of Type=forking.
    RDAEMON_DETACH_ACTIVATED = 2048,
    /// The fds that LISTEN_FDS counts for this process stay open, if rdaemon_listen() has not collected them yet; but a
    /// daemon that detaches cannot collect them, as LISTEN_PID is another process's. Those that were collected belong
    /// into files_preserve.
    RDAEMON_KEEP_LISTEN_FDS = 4096,
    /// The process between the two forks gets a copy of the memory too, as it does anyway with a timeout_ms, or where
    /// there are, or have been, more threads. Else only the daemon does: see rdaemon_daemonize().
    RDAEMON_CLASSIC_FORK = 8192,
}

const _: () = {
    assert!(rdaemon_config_flags::RDAEMON_NOTIFY_READY as u32 == Flags::NOTIFY_READY.bits());
    assert!(rdaemon_config_flags::RDAEMON_RESET_SIGNALS as u32 == Flags::RESET_SIGNALS.bits());
    assert!(rdaemon_config_flags::RDAEMON_KEEP_SIGNALS as u32 == Flags::KEEP_SIGNALS.bits());
    assert!(rdaemon_config_flags::RDAEMON_KEEP_FDS as u32 == Flags::KEEP_FDS.bits());
    assert!(rdaemon_config_flags::RDAEMON_KEEP_CWD as u32 == Flags::KEEP_CWD.bits());
    assert!(rdaemon_config_flags::RDAEMON_KEEP_UMASK as u32 == Flags::KEEP_UMASK.bits());
    assert!(rdaemon_config_flags::RDAEMON_KEEP_CORE as u32 == Flags::KEEP_CORE.bits());
    assert!(rdaemon_config_flags::RDAEMON_KEEP_PRIVILEGES as u32 == Flags::KEEP_PRIVILEGES.bits());
    assert!(rdaemon_config_flags::RDAEMON_UNDUMPABLE as u32 == Flags::UNDUMPABLE.bits());
    assert!(rdaemon_config_flags::RDAEMON_SET_NO_NEW_PRIVS as u32 == Flags::SET_NO_NEW_PRIVS.bits());
    assert!(rdaemon_config_flags::RDAEMON_INETD as u32 == Flags::INETD.bits());
    assert!(rdaemon_config_flags::RDAEMON_DETACH_ACTIVATED as u32 == Flags::DETACH_ACTIVATED.bits());
    assert!(rdaemon_config_flags::RDAEMON_KEEP_LISTEN_FDS as u32 == Flags::KEEP_LISTEN_FDS.bits());
    assert!(rdaemon_config_flags::RDAEMON_CLASSIC_FORK as u32 == Flags::CLASSIC_FORK.bits());
};

/// What kind of daemon the process becomes. All zero is the classic, safe daemon: detached, in "/", umask 0, standard
/// streams on /dev/null, every other fd closed, no core dumps, SIGTTIN, SIGTTOU and SIGTSTP ignored.
///
/// The names are those of PEP 3143 where it has one. Strings and arrays are borrowed for the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_config {
    /// enum rdaemon_config_flags.
    pub flags: u32,
    /// enum rdaemon_detach.
    pub detach: u32,
    /// The working directory, inside chroot_directory if there is one. NULL: "/".
    pub working_directory: *const c_char,
    /// The root directory. NULL: as it is.
    pub chroot_directory: *const c_char,
    /// The file creation mask, up to 0777. It affects neither the pidfile nor the files of the streams.
    pub umask: u32,
    /// How many milliseconds the steps may take, after which the daemon is killed. 0: no limit; a negative number is
    /// -EINVAL. A process that does not detach has no limit.
    pub timeout_ms: i32,
    /// The pidfile, opened before the root directory changes and privileges are dropped. NULL: none. The daemon must
    /// not open it again: see rdaemon_pidfile_write().
    pub pidfile: *const c_char,
    /// How it is opened.
    pub pidfile_options: rdaemon_pidfile_options,
    /// The fds that stay open besides 0 to 2, in any order; each must be open.
    pub files_preserve: *const i32,
    /// Number of entries.
    pub files_preserve_len: usize,
    /// What fds 0, 1 and 2 become, in this order.
    pub streams: [rdaemon_stream; 3],
    /// What signals do. NULL: SIGTTIN, SIGTTOU and SIGTSTP are ignored; with a pidfile SIGTERM is
    /// RDAEMON_SIGNAL_TERMINATE. Another map, also an empty one, replaces that; but rdaemon_control_start() terminates
    /// on SIGTERM with any map that has no line for it. All other signals, and the signal mask, stay the caller's.
    pub signal_map: *const rdaemon_signal_action,
    /// Number of entries, at most 128.
    pub signal_map_len: usize,
    /// Resource limits, at most 32. RLIMIT_CORE only with RDAEMON_KEEP_CORE.
    pub limits: *const rdaemon_limit,
    /// Number of entries.
    pub limits_len: usize,
    /// Whose rights the daemon has.
    pub identity: rdaemon_identity,
    /// For RDAEMON_STREAM_SYSLOG: which log, and as whom. It counts only with such a stream, and ident is required
    /// then.
    pub syslog: rdaemon_syslog_options,
}

/// What the caller has afterwards. Which fields are set depends on which process it is.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_daemon {
    /// The daemon's pid, in both processes.
    pub pid: i32,
    /// Original process: a pidfd of the daemon, yours to close; -1 on a system without pidfds, or when no fd was free
    /// for it. Daemon: -1.
    pub pidfd: i32,
    /// With RDAEMON_NOTIFY_READY the channel's end: for rdaemon_wait_ready() in the original process, yours to close;
    /// for rdaemon_ready() and rdaemon_fail() in the daemon. Else, in a process that did not detach, and after
    /// rdaemon_control_start(), -1.
    pub ready_fd: i32,
    /// 1 when a new process was made, 0 when this one became the daemon.
    pub detached: i32,
    /// Daemon: the pidfile, locked and written, for rdaemon_pidfile_remove(). Original process, or without a pidfile:
    /// its fds are -1.
    pub pidfile: rdaemon_pidfile,
}

sized! {
    rdaemon_config = size_of::<rdaemon_config>(),
    rdaemon_daemon = 304,
}

/// Calls `act` with the checked configuration, which borrows what lives here.
pub(super) fn with_config(
    config: *const rdaemon_config,
    size: usize,
    act: &mut dyn FnMut(&Config<'_>) -> Result<i32, Error>,
) -> Result<i32, Error> {
    let c = refuse(sized_in(config, size), Step::Config)?;
    let numbers = refuse(array(c.files_preserve, c.files_preserve_len), Step::CloseFds)?;
    let (mut signal_map, mut limits) = (SignalMap::EMPTY, Limits::EMPTY);
    let signal_map = refuse(signal_map.take(c.signal_map, c.signal_map_len), Step::SetSignals)?;
    let limits = refuse(limits.take(c.limits, c.limits_len), Step::SetLimits)?;
    let mut paths = [None; 3];
    let given =
        [(c.chroot_directory, Step::Chroot), (c.working_directory, Step::Chdir), (c.pidfile, Step::PidfileOpen)];
    for (place, (path, subject)) in paths.iter_mut().zip(given) {
        *place = refuse(optional_path(path), subject)?;
    }
    let [chroot_directory, working_directory, pidfile] = paths;
    let mut converted = Config {
        detach: refuse(detach(c.detach), Step::DoubleFork)?,
        flags: Flags::from_bits_retain(c.flags),
        chroot_directory,
        working_directory,
        umask: refuse(umask(c.umask), Step::Umask)?,
        pidfile,
        pidfile_options: refuse(c.pidfile_options.options(), Step::PidfileOpen)?,
        files_preserve: refuse(fd::borrow_all(numbers), Step::CloseFds)?,
        streams: [Stream::Default; 3],
        signal_map: (!c.signal_map.is_null()).then_some(signal_map),
        limits,
        identity: refuse(c.identity.identity(), Step::DropPrivileges)?,
        timeout: refuse(timeout(c.timeout_ms), Step::Config)?,
        syslog: refuse(c.syslog.options(), Step::LogPump)?,
    };
    for (place, stream) in converted.streams.iter_mut().zip(&c.streams) {
        *place = stream.stream(Step::RedirectStdio)?;
    }
    act(&converted)
}

/// 0 is the default, but also what that sets.
fn umask(mask: u32) -> Result<Option<Mode>, Errno> {
    step_mode(mask).map(|mode| (mask != 0).then_some(mode))
}

/// 0 is no limit.
fn timeout(milliseconds: i32) -> Result<Option<Duration>, Errno> {
    let milliseconds = u64::try_from(milliseconds).map_err(|_| Errno::INVAL)?;
    Ok((milliseconds > 0).then_some(Duration::from_millis(milliseconds)))
}

fn detach(detach: u32) -> Result<Detach, Errno> {
    match detach {
        0 => Ok(Detach::Auto),
        1 => Ok(Detach::Yes),
        2 => Ok(Detach::No),
        _ => Err(Errno::INVAL),
    }
}

/// Tells whether rdaemon_daemonize() would refuse the configuration. It leaves nothing open and changes nothing, and
/// says nothing about what only the steps find out, such as a directory that is not there.
///
/// config: NULL, 0 for the defaults. ret_status may be NULL.
///
/// Returns 0, or what rdaemon_daemonize() returns with the step RDAEMON_STEP_CONFIG. rdaemon_control_start() refuses
/// more.
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 6 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_check(
    config: *const rdaemon_config,
    config_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let result = with_config(config, config_size, &mut |config| daemon::check(config).map(|()| 0));
        rdaemon_status::report(result, ret_status, ret_status_size)
    })
}

/// Makes the process a daemon.
///
/// What can fail is done in an order that is useful to the caller. In the original process: refuse a bad configuration;
/// make fds 0 to 2 open; open the pidfile (locked, so that a second start is refused here), /dev/null, the files of the
/// streams and the log; fork. In a process between: new session, fork. In the daemon, all signals blocked: close the
/// fds; umask; start the process that logs; chroot; working directory; process lock, and pid into the pidfile; limits;
/// groups, gid, uid; core prevention; no_new_privs; streams; signal dispositions; and, after the report to the original
/// process, the signal mask.
///
/// Call fflush(NULL) first: what is buffered then would be written by both processes.
///
/// On Linux (x86-64, AArch64) the process between shares the memory of the original one, which sleeps meanwhile, so
/// that the memory is copied once and not twice; no SIGCHLD tells of its end. Elsewhere, with RDAEMON_CLASSIC_FORK or a
/// timeout_ms, and where there are, or have been, more threads, it has a copy, and its end raises a SIGCHLD.
///
/// config: NULL, 0 for the defaults. ret_daemon and ret_status may be NULL, the former not with RDAEMON_NOTIFY_READY.
///
/// Returns as fork(2) does: the daemon's pid (> 0) in the original process, once every step has succeeded in the
/// daemon; 0 in the daemon. In a process that does not detach (see enum rdaemon_detach) it returns once, 0, and
/// ret_daemon->detached is 0. A negative errno is returned in the original process only, and ret_status tells the step:
/// - step RDAEMON_STEP_CONFIG, a refusal: -EINVAL; -E2BIG; -EBADF for an fd that is not open; -ENOENT and -ENAMETOOLONG
///   for an empty and for an over-long path; -EALREADY for RDAEMON_DETACH_YES in a process that was given sockets;
/// - -EEXIST: the pidfile is held, see rdaemon_pidfile_open();
/// - -ESRCH: the daemon was killed in the step that ret_status tells;
/// - -ETIMEDOUT: timeout_ms was over in that step, and the daemon was killed;
/// - else any error of the system calls of that step.
///
/// After a failure the original process is as it was: no fd, child, lock or created file is left, and the processes
/// that were made have ended (the one that logs, as soon as it sees that) without running a handler of atexit(3) or
/// flushing stdio. What can stay: a file that was there and was emptied (a stale pidfile, an output with O_TRUNC), with
/// a new mode or owner if the options asked for it. In a process that does not detach the steps before the failed one
/// stay done.
///
/// Not async-signal-safe: fork(2) runs the handlers of pthread_atfork(3), once for each copy; those that run before and
/// in the parent see the number of the process between where that shares the memory. In a process with more threads
/// only the calling one continues in the daemon, which must not need a lock that another thread holds. On macOS it
/// must come before any use of a framework. Needs about 22 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_daemonize(
    config: *const rdaemon_config,
    config_size: usize,
    ret_daemon: *mut rdaemon_daemon,
    ret_daemon_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let has_place = !ret_daemon.is_null() && ret_daemon_size >= rdaemon_daemon::FIRST;
        let mut is_original = false;
        let pid = with_config(config, config_size, &mut |config| {
            let lost = config.flags.contains(Flags::NOTIFY_READY) && !has_place;
            refuse(if lost { Err(Errno::INVAL) } else { Ok(()) }, Step::Ready)?;
            let daemonized = daemon::daemonize_promised(config)?;
            is_original = matches!(daemonized, Daemonized::Original { .. });
            Ok(rdaemon_daemon::hand_over(daemonized, ret_daemon, ret_daemon_size))
        });
        let pid = rdaemon_status::report(pid, ret_status, ret_status_size)?;
        Ok(if is_original { pid } else { 0 })
    })
}

impl rdaemon_daemon {
    /// Fills the caller's struct, which owns the fds from then on; answers the daemon's pid.
    #[inline(never)]
    pub(super) fn hand_over(daemonized: Daemonized, to: *mut rdaemon_daemon, size: usize) -> i32 {
        let number = |fd: Option<OwnedFd>| fd.map_or(-1, OwnedFd::into_raw_fd);
        let mut daemon = rdaemon_daemon::zeroed();
        (daemon.pidfd, daemon.pidfile.fd, daemon.pidfile.directory_fd) = (-1, -1, -1);
        match daemonized {
            Daemonized::Original { pid, pidfd, channel } => {
                (daemon.pid, daemon.detached, daemon.ready_fd) = (pid, 1, number(channel));
                // Nobody could close a pidfd that nobody is told of.
                let is_told = !to.is_null() && size >= offset_of!(rdaemon_daemon, ready_fd);
                daemon.pidfd = number(pidfd.filter(|_| is_told));
            }
            Daemonized::Daemon(own) => {
                let pid = rustix::process::getpid().as_raw_pid();
                (daemon.pid, daemon.detached, daemon.ready_fd) = (pid, own.detached.into(), number(own.channel));
                if let Some(pidfile) = own.pidfile {
                    daemon.pidfile = pidfile.into();
                }
            }
        }
        sized_out(to, size, &daemon);
        daemon.pid
    }
}

/// Tells the original process that the daemon's own set-up is done, and closes ready_fd, whatever it returns.
///
/// ready_fd is that of struct rdaemon_daemon in the daemon; with -1, as in a daemon that did not detach, the call does
/// nothing.
///
/// Returns 0, -EPIPE when the original process has gone (which is no reason to end), -EBADF for another negative fd or
/// one that is not open, or any error of send(2), as -ENOTSOCK for an fd that is no channel.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_ready(ready_fd: c_int) -> c_int {
    answer(|| if ready_fd == -1 { Ok(0) } else { daemon::ready(Fd::take(ready_fd)?.into()).map(|()| 0) })
}

/// Tells the original process why the daemon's own set-up failed, and closes ready_fd. Ending is left to the daemon.
///
/// ready_fd as for rdaemon_ready(). error is a negative errno, as in -errno, and is what rdaemon_wait_ready() returns.
///
/// Returns 0, -EINVAL when error is not a negative errno, or an error as rdaemon_ready() does; after -EINVAL ready_fd is
/// still open.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_fail(ready_fd: c_int, error: c_int) -> c_int {
    answer(|| match error {
        -4095..0 if ready_fd == -1 => Ok(0),
        -4095..0 => {
            daemon::fail(Fd::take(ready_fd)?.into(), crate::sys::errno::from_number(error.wrapping_neg())).map(|()| 0)
        }
        _ => Err(Errno::INVAL),
    })
}

/// Waits, in the original process, until the daemon has said rdaemon_ready() or rdaemon_fail().
///
/// ready_fd and pidfd are those of struct rdaemon_daemon, and stay open. By its pidfd the end of a daemon is seen at
/// once, though a worker that it forked may hold the channel; without one (-1) only when all of them have ended.
/// timeout_ms is in milliseconds; -1 is for ever, 0 does not wait. ret_status may be NULL.
///
/// Returns 0 when the daemon is ready, its error when it has failed, -ESRCH when it ended without reporting, -ETIMEDOUT
/// when the time is up: then the daemon is left alone, and the call may be repeated. -EBADF and -EINVAL for bad
/// arguments.
/// In every failure the step is RDAEMON_STEP_READY, but for bad arguments, where that is the subject. Once it has
/// returned 0 or the daemon's error, a further call finds nothing and returns -ESRCH. A daemon that closes ready_fd, or
/// executes another program, without a word counts as ended.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_wait_ready(
    ready_fd: c_int,
    pidfd: c_int,
    timeout_ms: c_int,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let arguments = || {
            let channel = fd::borrow_open(ready_fd)?;
            let pidfd = if pidfd == -1 { None } else { Some(fd::borrow_open(pidfd)?) };
            Ok((channel, pidfd, limit(timeout_ms)?))
        };
        let result = refuse(arguments(), Step::Ready)
            .and_then(|(channel, pidfd, limit)| daemon::wait_ready(channel, pidfd, limit));
        rdaemon_status::report(result.map(|()| 0), ret_status, ret_status_size)
    })
}

/// What rdaemon_started_by() returns.
#[repr(C)]
pub enum rdaemon_started_by_flags {
    /// A conclusion: this process was given sockets to serve.
    RDAEMON_STARTED_ACTIVATED = 1,
    /// A conclusion: a service manager watches this process.
    RDAEMON_STARTED_BY_MANAGER = 2,
    /// Evidence: LISTEN_PID is this process, and LISTEN_PIDFDID, where given, its pidfd.
    RDAEMON_STARTED_LISTEN_PID = 4,
    /// Evidence: SYSTEMD_EXEC_PID is this process.
    RDAEMON_STARTED_SYSTEMD_EXEC_PID = 8,
    /// Evidence: this process leads a session, and its parent is process 1, which is an init: on Linux one that
    /// /proc/1/comm calls init, systemd, runit, s6-svscan, openrc-init or dinit. Under another, as a container's tini,
    /// say RDAEMON_DETACH_NO.
    RDAEMON_STARTED_PARENT_IS_INIT = 16,
    /// A hint: NOTIFY_SOCKET is set.
    RDAEMON_STARTED_NOTIFY_SOCKET = 32,
    /// A hint: INVOCATION_ID is set.
    RDAEMON_STARTED_INVOCATION_ID = 64,
    /// A hint: XPC_SERVICE_NAME is set.
    RDAEMON_STARTED_XPC_SERVICE = 128,
    /// A hint: standard input is a socket.
    RDAEMON_STARTED_STDIN_IS_SOCKET = 256,
}

const _: () = {
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_ACTIVATED as u32 == StartedBy::ACTIVATED.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_BY_MANAGER as u32 == StartedBy::MANAGER.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_LISTEN_PID as u32 == StartedBy::LISTEN_PID.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_SYSTEMD_EXEC_PID as u32 == StartedBy::SYSTEMD_EXEC_PID.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_PARENT_IS_INIT as u32 == StartedBy::PARENT_IS_INIT.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_NOTIFY_SOCKET as u32 == StartedBy::NOTIFY_SOCKET.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_INVOCATION_ID as u32 == StartedBy::INVOCATION_ID.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_XPC_SERVICE as u32 == StartedBy::XPC_SERVICE.bits());
    assert!(rdaemon_started_by_flags::RDAEMON_STARTED_STDIN_IS_SOCKET as u32 == StartedBy::STDIN_IS_SOCKET.bits());
};

/// Tells what is known of who started this process. rdaemon_daemonize() uses the conclusions only, and these rest on
/// evidence alone: variables that name no pid are inherited by children of children, and a socket on standard input may
/// come from anywhere.
///
/// Returns enum rdaemon_started_by_flags (>= 0).
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_started_by() -> c_int {
    answer(|| Ok(daemon::started_by().bits() as c_int))
}
