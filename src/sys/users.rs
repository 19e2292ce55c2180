//! The user database, through libc, so that directory services count. libc may allocate for it.

use super::errno;
use crate::users::User;
use core::ffi::{CStr, c_char, c_int};
use core::mem::MaybeUninit;
use rustix::io::Errno;

fn string<'a>(text: *const c_char) -> &'a CStr {
    // SAFETY: not NULL, so a string of an entry, which lives as long as the entry.
    if text.is_null() { c"" } else { unsafe { CStr::from_ptr(text) } }
}

fn user(entry: &libc::passwd) -> User<'_> {
    User {
        name: string(entry.pw_name),
        home: string(entry.pw_dir),
        shell: string(entry.pw_shell),
        gecos: string(entry.pw_gecos),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
    }
}

/// Visits every account, until `visit` says false.
pub(crate) fn each(visit: &mut dyn FnMut(&User<'_>) -> bool) -> Result<(), Errno> {
    // SAFETY: takes nothing; that no other thread reads the database meanwhile was promised by the caller.
    unsafe { libc::setpwent() };
    let result = errno::each_until_null(|| {
        // SAFETY: as setpwent.
        let entry = unsafe { libc::getpwent() };
        // SAFETY: not NULL, so an entry that lives until the next call.
        unsafe { entry.as_ref() }.map(|entry| visit(&user(entry)))
    });
    // SAFETY: as setpwent.
    unsafe { libc::endpwent() };
    result
}

/// The ids of a user: `ENOENT` for none of that name.
pub(crate) fn ids(name: &CStr) -> Result<(u32, u32), Errno> {
    let mut entry = MaybeUninit::uninit();
    let mut text = [0 as c_char; 8192];
    let mut found = core::ptr::null_mut();
    // SAFETY: the name is a string, and the rest are places that are written to within their sizes.
    let error =
        unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &raw mut found) };
    if error == libc::ERANGE {
        // Somebody's entry has more text. libc has no end to its own buffer, in which the name may lie.
        let mut own = [0 as c_char; 256];
        own.iter_mut().zip(name.to_bytes()).for_each(|(place, &byte)| *place = byte as c_char);
        let name = super::cstr::at_start_of(&own).ok_or(Errno::NOENT)?;
        // SAFETY: the name is a string.
        found = unsafe { libc::getpwnam(name.as_ptr()) };
    }
    // SAFETY: NULL, or an entry that is filled.
    match (unsafe { found.as_ref() }, error) {
        (Some(entry), _) => Ok((entry.pw_uid, entry.pw_gid)),
        (None, 0 | libc::ENOENT | libc::ESRCH | libc::ERANGE) => Err(Errno::NOENT),
        (None, error) => Err(errno::from_number(error)),
    }
}

/// The groups of a user, and the one given: how many. `E2BIG` when they are more than there is room for.
pub(crate) fn groups(name: &CStr, gid: u32, groups: &mut [u32]) -> Result<usize, Errno> {
    let mut number = c_int::try_from(groups.len()).unwrap_or(c_int::MAX);
    // SAFETY: the name is a string, and at most so many numbers are written.
    let all = unsafe { libc::getgrouplist(name.as_ptr(), gid as _, groups.as_mut_ptr().cast(), &raw mut number) };
    if all < 0 { Err(Errno::TOOBIG) } else { usize::try_from(number).map_err(|_| Errno::TOOBIG) }
}
