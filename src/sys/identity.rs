//! User and group ids, through libc: it changes every thread of the process where the kernel would change one.

use super::errno::result;
use rustix::io::Errno;

/// Real, effective and saved id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) real: u32,
    pub(crate) effective: u32,
    pub(crate) saved: u32,
}

impl Ids {
    pub(crate) const fn all(id: u32) -> Ids {
        Ids { real: id, effective: id, saved: id }
    }

    pub(crate) fn are_all(self, id: u32) -> bool {
        self == Ids::all(id)
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn set_groups(groups: &[u32], _gid: u32) -> Result<(), Errno> {
    // SAFETY: gid_t is u32 here; libc reads `len` of them.
    result(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) }).map(drop)
}

/// On the BSDs the first of the groups is the effective group id.
#[cfg(not(target_os = "linux"))]
pub(crate) fn set_groups(groups: &[u32], gid: u32) -> Result<(), Errno> {
    let mut all = [gid; 64];
    let count = groups.len() + 1;
    for (place, &group) in all.get_mut(1..count).ok_or(Errno::INVAL)?.iter_mut().zip(groups) {
        *place = group;
    }
    // SAFETY: gid_t is u32 here; libc reads `count` of them.
    result(unsafe { libc::setgroups(count as _, all.as_ptr()) }).map(drop)
}

/// Whether uid 0 is out of reach. Asked by trying, as capabilities and securebits can make a lie of the ids.
pub(crate) fn cannot_become_root() -> bool {
    // SAFETY: setuid takes a number.
    result(unsafe { libc::setuid(0) }).is_err()
}

#[cfg(not(target_vendor = "apple"))]
mod native {
    use super::{Errno, Ids, result};

    pub(crate) fn uids() -> Result<Ids, Errno> {
        let mut ids = Ids::all(0);
        // SAFETY: libc writes three numbers.
        result(unsafe { libc::getresuid(&raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) })?;
        Ok(ids)
    }

    pub(crate) fn gids() -> Result<Ids, Errno> {
        let mut ids = Ids::all(0);
        // SAFETY: libc writes three numbers.
        result(unsafe { libc::getresgid(&raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) })?;
        Ok(ids)
    }

    pub(crate) fn set_uid(uid: u32) -> Result<(), Errno> {
        // SAFETY: setresuid takes numbers.
        result(unsafe { libc::setresuid(uid, uid, uid) }).map(drop)
    }

    pub(crate) fn set_gid(gid: u32) -> Result<(), Errno> {
        // SAFETY: setresgid takes numbers.
        result(unsafe { libc::setresgid(gid, gid, gid) }).map(drop)
    }
}

/// macOS shows no saved ids and has no setresuid; setreuid sets the saved id with the real one.
#[cfg(target_vendor = "apple")]
mod native {
    use super::{Errno, Ids, result};
    use rustix::process::{getegid, geteuid, getgid, getuid};

    pub(crate) fn uids() -> Result<Ids, Errno> {
        let (real, effective) = (getuid().as_raw(), geteuid().as_raw());
        Ok(Ids { real, effective, saved: effective })
    }

    pub(crate) fn gids() -> Result<Ids, Errno> {
        let (real, effective) = (getgid().as_raw(), getegid().as_raw());
        Ok(Ids { real, effective, saved: effective })
    }

    pub(crate) fn set_uid(uid: u32) -> Result<(), Errno> {
        // SAFETY: setreuid takes numbers.
        result(unsafe { libc::setreuid(uid, uid) }).map(drop)
    }

    pub(crate) fn set_gid(gid: u32) -> Result<(), Errno> {
        // SAFETY: setregid takes numbers.
        result(unsafe { libc::setregid(gid, gid) }).map(drop)
    }
}

pub(crate) use native::{gids, set_gid, set_uid, uids};
