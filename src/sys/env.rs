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
    // SAFETY: `name` ends with a NUL.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() || !is_trusted() {
        return None;
    }
    // SAFETY: getenv answered a string; daemonize's caller promised that no thread changes the environment meanwhile.
    Some(use_value(unsafe { CStr::from_ptr(value) }))
}

/// Takes a variable out of the environment; answers its value, which stays where it is: by hand, as unsetenv(3) may free
/// what setenv(3) made.
pub(crate) fn take<'a>(name: &CStr) -> Option<&'a CStr> {
    let mut value = None;
    let mut from = entries();
    let mut to = from;
    while !from.is_null() {
        // SAFETY: within the list, whose end has not been met.
        let entry = unsafe { from.read() };
        match value_of(entry, name) {
            Some(found) => value = value.or(Some(found)),
            None => {
                // SAFETY: a place at or before the one that was read.
                unsafe { to.write(entry) };
                to = to.wrapping_add(1);
            }
        }
        if entry.is_null() {
            break;
        }
        from = from.wrapping_add(1);
    }
    value
}

/// The value, if that is the name of the entry.
fn value_of<'a>(entry: *const c_char, name: &CStr) -> Option<&'a CStr> {
    if entry.is_null() {
        return None;
    }
    let mut rest = entry;
    for &byte in name.to_bytes().iter().chain(b"=") {
        // SAFETY: no NUL before this byte, so the entry's string goes on here.
        if unsafe { rest.cast::<u8>().read() } != byte {
            return None;
        }
        rest = rest.wrapping_add(1);
    }
    // SAFETY: the rest of a string of the environment, which nobody frees.
    Some(unsafe { CStr::from_ptr(rest) })
}

/// The whole environment, as execve(2) takes it; nothing after clearenv(3).
pub(crate) fn environment<'a>() -> Option<Strings<'a>> {
    Strings::at(entries().cast_const().cast())
}

/// The list, with NULL at its end, or NULL.
fn entries() -> *mut *mut c_char {
    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    // SAFETY: libc's variable; that no other thread changes it meanwhile was promised by the callers of listen and spawn.
    unsafe { environ }
}
