use super::child::rdaemon_child;
use super::intake::{
    Converted, Sized_, answer, array, optional_path, optional_strings, out, sized, sized_in, sized_out,
};
use super::status::rdaemon_status;
use super::steps::{Limits, SignalMap, rdaemon_identity, rdaemon_limit, rdaemon_signal_action, step_mode};
use super::stream::rdaemon_stream;
use crate::error::{Error, Step, refuse};
use crate::spawn::{self, Config, FdMapping, Flags, Group, Hook, Prepared, WorkingDirectory};
use crate::stream::Stream;
use crate::sys::fd::{self, Fd};
use core::ffi::{c_char, c_int, c_void};
use rustix::io::Errno;

/// Flags of struct rdaemon_spawn_config. They say what is kept of the calling process's, which fields count (without
/// the flag such a field must be zero), and what is added.
#[repr(C)]
pub enum rdaemon_spawn_flags {
    /// ret_child->pidfd becomes a pidfd of the child. On a system without pidfds it is a kqueue, which polls the same;
    /// -1 if neither can be had.
    RDAEMON_SPAWN_PIDFD = 1,
    /// The fds that are not CLOEXEC stay open in the child, those that the hook opens too.
    RDAEMON_SPAWN_KEEP_FDS = 2,
    /// working_directory_fd counts. Not with a working_directory; nor with a chroot_directory, of which it would be a
    /// way out.
    RDAEMON_SPAWN_CWD_FD = 4,
    /// umask counts.
    RDAEMON_SPAWN_UMASK = 8,
    /// The child leads a new session.
    RDAEMON_SPAWN_SETSID = 16,
    /// process_group counts. Not with RDAEMON_SPAWN_SETSID.
    RDAEMON_SPAWN_PROCESS_GROUP = 32,
    /// terminal_fd becomes the child's controlling terminal. Needs RDAEMON_SPAWN_SETSID.
    RDAEMON_SPAWN_CONTROLLING_TERMINAL = 64,
    /// Every signal gets its default disposition, the ignored ones too, before signal_map; and no signal is blocked
    /// unless blocked_signals says so.
    RDAEMON_SPAWN_RESET_SIGNALS = 128,
    /// blocked_signals counts.
    RDAEMON_SPAWN_SIGNAL_MASK = 256,
    /// As rdaemon_no_new_privs().
    RDAEMON_SPAWN_NO_NEW_PRIVS = 512,
    /// The child is made with memory of its own, as it is anyway when ids change or a hook is given.
    RDAEMON_SPAWN_FORCE_FORK = 1024,
    /// A child that fails is left for the caller to reap, with exit status 127: ret_status->pid is its pid. SIGCHLD
    /// tells of its end.
    RDAEMON_SPAWN_NO_REAP = 2048,
    /// The program is detached: in a new session that it does not lead, and the child of init, or of the nearest
    /// subreaper, when the call returns. ret_child has its pid and, where the system has such, its pidfd; its exit
    /// status is not to be had. Streams left at their default are /dev/null; directories, umask and signals stay the
    /// caller's unless a field says otherwise. Not with RDAEMON_SPAWN_SETSID, _PROCESS_GROUP or _NO_REAP, nor with a
    /// death_signal.
    RDAEMON_SPAWN_DETACHED = 4096,
}

const _: () = {
    assert!(rdaemon_spawn_flags::RDAEMON_SPAWN_PIDFD as u32 == Flags::PIDFD.bits());
    assert!(rdaemon_spawn_flags::RDAEMON_SPAWN_KEEP_FDS as u32 == Flags::KEEP_FDS.bits());
    assert!(rdaemon_spawn_flags::RDAEMON_SPAWN_RESET_SIGNALS as u32 == Flags::RESET_SIGNALS.bits());
    assert!(rdaemon_spawn_flags::RDAEMON_SPAWN_NO_NEW_PRIVS as u32 == Flags::NO_NEW_PRIVS.bits());
    assert!(rdaemon_spawn_flags::RDAEMON_SPAWN_FORCE_FORK as u32 == Flags::FORCE_FORK.bits());
    assert!(rdaemon_spawn_flags::RDAEMON_SPAWN_NO_REAP as u32 == Flags::NO_REAP.bits());
    assert!(rdaemon_spawn_flags::RDAEMON_SPAWN_DETACHED as u32 == Flags::DETACHED.bits());
};

