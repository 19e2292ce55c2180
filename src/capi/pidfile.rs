use super::intake::{self, Sized_, answer, path, sized, sized_in, sized_out};
use super::status::rdaemon_status;
use super::steps::step_mode;
use crate::error::{Step, refuse};
use crate::pidfile::{self, Flags, Options, Pidfile, State};
use core::ffi::{c_char, c_int};
use rustix::io::Errno;

/// Flags of struct rdaemon_pidfile_options.
#[repr(C)]
pub enum rdaemon_pidfile_flags {
    /// The file's owner becomes uid and gid, each of which may be (uint32_t)-1 for unchanged.
    RDAEMON_PIDFILE_OWNER = 1,
    /// The file's fd survives execve(2), and the locks with it: for a daemon that is a program yet to be executed.
    RDAEMON_PIDFILE_INHERIT = 2,
    /// The directory is not kept open after rdaemon_pidfile_write(), so that the file can only be emptied, not removed.
    /// For a daemon in a new root directory: an open directory outside is a way out of it.
    RDAEMON_PIDFILE_ONLY_EMPTY = 4,
}

const _: () = {
    assert!(rdaemon_pidfile_flags::RDAEMON_PIDFILE_OWNER as u32 == Flags::OWNER.bits());
    assert!(rdaemon_pidfile_flags::RDAEMON_PIDFILE_INHERIT as u32 == Flags::INHERIT.bits());
    assert!(rdaemon_pidfile_flags::RDAEMON_PIDFILE_ONLY_EMPTY as u32 == Flags::ONLY_EMPTY.bits());
};

/// How a pidfile is opened, in struct rdaemon_config too, where it counts only with a pidfile. All zero: mode 0644, the
/// owner who created it, closed by execve(2).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_pidfile_options {
    /// enum rdaemon_pidfile_flags.
    pub flags: u32,
    /// The permission bits, whatever the umask; others may not write. 0: 0644 for a new file, unchanged for an old one.
    /// Whoever may read the file can lock it, and so refuse a start, but can never pose as the daemon: 0600 where that
    /// matters.
    pub mode: u32,
    /// With RDAEMON_PIDFILE_OWNER: the user.
    pub uid: u32,
    /// With RDAEMON_PIDFILE_OWNER: the group.
    pub gid: u32,
}

sized! {
    rdaemon_pidfile_options = 16,
    rdaemon_pidfile = 288,
    rdaemon_pidfile_state = 16,
}

impl rdaemon_pidfile_options {
    /// The options as the floor below takes, and checks, them.
    pub(super) fn options(&self) -> Result<Options, Errno> {
        let flags = Flags::from_bits(self.flags).ok_or(Errno::INVAL)?;
        let mode = if self.mode == 0 { None } else { Some(step_mode(self.mode)?) };
        Ok(Options { flags, mode, uid: self.uid, gid: self.gid })
    }
}

/// An open, locked pidfile: plain data, to be copied freely, that needs no destructor. The lock is held until every
/// copy of fd is closed, in this process and in those forked from it; when the process ends at the latest. A zeroed
/// handle is a closed one.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_pidfile {
    /// The file, or -1.
    pub fd: i32,
    /// The directory it is in, for its removal after chdir(2) or chroot(2), or -1. After a chroot(2) it is a way out of
    /// the new root; RDAEMON_PIDFILE_ONLY_EMPTY does without.
    pub directory_fd: i32,
    /// The process that wrote its pid, or 0.
    pub writer: i32,
    /// The library's own.
    pub flags: u32,
    /// The file's device.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// The file's name in its directory.
    pub name: [c_char; 256],
}

impl From<rdaemon_pidfile> for Pidfile {
    fn from(c: rdaemon_pidfile) -> Pidfile {
        // The library makes none below 3: a zeroed handle is a closed one.
        let open = |fd| if fd > 2 { fd } else { -1 };
        Pidfile {
            fd: open(c.fd),
            directory: open(c.directory_fd),
            writer: c.writer,
            flags: c.flags,
            device: c.device,
            inode: c.inode,
            name: c.name,
        }
    }
}

