//! Architectures without assembly of their own here go through libc's syscall(2), and fork.

use core::ffi::{c_int, c_long};

/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall6(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    // SAFETY: the caller promised that the arguments are valid.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match crate::sys::errno::result(answer as c_int) {
        Ok(value) => value as isize,
        Err(errno) => -(errno.raw_os_error() as isize),
    }
}
