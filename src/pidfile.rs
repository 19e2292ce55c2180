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

use crate::deadline::{Deadline, pause};
use crate::error::{Error, Step};
use crate::file::FileId;
use crate::sys::cstr::{at_start_of, split_path};
use crate::sys::fd::{self, Fd};
use core::ffi::{CStr, c_char};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};
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
    let written = number(file.lend());
    match (state(file.lend(), written.unwrap_or(0))?, written) {
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
        lock_for_process(file)?;
        let pid = rustix::process::getpid().as_raw_pid();
        write_number(file, pid)?;
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
        fd::borrow(self.fd).and_then(process_lock_holder).ok().flatten()
    }

    /// Empties the file, then removes it, by the directory as it was when the file was opened: a later chdir or chroot
    /// makes no difference. Async-signal-safe.
    ///
    /// `EPERM` in any process but the one that wrote it. `ESTALE` when another file, or none, is there now; Linux
    /// cannot remove by fd, so between that look and the removal a replacement would be lost. Removal may be refused
    /// after a loss of privileges (`EACCES`); then the file is left empty.
    pub fn remove(&self) -> Result<(), Errno> {
        if self.writer != rustix::process::getpid().as_raw_pid() {
            return Err(Errno::PERM);
        }
        rustix::fs::ftruncate(fd::borrow(self.fd)?, 0)?;
        if self.flags & Flags::ONLY_EMPTY.bits() != 0 { Ok(()) } else { self.unlink() }
    }

    /// Closes the file and its directory, where they are open. The lock goes with the last copy of the file's fd.
    pub fn close(self) -> Result<(), Errno> {
        let close = |fd| if fd < 0 { Ok(()) } else { fd::close(fd) };
        let result = close(self.fd);
        close(self.directory).and(result)
    }

    /// Leaves no trace of a start that failed: called by the process that opened the file.
    pub(crate) fn abandon(&self) {
        let _ = fd::borrow(self.fd).and_then(|file| rustix::fs::ftruncate(file, 0));
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
        let directory = fd::borrow(self.directory)?;
        let name = at_start_of(&self.name).ok_or(Errno::INVAL)?;
        if !(FileId { device: self.device, inode: self.inode }).is_at(directory, name)? {
            return Err(Errno::STALE);
        }
        rustix::fs::unlinkat(directory, name, AtFlags::empty())
    }
}

fn owner(id: u32) -> Option<rustix::fs::Uid> {
    (id != UNCHANGED).then(|| rustix::fs::Uid::from_raw(id))
}

fn group(id: u32) -> Option<rustix::fs::Gid> {
    (id != UNCHANGED).then(|| rustix::fs::Gid::from_raw(id))
}

/// The directory of a path, and the name within it.
fn open_directory(path: &CStr) -> Result<(Fd, &CStr), Errno> {
    const PATH_SIZE: usize = 4096;
    let (directory, name) = split_path(path);
    if name.to_bytes_with_nul().len() > NAME_SIZE {
        return Err(Errno::NAMETOOLONG);
    }
    if name.is_empty() {
        return Err(if directory.is_empty() { Errno::NOENT } else { Errno::ISDIR });
    }
    let mut buffer = [0 as c_char; PATH_SIZE];
    let directory = if directory.is_empty() { &b"."[..] } else { directory };
    for (place, &byte) in buffer.iter_mut().zip(directory) {
        *place = byte as c_char;
    }
    let directory = at_start_of(&buffer).ok_or(Errno::NAMETOOLONG)?;
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    Ok((fd::open(CWD, directory, flags, Mode::empty())?, name))
}

