//! What went wrong, and at which step.
//!
//! The name of a step is the vocabulary of the whole crate: the plan, the error, the record on the report channel and
//! the C enum all use it, and the file and the C function of a step are named after it.

use core::fmt;
use rustix::io::Errno;

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal $c_name:literal,)*) => {
        /// A step of an operation. The numbers are stable; new steps get new numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Step { $($(#[$doc])* $variant = $number,)* }

        impl Step {
            /// The step's name, which is also the tail of its C function's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Step::$variant => $name,)* }
            }

            /// The name as C wants it.
            #[cfg(feature = "capi")]
            pub(crate) const fn c_name(self) -> &'static core::ffi::CStr {
                match self { $(Step::$variant => $c_name,)* }
            }

            /// The step with this number.
            #[must_use]
            pub const fn from_number(number: i32) -> Option<Step> {
                match number { $($number => Some(Step::$variant),)* _ => None }
            }
        }
    };
}

steps! {
    /// No step: nothing failed.
    None = 0 "none" c"none",
    /// The configuration was refused; nothing was changed.
    Config = 1 "config" c"config",
    /// Fds 0 to 2 made open.
    OpenStdio = 2 "open_stdio" c"open_stdio",
    /// Pidfile opened, locked and truncated.
    PidfileOpen = 3 "pidfile_open" c"pidfile_open",
    /// `/dev/null` and the files of the streams opened.
    OpenStreams = 4 "open_streams" c"open_streams",
    /// The channel made on which the daemon reports.
    Channel = 5 "channel" c"channel",
    /// Either fork of the double fork.
    DoubleFork = 6 "double_fork" c"double_fork",
    /// New session, between the two forks.
    Setsid = 7 "setsid" c"setsid",
    /// Every fd closed that is not kept.
    CloseFds = 8 "close_fds" c"close_fds",
    /// File creation mask set.
    Umask = 9 "umask" c"umask",
    /// Root directory changed.
    Chroot = 10 "chroot" c"chroot",
    /// Working directory changed.
    Chdir = 11 "chdir" c"chdir",
    /// Process lock taken and pid written.
    PidfileWrite = 12 "pidfile_write" c"pidfile_write",
    /// Resource limits set.
    SetLimits = 13 "set_limits" c"set_limits",
    /// Groups, gid and uid changed, and verified.
    DropPrivileges = 14 "drop_privileges" c"drop_privileges",
    /// Core dumps prevented.
    PreventCore = 15 "prevent_core" c"prevent_core",
    /// No new privileges through execve.
    NoNewPrivs = 16 "no_new_privs" c"no_new_privs",
    /// Streams put onto fds 0 to 2.
    RedirectStdio = 17 "redirect_stdio" c"redirect_stdio",
    /// Signal dispositions reset and mapped.
    SetSignals = 18 "set_signals" c"set_signals",
    /// Success reported to the original process.
    Report = 19 "report" c"report",
    /// Signal mask restored; the last step.
    SignalMask = 20 "signal_mask" c"signal_mask",
    /// The daemon's own set-up, which it ends with ready or fail.
    Ready = 21 "ready" c"ready",
    /// A process made for a program.
    Fork = 22 "fork" c"fork",
    /// Streams and mapped fds put into place, and passed ones made inheritable.
    MapFds = 23 "map_fds" c"map_fds",
    /// Process group joined or made.
    Setpgid = 24 "setpgid" c"setpgid",
    /// Controlling terminal acquired.
    ControllingTerminal = 25 "controlling_terminal" c"controlling_terminal",
    /// The signal set that the end of the parent raises.
    DeathSignal = 26 "death_signal" c"death_signal",
    /// The caller's own step before the program.
    Hook = 27 "hook" c"hook",
    /// Program executed.
    Exec = 28 "exec" c"exec",
    /// Input sent and output taken.
    Communicate = 29 "communicate" c"communicate",
    /// The end of a program awaited.
    Wait = 30 "wait" c"wait",
    /// Pump of a daemon's syslog streams started.
    LogPump = 31 "log_pump" c"log_pump",
    /// Pidfile opened by a controller, and judged.
    PidfileRead = 32 "pidfile_read" c"pidfile_read",
    /// Signal sent to a daemon.
    Signal = 33 "signal" c"signal",
    /// The end of a daemon awaited.
    Stop = 34 "stop" c"stop",
}

