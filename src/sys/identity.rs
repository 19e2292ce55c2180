//! User and group ids.

use super::errno::result;
use rustix::io::Errno;

/// Real, effective and saved id. macOS has no getresuid(2) to show the saved one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) real: u32,
    pub(crate) effective: u32,
    #[cfg(not(target_vendor = "apple"))]
    pub(crate) saved: u32,
}

impl Ids {
    pub(crate) const fn all(id: u32) -> Ids {
        Ids {
            real: id,
            effective: id,
            #[cfg(not(target_vendor = "apple"))]
            saved: id,
        }
    }

    /// Whether no id that is shown is another one.
    pub(crate) fn are_all(self, id: u32) -> bool {
        self == Ids::all(id)
    }

    /// Whether there is nothing to change, not even an id that is not shown.
    pub(crate) fn are_surely_all(self, id: u32) -> bool {
        cfg!(not(target_vendor = "apple")) && self.are_all(id)
    }
}

/// Whose ids change.
pub(crate) trait Subject {
    fn set_groups(groups: &[u32], gid: u32) -> Result<(), Errno>;
    fn set_gid(gid: u32) -> Result<(), Errno>;
    fn set_uid(uid: u32) -> Result<(), Errno>;
    /// Whether uid 0 is out of reach. Asked by trying, as capabilities and securebits can make a lie of the ids.
    fn cannot_become_root() -> bool;
}

/// EINVAL: there is no uid 0 in this user namespace. After any other error, as of memory, the next try may succeed.
fn is_refusal<T>(attempt: Result<T, Errno>) -> bool {
    matches!(attempt, Err(Errno::PERM | Errno::INVAL))
}

/// Every thread of the process, through libc, as the kernel would change one.
pub(crate) struct Process;

impl Subject for Process {
    #[cfg(target_os = "linux")]
    fn set_groups(groups: &[u32], _gid: u32) -> Result<(), Errno> {
        // SAFETY: gid_t is u32 here; libc reads `len` of them.
        result(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) }).map(drop)
    }

    /// On the BSDs the first of the groups is the effective group id. It is among a user's groups too, and twice would
    /// be one more than macOS takes of a user who has as many as it takes.
    #[cfg(not(target_os = "linux"))]
    fn set_groups(groups: &[u32], gid: u32) -> Result<(), Errno> {
        let mut all = [gid; 64];
        let mut count = 1;
        for &group in groups.iter().filter(|&&group| group != gid) {
            *all.get_mut(count).ok_or(Errno::INVAL)? = group;
            count += 1;
        }
        // SAFETY: gid_t is u32 here; libc reads `count` of them.
        result(unsafe { libc::setgroups(count as _, all.as_ptr()) }).map(drop)
    }

    fn set_gid(gid: u32) -> Result<(), Errno> {
        // SAFETY: the function takes numbers. On macOS, without setresgid, setregid sets the saved id with the real one.
        #[cfg(target_vendor = "apple")]
        return result(unsafe { libc::setregid(gid, gid) }).map(drop);
        // SAFETY: the function takes numbers.
        #[cfg(not(target_vendor = "apple"))]
        return result(unsafe { libc::setresgid(gid, gid, gid) }).map(drop);
    }

    fn set_uid(uid: u32) -> Result<(), Errno> {
        // SAFETY: the function takes numbers. On macOS, without setresuid, setreuid sets the saved id with the real one.
        #[cfg(target_vendor = "apple")]
        return result(unsafe { libc::setreuid(uid, uid) }).map(drop);
        // SAFETY: the function takes numbers.
        #[cfg(not(target_vendor = "apple"))]
        return result(unsafe { libc::setresuid(uid, uid, uid) }).map(drop);
    }

    fn cannot_become_root() -> bool {
        // SAFETY: setuid takes a number.
        is_refusal(result(unsafe { libc::setuid(0) }))
    }
}

/// The calling thread alone: for a process that has no other, but a libc that may not know so.
#[cfg(target_os = "linux")]
pub(crate) struct Thread;

#[cfg(target_os = "linux")]
mod calls {
    #[cfg(target_pointer_width = "64")]
    pub(super) use libc::{SYS_getresgid, SYS_getresuid, SYS_setgroups, SYS_setresgid, SYS_setresuid, SYS_setuid};
    #[cfg(target_pointer_width = "32")]
    pub(super) use libc::{
        SYS_getresgid32 as SYS_getresgid, SYS_getresuid32 as SYS_getresuid, SYS_setgroups32 as SYS_setgroups,
        SYS_setresgid32 as SYS_setresgid, SYS_setresuid32 as SYS_setresuid, SYS_setuid32 as SYS_setuid,
    };
}

#[cfg(target_os = "linux")]
impl Subject for Thread {
    fn set_groups(groups: &[u32], _gid: u32) -> Result<(), Errno> {
        // SAFETY: the kernel reads `len` numbers.
        unsafe { syscall4(calls::SYS_setgroups, groups.len(), groups.as_ptr() as usize, 0, 0) }.map(drop)
    }

    fn set_gid(gid: u32) -> Result<(), Errno> {
        let gid = gid as usize;
        // SAFETY: setresgid takes numbers.
        unsafe { syscall4(calls::SYS_setresgid, gid, gid, gid, 0) }.map(drop)
    }

    fn set_uid(uid: u32) -> Result<(), Errno> {
        let uid = uid as usize;
        // SAFETY: setresuid takes numbers.
        unsafe { syscall4(calls::SYS_setresuid, uid, uid, uid, 0) }.map(drop)
    }

    fn cannot_become_root() -> bool {
        // SAFETY: setuid takes a number.
        is_refusal(unsafe { syscall4(calls::SYS_setuid, 0, 0, 0, 0) })
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) use Process as Thread;

#[cfg(target_os = "linux")]
use super::arch::syscall4;

#[cfg(target_os = "linux")]
fn read(number: libc::c_long) -> Result<Ids, Errno> {
    let mut ids = Ids::all(0);
    let places = [&raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved].map(|place| place as usize);
    let [real, effective, saved] = places;
    // SAFETY: the kernel writes three numbers.
    unsafe { syscall4(number, real, effective, saved, 0) }.map(|_| ids)
}

#[cfg(target_os = "linux")]
pub(crate) fn uids() -> Result<Ids, Errno> {
    read(calls::SYS_getresuid)
}

#[cfg(target_os = "linux")]
pub(crate) fn gids() -> Result<Ids, Errno> {
    read(calls::SYS_getresgid)
}

#[cfg(target_vendor = "apple")]
pub(crate) fn uids() -> Result<Ids, Errno> {
    use rustix::process::{geteuid, getuid};
    Ok(Ids { real: getuid().as_raw(), effective: geteuid().as_raw() })
}

#[cfg(target_vendor = "apple")]
pub(crate) fn gids() -> Result<Ids, Errno> {
    use rustix::process::{getegid, getgid};
    Ok(Ids { real: getgid().as_raw(), effective: getegid().as_raw() })
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(crate) fn uids() -> Result<Ids, Errno> {
    let mut ids = Ids::all(0);
    // SAFETY: libc writes three numbers.
    result(unsafe { libc::getresuid(&raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) }).map(|_| ids)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(crate) fn gids() -> Result<Ids, Errno> {
    let mut ids = Ids::all(0);
    // SAFETY: libc writes three numbers.
    result(unsafe { libc::getresgid(&raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) }).map(|_| ids)
}
