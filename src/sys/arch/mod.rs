//! Raw system calls, for the few that rustix does not offer or does not offer without a reachable panic.

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), path = "libc.rs")]
mod native;

use core::ffi::{c_int, c_long};
use rustix::io::Errno;

/// A system call with up to four arguments that answers an int: an fd, or 0.
///
/// # Safety
///
/// The arguments are valid for this system call.
#[inline(never)]
pub(super) unsafe fn syscall4(number: c_long, a: usize, b: usize, c: usize, d: usize) -> Result<c_int, Errno> {
    // SAFETY: the caller promised that the arguments are valid.
    let answer = unsafe { native::syscall4(number, a, b, c, d) };
    // Cut to an int before the check: then LLVM sees that no fd is -1, and OwnedFd's assertion goes away.
    let answer = answer as c_int;
    if answer < 0 { Err(super::errno::from_number(answer.wrapping_neg())) } else { Ok(answer) }
}
