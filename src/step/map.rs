//! Fds to given numbers, as a parallel assignment: a source may be the target of another move.

use crate::sys::fd::{self, Fd};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::io::Errno;

/// `target` becomes a duplicate of `source`, and loses its close-on-exec mark. No two moves have one target.
#[derive(Clone, Copy)]
pub(crate) struct Move {
    pub(crate) source: RawFd,
    pub(crate) target: RawFd,
}

/// The source of a move that is done.
const DONE: RawFd = -1;

impl Move {
    /// One that is done before it begins.
    pub(crate) const NONE: Move = Move { source: DONE, target: DONE };
}

/// `dup2()`—Does all the moves at once. It needs an fd to spare only where they go round in a circle, one for each.
pub(crate) fn map_fds(moves: &mut [Move]) -> Result<(), Errno> {
    loop {
        while move_what_overwrites_no_source(moves)? {}
        // What is left goes round in circles: set one target's fd aside.
        let Some(target) = moves.iter().find(|each| each.source != DONE).map(|each| each.target) else {
            return Ok(());
        };
        let aside = duplicate_beside(fd::borrow(target)?, moves)?.into_number();
        for each in moves.iter_mut().filter(|each| each.source == target) {
            each.source = aside;
        }
    }
}

/// One pass over the moves; answers whether it did any.
fn move_what_overwrites_no_source(moves: &mut [Move]) -> Result<bool, Errno> {
    let mut moved = false;
    for index in 0..moves.len() {
        let Some(&Move { source, target }) = moves.get(index).filter(|each| each.source != DONE) else {
            continue;
        };
        let is_needed = |each: &Move| each.source == target && each.target != target;
        if !moves.iter().any(is_needed) {
            fd::put(fd::borrow(source)?, target)?;
            moved = true;
            if let Some(each) = moves.get_mut(index) {
                each.source = DONE;
            }
        }
    }
    Ok(moved)
}

/// A duplicate on a number that is no move's target.
pub(crate) fn duplicate_beside(source: BorrowedFd<'_>, moves: &[Move]) -> Result<Fd, Errno> {
    let mut lowest = 3;
    loop {
        let copy = fd::duplicate_from(source, lowest)?;
        if !moves.iter().any(|each| each.target == copy.number()) {
            return Ok(copy);
        }
        lowest = copy.number() + 1;
    }
}

/// The same file on a number that is no move's target.
pub(crate) fn beside(fd: Fd, moves: &[Move]) -> Result<Fd, Errno> {
    if moves.iter().any(|each| each.target == fd.number()) { duplicate_beside(fd.lend(), moves) } else { Ok(fd) }
}
