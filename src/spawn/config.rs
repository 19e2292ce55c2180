use crate::step::{Identity, Limit, SignalMapEntry};
use crate::stream::Stream;
use crate::sys::strings::Strings;
use core::cell::Cell;
use core::ffi::{CStr, c_int, c_void};
use core::fmt;
use rustix::fd::{BorrowedFd, OwnedFd, RawFd};
use rustix::fs::Mode;

/// What is started, and how. Beside the program's arguments nothing is required: by default the child has the caller's
/// streams, environment, directories, umask, limits, ids, signal mask and ignored signals, and none of its other fds.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// What is kept, and what is added.
    pub flags: Flags,
    /// The program's arguments, the first of which is by custom its name.
    pub arguments: Strings<'a>,
    /// Paths of the program, tried in this order. `None`: the first argument. `PATH` is never looked at.
    pub paths: Option<Strings<'a>>,
    /// Strings like `NAME=value`. `None`: the caller's, as it is at the call.
    pub environment: Option<Strings<'a>>,
    /// Standard input, output and error.
    pub streams: [Stream<'a>; 3],
    /// Further fds of the child, at most [`Config::MOST_MAPPINGS`].
    pub fd_map: &'a [FdMapping<'a>],
    /// Fds that the child has under the same numbers.
    pub pass_fds: &'a [BorrowedFd<'a>],
    /// The root directory; the steps after it see it as `/`.
    pub chroot_directory: Option<&'a CStr>,
    /// The working directory.
    pub working_directory: WorkingDirectory<'a>,
    /// The file creation mask.
    pub umask: Option<Mode>,
    /// Resource limits.
    pub limits: &'a [Limit],
    /// The session or group that the child belongs to.
    pub group: Group,
    /// What signals do: [`Default`](crate::step::SignalAction::Default) or
    /// [`Ignore`](crate::step::SignalAction::Ignore). Those that the caller handles have their default in any case.
    pub signal_map: &'a [SignalMapEntry],
    /// The signals that are blocked. `None`: those of the calling thread.
    pub blocked_signals: Option<&'a [c_int]>,
    /// Whose rights the child has.
    pub identity: Identity<'a>,
    /// The signal that the child gets when the thread that made it ends; Linux only.
    pub death_signal: Option<c_int>,
    /// What the child does last before it executes the program.
    pub hook: Option<Hook>,
}

/// cbindgen:ignore
impl<'a> Config<'a> {
    /// How long [`Config::fd_map`] may be.
    pub const MOST_MAPPINGS: usize = 64;

    /// A program with these arguments, the first of which is its path.
    #[must_use]
    pub fn new(arguments: Strings<'a>) -> Config<'a> {
        Config {
            flags: Flags::empty(),
            arguments,
            paths: None,
            environment: None,
            streams: [Stream::Default; 3],
            fd_map: &[],
            pass_fds: &[],
            chroot_directory: None,
            working_directory: WorkingDirectory::Inherit,
            umask: None,
            limits: &[],
            group: Group::Inherit,
            signal_map: &[],
            blocked_signals: None,
            identity: Identity::default(),
            death_signal: None,
            hook: None,
        }
    }

    pub(super) fn has(&self, flag: Flags) -> bool {
        self.flags.contains(flag)
    }
}

bitflags::bitflags! {
    /// What is kept of the caller's, and what is added.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// A pidfd of the child is asked for.
        const PIDFD = 1;
        /// The caller's fds that are not close-on-exec stay open, and those that the hook opens.
        const KEEP_FDS = 1 << 1;
        /// Every signal gets its default disposition, before the map; and none is blocked unless `blocked_signals` says
        /// so.
        const RESET_SIGNALS = 1 << 7;
        /// execve(2) grants no privilege from now on.
        const NO_NEW_PRIVS = 1 << 9;
        /// The child is made by fork(2) and the like, with memory of its own.
        const FORCE_FORK = 1 << 10;
        /// A child that fails before it executes the program is left for the caller to reap: see
        /// [`Detail::Child`](crate::Detail::Child).
        const NO_REAP = 1 << 11;
        /// The program is detached: in a new session that it does not lead, and nobody's child but init's. Default
        /// streams are `/dev/null`. Not with another [`Group`], `NO_REAP` or a death signal.
        const DETACHED = 1 << 12;
    }
}

/// Where the child works.
#[derive(Clone, Copy, Debug, Default)]
pub enum WorkingDirectory<'a> {
    /// Where the caller does; in a new root directory: in that.
    #[default]
    Inherit,
    /// Inside the root directory.
    Path(&'a CStr),
    /// An open directory; not with a new root directory, as it would be a way out.
    Fd(BorrowedFd<'a>),
}

/// What the child belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    /// The caller's session and process group.
    #[default]
    Inherit,
    /// This process group of the caller's session; 0: a new one.
    Process(c_int),
    /// A new session.
    Session {
        /// The fd of the child that is its controlling terminal.
        terminal: Option<RawFd>,
    },
}

/// One fd of the child.
#[derive(Clone, Copy, Debug)]
pub struct FdMapping<'a> {
    /// Its number in the child.
    pub child_fd: RawFd,
    /// What it is: anything but [`Stream::Default`].
    pub source: Stream<'a>,
    /// The child reads the pipe or the file. Else it writes, but for fd 0.
    pub input: bool,
    /// Gets the caller's end of a [`Stream::Pipe`], and of nothing else.
    pub end: Option<&'a PipeEnd>,
}

/// A place for the caller's end of a pipe.
#[derive(Default)]
pub struct PipeEnd(Cell<Option<OwnedFd>>);

impl PipeEnd {
    /// An empty one.
    #[must_use]
    pub const fn new() -> PipeEnd {
        PipeEnd(Cell::new(None))
    }

    /// The end, once the program has started.
    pub fn take(&self) -> Option<OwnedFd> {
        self.0.take()
    }

    pub(super) fn set(&self, end: Option<OwnedFd>) {
        self.0.set(end);
    }
}

impl fmt::Debug for PipeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PipeEnd")
    }
}

/// A function that the child runs last before it executes the program, with all signals blocked.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    function: extern "C" fn(*mut c_void) -> c_int,
    context: *mut c_void,
}

impl Hook {
    /// The function gets `context`. Its result, unless 0, stops the child: 1 to 4095, of either sign, is the errno that
    /// the call fails with, any other number is `ECANCELED`. [`super::exec`] runs it in this process.
    ///
    /// # Safety
    ///
    /// The function may be called with the context in a copy of this process in which only the calling thread exists:
    /// it needs no lock that another thread may hold, and neither allocates nor unwinds.
    #[expect(unsafe_code, reason = "declares what the caller promises")]
    #[must_use]
    pub const unsafe fn new(function: extern "C" fn(*mut c_void) -> c_int, context: *mut c_void) -> Hook {
        Hook { function, context }
    }

    pub(super) fn run(self) -> c_int {
        (self.function)(self.context)
    }
}
