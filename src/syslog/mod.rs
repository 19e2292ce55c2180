//! The system's log: messages of RFC 3164, over the local datagram socket.
//!
//! A message has no timestamp: the receiver knows the moment (section 4.3.2 there), while this side could not tell the
//! local time without libc's tables.

mod line;
mod pump;

pub use pump::pump;
#[cfg(feature = "capi")]
pub(crate) use pump::pump_promised;
pub(crate) use pump::{Input, start_pump};

use crate::deadline::{Deadline, pause};
use crate::decimal;
use crate::file::FileId;
use crate::sys::fd::{self, Fd};
use crate::sys::poll::{Place, poll};
use crate::sys::socket;
use core::ffi::{CStr, c_int};
use line::{DATAGRAM, Line};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::SendFlags;

bitflags::bitflags! {
    /// How messages are sent.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// The process's pid is in the tag: `ident[pid]`.
        const PID = 1;
        /// Opening succeeds although nobody listens yet.
        const LATER = 2;
    }
}

/// Where messages go, and what they are tagged with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// What applies.
    pub flags: Flags,
    /// `LOG_USER` and the like; 0 is `LOG_DAEMON`.
    pub facility: c_int,
    /// The tag: 1 to 63 printable ASCII characters, no blank, `:` or `[` among them.
    pub ident: Option<&'a CStr>,
    /// The socket. `None`: the system's.
    pub path: Option<&'a CStr>,
}

pub(crate) const IDENT_SIZE: usize = 64;
pub(crate) const PATH_SIZE: usize = 108;

/// A connection to the log: plain data. Its fd is closed by [`Syslog::close`].
#[derive(Clone, Copy, Debug)]
pub struct Syslog {
    pub(crate) fd: RawFd,
    /// The socket's, as its number may have become another file's.
    pub(crate) inode: u64,
    pub(crate) flags: u32,
    pub(crate) facility: c_int,
    /// Lines lost since the last one that arrived.
    pub(crate) lost: u32,
    /// The server did not read for so long that it is not waited for.
    pub(crate) is_stuck: bool,
    /// Whose pid is in the tag; 0: this process's.
    pub(crate) pid: i32,
    pub(crate) ident: [u8; IDENT_SIZE],
    pub(crate) path: [u8; PATH_SIZE],
}

const LEVELS: c_int = 7;
const HIGHEST_FACILITY: c_int = libc::LOG_LOCAL7;
const WARNING: u8 = 4;

#[cfg(target_os = "linux")]
const PLACES: &[&CStr] = &[c"/dev/log"];
#[cfg(not(target_os = "linux"))]
const PLACES: &[&CStr] = &[c"/var/run/syslog", c"/var/run/log"];

impl Options<'_> {
    /// `EINVAL` for what no receiver could read, `ENAMETOOLONG` for a path that no socket has.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        let ident = self.ident.map_or(&[][..], CStr::to_bytes);
        let is_fit = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'[');
        if !(1..IDENT_SIZE).contains(&ident.len())
            || !ident.iter().all(is_fit)
            || !is_facility(self.facility)
            || self.flags.contains(Flags::from_bits_retain(!Flags::all().bits()))
        {
            return Err(Errno::INVAL);
        }
        match self.path.map(CStr::count_bytes) {
            Some(0) => Err(Errno::NOENT),
            Some(PATH_SIZE..) => Err(Errno::NAMETOOLONG),
            _ => Ok(()),
        }
    }
}

impl Syslog {
    /// Connects, before a chroot. An error says why nobody listens, unless that is for [`Flags::LATER`].
    pub fn open(options: &Options<'_>) -> Result<Syslog, Errno> {
        options.check()?;
        let mut log = Syslog {
            fd: -1,
            inode: 0,
            flags: options.flags.bits(),
            facility: if options.facility == 0 { libc::LOG_DAEMON } else { options.facility },
            lost: 0,
            is_stuck: false,
            pid: 0,
            ident: [0; IDENT_SIZE],
            path: [0; PATH_SIZE],
        };
        fill(&mut log.ident, options.ident.unwrap_or_default());
        fill(&mut log.path, options.path.unwrap_or_default());
        match log.connect() {
            Err(_) if options.flags.contains(Flags::LATER) => Ok(log),
            result => result.map(|()| log),
        }
    }

    /// Logs each line of the text, at this level, and perhaps another facility than the handle's. Lines that do not fit
    /// are split; control bytes become `\xNN`.
    ///
    /// A server that was restarted is connected to anew. One that does not read is waited for, a second long, once. An
    /// error says why lines were lost; they are counted, and the number is logged when one gets through again.
    pub fn log(&mut self, priority: c_int, text: &[u8]) -> Result<(), Errno> {
        check_priority(priority)?;
        let facility = match priority & !LEVELS {
            0 => self.facility,
            facility => facility,
        };
        let mut line = Line::new(self.room(), (priority & LEVELS) as u8, false);
        let mut result = Ok(());
        let mut send = |level: u8, text: &[u8], counts: bool| {
            let sent = self.send(facility, level, text, counts);
            result = if sent.is_ok() { result } else { sent };
            sent.is_ok()
        };
        line.feed(text, &mut send);
        line.end(&mut send);
        result
    }

    /// Closes the socket.
    pub fn close(self) {
        if self.is_open() {
            drop(Fd::take(self.fd));
        }
    }

