use core::ffi::CStr;
use rustix::io::Errno;

/// `chdir(path)`—Changes the working directory of the process. Async-signal-safe.
pub fn chdir(path: &CStr) -> Result<(), Errno> {
    rustix::process::chdir(path)
}
