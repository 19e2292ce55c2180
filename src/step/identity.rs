use crate::sys::identity::{self as ids, Ids, Process, Subject};
use rustix::io::Errno;

/// "No such id", and for chown(2) "unchanged": never the id of a user or a group.
const NO_ID: u32 = u32::MAX;

/// Whose rights the process has from now on. The default changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity<'a> {
    /// Real, effective and saved user id.
    pub uid: Option<u32>,
    /// Real, effective and saved group id.
    pub gid: Option<u32>,
    /// Supplementary groups. `None`: dropped when the uid changes, else left alone.
    pub groups: Option<&'a [u32]>,
    /// Leave the supplementary groups alone although the uid changes.
    pub keep_groups: bool,
    /// Give up the effective ids of a set-user-id or set-group-id program for the real ones, where neither `uid` nor
    /// `gid` says otherwise.
    pub relinquish: bool,
}

impl Identity<'_> {
    /// Whether the uid or the gid may become another one.
    pub(crate) fn changes_ids(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || self.relinquish
    }

    /// Refuses what can never work: `EINVAL`.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        let groups = self.groups.unwrap_or_default();
        let impossible = self.uid == Some(NO_ID)
            || self.gid == Some(NO_ID)
            || groups.contains(&NO_ID)
            || (self.keep_groups && self.groups.is_some());
        if impossible { Err(Errno::INVAL) } else { Ok(()) }
    }
}

/// `setgroups()`, `setresgid()`, `setresuid()`—Changes groups, then group id, then user id, in every thread of the
/// process; reads them back, and makes sure that uid 0 cannot be regained.
///
/// Any error means that the process must not go on as if it had lost its privileges; a part of them may be gone.
/// `EPERM` also when the ids read back are not the ones asked for. Async-signal-safe in a process with one thread.
pub fn drop_privileges(identity: &Identity<'_>) -> Result<(), Errno> {
    identity.check()?;
    change::<Process>(identity)
}

/// [`drop_privileges`], of an identity that was checked.
pub(crate) fn change<Who: Subject>(identity: &Identity<'_>) -> Result<(), Errno> {
    let (uids, gids) = (ids::uids()?, ids::gids()?);
    let uid = identity.uid.or(identity.relinquish.then_some(uids.real).filter(|&real| !uids.are_surely_all(real)));
    let gid = identity.gid.or(identity.relinquish.then_some(gids.real).filter(|&real| !gids.are_surely_all(real)));
    if let Some(groups) = groups_to_set(identity, uid.is_some_and(|uid| !uids.are_all(uid))) {
        Who::set_groups(groups, gid.unwrap_or(gids.effective))?;
    }
    if let Some(gid) = gid {
        if !ids::gids()?.are_surely_all(gid) {
            Who::set_gid(gid)?;
        }
        verify(ids::gids()?, gid)?;
    }
    if let Some(uid) = uid {
        if !uids.are_surely_all(uid) {
            Who::set_uid(uid)?;
        }
        verify(ids::uids()?, uid)?;
        if uid != 0 && !Who::cannot_become_root() {
            // The proof has made it root.
            let _ = Who::set_uid(uid);
            return Err(Errno::PERM);
        }
    }
    Ok(())
}

/// The groups of the user that is left behind go with him, unless told otherwise. Relinquishing leaves nobody behind:
/// the groups are the real user's already.
fn groups_to_set<'a>(identity: &Identity<'a>, uid_changes: bool) -> Option<&'a [u32]> {
    let drop_them = identity.uid.is_some() && uid_changes && !identity.keep_groups;
    identity.groups.or(drop_them.then_some(&[]))
}

fn verify(got: Ids, asked: u32) -> Result<(), Errno> {
    if got.are_all(asked) { Ok(()) } else { Err(Errno::PERM) }
}
