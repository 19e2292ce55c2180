//! A pidfile as one who signals by it sees it: who runs, and whether the file is to be believed.

use super::{State, directory, locks, number, unless_socket};
use crate::deadline::{Deadline, pause};
use crate::file::FileId;
use crate::sys::fd::{self, Fd};
use core::ffi::CStr;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

/// An open pidfile, of others.
pub(crate) struct Found {
    file: Fd,
    owner: u32,
}

/// Who has it.
pub(crate) enum Presence {
    Nobody,
    /// A start in progress, or workers that outlive their daemon.
    Held,
    /// This daemon. The fd tells of its end, and on Linux is a pidfd of the very process that has the lock.
    Daemon {
        pid: i32,
        watch: Fd,
    },
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);

impl Found {
    /// Opens the pidfile; `None` where there is none. `EPERM` for one that anybody may write.
    pub(crate) fn open(path: &CStr) -> Result<Option<Found>, Errno> {
        let file = match fd::open(CWD, path, FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.map_err(unless_socket)?,
        };
        let stat = check(&file)?;
        if Mode::from_raw_mode(stat.st_mode as _).contains(Mode::WOTH) {
            return Err(Errno::PERM);
        }
        Ok(Some(Found { file, owner: stat.st_uid }))
    }

    /// Asks the locks. The number is asked for again when the pidfd is there: whoever has the lock then has had its
    /// number since before, so that the pidfd is of no other process.
    pub(crate) fn presence(&self) -> Result<Presence, Errno> {
        for _ in 0..1000 {
            let written = number::read(self.file.lend()).unwrap_or(0);
            let pid = match locks::state(self.file.lend(), written)? {
                State::Free => return Ok(Presence::Nobody),
                State::Held => return Ok(Presence::Held),
                State::Running(pid) => pid,
            };
            let watch = match fd::watch_exit(pid) {
                Err(Errno::SRCH) if cfg!(target_os = "linux") => continue,
                // The number is a dead daemon's, and its workers have the lock.
                Err(Errno::SRCH) => return Ok(Presence::Held),
                // Denied by a filter, not for want of rights.
                Err(Errno::PERM) => return Err(Errno::NOSYS),
                result => result?,
            };
            let trusted = self.is_trusted(pid);
            if cfg!(not(target_os = "linux")) || locks::process_lock_holder(self.file.lend())? == Some(pid) {
                return if trusted { Ok(Presence::Daemon { pid, watch }) } else { Err(Errno::PERM) };
            }
        }
        Err(Errno::AGAIN)
    }

    /// Whether its owner may tell whom to signal: root and the caller may, others no process but their own.
    fn is_trusted(&self, holder: i32) -> bool {
        let caller = rustix::process::geteuid().as_raw();
        self.owner == 0 || self.owner == caller || crate::sys::process::runs_as(holder, self.owner)
    }
}

/// Refuses what is no pidfile.
fn check(file: &Fd) -> Result<Stat, Errno> {
    let stat = super::regular(file)?;
    // A second name may lead to a file that is no pidfile, and which somebody locks.
    if stat.st_nlink > 1 { Err(Errno::MLINK) } else { Ok(stat) }
}

/// Removes a pidfile that nobody holds: `EEXIST` if somebody does, `EBADMSG` when there is no number in it, which no
/// pidfile of a dead daemon has.
pub(crate) fn clean(path: &CStr) -> Result<(), Errno> {
    let (directory, name) = directory::open(path)?;
    let patience = Deadline::milliseconds(100);
    loop {
        let file = match fd::open(directory.lend(), name, FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            result => result.map_err(unless_socket)?,
        };
        match rustix::fs::flock(file.lend(), FlockOperation::NonBlockingLockExclusive) {
            // A reader, or a start.
            Err(Errno::WOULDBLOCK) if !patience.has_passed() => pause(),
            Err(Errno::WOULDBLOCK) => return Err(Errno::EXIST),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(()) => {
                let stat = check(&file)?;
                number::read(file.lend())?;
                if FileId::of(&stat).is_at(directory.lend(), name)? {
                    return crate::sys::path::unlink(directory.lend(), name);
                }
            }
        }
    }
}
