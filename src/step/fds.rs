//! The sweep: every fd from some number on is closed, or marked close-on-exec, but for those on a keep list.
//!
//! close_range(2) does a gap between two kept fds in one call, up to the largest number there is, so that fds above a
//! lowered `RLIMIT_NOFILE` are met too. Where it is refused, for whatever reason, the open fds are read from
//! /proc/self/fd; where that is hidden, they are counted through, up to a bound.

use crate::sys::fd::Act;
use crate::sys::limits;
use rustix::fd::{BorrowedFd, RawFd};
use rustix::io::Errno;

#[cfg(target_os = "linux")]
mod listing;
#[cfg(target_vendor = "apple")]
#[path = "fds/listing_apple.rs"]
mod listing;

/// `close_range()`—Closes every fd of the process from `lowest` on, but for those in `keep`.
///
/// `keep` may be in any order and may repeat itself; in ascending order it is walked once. With `cloexec` the fds are
/// marked close-on-exec instead. An error means that no way to find the open fds worked; some may be closed.
/// Async-signal-safe.
///
/// # Safety
///
/// Nobody uses or owns the fds that are closed.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn close_fds(lowest: u32, keep: &[BorrowedFd<'_>], cloexec: bool) -> Result<(), Errno> {
    let act = if cloexec { Act::Cloexec } else { Act::Close };
    sweep(lowest, [crate::sys::fd::numbers(keep), &[]], act)
}

/// The sweep over a keep list in two parts: the caller's and the library's own. Negative numbers keep nothing.
pub(crate) fn sweep(lowest: u32, keep: [&[RawFd]; 2], act: Act) -> Result<(), Errno> {
    by_range(lowest, keep, act).or_else(|refusal| {
        let mut window = Window::new(keep);
        without_range(lowest, &mut |fd| window.contains(fd), act, refusal)
    })
}

/// Marks every fd from `lowest` on close-on-exec. It needs little stack, which it may share with another process.
pub(crate) fn mark_cloexec(lowest: u32) -> Result<(), Errno> {
    Act::Cloexec
        .on_range(lowest, u32::MAX)
        .or_else(|refusal| without_range(lowest, &mut |_| false, Act::Cloexec, refusal))
}

#[cold]
#[inline(never)]
fn without_range(lowest: u32, kept: Kept<'_>, act: Act, refusal: Errno) -> Result<(), Errno> {
    by_listing(lowest, kept, act).or_else(|_| by_counting(lowest, kept, act, refusal))
}

fn by_range(lowest: u32, keep: [&[RawFd]; 2], act: Act) -> Result<(), Errno> {
    if keep.into_iter().all(is_ascending) {
        each_gap(lowest, &mut Merged(keep), act)
    } else {
        each_gap(lowest, &mut Window::new(keep), act)
    }
}

/// Whether the numbers that keep something ascend.
fn is_ascending(list: &[RawFd]) -> bool {
    let mut highest = 0;
    list.iter().filter(|&&fd| fd >= 0).all(|&fd| fd >= core::mem::replace(&mut highest, fd))
}

/// Acts on the ranges between the kept fds, which come in ascending order.
fn each_gap(lowest: u32, kept: &mut dyn Iterator<Item = u32>, act: Act) -> Result<(), Errno> {
    let mut next = lowest;
    for fd in kept {
        match fd.saturating_sub(next) {
            0 => (),
            // close(2) is done at once, where close_range(2) leaves work for the way back to user space.
            1 if act == Act::Close => act.on(next as RawFd),
            _ => act.on_range(next, fd - 1)?,
        }
        next = next.max(fd + 1);
    }
    act.on_range(next, u32::MAX)
}

