use super::intake::{Converted, answer, array, out, path, sized, sized_in};
use super::pidfile::rdaemon_pidfile;
use crate::pidfile::Pidfile;
use crate::step::{self, DoubleFork, Identity, Limit, SignalAction, SignalMapEntry, Source};
use crate::sys::fd::{self, Act};
use core::ffi::{c_char, c_int};
use rustix::fd::{IntoRawFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;

/// Starts a new session and process group, without a controlling terminal.
///
/// Returns the session's id (> 0), or any error of setsid(2): -EPERM when the process leads a process group already.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_setsid() -> c_int {
    answer(|| step::setsid().map(|session| session.as_raw_pid()))
}

/// Continues in a grandchild as well: fork(2), setsid(2), fork(2). The grandchild belongs to a new session that it does
/// not lead, so that it never acquires a controlling terminal, and is the child of init, or of the nearest subreaper.
///
/// ret_pidfd, unless NULL, gets a pidfd of the grandchild in the original process (CLOEXEC, >= 3; yours to close), or
/// -1 on a system without pidfds or when no fd was free for it; in the grandchild it is left alone.
///
/// Returns twice: the grandchild's pid (> 0) in the original process, 0 in the grandchild. The process between the two
/// has ended and is reaped by then. On failure it returns once, and no grandchild goes on: any error of socketpair(2),
/// mmap(2), fork(2), setsid(2), poll(2) or recvmsg(2); -ESRCH: somebody killed the process between, or the grandchild.
///
/// The memory is copied once, where that is possible, and the handlers of pthread_atfork(3) run once for each copy: as
/// with rdaemon_daemonize(). Not async-signal-safe. In a process with more threads only the calling one continues in
/// the grandchild, which must not need a lock that another thread holds. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_double_fork(ret_pidfd: *mut c_int) -> c_int {
    // SAFETY: the C caller promises what the comment above asks.
    answer(|| match unsafe { step::double_fork() }? {
        DoubleFork::Daemon => Ok(0),
        DoubleFork::Original { pid, pidfd } => {
            if !ret_pidfd.is_null() {
                out(ret_pidfd, pidfd.map_or(-1, OwnedFd::into_raw_fd));
            }
            Ok(pid)
        }
    })
}

/// Flags of rdaemon_close_fds().
#[repr(C)]
pub enum rdaemon_close_fds_flags {
    /// The fds are marked close-on-exec instead of closed.
    RDAEMON_CLOSE_FDS_CLOEXEC = 1,
}

/// Closes every fd of the process from lowest on, but for the keep_len ones in keep.
///
/// keep may be in any order and may repeat itself; numbers that are negative or not open are ignored; it is not
/// modified. In ascending order it is walked once. keep may be NULL when keep_len is 0. flags: 0 or enum
/// rdaemon_close_fds_flags.
///
/// It works through close_range(2), which meets fds above a lowered RLIMIT_NOFILE too; where that is refused, for
/// whatever reason, through /proc/self/fd; where that is hidden, by counting up to the hard RLIMIT_NOFILE, at least to
/// 65536, and not at all where it is above 1048576. On macOS it reads the list of open fds, and where more than 511
/// stay open, or are only marked, it counts too, with kern.maxfilesperproc for the limit if that is higher.
///
/// Returns 0, -EINVAL for a negative lowest, an unknown flag or a NULL keep, or the error of close_range(2) when no
/// way was left; some fds may be closed then.
/// Async-signal-safe; needs about 10 KiB of stack. Other threads must not be using the fds. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_close_fds(lowest: c_int, keep: *const i32, keep_len: usize, flags: u32) -> c_int {
    const CLOEXEC: u32 = rdaemon_close_fds_flags::RDAEMON_CLOSE_FDS_CLOEXEC as u32;
    answer(|| {
        let lowest = u32::try_from(lowest).map_err(|_| Errno::INVAL)?;
        let act = match flags {
            0 => Act::Close,
            CLOEXEC => Act::Cloexec,
            _ => return Err(Errno::INVAL),
        };
        step::fds::sweep(lowest, [array(keep, keep_len)?, &[]], act).map(|()| 0)
    })
}

/// Opens /dev/null on each of fds 0, 1 and 2 that is closed, so that no file opened later becomes a standard stream by
/// accident. These fds are inherited through execve(2).
///
/// Returns how many it opened, -ENODEV when /dev/null is not the null device, or any error of open(2).
/// Async-signal-safe. Not thread-safe with threads that close fds 0 to 2. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_open_stdio() -> c_int {
    answer(|| step::open_stdio().map(|opened| opened.into_iter().map(c_int::from).sum()))
}

/// What rdaemon_redirect_stdio() takes besides fds.
#[repr(C)]
pub enum rdaemon_fd {
    /// The stream stays what it is.
    RDAEMON_FD_INHERIT = -1001,
    /// The stream becomes /dev/null.
    RDAEMON_FD_NULL = -1002,
}