/// `EEXIST` when the lock is taken, and by whom, if that is known.
fn open_and_lock(path: &CStr, options: &Options, holder: &mut i32) -> Result<Pidfile, Errno> {
    let (directory, name) = open_directory(path)?;
    let (mut patience, limit) = (Deadline::milliseconds(100), Deadline::milliseconds(1000));
    let mut created = false;
    loop {
        let (file, is_new) = open_or_create(directory.lend(), name)?;
        created |= is_new;
        match rustix::fs::flock(file.lend(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                *holder = process_lock_holder(file.lend())?.unwrap_or(0);
                #[cfg(not(target_os = "linux"))]
                if let Ok(written) = number(file.lend()) {
                    *holder = written;
                }
                if *holder != 0 {
                    return Err(Errno::EXIST);
                }
                // Readers share the lock for an instant each; with nothing but readers there is no need to give up.
                if rustix::fs::flock(file.lend(), FlockOperation::NonBlockingLockShared).is_ok() {
                    patience = Deadline::milliseconds(100).earlier(limit);
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
                        let _ = rustix::fs::unlinkat(directory.lend(), name, AtFlags::empty());
                    }
                    return Err(errno);
                }
            },
        }
        if patience.has_passed() {
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

/// The state of an open pidfile. The shared flock is tried only when the kernel knows no holder, and a starter that
/// meets it tries again.
fn state(file: BorrowedFd<'_>, written: i32) -> Result<State, Errno> {
    if let Some(pid) = process_lock_holder(file)? {
        return Ok(State::Running(pid));
    }
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(State::Free),
        // Between the two looks the daemon may have taken its process lock.
        Err(Errno::WOULDBLOCK) => {
            Ok(process_lock_holder(file)?.or(best_effort(written)).map_or(State::Held, State::Running))
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(target_os = "linux")]
fn lock_for_process(file: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::BADF) => Err(Errno::BADF),
        Err(errno @ (Errno::AGAIN | Errno::ACCESS)) => match process_lock_holder(file)? {
            Some(_) => Err(Errno::EXIST),
            // It cannot tell a process lock from our own flock.
            None if rustix::fs::fstatfs(file)?.f_type == rustix::fs::NFS_SUPER_MAGIC => Ok(()),
            // Somebody who may only read the file has a read lock on it.
            None => Err(errno),
        },
        // A file system without process locks.
        Err(_) => Ok(()),
    }
}

/// Elsewhere flock(2) is the same lock.
#[cfg(not(target_os = "linux"))]
fn lock_for_process(_file: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(())
}

/// The process that holds the process lock, as the kernel knows it.
#[cfg(target_os = "linux")]
fn process_lock_holder(file: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    // A holder outside of this pid namespace has pid 0 here, and an open-file lock has -1.
    fd::write_lock_holder(file).map(|holder| holder.filter(|&pid| pid > 0))
}

/// The process that holds the process lock, which is nobody here.
#[cfg(not(target_os = "linux"))]
fn process_lock_holder(_file: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    Ok(None)
}

/// The written pid, where there are no process locks.
fn best_effort(written: i32) -> Option<i32> {
    (cfg!(not(target_os = "linux")) && written > 0).then_some(written)
}

fn write_number(file: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    let mut line = [0; 13];
    let [digits @ .., newline] = &mut line;
    let digits: &mut [u8; 12] = digits;
    let length = crate::decimal::digits(number.unsigned_abs(), digits).len() + 1;
    *newline = b'\n';
    let line = line.get(line.len() - length..).unwrap_or_default();
    rustix::fs::ftruncate(file, 0)?;
    let written = match rustix::io::pwrite(file, line, 0) {
        // A full disk may take a part.
        Ok(taken) if taken < line.len() => Err(Errno::NOSPC),
        result => result.map(drop),
    };
    written.inspect_err(|_| {
        let _ = rustix::fs::ftruncate(file, 0);
    })
}

/// The number in the first line; 0 for an empty file.
fn number(file: BorrowedFd<'_>) -> Result<i32, Errno> {
    let mut buffer = [0; 32];
    let length = rustix::io::pread(file, &mut buffer, 0)?;
    let content = buffer.get(..length).unwrap_or_default();
    let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if content.is_empty() {
        return Ok(0);
    }
    // A line that fills the buffer may go on.
    let number = Some(line)
        .filter(|line| line.len() < buffer.len())
        .and_then(crate::decimal::parse)
        .and_then(|number| i32::try_from(number).ok());
    number.filter(|&number| number > 0).ok_or(Errno::BADMSG)
}