impl From<Pidfile> for rdaemon_pidfile {
    fn from(pidfile: Pidfile) -> rdaemon_pidfile {
        rdaemon_pidfile {
            fd: pidfile.fd,
            directory_fd: pidfile.directory,
            writer: pidfile.writer,
            flags: pidfile.flags,
            device: pidfile.device,
            inode: pidfile.inode,
            name: pidfile.name,
        }
    }
}

/// Opens, locks and empties the pidfile at path, creating it if need be; then rdaemon_pidfile_write() writes into it.
/// The order that tells the truth is: open in the process that starts the daemon, write in the daemon. Where there is
/// no file it waits, for a second at most, for daemons that have removed a pidfile of the same directory and have not
/// ended yet.
///
/// It must be a regular file, with one name, and no symlink. Only under the lock is it emptied, so that nobody reads a
/// stale pid as that of the new daemon. options: NULL, 0 for the defaults. ret_pidfile gets the handle, with fds that
/// are >= 3 and, but for RDAEMON_PIDFILE_INHERIT, CLOEXEC. ret_status may be NULL. A process that holds the pidfile
/// must not open it again: see rdaemon_pidfile_write().
///
/// Returns 0; -EEXIST when another process holds the file, and ret_status tells its pid in pid, 0 for
/// RDAEMON_PIDFILE_HELD, after a wait for that to end: 100 ms, or up to a second while processes read it; -EISDIR for
/// a directory, -ELOOP for a symlink, -EMLINK for a file with more names, -EINVAL for another file that is not
/// regular, for NULL, unknown flags, or a mode that lets others write; -EAGAIN when others create and remove it all
/// the time; -ENAMETOOLONG, -E2BIG; or any error of open(2), flock(2), fchown(2), fchmod(2) or ftruncate(2).
/// After a failure no fd is open and no file is left that was not there; one that was there may be empty, and have the
/// mode and owner of the options.
/// Async-signal-safe, thread-safe; needs about 6 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_pidfile_open(
    path: *const c_char,
    options: *const rdaemon_pidfile_options,
    options_size: usize,
    ret_pidfile: *mut rdaemon_pidfile,
    ret_pidfile_size: usize,
    ret_status: *mut rdaemon_status,
    ret_status_size: usize,
) -> c_int {
    answer(|| {
        let checked = || {
            let options = sized_in(options, options_size)?.options()?;
            if ret_pidfile.is_null() || ret_pidfile_size < rdaemon_pidfile::FIRST {
                return Err(Errno::INVAL);
            }
            Ok((self::path(path)?, options))
        };
        let opened = refuse(checked(), Step::PidfileOpen).and_then(|(path, options)| pidfile::open(path, &options));
        if let Ok(pidfile) = opened {
            sized_out(ret_pidfile, ret_pidfile_size, &pidfile.into());
        }
        rdaemon_status::report(opened.map(|_| 0), ret_status, ret_status_size)
    })
}

/// Takes the process lock on the pidfile and writes this process's pid into it: for the daemon, after its last fork.
/// pidfile->writer is set.
///
/// The process lock is what lets rdaemon_pidfile_read() name the daemon. It ends with the process, or when the process
/// closes any fd of the file: do not open your own pidfile a second time.
///
/// Returns 0; -EINVAL for NULL or a short handle, -EBADF for a closed one; -EEXIST when another process has the process
/// lock; -EAGAIN or -EACCES when somebody has a read lock on the file, -ENOSPC or any other error of write(2), and then
/// the file is empty, and the handle to be closed.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_pidfile_write(pidfile: *mut rdaemon_pidfile, pidfile_size: usize) -> c_int {
    answer(|| {
        let mut handle = handle(pidfile, pidfile_size)?;
        let written = handle.write();
        sized_out(pidfile, pidfile_size, &handle.into());
        written.map(|()| 0)
    })
}

fn handle(pidfile: *const rdaemon_pidfile, size: usize) -> Result<Pidfile, Errno> {
    intake::handle(pidfile, size).map(Pidfile::from)
}