/// Makes fds 0, 1 and 2 duplicates of in, out and err, all at once: a source may itself be a standard stream that is
/// replaced, so that (0, 2, 1) swaps output and error. Each that is not RDAEMON_FD_INHERIT is inherited through
/// execve(2) then, also where source and target are the same.
///
/// Each of the three is an open fd, RDAEMON_FD_INHERIT or RDAEMON_FD_NULL. The sources stay open.
///
/// Returns 0, -EBADF for an fd that is not open, -ENODEV when /dev/null is not the null device, or any error of open(2)
/// or fcntl(2); on these no stream has changed.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_redirect_stdio(r#in: c_int, out: c_int, err: c_int) -> c_int {
    const INHERIT: c_int = rdaemon_fd::RDAEMON_FD_INHERIT as c_int;
    const NULL: c_int = rdaemon_fd::RDAEMON_FD_NULL as c_int;
    let source = |number| match number {
        INHERIT => Ok(Source::Inherit),
        NULL => Ok(Source::Null),
        _ => fd::borrow_open(number).map(Source::Fd),
    };
    answer(|| step::redirect_stdio([source(r#in)?, source(out)?, source(err)?]).map(|()| 0))
}

/// Flags of rdaemon_prevent_core().
#[repr(C)]
pub enum rdaemon_prevent_core_flags {
    /// Clear the process's dumpable attribute as well, prctl(PR_SET_DUMPABLE): other processes of the same user can no
    /// longer trace it, and its files in /proc belong to root.
    RDAEMON_PREVENT_CORE_UNDUMPABLE = 1,
}

/// Prevents core dumps of this process and, by a limit that is inherited, of all that it starts.
///
/// It sets the soft and the hard RLIMIT_CORE, on Linux to 1, which the kernel takes for "no dump, not even into a
/// pipe"; with 0 a core_pattern that names a program would still get one. Where the hard limit is 0 already and may not
/// be raised, the dumpable attribute is cleared instead, which ends with execve(2). flags: 0 or enum
/// rdaemon_prevent_core_flags.
///
/// Returns 0, -EINVAL for an unknown flag, or any error of setrlimit(2) or prctl(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_prevent_core(flags: u32) -> c_int {
    const UNDUMPABLE: u32 = rdaemon_prevent_core_flags::RDAEMON_PREVENT_CORE_UNDUMPABLE as u32;
    answer(|| match flags {
        0 => step::prevent_core(false).map(|()| 0),
        UNDUMPABLE => step::prevent_core(true).map(|()| 0),
        _ => Err(Errno::INVAL),
    })
}

/// A resource limit.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_limit {
    /// RLIMIT_NOFILE and the like, from <sys/resource.h>.
    pub resource: i32,
    /// Zero.
    pub reserved: u32,
    /// The limit in force, in the resource's own unit, or RDAEMON_UNLIMITED.
    pub soft: u64,
    /// The limit up to which the soft one may be raised, or RDAEMON_UNLIMITED.
    pub hard: u64,
}

/// No limit, in struct rdaemon_limit.
pub const RDAEMON_UNLIMITED: u64 = u64::MAX;

const _: () = assert!(RDAEMON_UNLIMITED == Limit::UNLIMITED);

/// A list of limits names no resource often enough to be longer.
pub(super) type Limits = Converted<Limit, 32>;

impl Limits {
    pub(super) fn take(&mut self, limits: *const rdaemon_limit, length: usize) -> Result<&[Limit], Errno> {
        self.fill(array(limits, length)?, |limit| {
            let &rdaemon_limit { resource, reserved, soft, hard } = limit;
            if reserved == 0 { Ok(Limit { resource, soft, hard }) } else { Err(Errno::INVAL) }
        })
    }
}

/// Sets the process's resource limits, in the order given, RLIMIT_NOFILE last whatever its place. limits may be NULL
/// when limits_len is 0.
///
/// Returns 0; -EINVAL for an unknown resource, a soft limit above its hard one, a non-zero reserved field, or more than
/// 32 limits, and then no limit has changed; or any error of setrlimit(2), and then those before the refused one are
/// set.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_set_limits(limits: *const rdaemon_limit, limits_len: usize) -> c_int {
    let mut place = Limits::EMPTY;
    answer(|| step::set_limits(place.take(limits, limits_len)?).map(|()| 0))
}

/// Sets the process's file creation mask.
///
/// Returns the mask before (>= 0), or -EINVAL for one above 0777.
/// Async-signal-safe, thread-safe, but the mask is the whole process's. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_umask(mask: u32) -> c_int {
    answer(|| step_mode(mask).map(|mask| step::umask(mask).bits() as c_int))
}

