//! Resource limits, by number: the sets differ between systems, so an enum would only stand in the way.

use core::ffi::c_int;
use rustix::io::Errno;

/// A soft and a hard limit; `u64::MAX` is "unlimited".
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Pair {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

#[cfg(target_os = "linux")]
mod native {
    use super::{Errno, Pair, c_int};
    use core::ptr::{from_mut, from_ref, null, null_mut};

    fn prlimit64(resource: c_int, new: *const Pair, old: *mut Pair) -> Result<(), Errno> {
        // SAFETY: a pair is prlimit64's struct of two 64-bit numbers; both callers pass a valid one and a null.
        unsafe { crate::sys::arch::syscall4(libc::SYS_prlimit64, 0, resource as usize, new as usize, old as usize) }
            .map(drop)
    }

    pub(crate) fn get(resource: c_int) -> Result<Pair, Errno> {
        let mut pair = Pair { soft: 0, hard: 0 };
        prlimit64(resource, null(), from_mut(&mut pair))?;
        Ok(pair)
    }

    pub(crate) fn set(resource: c_int, pair: Pair) -> Result<(), Errno> {
        prlimit64(resource, from_ref(&pair), null_mut())
    }
}

#[cfg(not(target_os = "linux"))]
mod native {
    use super::{Errno, Pair, c_int};
    use crate::sys::errno;
    use libc::{RLIM_INFINITY, rlim_t, rlimit};

    #[allow(clippy::unnecessary_cast, reason = "rlim_t differs between systems")]
    fn widen(limit: rlim_t) -> u64 {
        if limit == RLIM_INFINITY { u64::MAX } else { limit as u64 }
    }

    #[allow(clippy::unnecessary_min_or_max, reason = "on some systems infinity is not the greatest number")]
    fn narrow(limit: u64) -> rlim_t {
        rlim_t::try_from(limit).map_or(RLIM_INFINITY, |limit| limit.min(RLIM_INFINITY))
    }

    pub(crate) fn get(resource: c_int) -> Result<Pair, Errno> {
        let mut pair = rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: libc writes one rlimit.
        errno::result(unsafe { libc::getrlimit(resource, &raw mut pair) })?;
        Ok(Pair { soft: widen(pair.rlim_cur), hard: widen(pair.rlim_max) })
    }

    pub(crate) fn set(resource: c_int, pair: Pair) -> Result<(), Errno> {
        let pair = rlimit { rlim_cur: narrow(pair.soft), rlim_max: narrow(pair.hard) };
        // SAFETY: libc reads one rlimit.
        errno::result(unsafe { libc::setrlimit(resource, &raw const pair) }).map(drop)
    }
}

pub(crate) use native::{get, set};

/// The number below which macOS keeps every new fd, whatever the resource limit, which is often none.
#[cfg(target_vendor = "apple")]
pub(crate) fn fds_end() -> u64 {
    let mut most: c_int = 0;
    let mut size = size_of_val(&most);
    let (name, place) = (c"kern.maxfilesperproc".as_ptr(), (&raw mut most).cast());
    // SAFETY: the name is a string, and an int is written into an int.
    let asked = unsafe { libc::sysctlbyname(name, place, &raw mut size, core::ptr::null_mut(), 0) };
    u64::try_from(most).ok().filter(|&most| asked == 0 && most > 0).unwrap_or(u64::MAX)
}

/// The resource limit alone says where fds end.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const fn fds_end() -> u64 {
    u64::MAX
}