/// Flags of struct rdaemon_fd_mapping.
#[repr(C)]
pub enum rdaemon_fd_mapping_flags {
    /// For RDAEMON_STREAM_PIPE and RDAEMON_STREAM_FILE: the child reads it. Without the flag it writes, except for fd
    /// 0.
    RDAEMON_FD_MAPPING_INPUT = 1,
}

/// One fd of a spawned program, besides its streams or in place of a default one.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_fd_mapping {
    /// Its number in the child, below the calling process's soft RLIMIT_NOFILE (else -EBADF at RDAEMON_STEP_MAP_FDS);
    /// no two have the same.
    pub child_fd: i32,
    /// enum rdaemon_fd_mapping_flags.
    pub flags: u32,
    /// What it is. RDAEMON_STREAM_INHERIT: the calling process's fd of the same number. Not RDAEMON_STREAM_DEFAULT.
    pub source: rdaemon_stream,
    /// For RDAEMON_STREAM_PIPE: gets the caller's end of the pipe, which is yours to close. Else NULL.
    pub ret_fd: *mut i32,
}

/// What is started, and how. Only argv is required. With zero everywhere else the child has the calling process's
/// streams, environment, directories, umask, limits, ids, signal mask and ignored signals, and none of its other fds.
/// Signals that the calling process handles have their default in the child. Strings and arrays are borrowed for the
/// call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_spawn_config {
    /// enum rdaemon_spawn_flags.
    pub flags: u32,
    /// With RDAEMON_SPAWN_PROCESS_GROUP: the process group that the child joins; 0: a new one.
    pub process_group: i32,
    /// The program's arguments, with a NULL behind the last; at least one, which is by custom the program's name. No
    /// shell ever sees them.
    pub argv: *const *const c_char,
    /// Paths of the program, at least one, with a NULL behind the last, which the child tries in this order; relative
    /// ones in its working directory. NULL: argv[0] alone. PATH is never looked at: see rdaemon_find_command().
    pub paths: *const *const c_char,
    /// The environment, strings like "NAME=value" with a NULL behind the last; may be empty. NULL: the calling
    /// process's.
    pub envp: *const *const c_char,
    /// What fds 0, 1 and 2 become, in this order.
    pub streams: [rdaemon_stream; 3],
    /// Further fds of the child, put into place all at once: a source may be another one's target.
    pub fd_map: *const rdaemon_fd_mapping,
    /// Number of entries, at most 64.
    pub fd_map_len: usize,
    /// Fds that the child has under the same numbers, in any order; none of them the child_fd of an entry of fd_map,
    /// nor a stream that becomes something else.
    pub pass_fds: *const i32,
    /// Number of entries.
    pub pass_fds_len: usize,
    /// The working directory, inside chroot_directory if there is one. NULL: as it is; in a new root directory "/".
    pub working_directory: *const c_char,
    /// The root directory, in which paths are looked up too. NULL: as it is. An fd of a directory outside that is
    /// passed on is a way out.
    pub chroot_directory: *const c_char,
    /// With RDAEMON_SPAWN_CWD_FD: the working directory.
    pub working_directory_fd: i32,
    /// With RDAEMON_SPAWN_UMASK: the file creation mask, up to 0777.
    pub umask: u32,
    /// With RDAEMON_SPAWN_CONTROLLING_TERMINAL: the terminal, as the child numbers it: 0 is its standard input.
    pub terminal_fd: i32,
    /// The signal that the child gets when the thread that made it ends, even if its process goes on; Linux only. 0:
    /// none. The kernel forgets it when the program is set-user-id, or has other effective ids than real ones.
    pub death_signal: i32,
    /// Resource limits, at most 32.
    pub limits: *const rdaemon_limit,
    /// Number of entries.
    pub limits_len: usize,
    /// What signals do: RDAEMON_SIGNAL_DEFAULT or RDAEMON_SIGNAL_IGNORE; at most 128 lines.
    pub signal_map: *const rdaemon_signal_action,
    /// Number of entries.
    pub signal_map_len: usize,
    /// With RDAEMON_SPAWN_SIGNAL_MASK: the signals that are blocked, and no other; may be none.
    pub blocked_signals: *const i32,
    /// Number of entries.
    pub blocked_signals_len: usize,
    /// Whose rights the child has.
    pub identity: rdaemon_identity,
    /// What the child does last, with the rights and in the directories of the program, all fds of the caller still
    /// open, and all signals blocked. NULL: nothing. It runs in a copy of this process (with rdaemon_exec() in this
    /// one) that has the calling thread only, so it may use no lock that another thread might hold, as malloc(3)'s. Any
    /// result but 0 stops the child: 1 to 4095, of either sign, is the errno that the call fails with, any other number
    /// is -ECANCELED. Of the fds it may close those that it opened and those that the program was to have: one of the
    /// others tells the caller of a failure.
    pub hook: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// For the hook.
    pub hook_context: *mut c_void,
}

