use super::intake::{answer, path, room, sized_out};
use super::steps::rdaemon_identity;
use crate::users::{self, User};
use core::ffi::{c_char, c_int, c_void};
use core::ops::ControlFlow;
use rustix::io::Errno;

/// An account. Its strings live until the visitor returns.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct rdaemon_user {
    /// Its name.
    pub name: *const c_char,
    /// The home directory.
    pub home: *const c_char,
    /// The login shell; empty is /bin/sh.
    pub shell: *const c_char,
    /// The full name, and more; may be empty.
    pub gecos: *const c_char,
    /// The user id.
    pub uid: u32,
    /// The id of the primary group.
    pub gid: u32,
}

impl From<&User<'_>> for rdaemon_user {
    fn from(user: &User<'_>) -> rdaemon_user {
        rdaemon_user {
            name: user.name.as_ptr(),
            home: user.home.as_ptr(),
            shell: user.shell.as_ptr(),
            gecos: user.gecos.as_ptr(),
            uid: user.uid,
            gid: user.gid,
        }
    }
}

/// Visits the accounts of people: those with a uid from UID_MIN of /etc/login.defs on (500 where there is none), and a
/// shell that is not called nologin or false. They come from getpwent(3), so directory services count.
///
/// A result of the visitor other than 0 ends it and is returned: best a positive number, or a negative errno.
///
/// Returns 0 when all were visited, the visitor's result, -EINVAL for NULL, any error of open(2), when login.defs is
/// there and cannot be read, or of getpwent(3).
/// Neither async-signal-safe nor thread-safe with getpwent(3), which the visitor must not call; libc may allocate.
/// Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_real_users(
    visitor: Option<extern "C" fn(context: *mut c_void, user: *const rdaemon_user) -> c_int>,
    context: *mut c_void,
) -> c_int {
    answer(|| {
        let visitor = visitor.ok_or(Errno::INVAL)?;
        let result = users::real_users_promised(|user| {
            let user = rdaemon_user::from(user);
            match visitor(context, &raw const user) {
                0 => ControlFlow::Continue(()),
                result => ControlFlow::Break(result),
            }
        });
        result.map(|broken| broken.unwrap_or(0))
    })
}

/// Looks up a user by name, for rdaemon_drop_privileges() and the field identity of the configs.
///
/// ret_identity gets the uid, the gid and all groups of the user, which are written to groups, an array of groups_len:
/// it points there. Call it before chroot(2).
///
/// Returns the number of groups (> 0), the primary one among them; -ENOENT for no such user; -E2BIG when they are more
/// than groups_len; -EINVAL for an empty name, or NULL for name, or for groups with a groups_len; -ENAMETOOLONG for a
/// name of 4096 bytes; or any error of getpwnam_r(3). ret_identity may be NULL. After a failure groups may hold some.
/// Not async-signal-safe. Thread-safe, but for an account of 8 KiB of text or more, which getpwnam(3) has to read. libc
/// may allocate. Needs about 9 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_find_user(
    name: *const c_char,
    groups: *mut u32,
    groups_len: usize,
    ret_identity: *mut rdaemon_identity,
    ret_identity_size: usize,
) -> c_int {
    answer(|| {
        let identity = users::find_user(path(name)?, room(groups, groups_len)?)?;
        sized_out(ret_identity, ret_identity_size, &rdaemon_identity::of_user(&identity));
        c_int::try_from(identity.groups.unwrap_or_default().len()).map_err(|_| Errno::TOOBIG)
    })
}