/// Permission bits, and nothing else.
pub(super) fn step_mode(mode: u32) -> Result<Mode, Errno> {
    if mode > 0o777 { Err(Errno::INVAL) } else { Ok(Mode::from_bits_retain(mode as _)) }
}

/// Changes the process's working directory.
///
/// Returns 0, -EINVAL for NULL, -ENAMETOOLONG for a path without a NUL in its first 4096 bytes, or any error of
/// chdir(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_chdir(path: *const c_char) -> c_int {
    answer(|| step::chdir(self::path(path)?).map(|()| 0))
}

/// Changes the process's root directory, and enters it: chroot(2), then chdir(2) to "/". A working directory outside
/// would be a way out, and so is every fd of a directory outside that stays open.
///
/// Returns 0, -EINVAL for NULL, -ENAMETOOLONG for a path without a NUL in its first 4096 bytes, or any error of
/// chroot(2) or chdir(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_chroot(path: *const c_char) -> c_int {
    answer(|| step::chroot(self::path(path)?).map(|()| 0))
}

/// Sets every signal to its default disposition and empties the calling thread's signal mask. SIGKILL and SIGSTOP have
/// no other disposition, and the signals that libc keeps for itself are left alone.
///
/// Returns 0.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_reset_signals() -> c_int {
    answer(|| step::reset_signals().map(|()| 0))
}

/// What a signal does: struct rdaemon_signal_action.
#[repr(C)]
pub enum rdaemon_signal_action_kind {
    /// Its default.
    RDAEMON_SIGNAL_DEFAULT = 0,
    /// Nothing.
    RDAEMON_SIGNAL_IGNORE = 1,
    /// The handler runs, with SA_RESTART.
    RDAEMON_SIGNAL_HANDLER = 2,
    /// The pidfile is removed; then the process dies as by the signal's default, so that whoever waits for it sees
    /// which signal it was. In a daemon of rdaemon_control_start() the hooks on_terminate and at_exit come first. In a
    /// process forked from the daemon the pidfile is left alone. Refused for a signal whose default is not to end the
    /// process; on macOS and FreeBSD SIGIO and SIGINFO are such.
    RDAEMON_SIGNAL_TERMINATE = 3,
}

/// One line of a signal map.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_signal_action {
    /// The signal's number.
    pub signal: i32,
    /// enum rdaemon_signal_action_kind.
    pub action: u32,
    /// For RDAEMON_SIGNAL_HANDLER; else NULL. Must be async-signal-safe.
    pub handler: Option<extern "C" fn(c_int)>,
}

impl rdaemon_signal_action {
    /// The line as the floor below takes, and checks, it.
    fn entry(&self) -> Result<SignalMapEntry, Errno> {
        let action = match (self.action, self.handler) {
            (0, None) => SignalAction::Default,
            (1, None) => SignalAction::Ignore,
            (2, Some(handler)) => SignalAction::Handler(handler),
            (3, None) => SignalAction::Terminate,
            _ => return Err(Errno::INVAL),
        };
        Ok(SignalMapEntry { signal: self.signal, action })
    }
}

/// A signal map has no more lines than there are signals to name.
pub(super) type SignalMap = Converted<SignalMapEntry, 128>;

impl SignalMap {
    pub(super) fn take(
        &mut self,
        map: *const rdaemon_signal_action,
        length: usize,
    ) -> Result<&[SignalMapEntry], Errno> {
        self.fill(array(map, length)?, rdaemon_signal_action::entry)
    }
}

/// Sets the dispositions of the map_len signals in map; the others stay as they are. map may be NULL when map_len is 0.
///
/// pidfile is what RDAEMON_SIGNAL_TERMINATE removes; NULL, 0 for none, or, in a daemon of rdaemon_control_start(), for
/// its own. It is copied into a static slot that the handler reads, the process's one; each call whose map has such a
/// line sets it.
///
/// Returns 0; -EINVAL for a signal that does not exist, cannot be caught or belongs to libc, an unknown action, a
/// missing or superfluous handler, more than 128 lines, or a short pidfile; -E2BIG for a pidfile with unknown fields.
/// On any of these nothing has changed.
/// Async-signal-safe. Not thread-safe with itself, nor while another thread handles a signal that an earlier map
/// terminates on. Needs about 7 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_set_signals(
    map: *const rdaemon_signal_action,
    map_len: usize,
    pidfile: *const rdaemon_pidfile,
    pidfile_size: usize,
) -> c_int {
    answer(|| {
        let given = Pidfile::from(sized_in(pidfile, pidfile_size)?);
        let pidfile = if pidfile.is_null() { None } else { Some(given) };
        let mut place = SignalMap::EMPTY;
        let map = place.take(map, map_len)?;
        // SAFETY: the C caller promises that the handlers are async-signal-safe.
        unsafe { step::set_signals(map, pidfile.as_ref()) }.map(|()| 0)
    })
}