sized! { rdaemon_spawn_config = size_of::<rdaemon_spawn_config>(), }

impl rdaemon_spawn_config {
    fn has(&self, flag: rdaemon_spawn_flags) -> bool {
        self.flags & flag as u32 != 0
    }

    /// A field that counts with its flag, and else must be zero.
    fn with<T: PartialEq + Default>(&self, flag: rdaemon_spawn_flags, value: T) -> Result<Option<T>, Errno> {
        match self.has(flag) {
            true => Ok(Some(value)),
            false if value == T::default() => Ok(None),
            false => Err(Errno::INVAL),
        }
    }

    fn group(&self) -> Result<Group, Errno> {
        use rdaemon_spawn_flags::{
            RDAEMON_SPAWN_CONTROLLING_TERMINAL, RDAEMON_SPAWN_PROCESS_GROUP, RDAEMON_SPAWN_SETSID,
        };
        let group = self.with(RDAEMON_SPAWN_PROCESS_GROUP, self.process_group)?;
        let terminal = self.with(RDAEMON_SPAWN_CONTROLLING_TERMINAL, self.terminal_fd)?;
        match (self.has(RDAEMON_SPAWN_SETSID), group, terminal) {
            (true, None, terminal) => Ok(Group::Session { terminal }),
            (false, Some(group), None) => Ok(Group::Process(group)),
            (false, None, None) => Ok(Group::Inherit),
            _ => Err(Errno::INVAL),
        }
    }

    fn working_directory<'a>(&self) -> Result<WorkingDirectory<'a>, Errno> {
        let path = optional_path(self.working_directory)?;
        match (path, self.with(rdaemon_spawn_flags::RDAEMON_SPAWN_CWD_FD, self.working_directory_fd)?) {
            (None, None) => Ok(WorkingDirectory::Inherit),
            (Some(path), None) => Ok(WorkingDirectory::Path(path)),
            (None, Some(fd)) => fd::borrow_open(fd).map(WorkingDirectory::Fd),
            (Some(_), Some(_)) => Err(Errno::INVAL),
        }
    }

    fn hook(&self) -> Result<Option<Hook>, Errno> {
        match self.hook {
            // SAFETY: the C caller promises what the comment of the field asks.
            Some(function) => Ok(Some(unsafe { Hook::new(function, self.hook_context) })),
            None if self.hook_context.is_null() => Ok(None),
            None => Err(Errno::INVAL),
        }
    }

    /// Flags as the floor below has them: it has no need of those that make a field count.
    fn flags(&self) -> Flags {
        use rdaemon_spawn_flags::{
            RDAEMON_SPAWN_CONTROLLING_TERMINAL, RDAEMON_SPAWN_CWD_FD, RDAEMON_SPAWN_PROCESS_GROUP,
            RDAEMON_SPAWN_SETSID, RDAEMON_SPAWN_SIGNAL_MASK, RDAEMON_SPAWN_UMASK,
        };
        let of_fields = [
            RDAEMON_SPAWN_CONTROLLING_TERMINAL,
            RDAEMON_SPAWN_CWD_FD,
            RDAEMON_SPAWN_PROCESS_GROUP,
            RDAEMON_SPAWN_SETSID,
            RDAEMON_SPAWN_SIGNAL_MASK,
            RDAEMON_SPAWN_UMASK,
        ];
        Flags::from_bits_retain(of_fields.into_iter().fold(self.flags, |flags, flag| flags & !(flag as u32)))
    }
}

type FdMap<'a> = Converted<FdMapping<'a>, { Config::MOST_MAPPINGS }>;

impl rdaemon_fd_mapping {
    fn mapping<'a>(&self) -> Result<FdMapping<'a>, Error> {
        let source = self.source.stream(Step::MapFds)?;
        let has_place = !self.ret_fd.is_null();
        if has_place != matches!(source, Stream::Pipe) || !self.ret_fd.is_aligned() || self.flags > 1 {
            return Err(Error::refused(Step::MapFds, Errno::INVAL));
        }
        Ok(FdMapping { child_fd: self.child_fd, source, input: self.flags == 1, end: None })
    }
}

