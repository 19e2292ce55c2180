//! The area in which the kernel tells a thread on which CPU it is, rseq(2).
//!
//! A process that shares its parent's memory has none, and what it forks inherits none; libc would read in the old one,
//! for ever, the CPU of the time before.

use super::arch::{RSEQ_SIGNATURE, rseq_area, syscall4};
use core::ffi::c_int;
use core::ptr::null_mut;
use rustix::io::Errno;

/// struct rseq of linux/rseq.h, as its first version was.
#[repr(C, align(32))]
pub(crate) struct Area([u32; 8]);

const UNREGISTER: usize = 1;

/// What this thread has registered.
pub(crate) enum Registration {
    Nothing,
    Libc(*mut Area),
}

impl Registration {
    /// `None` when it is neither nothing nor libc's, so that nobody could register it again.
    pub(crate) fn of_this_thread() -> Option<Registration> {
        let libc = area_of_libc();
        if !libc.is_null() {
            return Some(Registration::Libc(libc));
        }
        let mut probe = Area([0; 8]);
        match rseq(&raw mut probe, 0) {
            Ok(_) => rseq(&raw mut probe, UNREGISTER).ok().map(|_| Registration::Nothing),
            Err(Errno::NOSYS) => Some(Registration::Nothing),
            Err(_) => None,
        }
    }

    /// In a process of one thread that is a copy of the one that had it.
    pub(crate) fn renew(self) {
        if let Registration::Libc(area) = self {
            let _ = rseq(area, 0);
        }
    }
}

/// Null where libc has registered none.
fn area_of_libc() -> *mut Area {
    let (thread, offset, size) = rseq_area();
    if offset.is_null() || size.is_null() {
        return null_mut();
    }
    // SAFETY: libc's own constant, there because its address is.
    let size = unsafe { *size };
    // SAFETY: libc's own constant, there because its address is.
    let offset = unsafe { *offset };
    if size == 0 { null_mut() } else { thread.wrapping_add_signed(offset) as *mut Area }
}

fn rseq(area: *mut Area, flags: usize) -> Result<c_int, Errno> {
    // SAFETY: the area is libc's, which lives as long as the thread, or is unregistered before it ends.
    unsafe { syscall4(libc::SYS_rseq, area as usize, size_of::<Area>(), flags, RSEQ_SIGNATURE as usize) }
}