    /// Whether the fd is the socket still: a sweep may have closed it, and another file got its number.
    pub(crate) fn is_open(&self) -> bool {
        fd::borrow(self.fd).and_then(inode_of_socket) == Ok(self.inode)
    }

    /// How much text fits a message, whatever its level.
    fn room(&self) -> usize {
        DATAGRAM - self.header(HIGHEST_FACILITY, 7, &mut [0; DATAGRAM])
    }

    /// Sends one message, and before it what became of those before.
    fn send(&mut self, facility: c_int, level: u8, text: &[u8], counts: bool) -> Result<(), Errno> {
        let mut line = [0; 32];
        let sent = match self.lost {
            0 => Ok(()),
            lost => self.deliver(facility, WARNING, lines_lost(lost, &mut line)).map(|()| self.lost = 0),
        };
        let sent = sent.and_then(|()| self.deliver(facility, level, text));
        if sent.is_err() && counts {
            self.lost = self.lost.saturating_add(1);
        }
        sent
    }

    fn deliver(&mut self, facility: c_int, level: u8, text: &[u8]) -> Result<(), Errno> {
        let mut datagram = [0; DATAGRAM];
        let header = self.header(facility, level, &mut datagram);
        let places = datagram.iter_mut().skip(header);
        places.zip(text).for_each(|(place, &byte)| *place = byte);
        let datagram = datagram.get(..header + text.len()).unwrap_or_default();
        if !self.is_open() {
            self.fd = -1;
            self.connect()?;
        }
        match self.try_for_a_second(datagram) {
            // The server has gone, and perhaps another one is there.
            Err(Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN | Errno::PIPE | Errno::DESTADDRREQ) => {
                self.connect()?;
                self.try_for_a_second(datagram)
            }
            result => result,
        }
    }

    fn try_for_a_second(&mut self, datagram: &[u8]) -> Result<(), Errno> {
        let patience = Deadline::milliseconds(if self.is_stuck { 0 } else { 1000 });
        let socket = fd::borrow(self.fd)?;
        loop {
            let sent = rustix::net::send(socket, datagram, SendFlags::DONTWAIT | NO_SIGNAL);
            match sent {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) if patience.has_passed() => {
                    self.is_stuck = true;
                    return Err(Errno::AGAIN);
                }
                Err(Errno::AGAIN) => drop(poll(&mut [Place::writable(Some(self.fd))], patience)?),
                Err(Errno::NOBUFS) => pause(),
                result => {
                    self.is_stuck = false;
                    return result.map(drop);
                }
            }
        }
    }

    /// Connects, perhaps anew. The fd keeps its number, which may be in a list of kept ones.
    fn connect(&mut self) -> Result<(), Errno> {
        let given = self.path.split(|&byte| byte == 0).next().unwrap_or_default();
        let connected = if given.is_empty() {
            let try_next = |before: Result<Fd, Errno>, place: &&CStr| {
                before.or_else(|_| socket::connect_datagram(place.to_bytes()))
            };
            PLACES.iter().fold(Err(Errno::NOENT), try_next)?
        } else {
            socket::connect_datagram(given)?
        };
        self.inode = inode_of_socket(connected.lend())?;
        if self.fd < 0 {
            self.fd = connected.into_number();
            return Ok(());
        }
        fd::replace(self.fd, &connected)
    }

    /// Writes what stands before the text; answers its length.
    fn header(&self, facility: c_int, level: u8, buffer: &mut [u8; DATAGRAM]) -> usize {
        let mut digits = [0; 20];
        let mut length = 0;
        let mut push = |bytes: &[u8]| {
            buffer.iter_mut().skip(length).zip(bytes).for_each(|(place, &byte)| *place = byte);
            length += bytes.len();
        };
        push(b"<");
        push(decimal::digits(facility as u64 | u64::from(level), &mut digits));
        push(b">");
        push(self.ident.split(|&byte| byte == 0).next().unwrap_or_default());
        if self.flags & Flags::PID.bits() != 0 {
            let pid = if self.pid == 0 { rustix::process::getpid().as_raw_pid() } else { self.pid };
            push(b"[");
            push(decimal::digits(pid.unsigned_abs().into(), &mut digits));
            push(b"]");
        }
        push(b": ");
        length
    }
}

#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

fn inode_of_socket(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = rustix::fs::fstat(socket)?;
    let is_socket = FileType::from_raw_mode(stat.st_mode as _) == FileType::Socket;
    if is_socket { Ok(FileId::of(&stat).inode) } else { Err(Errno::NOTSOCK) }
}

pub(crate) fn is_facility(number: c_int) -> bool {
    (0..=HIGHEST_FACILITY).contains(&number) && number & LEVELS == 0
}

fn check_priority(priority: c_int) -> Result<(), Errno> {
    if (0..=HIGHEST_FACILITY | LEVELS).contains(&priority) { Ok(()) } else { Err(Errno::INVAL) }
}

fn fill(field: &mut [u8], string: &CStr) {
    for (place, &byte) in field.iter_mut().zip(string.to_bytes()) {
        *place = byte;
    }
}

fn lines_lost(number: u32, buffer: &mut [u8; 32]) -> &[u8] {
    const TAIL: &[u8] = b" lines lost";
    let mut digits = [0; 20];
    let digits = decimal::digits(number.into(), &mut digits);
    for (place, &byte) in buffer.iter_mut().zip(digits.iter().chain(TAIL)) {
        *place = byte;
    }
    buffer.get(..digits.len() + TAIL.len()).unwrap_or_default()
}
