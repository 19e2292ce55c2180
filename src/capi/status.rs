use super::intake::{self, Text, sized, sized_in, sized_out};
use crate::decimal;
use crate::error::{Detail, Error, Step};
use core::ffi::{c_char, c_int};
use rustix::io::Errno;

/// The steps of the operations. Up to RDAEMON_STEP_READY they are in the order in which daemonize takes them, but for
/// RDAEMON_STEP_LOG_PUMP; a spawn takes some of them too, in the caller or in the child, and then those from
/// RDAEMON_STEP_FORK to RDAEMON_STEP_WAIT. A killed daemon's status tells the step that it had reached, also one that
/// cannot fail. From 1.0 on the numbers do not change; later versions add numbers. rdaemon_step_name() gives the
/// names, which are the tails of these in lower case.
#[repr(C)]
pub enum rdaemon_step {
    /// Nothing failed.
    RDAEMON_STEP_NONE = 0,
    /// An argument was refused, before anything was changed.
    RDAEMON_STEP_CONFIG = 1,
    /// Original process: fds 0 to 2 made open.
    RDAEMON_STEP_OPEN_STDIO = 2,
    /// Original process: pidfile opened, locked and emptied.
    RDAEMON_STEP_PIDFILE_OPEN = 3,
    /// Original process: /dev/null, the files of the streams and the log opened.
    RDAEMON_STEP_OPEN_STREAMS = 4,
    /// Original process: the channel made on which the daemon reports.
    RDAEMON_STEP_CHANNEL = 5,
    /// Either fork of the double fork.
    RDAEMON_STEP_DOUBLE_FORK = 6,
    /// Intermediate process: new session.
    RDAEMON_STEP_SETSID = 7,
    /// Daemon, from here on: every fd closed that is not kept.
    RDAEMON_STEP_CLOSE_FDS = 8,
    /// File creation mask set.
    RDAEMON_STEP_UMASK = 9,
    /// Root directory changed.
    RDAEMON_STEP_CHROOT = 10,
    /// Working directory changed.
    RDAEMON_STEP_CHDIR = 11,
    /// Process lock taken, and pid written into the pidfile.
    RDAEMON_STEP_PIDFILE_WRITE = 12,
    /// Resource limits set.
    RDAEMON_STEP_SET_LIMITS = 13,
    /// Groups, group id and user id changed, and verified.
    RDAEMON_STEP_DROP_PRIVILEGES = 14,
    /// Core dumps prevented.
    RDAEMON_STEP_PREVENT_CORE = 15,
    /// No new privileges through execve(2).
    RDAEMON_STEP_NO_NEW_PRIVS = 16,
    /// Streams put onto fds 0 to 2.
    RDAEMON_STEP_REDIRECT_STDIO = 17,
    /// Signal dispositions reset and mapped.
    RDAEMON_STEP_SET_SIGNALS = 18,
    /// Success reported to the original process.
    RDAEMON_STEP_REPORT = 19,
    /// Signal mask restored: the last step.
    RDAEMON_STEP_SIGNAL_MASK = 20,
    /// The daemon's own set-up, which it ends with rdaemon_ready() or rdaemon_fail().
    RDAEMON_STEP_READY = 21,
    /// Of a spawn: the process made for the program.
    RDAEMON_STEP_FORK = 22,
    /// Of a spawn, in the child as the next five: streams and fd map put into place, passed fds made inheritable.
    RDAEMON_STEP_MAP_FDS = 23,
    /// Process group joined or made.
    RDAEMON_STEP_SETPGID = 24,
    /// Controlling terminal acquired.
    RDAEMON_STEP_CONTROLLING_TERMINAL = 25,
    /// The signal set that the end of the parent raises.
    RDAEMON_STEP_DEATH_SIGNAL = 26,
    /// The caller's hook.
    RDAEMON_STEP_HOOK = 27,
    /// Program executed.
    RDAEMON_STEP_EXEC = 28,
    /// Input sent and output taken.
    RDAEMON_STEP_COMMUNICATE = 29,
    /// The end of the program awaited.
    RDAEMON_STEP_WAIT = 30,
    /// Daemon, between umask and chroot: the process started that logs syslog streams.
    RDAEMON_STEP_LOG_PUMP = 31,
    /// Of rdaemon_control_query() and the like: pidfile opened, and judged.
    RDAEMON_STEP_PIDFILE_READ = 32,
    /// Of rdaemon_control_query() and the like: signal sent.
    RDAEMON_STEP_SIGNAL = 33,
    /// Of rdaemon_control_query() and the like: the daemon's end awaited.
    RDAEMON_STEP_STOP = 34,
}

