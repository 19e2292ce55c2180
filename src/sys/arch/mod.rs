//! Raw system calls, for the few that rustix does not offer or does not offer without a reachable panic; and the
//! processes that a raw clone makes.

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), path = "libc.rs")]
mod native;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use core::ffi::c_void;
use core::ffi::{c_int, c_long};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use native::{RSEQ_SIGNATURE, rseq_area, single_threaded_flag};
use rustix::io::Errno;

/// A system call with up to four arguments that answers an int: an fd, or 0.
///
/// # Safety
///
/// The arguments are valid for this system call.
#[inline(never)]
pub(super) unsafe fn syscall4(number: c_long, a: usize, b: usize, c: usize, d: usize) -> Result<c_int, Errno> {
    // SAFETY: the caller promised that the arguments are valid.
    answer(unsafe { native::syscall6(number, [a, b, c, d, 0, 0]) })
}

/// A system call with up to six arguments that answers an int.
///
/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall6(number: c_long, arguments: [usize; 6]) -> Result<c_int, Errno> {
    // SAFETY: the caller promised that the arguments are valid.
    answer(unsafe { native::syscall6(number, arguments) })
}

/// clone(2) or clone3(2): the pid of the child, which calls `entry` on the caller's own stack, below this frame; and 0 in
/// a process in which `entry` returns.
///
/// # Safety
///
/// The arguments are valid for this system call, name no stack, and suspend the caller until the child has ended or
/// executed a program, or else give the child memory of its own.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) unsafe fn clone_into(
    number: c_long,
    arguments: [usize; 3],
    entry: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
) -> Result<c_int, Errno> {
    // SAFETY: the caller promised what this asks.
    answer(unsafe { native::clone_into(number, arguments, entry, argument) })
}

fn answer(answer: isize) -> Result<c_int, Errno> {
    // Cut to an int before the check: then LLVM sees that no fd is -1, and OwnedFd's assertion goes away.
    let answer = answer as c_int;
    if answer < 0 { Err(super::errno::from_number(answer.wrapping_neg())) } else { Ok(answer) }
}
