//! A pidfile that tells the truth: locked for as long as the daemon lives.
//!
//! Two locks, because neither says enough alone. The flock(2) is taken before the daemon is forked, so that of many
//! starters one wins, and it is inherited: it is held as long as the daemon or any of its workers lives. The process
//! lock (`F_SETLK`) is taken by the daemon itself, is not inherited and dies with it, and the kernel names its holder
//! to whoever asks with `F_GETLK`. So the pid of a running daemon is the kernel's word, never that of the file, and a
//! flock without a process lock means "starting, or only workers remain".
//!
//! Where flock(2) and fcntl(2) locks are one and the same (the BSDs, macOS, NFS) there is no process lock, and the
//! number in a locked file is the best there is.
//!
//! A process that holds the process lock loses it when it closes *any* fd of that file: it must not open its own
//! pidfile a second time, not even to read it.

mod directory;
mod found;
mod locks;
mod number;

pub(crate) use found::{Found, Presence, clean};

use crate::deadline::{Deadline, pause};
use crate::error::{Error, Step};
use crate::file::FileId;
use crate::sys;
use crate::sys::cstr::at_start_of;
use crate::sys::fd::{self, Fd};
use core::ffi::{CStr, c_char};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

bitflags::bitflags! {
    /// What a pidfile is, beside its place.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// The file gets the owner of the options.
        const OWNER = 1;
        /// The fd survives execve(2), and the locks with it: for a daemon that is a program yet to be executed.
        const INHERIT = 2;
        /// The directory of the file is not kept open, so that the file can only be emptied, not removed. For a daemon
        /// in a new root directory, for which an open directory outside is a way out.
        const ONLY_EMPTY = 4;
    }
}

/// This process made the file; kept in the handle's flags, so that a failed start can take it away again.
const CREATED: u32 = 1 << 31;

/// "Leave the owner as it is", for chown(2).
const UNCHANGED: u32 = u32::MAX;

/// How a pidfile is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What applies.
    pub flags: Flags,
    /// Its permission bits, whatever the umask. `None`: 0644 for a new file, unchanged for an old one.
    pub mode: Option<Mode>,
    /// With [`Flags::OWNER`]: the user, or `u32::MAX` for unchanged.
    pub uid: u32,
    /// With [`Flags::OWNER`]: the group, or `u32::MAX` for unchanged.
    pub gid: u32,
}

impl Options {
    /// `EINVAL` for a file that others might write: nobody should signal the process that it names.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        let writable = self.mode.is_some_and(|mode| mode.intersects(Mode::WOTH | !Mode::from_bits_retain(0o777)));
        if writable || self.flags.contains(Flags::from_bits_retain(!Flags::all().bits())) {
            Err(Errno::INVAL)
        } else {
            Ok(())
        }
    }
}

const NAME_SIZE: usize = 256;

/// An open, locked pidfile: plain data that may be copied. The lock is held until every copy of its fd is closed.
#[derive(Clone, Copy, Debug)]
pub struct Pidfile {
    pub(crate) fd: RawFd,
    pub(crate) directory: RawFd,
    /// The process that wrote its pid, or 0.
    pub(crate) writer: i32,
    pub(crate) flags: u32,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// The file's name inside the directory, with its NUL.
    pub(crate) name: [c_char; NAME_SIZE],
}

/// Who holds a pidfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody: no daemon runs.
    Free,
    /// The daemon with this pid.
    Running(i32),
    /// A start in progress, or workers that outlive their daemon. Nobody to signal.
    Held,
}

/// What [`read`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The truth, from the locks.
    pub state: State,
    /// The number in the file's first line, which may be stale; 0 when there is no file or it is empty; -1 when it is
    /// none, though a daemon runs.
    pub written: i32,
}

/// Opens, locks and empties the pidfile, creating it if need be.
///
/// The file must be a regular one, not reached through a symlink as its last component. Only under the lock is it
/// emptied, so that a stale pid is never read as that of the new daemon. `EEXIST`, with [`crate::Detail::Holder`], when
/// another process holds it; when that process is not known, this waits for up to 100 ms for it to let go or to
/// become known.
pub fn open(path: &CStr, options: &Options) -> Result<Pidfile, Error> {
    options.check().map_err(|errno| Error::refused(Step::PidfileOpen, errno))?;
    let mut holder = 0;
    open_and_lock(path, options, &mut holder).map_err(|errno| match errno {
        Errno::EXIST => Error::held(Step::PidfileOpen, holder),
        _ => Error::new(Step::PidfileOpen, errno),
    })
}