fn fd_map<'m, 'a>(map: &'m mut FdMap<'a>, c: &rdaemon_spawn_config) -> Result<&'m [FdMapping<'a>], Error> {
    // The converter knows errnos; the refusal that says which field it was is worth more.
    let mut refusal = None;
    let entries = refuse(array(c.fd_map, c.fd_map_len), Step::MapFds)?;
    let converted =
        map.fill(entries, |entry: &rdaemon_fd_mapping| entry.mapping().map_err(|error| refusal.insert(error).errno));
    converted.map_err(|errno| refusal.unwrap_or(Error::refused(Step::MapFds, errno)))
}

#[inline(never)]
pub(super) fn with_config<T>(
    config: *const rdaemon_spawn_config,
    size: usize,
    act: impl FnOnce(&Config<'_>, &rdaemon_spawn_config) -> Result<T, Error>,
) -> Result<T, Error> {
    let c = refuse(sized_in(config, size), Step::Config)?;
    let arguments = refuse(optional_strings(c.argv).and_then(|list| list.ok_or(Errno::INVAL)), Step::Exec)?;
    let (mut mappings, mut limits, mut signal_map) = (FdMap::EMPTY, Limits::EMPTY, SignalMap::EMPTY);
    let fd_map = fd_map(&mut mappings, &c)?;
    let limits = refuse(limits.take(c.limits, c.limits_len), Step::SetLimits)?;
    let signal_map = refuse(signal_map.take(c.signal_map, c.signal_map_len), Step::SetSignals)?;
    let pass_fds = refuse(array(c.pass_fds, c.pass_fds_len).and_then(fd::borrow_all), Step::MapFds)?;
    let blocked = refuse(array(c.blocked_signals, c.blocked_signals_len), Step::SignalMask)?;
    let has_mask = c.has(rdaemon_spawn_flags::RDAEMON_SPAWN_SIGNAL_MASK);
    let umask = refuse(c.with(rdaemon_spawn_flags::RDAEMON_SPAWN_UMASK, c.umask), Step::Umask)?;
    refuse(if has_mask || blocked.is_empty() { Ok(()) } else { Err(Errno::INVAL) }, Step::SignalMask)?;
    let mut converted = Config {
        flags: c.flags(),
        arguments,
        paths: refuse(optional_strings(c.paths), Step::Exec)?,
        environment: refuse(optional_strings(c.envp), Step::Exec)?,
        streams: [Stream::Default; 3],
        fd_map,
        pass_fds,
        chroot_directory: refuse(optional_path(c.chroot_directory), Step::Chroot)?,
        working_directory: refuse(c.working_directory(), Step::Chdir)?,
        umask: refuse(umask.map(step_mode).transpose(), Step::Umask)?,
        limits,
        group: refuse(c.group(), Step::Setsid)?,
        signal_map,
        blocked_signals: has_mask.then_some(blocked),
        identity: refuse(c.identity.identity(), Step::DropPrivileges)?,
        death_signal: (c.death_signal != 0).then_some(c.death_signal),
        hook: refuse(c.hook(), Step::Hook)?,
    };
    for (place, stream) in converted.streams.iter_mut().zip(&c.streams) {
        *place = stream.stream(Step::MapFds)?;
    }
    act(&converted, &c)
}

/// Starts a program, and returns when the child has executed it.
///
/// The calling process refuses a bad configuration, and opens /dev/null, the files and the pipes. The child then marks
/// every fd from 3 on close-on-exec (again after a hook, and not with RDAEMON_SPAWN_KEEP_FDS); puts streams, fd map and
/// passed fds into place; starts its session, or joins its process group, and acquires its terminal; changes its root
/// and working directory; sets umask, limits (RLIMIT_NOFILE last) and signal dispositions; changes groups, gid and uid;
/// sets no_new_privs and the death signal; runs the hook; restores the signal mask; and executes the first of paths
/// that can be.
///
/// On Linux (x86-64 and AArch64) the child does this on the memory of the calling thread, which sleeps: nothing is
/// copied, no handler of the caller runs in it, and a child that fails raises no SIGCHLD and cannot be taken by a
/// waitpid(-1) elsewhere. Where ids change, or with RDAEMON_SPAWN_FORCE_FORK, the child works on a copy of the memory;
/// all else is the same. With a hook, and where the system or an emulator cannot do this, fork(2) makes the child: one
/// that fails then raises SIGCHLD, a waitpid(-1) elsewhere can take it, and in a process with more threads a handler
/// may run in it before it blocks the signals. A started program is a child like any other, whose end raises SIGCHLD.
///
/// ret_child gets the handle of the child. It may be NULL, 0 unless a stream is a pipe, or RDAEMON_SPAWN_PIDFD or
/// _DETACHED is set; the program is yours to wait for either way. ret_status may be NULL.
///
/// Returns the child's pid (> 0), or a negative errno, and ret_status tells the step:
/// - step RDAEMON_STEP_CONFIG, a refusal: -EINVAL; -E2BIG; -EBADF for an fd that is not open; -ENOENT and -ENAMETOOLONG
///   for an empty and for an over-long directory or file;
/// - RDAEMON_STEP_OPEN_STREAMS, RDAEMON_STEP_CHANNEL, RDAEMON_STEP_FORK: this process could not open or make something;
/// - any other step: the child could not do it, for any error of its system calls. RDAEMON_STEP_EXEC has the first
///   error of execve(2) that is neither -ENOENT nor -ENOTDIR, or else the last.
///
/// Each circle of fds that trade places in the fd map needs an fd to spare, and a child with memory of its own two; so
/// does a working_directory_fd, in this process, whose number is given to another file: -EMFILE.
///
/// After a failure no process (but for RDAEMON_SPAWN_NO_REAP), fd or created file is left; a file that O_TRUNC has
/// emptied stays empty. -ESRCH at RDAEMON_STEP_FORK: somebody killed the process that was to make a detached program.
/// After unshare(2) with CLONE_NEWPID RDAEMON_SPAWN_DETACHED is of no use: the new namespace ends with that process.
///
/// A child that is killed before it has executed the program counts as started: rdaemon_child_wait() tells the signal,
/// and so does waitpid(2) with __WALL. One that is stopped before that, as by SIGSTOP, keeps this call waiting until it
/// goes on; unless fork(2) made the child, no signal but SIGKILL reaches the calling thread meanwhile. The death signal
/// comes when the calling thread ends: start programs that are to have one from a thread that lives as long as they
/// should.
///
/// Thread-safe, but with a NULL envp no other thread may change the environment. Async-signal-safe, unless fork(2)
/// makes the child, which runs the handlers of pthread_atfork(3). Needs about 16 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_spawn(
    config: *const rdaemon_spawn_config,
    config_size: usize,
    ret_child: *mut rdaemon_child,
    ret_child_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let has_place = !ret_child.is_null() && ret_child_size >= rdaemon_child::FIRST;
        let pid = with_config(config, config_size, |config, c| {
            let pipes = config.streams.iter().any(|stream| matches!(stream, Stream::Pipe));
            let needs_place = pipes || config.flags.intersects(Flags::PIDFD | Flags::DETACHED);
            let is_lost = (needs_place && !has_place) || (ret_child.is_null() != (ret_child_size == 0));
            refuse(if is_lost { Err(Errno::INVAL) } else { Ok(()) }, Step::Config)?;
            let mut prepared = Prepared::EMPTY;
            let (process, pidfd) = spawn::start(config, &mut prepared)?;
            let entries = array(c.fd_map, c.fd_map_len).unwrap_or_default();
            for (index, entry) in entries.iter().enumerate() {
                if let Some(end) = prepared.take_map_end(index) {
                    out(entry.ret_fd, end.into_number());
                }
            }
            pidfd.map(Fd::into_number);
            sized_out(ret_child, ret_child_size, &rdaemon_child::new(process, prepared.take_pipes()));
            Ok(process.pid)
        });
        rdaemon_status::report(pid, ret_status, ret_status_size)
    })
}

/// Makes this process the program: the child half of rdaemon_spawn(), for a process that the caller has forked himself.
///
/// The files of streams are opened in this process. Pipes, RDAEMON_SPAWN_PIDFD, _FORCE_FORK, _NO_REAP and _DETACHED are
/// refused. ret_status may be NULL.
///
/// Returns only on failure, with a negative errno as rdaemon_spawn() does. The process should end then, with _exit(2):
/// the steps before the failed one stay done, ids are changed in the calling thread alone, and a file that was created
/// may be left.
/// Async-signal-safe. Not thread-safe: it changes the process. Needs about 14 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_exec(
    config: *const rdaemon_spawn_config,
    config_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let result = with_config(config, config_size, |config, _| Err(spawn::exec_promised(config)));
        rdaemon_status::report(result, ret_status, ret_status_size)
    })
}
