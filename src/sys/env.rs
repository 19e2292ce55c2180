//! The environment, read through libc.

use core::ffi::CStr;

/// Hands the value of an environment variable to `use_value`. Nothing of it is kept, as another thread may call setenv.
pub(crate) fn with<T>(name: &CStr, use_value: impl FnOnce(&CStr) -> T) -> Option<T> {
    // SAFETY: `name` ends with a NUL.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv answered a string; daemonize's caller promised that no thread changes the environment meanwhile.
    Some(use_value(unsafe { CStr::from_ptr(value) }))
}