/// What the file's number and its locks say. It disturbs no daemon and makes no start fail.
///
/// `EBADMSG` when the first line is not a positive number, and no daemon runs. Not for the daemon itself: see the
/// module's last words.
pub fn read(path: &CStr) -> Result<Reading, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match fd::open(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) if !path.is_empty() => return Ok(Reading { state: State::Free, written: 0 }),
        result => result.map_err(unless_socket)?,
    };
    regular(&file)?;
    let written = number::read(file.lend());
    match (locks::state(file.lend(), written.unwrap_or(0))?, written) {
        // The lock tells the truth, whatever the file says.
        (State::Running(pid), Err(Errno::BADMSG)) => Ok(Reading { state: State::Running(pid), written: -1 }),
        (state, written) => Ok(Reading { state, written: written? }),
    }
}

impl Pidfile {
    fn new(
        file: Fd,
        created: bool,
        directory: Fd,
        name: &CStr,
        stat: &Stat,
        options: &Options,
    ) -> Result<Pidfile, Errno> {
        let FileId { device, inode } = FileId::of(stat);
        let mut pidfile = Pidfile {
            fd: file.into_number(),
            directory: directory.into_number(),
            writer: 0,
            flags: options.flags.bits() | if created { CREATED } else { 0 },
            device,
            inode,
            name: [0; NAME_SIZE],
        };
        for (place, &byte) in pidfile.name.iter_mut().zip(name.to_bytes()) {
            *place = byte as c_char;
        }
        pidfile.prepare(options, created).inspect_err(|_| pidfile.abandon())?;
        Ok(pidfile)
    }

    /// Takes the process lock and writes this process's pid. For the daemon, after its last fork.
    ///
    /// A write that fails leaves the file empty. `EEXIST` when another process has the process lock.
    pub fn write(&mut self) -> Result<(), Errno> {
        let file = fd::borrow(self.fd)?;
        locks::lock_for_process(file)?;
        let pid = rustix::process::getpid().as_raw_pid();
        number::write(file, pid)?;
        self.writer = pid;
        if self.flags & Flags::ONLY_EMPTY.bits() != 0 {
            let _ = fd::close(self.directory);
            self.directory = -1;
        }
        Ok(())
    }

    /// The other process that has the process lock, if one has.
    #[must_use]
    pub fn holder(&self) -> Option<i32> {
        fd::borrow(self.fd).and_then(locks::process_lock_holder).ok().flatten()
    }

    /// Whether another process has the process lock, even one that has no number here.
    pub(crate) fn is_anothers(&self) -> bool {
        self.file().and_then(locks::is_taken) == Ok(true)
    }

    /// Empties the file, then removes it, by the directory as it was when the file was opened: a later chdir or chroot
    /// makes no difference. Async-signal-safe.
    ///
    /// `EPERM` in any process but the one that wrote it. `ESTALE` when another file, or none, is there now; Linux
    /// cannot remove by fd, so between that look and the removal a replacement would be lost. Removal may be refused
    /// after a loss of privileges (`EACCES`); then the file is left empty. A start that finds no pidfile waits, for up
    /// to a second, until this process has ended or has closed the handle, so that no two daemons are alive at once.
    pub fn remove(&self) -> Result<(), Errno> {
        if self.writer != rustix::process::getpid().as_raw_pid() || self.is_anothers() {
            return Err(Errno::PERM);
        }
        let only_empty = self.flags & Flags::ONLY_EMPTY.bits() != 0;
        let file = self.file()?;
        if !only_empty {
            self.place()?;
        }
        rustix::fs::ftruncate(file, 0)?;
        if only_empty {
            return Ok(());
        }
        directory::hold_off_starts(self.directory);
        self.unlink()
    }

    /// The file: `ESTALE` when its number is another one's by now.
    fn file(&self) -> Result<BorrowedFd<'_>, Errno> {
        let file = fd::borrow(self.fd)?;
        if FileId::of(&rustix::fs::fstat(file)?) == self.id() { Ok(file) } else { Err(Errno::STALE) }
    }

    fn id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode }
    }

    /// Closes the file and its directory, where they are open. The lock goes with the last copy of the file's fd.
    pub fn close(self) -> Result<(), Errno> {
        let close = |fd| if fd < 0 { Ok(()) } else { fd::close(fd) };
        let result = close(self.fd);
        close(self.directory).and(result)
    }

    /// Leaves no trace of a start that failed: called by the process that opened the file.
    pub(crate) fn abandon(&self) {
        let _ = self.file().and_then(|file| rustix::fs::ftruncate(file, 0));
        if self.flags & CREATED != 0 {
            let _ = self.unlink();
        }
        let _ = self.close();
    }

    fn prepare(&self, options: &Options, created: bool) -> Result<(), Errno> {
        let file = fd::borrow(self.fd)?;
        rustix::fs::ftruncate(file, 0)?;
        if options.flags.contains(Flags::OWNER) {
            rustix::fs::fchown(file, owner(options.uid), group(options.gid))?;
        }
        if let Some(mode) = options.mode.or(created.then_some(Mode::from_raw_mode(0o644))) {
            rustix::fs::fchmod(file, mode)?;
        }
        if options.flags.contains(Flags::INHERIT) {
            rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    }

    fn unlink(&self) -> Result<(), Errno> {
        let (directory, name) = self.place()?;
        sys::path::unlink(directory, name)
    }

    /// Where it is: `ESTALE` when another file, or none, is there.
    fn place(&self) -> Result<(BorrowedFd<'_>, &CStr), Errno> {
        let directory = fd::borrow(self.directory)?;
        let name = at_start_of(&self.name).ok_or(Errno::INVAL)?;
        if self.id().is_at(directory, name)? { Ok((directory, name)) } else { Err(Errno::STALE) }
    }
}