const _: () = {
    assert!(rdaemon_step::RDAEMON_STEP_NONE as i32 == Step::None as i32);
    assert!(rdaemon_step::RDAEMON_STEP_CONFIG as i32 == Step::Config as i32);
    assert!(rdaemon_step::RDAEMON_STEP_OPEN_STDIO as i32 == Step::OpenStdio as i32);
    assert!(rdaemon_step::RDAEMON_STEP_OPEN_STREAMS as i32 == Step::OpenStreams as i32);
    assert!(rdaemon_step::RDAEMON_STEP_PIDFILE_OPEN as i32 == Step::PidfileOpen as i32);
    assert!(rdaemon_step::RDAEMON_STEP_CHANNEL as i32 == Step::Channel as i32);
    assert!(rdaemon_step::RDAEMON_STEP_DOUBLE_FORK as i32 == Step::DoubleFork as i32);
    assert!(rdaemon_step::RDAEMON_STEP_SETSID as i32 == Step::Setsid as i32);
    assert!(rdaemon_step::RDAEMON_STEP_CLOSE_FDS as i32 == Step::CloseFds as i32);
    assert!(rdaemon_step::RDAEMON_STEP_UMASK as i32 == Step::Umask as i32);
    assert!(rdaemon_step::RDAEMON_STEP_CHROOT as i32 == Step::Chroot as i32);
    assert!(rdaemon_step::RDAEMON_STEP_CHDIR as i32 == Step::Chdir as i32);
    assert!(rdaemon_step::RDAEMON_STEP_PIDFILE_WRITE as i32 == Step::PidfileWrite as i32);
    assert!(rdaemon_step::RDAEMON_STEP_SET_LIMITS as i32 == Step::SetLimits as i32);
    assert!(rdaemon_step::RDAEMON_STEP_DROP_PRIVILEGES as i32 == Step::DropPrivileges as i32);
    assert!(rdaemon_step::RDAEMON_STEP_PREVENT_CORE as i32 == Step::PreventCore as i32);
    assert!(rdaemon_step::RDAEMON_STEP_NO_NEW_PRIVS as i32 == Step::NoNewPrivs as i32);
    assert!(rdaemon_step::RDAEMON_STEP_REDIRECT_STDIO as i32 == Step::RedirectStdio as i32);
    assert!(rdaemon_step::RDAEMON_STEP_SET_SIGNALS as i32 == Step::SetSignals as i32);
    assert!(rdaemon_step::RDAEMON_STEP_REPORT as i32 == Step::Report as i32);
    assert!(rdaemon_step::RDAEMON_STEP_SIGNAL_MASK as i32 == Step::SignalMask as i32);
    assert!(rdaemon_step::RDAEMON_STEP_READY as i32 == Step::Ready as i32);
    assert!(rdaemon_step::RDAEMON_STEP_FORK as i32 == Step::Fork as i32);
    assert!(rdaemon_step::RDAEMON_STEP_MAP_FDS as i32 == Step::MapFds as i32);
    assert!(rdaemon_step::RDAEMON_STEP_SETPGID as i32 == Step::Setpgid as i32);
    assert!(rdaemon_step::RDAEMON_STEP_CONTROLLING_TERMINAL as i32 == Step::ControllingTerminal as i32);
    assert!(rdaemon_step::RDAEMON_STEP_DEATH_SIGNAL as i32 == Step::DeathSignal as i32);
    assert!(rdaemon_step::RDAEMON_STEP_HOOK as i32 == Step::Hook as i32);
    assert!(rdaemon_step::RDAEMON_STEP_EXEC as i32 == Step::Exec as i32);
    assert!(rdaemon_step::RDAEMON_STEP_COMMUNICATE as i32 == Step::Communicate as i32);
    assert!(rdaemon_step::RDAEMON_STEP_WAIT as i32 == Step::Wait as i32);
    assert!(rdaemon_step::RDAEMON_STEP_LOG_PUMP as i32 == Step::LogPump as i32);
    assert!(rdaemon_step::RDAEMON_STEP_PIDFILE_READ as i32 == Step::PidfileRead as i32);
    assert!(rdaemon_step::RDAEMON_STEP_SIGNAL as i32 == Step::Signal as i32);
    assert!(rdaemon_step::RDAEMON_STEP_STOP as i32 == Step::Stop as i32);
    assert!(Step::from_number(Step::Stop as i32 + 1).is_none());
};

/// How an operation ended. Functions with a ret_status fill it on success and on failure alike.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_status {
    /// The step that failed (enum rdaemon_step); RDAEMON_STEP_NONE on success.
    pub step: i32,
    /// The negative errno that the call returned; 0 on success.
    pub error: i32,
    /// On success of rdaemon_daemonize(), rdaemon_control_start() and _restart() the new daemon's pid, of
    /// rdaemon_spawn() the child's, of the other rdaemon_control_ functions that of the daemon that runs, has got the
    /// signal, or was stopped; that of a failed child which RDAEMON_SPAWN_NO_REAP leaves, and of a program that
    /// rdaemon_run() may not kill. With -EEXIST at a pidfile step the pid of the process that holds the pidfile, or 0
    /// when there is nobody to signal: see RDAEMON_PIDFILE_HELD. Else 0.
    pub pid: i32,
    /// The signal that killed a process before it could report, where known; else 0.
    pub signal: i32,
    /// When step is RDAEMON_STEP_CONFIG: the step to which the refused value belongs (enum rdaemon_step).
    pub subject: i32,
    /// Zero.
    pub reserved: [i32; 11],
}

