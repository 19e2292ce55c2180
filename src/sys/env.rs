//! The environment, read through libc.

use super::strings::Strings;
use core::ffi::{CStr, c_char};

/// A set-user-id or set-group-id program does not believe what its caller put into the environment.
fn is_trusted() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    getuid() == geteuid() && getgid() == getegid()
}

/// Hands the value of an environment variable to `use_value`. Nothing of it is kept, as another thread may call setenv.
pub(crate) fn with<T>(name: &CStr, use_value: impl FnOnce(&CStr) -> T) -> Option<T> {
    if !is_trusted() {
        return None;
    }
    // SAFETY: `name` ends with a NUL.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv answered a string; daemonize's caller promised that no thread changes the environment meanwhile.
    Some(use_value(unsafe { CStr::from_ptr(value) }))
}

/// The whole environment, as execve(2) takes it; nothing after clearenv(3).
pub(crate) fn environment<'a>() -> Option<Strings<'a>> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: libc's variable; that no thread changes the environment meanwhile is promised by the caller of spawn.
    Strings::at(unsafe { environ })
}
