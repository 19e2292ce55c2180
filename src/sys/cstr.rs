//! Strings with a NUL, without the searches of core, which are made for long ones and are large.

use core::ffi::{CStr, c_char};

/// The string at the start of these bytes, if there is a NUL among them.
pub(crate) fn at_start_of(bytes: &[c_char]) -> Option<&CStr> {
    let end = bytes.iter().position(|&byte| byte == 0);
    // SAFETY: there is a NUL among the bytes.
    end.map(|_| unsafe { CStr::from_ptr(bytes.as_ptr()) })
}

/// The string that fills these bytes: the first NUL is the last byte.
pub(crate) fn filling(bytes: &[u8]) -> Option<&CStr> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    // SAFETY: there is a NUL among the bytes.
    (end + 1 == bytes.len()).then(|| unsafe { CStr::from_ptr(bytes.as_ptr().cast()) })
}

/// A path up to its last slash, and what is behind that.
pub(crate) fn split_path(path: &CStr) -> (&[u8], &CStr) {
    let mut directory: &[u8] = &[];
    let mut name = path;
    for (index, &byte) in path.to_bytes().iter().enumerate() {
        if byte == b'/' {
            directory = path.to_bytes().get(..=index).unwrap_or_default();
            // SAFETY: a byte before the NUL, so that the string goes on behind it.
            name = unsafe { CStr::from_ptr(path.as_ptr().wrapping_add(index + 1)) };
        }
    }
    (directory, name)
}

/// The string that C hands over, of whatever length, unless it is NULL.
#[cfg(feature = "capi")]
pub(crate) fn borrow<'a>(string: *const c_char) -> Option<&'a CStr> {
    // SAFETY: not NULL, so the C caller says that a string is there, for the call.
    if string.is_null() { None } else { Some(unsafe { CStr::from_ptr(string) }) }
}
