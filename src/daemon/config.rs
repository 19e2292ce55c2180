use crate::pidfile;
use crate::step::{Identity, Limit, SignalMapEntry};
use crate::stream::Stream;
use crate::syslog;
use core::ffi::CStr;
use core::time::Duration;
use rustix::fd::BorrowedFd;
use rustix::fs::Mode;

/// What kind of daemon the process becomes. The default is the classic, safe one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config<'a> {
    /// What is kept, and what is added.
    pub flags: Flags,
    /// Whether a new process is made.
    pub detach: Detach,
    /// The root directory; the steps after it see it as `/`.
    pub chroot_directory: Option<&'a CStr>,
    /// The working directory, inside the root directory. `None`: `/`.
    pub working_directory: Option<&'a CStr>,
    /// The file creation mask; none by default. It affects neither the pidfile nor the files of the streams.
    pub umask: Option<Mode>,
    /// The pidfile, opened before the root directory changes and privileges are dropped.
    pub pidfile: Option<&'a CStr>,
    /// How the pidfile is opened.
    pub pidfile_options: pidfile::Options,
    /// The fds that stay open, besides 0 to 2.
    pub files_preserve: &'a [BorrowedFd<'a>],
    /// Standard input, output and error. An fd given here is closed in the daemon afterwards, unless it is in
    /// `files_preserve`: nobody may own it there.
    pub streams: [Stream<'a>; 3],
    /// What signals do. `None`: SIGTTIN, SIGTTOU and SIGTSTP are ignored, and SIGTERM terminates if there is a pidfile.
    pub signal_map: Option<&'a [SignalMapEntry]>,
    /// Resource limits.
    pub limits: &'a [Limit],
    /// Whose rights the daemon has. By default those of the real user, if that is not the effective one.
    pub identity: Identity<'a>,
    /// How long the steps may take; the daemon is killed when they take longer.
    pub timeout: Option<Duration>,
    /// Where the lines of [`Stream::Syslog`] go: standard output's with level info, standard error's with err. The tag's
    /// pid is the daemon's.
    pub syslog: syslog::Options<'a>,
}

/// Whether the process detaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detach {
    /// Unless a service manager started this process, which then is the daemon already.
    #[default]
    Auto,
    /// Always. Refused with `EALREADY` when the process was activated, as its manager would lose sight of it, unless
    /// [`Flags::DETACH_ACTIVATED`] insists.
    Yes,
    /// Never.
    No,
}

bitflags::bitflags! {
    /// What is kept of the process as it is, and what is added.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// The channel to the original process stays open until [`super::ready`] or [`super::fail`].
        const NOTIFY_READY = 1;
        /// Every signal gets its default disposition, before the map; and no signal is blocked.
        const RESET_SIGNALS = 1 << 1;
        /// There is no default signal map.
        const KEEP_SIGNALS = 1 << 2;
        /// No fd is closed.
        const KEEP_FDS = 1 << 3;
        /// The working directory stays.
        const KEEP_CWD = 1 << 4;
        /// The file creation mask stays.
        const KEEP_UMASK = 1 << 5;
        /// Core dumps stay possible.
        const KEEP_CORE = 1 << 6;
        /// Effective ids stay other than the real ones.
        const KEEP_PRIVILEGES = 1 << 7;
        /// Core prevention clears the dumpable attribute as well.
        const UNDUMPABLE = 1 << 8;
        /// execve(2) grants no privilege from now on.
        const SET_NO_NEW_PRIVS = 1 << 9;
        /// inetd started this process, which counts as activation.
        const INETD = 1 << 10;
        /// Detach although activated.
        const DETACH_ACTIVATED = 1 << 11;
        /// The fds that a manager has handed over, and that were not collected yet, stay open.
        const KEEP_LISTEN_FDS = 1 << 12;
        /// The process between the two forks gets a copy of the memory too, as it does anyway with a time limit, or where
        /// there are, or have been, more threads.
        const CLASSIC_FORK = 1 << 13;
    }
}
