//! libc's errno, which this library reads after the libc calls it makes and never disturbs for its caller.

use core::ffi::c_int;
use rustix::io::Errno;

fn location() -> *mut c_int {
    // SAFETY: libc promises a valid address for the life of the calling thread.
    #[cfg(any(target_os = "linux", target_os = "emscripten"))]
    return unsafe { libc::__errno_location() };
    // SAFETY: libc promises a valid address for the life of the calling thread.
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    return unsafe { libc::__error() };
}

fn get() -> c_int {
    // SAFETY: the address is this thread's own errno.
    unsafe { *location() }
}

fn set(value: c_int) {
    // SAFETY: the address is this thread's own errno.
    unsafe { *location() = value }
}

/// Runs `f` and leaves errno as it was.
pub(crate) fn preserved<T>(f: impl FnOnce() -> T) -> T {
    let before = get();
    let result = f();
    set(before);
    result
}

/// The errno with this number; 4095 for one that is none, for which rustix would panic.
#[inline(never)]
pub(crate) fn from_number(number: c_int) -> Errno {
    // The form in which rustix asserts the range on Linux, so that LLVM sees that the assertion holds.
    let encoded = (number.wrapping_neg() as u16).max(0xf001);
    Errno::from_raw_os_error(c_int::from(encoded as i16).wrapping_neg())
}

/// Why the last libc call failed.
#[inline(never)]
pub(super) fn last() -> Errno {
    from_number(get())
}

/// What a libc call answered, where -1 means "see errno".
pub(super) fn result(answer: c_int) -> Result<c_int, Errno> {
    if answer < 0 { Err(last()) } else { Ok(answer) }
}

/// Calls `next` until it answers false, or nothing: then errno says whether that was the end.
pub(super) fn each_until_null(mut next: impl FnMut() -> Option<bool>) -> Result<(), Errno> {
    loop {
        set(0);
        match (next(), get()) {
            (Some(true), _) => {}
            (Some(false), _) | (None, 0 | libc::ENOENT) => return Ok(()),
            (None, error) => return Err(from_number(error)),
        }
    }
}

/// What strerror_r(3) says of an errno.
#[cfg(feature = "capi")]
pub(crate) fn describe(errno: c_int, buffer: &mut [u8; 128]) -> &[u8] {
    // SAFETY: libc writes at most the buffer's length, with a NUL. (The libc crate binds the POSIX variant.)
    unsafe { libc::strerror_r(errno, buffer.as_mut_ptr().cast(), buffer.len()) };
    buffer.split(|&byte| byte == 0).next().unwrap_or_default()
}
