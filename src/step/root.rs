use core::ffi::CStr;
use rustix::io::Errno;

/// `chroot(path)`, then `chdir("/")`—Changes the root directory of the process and enters it.
///
/// Both, because a working directory outside of the new root is a door out of it; so is any directory fd that stays
/// open. Async-signal-safe.
pub fn chroot(path: &CStr) -> Result<(), Errno> {
    rustix::process::chroot(path)?;
    rustix::process::chdir(c"/")
}