/// Flags of struct rdaemon_identity.
#[repr(C)]
pub enum rdaemon_identity_flags {
    /// The real, effective and saved user id become uid; uid 0 can then not be regained.
    RDAEMON_IDENTITY_UID = 1,
    /// The real, effective and saved group id become gid.
    RDAEMON_IDENTITY_GID = 2,
    /// The supplementary groups become the groups_len ones in groups, which may be none. Besides the group id macOS
    /// takes 15, and rdaemon on FreeBSD 63: -EINVAL for more.
    RDAEMON_IDENTITY_GROUPS = 4,
    /// The effective ids become the real ones, for a program that is wrongly installed set-user-id or set-group-id.
    /// Not together with UID or GID.
    RDAEMON_IDENTITY_RELINQUISH = 8,
    /// The supplementary groups stay although the user id changes; by default they go with the user. Not together with
    /// GROUPS.
    RDAEMON_IDENTITY_KEEP_GROUPS = 16,
}

/// Whose rights the process has. uid and gid count only when their flags are set; groups without its flag are refused.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_identity {
    /// enum rdaemon_identity_flags.
    pub flags: u32,
    /// The user.
    pub uid: u32,
    /// The group. Without RDAEMON_IDENTITY_GID the process keeps the group that it has, though it leaves the user.
    pub gid: u32,
    /// Zero.
    pub reserved: u32,
    /// The supplementary groups; gid_t is an unsigned 32-bit integer on every system supported.
    pub groups: *const u32,
    /// Number of entries.
    pub groups_len: usize,
}

sized! { rdaemon_identity = size_of::<rdaemon_identity>(), }

impl rdaemon_identity {
    /// The identity as the floor below takes, and checks, it.
    pub(super) fn identity<'a>(&self) -> Result<Identity<'a>, Errno> {
        let has = |flag: rdaemon_identity_flags| self.flags & flag as u32 != 0;
        let groups = array(self.groups, self.groups_len)?;
        let identity = Identity {
            uid: has(rdaemon_identity_flags::RDAEMON_IDENTITY_UID).then_some(self.uid),
            gid: has(rdaemon_identity_flags::RDAEMON_IDENTITY_GID).then_some(self.gid),
            groups: has(rdaemon_identity_flags::RDAEMON_IDENTITY_GROUPS).then_some(groups),
            keep_groups: has(rdaemon_identity_flags::RDAEMON_IDENTITY_KEEP_GROUPS),
            relinquish: has(rdaemon_identity_flags::RDAEMON_IDENTITY_RELINQUISH),
        };
        let changes = identity.uid.is_some() || identity.gid.is_some();
        let unknown = self.flags > 31 || self.reserved != 0;
        if unknown || (identity.relinquish && changes) || (identity.groups.is_none() && !groups.is_empty()) {
            return Err(Errno::INVAL);
        }
        Ok(identity)
    }

    /// A user's, all ids and groups known.
    pub(super) fn of_user(identity: &Identity<'_>) -> rdaemon_identity {
        use rdaemon_identity_flags::{RDAEMON_IDENTITY_GID, RDAEMON_IDENTITY_GROUPS, RDAEMON_IDENTITY_UID};
        let groups = identity.groups.unwrap_or_default();
        rdaemon_identity {
            flags: RDAEMON_IDENTITY_UID as u32 | RDAEMON_IDENTITY_GID as u32 | RDAEMON_IDENTITY_GROUPS as u32,
            uid: identity.uid.unwrap_or(u32::MAX),
            gid: identity.gid.unwrap_or(u32::MAX),
            reserved: 0,
            groups: groups.as_ptr(),
            groups_len: groups.len(),
        }
    }
}

/// Changes the supplementary groups, then the group id, then the user id, of every thread; reads the ids back, and,
/// when a user id is asked for, makes sure that uid 0 cannot be regained. NULL, 0, like no flags, changes nothing.
///
/// Returns 0; -EINVAL for unknown or contradictory flags or for an id of (uint32_t)-1; -EPERM without the right to it,
/// or when the ids read back are not those asked for; any error of setgroups(2), setresgid(2) or setresuid(2). After
/// any error a part of the privileges may be gone, and the process should end.
/// Async-signal-safe in a process with one thread. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_drop_privileges(identity: *const rdaemon_identity, identity_size: usize) -> c_int {
    answer(|| step::drop_privileges(&sized_in(identity, identity_size)?.identity()?).map(|()| 0))
}

/// Makes execve(2) grant no privilege from now on: set-user-id bits and file capabilities have no effect. It holds for
/// the calling thread and all that it starts, and cannot be undone.
///
/// Returns 0, or -ENOSYS on a system without it.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_no_new_privs() -> c_int {
    answer(|| step::no_new_privs().map(|()| 0))
}
