//! poll(2) over places that may be empty.

use crate::deadline::Deadline;
use core::ffi::c_int;
use rustix::fd::RawFd;
use rustix::io::Errno;

/// What is waited for on one fd, and what came.
#[repr(transparent)]
pub(crate) struct Place(libc::pollfd);

impl Place {
    pub(crate) fn readable(fd: Option<RawFd>) -> Place {
        Place::new(fd, libc::POLLIN)
    }

    pub(crate) fn writable(fd: Option<RawFd>) -> Place {
        Place::new(fd, libc::POLLOUT)
    }

    fn new(fd: Option<RawFd>, events: libc::c_short) -> Place {
        // The kernel passes over a negative fd.
        Place(libc::pollfd { fd: fd.unwrap_or(-1), events, revents: 0 })
    }

    /// Something came: what was waited for, or the end.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.revents != 0
    }

    pub(crate) fn has_input(&self) -> bool {
        self.0.revents & libc::POLLIN != 0
    }

    /// The number is no fd.
    pub(crate) fn is_bad(&self) -> bool {
        self.0.revents & libc::POLLNVAL != 0
    }
}

/// Waits until something comes; answers whether it did before the deadline. A signal does not end the wait.
pub(crate) fn poll(places: &mut [Place], deadline: Deadline) -> Result<bool, Errno> {
    loop {
        match native(places, deadline) {
            Err(Errno::INTR) => {}
            result => return result.map(|ready| ready > 0),
        }
    }
}

/// Raw, as libc's poll is a cancellation point.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn native(places: &mut [Place], deadline: Deadline) -> Result<c_int, Errno> {
    let mut remaining = deadline.remaining();
    let remaining = remaining.as_mut().map_or(core::ptr::null_mut(), core::ptr::from_mut);
    let arguments = [places.as_mut_ptr() as usize, places.len(), remaining as usize, 0, 0, 0];
    // SAFETY: places are pollfds, of which so many are read and written; the time is a timespec, of which the kernel writes what is left, or NULL.
    unsafe { super::arch::syscall6(libc::SYS_ppoll, arguments) }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn native(places: &mut [Place], deadline: Deadline) -> Result<c_int, Errno> {
    let round_up = |left: rustix::time::Timespec| {
        left.tv_sec.saturating_mul(1000).saturating_add((left.tv_nsec + 999_999) / 1_000_000)
    };
    let milliseconds = deadline.remaining().map_or(-1, |left| round_up(left).min(i64::from(c_int::MAX)) as c_int);
    // SAFETY: places are pollfds, of which so many are read and written.
    super::errno::result(unsafe { libc::poll(places.as_mut_ptr().cast(), places.len() as _, milliseconds) })
}