/// Asks whether an fd is kept.
type Kept<'a> = &'a mut dyn FnMut(u32) -> bool;

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn by_listing(lowest: u32, kept: Kept<'_>, act: Act) -> Result<(), Errno> {
    match each_listed(lowest, kept, act) {
        // Not even an fd for the listing is free: make one so, if this sweep closes any.
        Err(Errno::MFILE | Errno::NFILE) if act == Act::Close => {
            close_first(lowest, kept)?;
            each_listed(lowest, kept, act)
        }
        result => result,
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn each_listed(lowest: u32, kept: Kept<'_>, act: Act) -> Result<(), Errno> {
    listing::each_open_fd(&mut |fd: RawFd| {
        if fd as u32 >= lowest && !kept(fd as u32) {
            act.on(fd);
        }
    })
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn by_listing(_lowest: u32, _kept: Kept<'_>, _act: Act) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Closes the lowest open fd that is not kept. There is one soon, as every number below the limit is in use.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn close_first(lowest: u32, kept: Kept<'_>) -> Result<(), Errno> {
    let is_victim = |&fd: &u32| !kept(fd) && crate::sys::fd::is_open(fd as RawFd);
    let victim = (lowest..AT_MOST).find(is_victim).ok_or(Errno::MFILE)?;
    crate::sys::fd::close(victim as RawFd)
}

/// The last resort: one call for each number there might be. Where that would be too many, the refusal that led here
/// is the error, rather than a spin of minutes.
fn by_counting(lowest: u32, kept: Kept<'_>, act: Act, refusal: Errno) -> Result<(), Errno> {
    let end = bound().map_err(|_| refusal)?;
    (lowest..end).filter(|&fd| !kept(fd)).for_each(|fd| act.on(fd as RawFd));
    Ok(())
}

/// The number below which all fds are, as far as the limits tell: a limit lowered below this while higher fds were
/// open is why this many are tried at least.
fn bound() -> Result<u32, Errno> {
    const AT_LEAST: u64 = 1 << 16;
    let limit = limits::get(libc::RLIMIT_NOFILE as _)?;
    let bound = limit.hard.max(limit.soft).min(limits::fds_end()).max(AT_LEAST);
    if bound > AT_MOST.into() { Err(Errno::MFILE) } else { Ok(bound as u32) }
}

/// The kernel's own default for fs.nr_open, and so the most that is counted.
const AT_MOST: u32 = 1 << 20;

/// Two ascending lists as one.
struct Merged<'a>([&'a [RawFd]; 2]);

impl Iterator for Merged<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            let [a, b] = &mut self.0;
            let lower = match (&*a, &*b) {
                ([x, ..], [y, ..]) if y < x => b,
                ([], _) => b,
                _ => a,
            };
            let (&fd, rest) = lower.split_first()?;
            *lower = rest;
            if let Ok(fd) = u32::try_from(fd) {
                return Some(fd);
            }
        }
    }
}

/// A keep list in any order, seen through a bitmap of one stretch of numbers at a time.
struct Window<'a> {
    keep: [&'a [RawFd]; 2],
    start: u32,
    bits: [u64; WORDS],
    next: u32,
}

const WORDS: usize = 1024;
const SPAN: u32 = WORDS as u32 * 64;

impl<'a> Window<'a> {
    /// It shows no stretch yet: one that is moved once it is filled is on the stack twice.
    fn new(keep: [&'a [RawFd]; 2]) -> Window<'a> {
        Window { keep, start: u32::MAX, bits: [0; WORDS], next: 0 }
    }

    fn kept(&self) -> impl Iterator<Item = u32> + use<'a> {
        let [a, b] = self.keep;
        a.iter().chain(b).filter_map(|&fd| u32::try_from(fd).ok())
    }

    /// Shows the stretch that holds `fd`.
    fn move_to(&mut self, fd: u32) {
        self.start = fd - fd % SPAN;
        self.bits = [0; WORDS];
        for kept in self.kept() {
            if let Some(place) = kept.checked_sub(self.start).filter(|&place| place < SPAN) {
                self.bits[place as usize / 64 % WORDS] |= 1 << (place % 64);
            }
        }
    }

    fn contains(&mut self, fd: u32) -> bool {
        if fd - fd % SPAN != self.start {
            self.move_to(fd);
        }
        let place = fd % SPAN;
        self.bits[place as usize / 64 % WORDS] >> (place % 64) & 1 == 1
    }

    /// The first kept fd of this stretch that is `fd` or higher.
    fn first_from(&self, fd: u32) -> Option<u32> {
        let place = fd.checked_sub(self.start).filter(|&place| place < SPAN)?;
        let mut word = place as usize / 64;
        let mut bits = self.bits[word % WORDS] >> (place % 64) << (place % 64);
        while bits == 0 {
            word += 1;
            bits = *self.bits.get(word)?;
        }
        Some(self.start + word as u32 * 64 + bits.trailing_zeros())
    }
}

/// The kept fds in ascending order.
impl Iterator for Window<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let fd = self.first_from(self.next).or_else(|| {
            let ahead = self.kept().filter(|&fd| fd >= self.next).min()?;
            self.move_to(ahead);
            Some(ahead)
        })?;
        self.next = fd + 1;
        Some(fd)
    }
}