sized! { rdaemon_status = 64, }

impl rdaemon_status {
    pub(super) fn of(result: Result<i32, Error>) -> rdaemon_status {
        let mut status = <rdaemon_status as intake::Sized_>::zeroed();
        match result {
            Ok(pid) => status.pid = pid,
            Err(error) => {
                status.step = error.step as i32;
                status.error = error.errno.raw_os_error().wrapping_neg();
                match error.detail() {
                    Detail::Subject(step) => status.subject = step as i32,
                    Detail::Holder(pid) | Detail::Child(pid) => status.pid = pid,
                    Detail::Signal(signal) => status.signal = signal,
                    Detail::None => {}
                }
            }
        }
        status
    }

    /// Fills the caller's status; answers the int result.
    pub(super) fn report(result: Result<i32, Error>, to: *mut rdaemon_status, size: usize) -> Result<c_int, Errno> {
        sized_out(to, size, &rdaemon_status::of(result));
        result.map_err(|error| error.errno)
    }
}

/// Tells the name of a step (enum rdaemon_step), as in "drop_privileges"; "unknown" for any other number. The string is
/// static.
///
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_step_name(step: c_int) -> *const c_char {
    Step::from_number(step).map_or(c"unknown", Step::c_name).as_ptr()
}

/// Says in one line what a status means, as in "chdir: No such file or directory" or
/// "pidfile_open: already running as process 4711". On success the line is "success".
///
/// The line goes to the len bytes at buf, cut to fit, always with its NUL; buf may be NULL when len is 0.
///
/// Returns the length of the whole line without its NUL, as snprintf(3) does; -EINVAL for a NULL or short status, or
/// for a NULL buf with a len; -E2BIG for a status with unknown fields.
/// Neither async-signal-safe nor thread-safe with setlocale(3): it asks strerror_r(3). Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_status_message(
    status: *const rdaemon_status,
    status_size: usize,
    buf: *mut c_char,
    len: usize,
) -> c_int {
    intake::answer(|| {
        let status = sized_in(status, status_size)?;
        if status_size == 0 || (buf.is_null() && len > 0) {
            return Err(Errno::INVAL);
        }
        let mut line = Line(Text::new(buf, len));
        line.describe(&status);
        c_int::try_from(line.0.end()).map_err(|_| Errno::OVERFLOW)
    })
}

/// The line that describes a status.
struct Line(Text);

impl Line {
    fn describe(&mut self, status: &rdaemon_status) {
        if status.step == 0 && status.error == 0 {
            return self.text("success");
        }
        self.step(status.step);
        if status.subject != 0 && status.subject != status.step {
            self.step(status.subject);
        }
        match crate::sys::errno::from_number(status.error.wrapping_neg()) {
            Errno::EXIST if status.pid > 0 && is_pidfile_step(status.step) => {
                self.text_and_number("already running as process ", status.pid)
            }
            Errno::EXIST if is_pidfile_step(status.step) => {
                self.text("held by a start in progress, or by workers of a dead daemon");
            }
            Errno::PERM if status.step == Step::PidfileRead as i32 => {
                self.text("not to be believed: anybody may write it, or it is a stranger's")
            }
            Errno::BADMSG if status.step == Step::PidfileRead as i32 => {
                self.text("not a pidfile: there is no number in its first line");
            }
            Errno::TIMEDOUT if status.step == Step::Stop as i32 => self.text("the daemon has not ended in time"),
            _ if status.signal != 0 => self.text_and_number("killed before it reported, by signal ", status.signal),
            // From there on it is what a system call of the child said.
            Errno::SRCH if status.step <= Step::Fork as i32 => self.text("the process ended before it reported"),
            Errno::ALREADY if status.subject == Step::DoubleFork as i32 => {
                self.text("a service manager has activated this process, and would lose sight of it")
            }
            errno => self.error(errno.raw_os_error()),
        }
    }

    fn step(&mut self, step: i32) {
        self.text(Step::from_number(step).map_or("unknown", Step::name));
        self.text(": ");
    }

    fn text_and_number(&mut self, text: &str, number: i32) {
        self.text(text);
        self.0.push(decimal::digits(number.unsigned_abs().into(), &mut [0; 20]));
    }

    fn error(&mut self, errno: i32) {
        self.0.push(crate::sys::errno::describe(errno, &mut [0; 128]));
    }

    fn text(&mut self, text: &str) {
        self.0.push(text.as_bytes());
    }
}

fn is_pidfile_step(step: i32) -> bool {
    [Step::PidfileOpen as i32, Step::PidfileWrite as i32].contains(&step)
}