/// A failed step, with the errno that says why.
///
/// Small enough that a result travels in a register, with the step first, whose byte then says which result it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Error {
    /// The step that failed.
    pub step: Step,
    kind: Kind,
    /// Why it failed.
    pub errno: Errno,
    number: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    None,
    Subject,
    Holder,
    Signal,
    Child,
}

/// What is known about a failure besides step and errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// Nothing.
    None,
    /// The step to which the refused value of the configuration belongs.
    Subject(Step),
    /// The pid of the process that holds the pidfile; 0 when it is starting, or when only workers of a dead daemon
    /// remain.
    Holder(i32),
    /// The signal that killed the process before it could report.
    Signal(i32),
    /// The pid of the failed child, which is left for the caller to reap.
    Child(i32),
}

impl Error {
    pub(crate) const fn new(step: Step, errno: Errno) -> Error {
        Error { step, kind: Kind::None, errno, number: 0 }
    }

    /// A refusal of the configuration, because of a value that `subject` would use.
    pub(crate) const fn refused(subject: Step, errno: Errno) -> Error {
        Error { step: Step::Config, kind: Kind::Subject, errno, number: subject as i32 }
    }

    /// The pidfile is held by this process, or by one that is not known: 0.
    pub(crate) const fn held(step: Step, holder: i32) -> Error {
        Error { step, kind: Kind::Holder, errno: Errno::EXIST, number: holder }
    }

    /// A process was killed before it could report.
    pub(crate) const fn killed(step: Step, signal: i32) -> Error {
        Error { step, kind: Kind::Signal, errno: Errno::SRCH, number: signal }
    }

    /// The child in which this happened is left for the caller to reap.
    pub(crate) const fn left(self, pid: i32) -> Error {
        Error { kind: Kind::Child, number: pid, ..self }
    }

    /// The same, under another step's name.
    pub(crate) const fn of(self, step: Step) -> Error {
        Error { step, ..self }
    }

    /// What else is known.
    #[must_use]
    pub const fn detail(self) -> Detail {
        match (self.kind, Step::from_number(self.number)) {
            (Kind::Subject, Some(subject)) => Detail::Subject(subject),
            (Kind::Holder, _) => Detail::Holder(self.number),
            (Kind::Signal, _) => Detail::Signal(self.number),
            (Kind::Child, _) => Detail::Child(self.number),
            (Kind::None | Kind::Subject, _) => Detail::None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.step.name())?;
        match self.detail() {
            Detail::Subject(subject) => write!(f, "{}: {}", subject.name(), self.errno),
            Detail::Holder(0) => write!(f, "held by a start in progress, or by workers of a dead daemon"),
            Detail::Holder(pid) => write!(f, "already running as process {pid}"),
            Detail::Signal(signal) => write!(f, "killed by signal {signal}"),
            Detail::None | Detail::Child(_) => self.errno.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// A refusal of the configuration, because of a value that `subject` would use.
pub(crate) fn refuse<T>(result: Result<T, Errno>, subject: Step) -> Result<T, Error> {
    result.map_err(|errno| Error::refused(subject, errno))
}

/// A refusal of the configuration unless the condition holds.
pub(crate) fn require(condition: bool, subject: Step) -> Result<(), Error> {
    if condition { Ok(()) } else { Err(Error::refused(subject, Errno::INVAL)) }
}

/// Names the step of a system call's failure.
pub(crate) trait At<T> {
    fn at(self, step: Step) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Error> {
        self.map_err(|errno| Error::new(step, errno))
    }
}
