use crate::sys::limits::{self, Pair};
use core::ffi::c_int;
use rustix::io::Errno;

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The resource: `RLIMIT_NOFILE` and the like, as libc numbers them.
    pub resource: c_int,
    /// The limit in force, or [`Limit::UNLIMITED`]; in the resource's own unit.
    pub soft: u64,
    /// The limit up to which the soft one may be raised, or [`Limit::UNLIMITED`].
    pub hard: u64,
}

/// cbindgen:ignore
impl Limit {
    /// No limit.
    pub const UNLIMITED: u64 = u64::MAX;

    /// Whether this could ever be set: `EINVAL` for a resource that the system does not know or a soft limit above the
    /// hard.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        limits::get(self.resource)?;
        if self.soft > self.hard { Err(Errno::INVAL) } else { Ok(()) }
    }
}

/// `setrlimit()`—Sets the process's resource limits, in the order given; `RLIMIT_NOFILE` last, whatever its place.
///
/// On an error the limits before the refused one stay set. Async-signal-safe.
pub fn set_limits(limits: &[Limit]) -> Result<(), Errno> {
    for limit in limits {
        limit.check()?;
    }
    set_checked(limits)
}

/// [`set_limits`], of limits that were checked.
pub(crate) fn set_checked(limits: &[Limit]) -> Result<(), Errno> {
    let is_nofile = |limit: &&Limit| limit.resource == libc::RLIMIT_NOFILE as c_int;
    for limit in limits.iter().filter(|limit| !is_nofile(limit)).chain(limits.iter().filter(is_nofile)) {
        limits::set(limit.resource, Pair { soft: limit.soft, hard: limit.hard })?;
    }
    Ok(())
}
