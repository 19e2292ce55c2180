//! Calls by path that rustix finds with dlsym(3) on macOS, which no signal handler may call.

use core::ffi::CStr;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// unlinkat(2) of a file.
#[cfg(target_os = "linux")]
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::empty())
}

/// unlinkat(2) of a file.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    use rustix::fd::AsRawFd;
    // SAFETY: the name ends with NUL.
    super::errno::result(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Whether the effective user may execute it.
#[cfg(target_os = "linux")]
pub(crate) fn is_executable(path: &CStr) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A seccomp filter that does not know faccessat2(2) may answer so.
        Err(Errno::PERM) => accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()).is_ok(),
        result => result.is_ok(),
    }
}

/// Whether the effective user may execute it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_executable(path: &CStr) -> bool {
    // SAFETY: the path ends with NUL.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}