fn owner(id: u32) -> Option<rustix::fs::Uid> {
    (id != UNCHANGED).then(|| rustix::fs::Uid::from_raw(id))
}

fn group(id: u32) -> Option<rustix::fs::Gid> {
    (id != UNCHANGED).then(|| rustix::fs::Gid::from_raw(id))
}

/// `EEXIST` when the lock is taken, and by whom, if that is known.
fn open_and_lock(path: &CStr, options: &Options, holder: &mut i32) -> Result<Pidfile, Errno> {
    let (directory, name) = directory::open(path)?;
    let (mut patience, mut limit) = (None, None);
    let mut created = false;
    loop {
        let (file, is_new) = open_or_create(directory.lend(), name)?;
        created |= is_new;
        match rustix::fs::flock(file.lend(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                *holder = locks::process_lock_holder(file.lend())?.unwrap_or(0);
                #[cfg(not(target_os = "linux"))]
                if let Ok(written) = number::read(file.lend()) {
                    *holder = written;
                }
                if *holder != 0 {
                    return Err(Errno::EXIST);
                }
                // Readers share the lock for an instant each; with nothing but readers there is no need to give up.
                if rustix::fs::flock(file.lend(), FlockOperation::NonBlockingLockShared).is_ok() {
                    patience = None;
                }
                drop(file);
                pause();
            }
            Err(Errno::INTR) => {}
            // Locked, or not to be locked by anybody: a new file is this process's to remove.
            locked => match locked.and_then(|()| is_pidfile(&file, directory.lend(), name)) {
                Ok(Some(stat)) => return Pidfile::new(file, created, directory, name, &stat, options),
                Ok(None) => {}
                Err(errno) => {
                    if is_new {
                        let _ = sys::path::unlink(directory.lend(), name);
                    }
                    return Err(errno);
                }
            },
        }
        // From the first failure on: before that there may have been a wait for the end of a daemon.
        let limit = *limit.get_or_insert_with(|| Deadline::milliseconds(1000));
        if patience.get_or_insert_with(|| Deadline::milliseconds(100).earlier(limit)).has_passed() {
            return Err(Errno::EXIST);
        }
    }
}

/// A file that was replaced between open and lock is not the pidfile.
fn is_pidfile(file: &Fd, directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<Stat>, Errno> {
    let stat = regular(file)?;
    // A second name may be a trap: the file that it leads to would be emptied.
    if stat.st_nlink > 1 {
        return Err(Errno::MLINK);
    }
    Ok(if FileId::of(&stat).is_at(directory, name)? { Some(stat) } else { None })
}

fn open_or_create(directory: BorrowedFd<'_>, name: &CStr) -> Result<(Fd, bool), Errno> {
    // O_NONBLOCK: a FIFO in its place must not make the start hang before it is refused.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    for _ in 0..8 {
        match fd::open(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            result => return result.map(|file| (file, false)).map_err(unless_socket),
        }
        let _nobody_is_ending = directory::wait_for_the_ending(directory);
        match fd::open(directory, name, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => {}
            result => return result.map(|file| (file, true)),
        }
    }
    Err(Errno::AGAIN)
}

/// What open(2) says of a socket is what is said of any other file that is not regular; FreeBSD has its own words, also
/// for a symlink.
fn unless_socket(errno: Errno) -> Errno {
    match errno {
        Errno::NXIO => Errno::INVAL,
        Errno::OPNOTSUPP if cfg!(not(target_os = "linux")) => Errno::INVAL,
        Errno::MLINK if cfg!(target_os = "freebsd") => Errno::LOOP,
        _ => errno,
    }
}

fn regular(file: &Fd) -> Result<Stat, Errno> {
    let stat = rustix::fs::fstat(file.lend())?;
    match FileType::from_raw_mode(stat.st_mode as _) {
        FileType::RegularFile => Ok(stat),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}
