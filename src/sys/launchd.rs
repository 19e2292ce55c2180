//! launchd's library call, and the array that it allocates.

use core::ffi::{CStr, c_char, c_int};
use rustix::fd::RawFd;
use rustix::io::Errno;

unsafe extern "C" {
    fn launch_activate_socket(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int;
}

/// The fds that launchd has handed over.
pub(crate) struct Sockets {
    first: *mut c_int,
    count: usize,
}

/// Checks in for the sockets of that name.
pub(crate) fn activate(name: &CStr) -> Result<Sockets, Errno> {
    let mut sockets = Sockets { first: core::ptr::null_mut(), count: 0 };
    // SAFETY: the name is a string, and launchd fills both places when it answers 0.
    let error = unsafe { launch_activate_socket(name.as_ptr(), &raw mut sockets.first, &raw mut sockets.count) };
    if error == 0 { Ok(sockets) } else { Err(super::errno::from_number(error)) }
}

impl Sockets {
    pub(crate) fn numbers(&mut self) -> &mut [RawFd] {
        if self.first.is_null() {
            return &mut [];
        }
        // SAFETY: not NULL, so launchd's array of so many, which is freed with this struct.
        unsafe { core::slice::from_raw_parts_mut(self.first, self.count) }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // SAFETY: NULL, or allocated by launchd's library for its caller to free.
        unsafe { libc::free(self.first.cast()) };
    }
}
