//! The accounts of people, and the ids of a named user.
//!
//! This asks libc's user database, so that directory services count, and is the one part of the crate where libc may
//! allocate.

mod login_defs;

use crate::step::Identity;
use crate::sys::users;
use core::ffi::CStr;
use core::ops::ControlFlow;
use rustix::io::Errno;

/// An account.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Its name.
    pub name: &'a CStr,
    /// The home directory.
    pub home: &'a CStr,
    /// The login shell; empty is `/bin/sh`.
    pub shell: &'a CStr,
    /// The full name, and more.
    pub gecos: &'a CStr,
    /// The user id.
    pub uid: u32,
    /// The id of the primary group.
    pub gid: u32,
}

impl User<'_> {
    /// Whether it is a person's, rather than the system's: the shell lets somebody log in.
    fn can_log_in(&self) -> bool {
        let shell = self.shell.to_bytes().rsplit(|&byte| byte == b'/').next();
        !matches!(shell, Some(b"nologin" | b"false"))
    }
}

/// Visits the accounts of people: those with a uid from `UID_MIN` of /etc/login.defs on (500 where there is none), and a
/// shell that is not `nologin` or `false`. Answers what the visitor breaks with, or why login.defs could not be read.
///
/// # Safety
///
/// No other thread reads the user database with getpwent(3) meanwhile; nor does the visitor.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn real_users<B>(visitor: impl FnMut(&User<'_>) -> ControlFlow<B>) -> Result<Option<B>, Errno> {
    real_users_promised(visitor)
}

/// [`real_users`], for the C floor, whose own caller has promised.
pub(crate) fn real_users_promised<B>(mut visitor: impl FnMut(&User<'_>) -> ControlFlow<B>) -> Result<Option<B>, Errno> {
    let least = login_defs::uid_min()?;
    let mut broken = None;
    users::each(&mut |user| {
        if user.uid >= least && user.can_log_in() {
            broken = visitor(user).break_value();
        }
        broken.is_none()
    })?;
    Ok(broken)
}

/// Looks up a user: the identity has the uid, the gid and all the groups, for which there must be room.
///
/// `ENOENT` for no such user, `E2BIG` for more groups than there is room for. To be called before a chroot.
pub fn find_user<'a>(name: &CStr, groups: &'a mut [u32]) -> Result<Identity<'a>, Errno> {
    if name.is_empty() {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = users::ids(name)?;
    let number = users::groups(name, gid, groups)?;
    Ok(Identity { uid: Some(uid), gid: Some(gid), groups: groups.get(..number), ..Identity::default() })
}