/// Who holds a pidfile: struct rdaemon_pidfile_state.
#[repr(C)]
pub enum rdaemon_pidfile_state_kind {
    /// Nobody, or there is no such file: no daemon runs.
    RDAEMON_PIDFILE_FREE = 0,
    /// A daemon runs.
    RDAEMON_PIDFILE_RUNNING = 1,
    /// A daemon is starting, or only workers of a dead one (processes that it has forked) remain, or the daemon is
    /// outside of this pid namespace. There is nobody to signal.
    RDAEMON_PIDFILE_HELD = 2,
}

/// What rdaemon_pidfile_read() found.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_pidfile_state {
    /// enum rdaemon_pidfile_state_kind: the truth, from the locks.
    pub state: u32,
    /// The running daemon, as the kernel names the holder of the process lock; 0 for none. On systems without process
    /// locks of their own the number in the file.
    pub pid: i32,
    /// The number in the file's first line, which may be stale; 0 when there is no file or it is empty; -1 when it is
    /// none, though a daemon runs.
    pub written: i32,
    /// Zero.
    pub reserved: u32,
}

/// Tells who holds the pidfile at path. It disturbs no daemon, and makes no start fail. ret_state may be NULL. Do not
/// signal the pid that it tells, which may be another process's by then: rdaemon_control_signal() is for that.
///
/// Returns enum rdaemon_pidfile_state_kind (>= 0); -EBADMSG when no daemon runs and the file's first line is not a
/// positive number; -EINVAL, -EISDIR, -ELOOP and -ENAMETOOLONG as rdaemon_pidfile_open() does; or any other error of
/// open(2).
/// Async-signal-safe, thread-safe. The daemon must not call it for its own pidfile: see rdaemon_pidfile_write().
/// Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_pidfile_read(
    path: *const c_char,
    ret_state: *mut rdaemon_pidfile_state,
    ret_state_size: usize,
) -> c_int {
    answer(|| {
        let reading = pidfile::read(self::path(path)?)?;
        let (kind, pid) = match reading.state {
            State::Free => (rdaemon_pidfile_state_kind::RDAEMON_PIDFILE_FREE, 0),
            State::Running(pid) => (rdaemon_pidfile_state_kind::RDAEMON_PIDFILE_RUNNING, pid),
            State::Held => (rdaemon_pidfile_state_kind::RDAEMON_PIDFILE_HELD, 0),
        };
        let state = rdaemon_pidfile_state { state: kind as u32, pid, written: reading.written, reserved: 0 };
        sized_out(ret_state, ret_state_size, &state);
        Ok(state.state as c_int)
    })
}

/// Empties the pidfile and, but for RDAEMON_PIDFILE_ONLY_EMPTY, removes it, by the directory as it was when the file
/// was opened, so that chdir(2) or chroot(2) make no difference. The handle stays open, and the lock held.
///
/// Lest two daemons be alive at once, a start that finds no pidfile waits until this process has ended, or has closed
/// the handle, for a second at most: from the removal on the process has a shared flock(2) on the directory, if it may
/// read that.
///
/// Returns 0; -EPERM in any process but the one that wrote it, and so for a handle that was never written; -ESTALE when
/// another file, or none, is at the path now (a replacement in the instant between that look and the removal would be
/// lost); -EINVAL for NULL or a short handle, -EBADF for a closed one; or any error of unlinkat(2), as -EACCES after a
/// loss of privileges: then the file is there, and empty.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_pidfile_remove(pidfile: *const rdaemon_pidfile, pidfile_size: usize) -> c_int {
    answer(|| handle(pidfile, pidfile_size)?.remove().map(|()| 0))
}

/// Closes the handle's two fds and sets them to -1. With the last copy of the file's fd, here or in a forked process,
/// the lock goes. A handle that is closed already is fine.
///
/// Returns 0, -EINVAL for NULL or a short handle, or any error of close(2); the fds are closed all the same.
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_pidfile_close(pidfile: *mut rdaemon_pidfile, pidfile_size: usize) -> c_int {
    answer(|| {
        let open = handle(pidfile, pidfile_size)?;
        let closed = rdaemon_pidfile { fd: -1, directory_fd: -1, ..rdaemon_pidfile::from(open) };
        sized_out(pidfile, pidfile_size, &closed);
        open.close().map(|()| 0)
    })
}
