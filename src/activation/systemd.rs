//! The fds from 3 on that `LISTEN_FDS` counts: sd_listen_fds(3).

use super::{Socket, Source, Visit, set_collected};
use crate::sys::{env, fd};
use crate::variables::{is_own_pid, is_own_pidfd_id, number};
use core::ffi::{CStr, c_char};
use rustix::fd::RawFd;
use rustix::io::{Errno, FdFlags};

const FIRST: RawFd = 3;
const NAMES: &CStr = c"LISTEN_FDNAMES";
/// With its NUL. systemd allows as much.
const NAME_SIZE: usize = 256;

/// How many fds are for this process, if any: they are open, and have names or none.
pub(super) fn offered() -> Result<Option<RawFd>, Errno> {
    if !is_own_pid(c"LISTEN_PID")? || !is_own_pidfd_id(c"LISTEN_PIDFDID")? {
        return Ok(None);
    }
    let Some(count) = number(c"LISTEN_FDS")? else { return Ok(None) };
    let count = RawFd::try_from(count).ok().filter(|&count| (1..RawFd::MAX - FIRST).contains(&count));
    let count = count.ok_or(Errno::INVAL)?;
    (FIRST..FIRST + count).try_for_each(|fd| fd::borrow_open(fd).map(drop))?;
    env::with(NAMES, |names| {
        let names = names.to_bytes().split(|&byte| byte == b':');
        let (mut number, mut longest) = (0, 0);
        names.for_each(|name| (number, longest) = (number + 1, longest.max(name.len())));
        if number == count && longest < NAME_SIZE { Ok(()) } else { Err(Errno::BADMSG) }
    })
    .unwrap_or(Ok(()))?;
    Ok(Some(count))
}

/// How many fds from 3 on are this process's, though not collected yet.
pub(crate) fn uncollected() -> RawFd {
    offered().ok().flatten().unwrap_or(0)
}

pub(super) fn collect(count: RawFd, wanted: Option<&CStr>, visit: Visit<'_>) -> Result<(), Errno> {
    for fd in FIRST..FIRST + count {
        rustix::io::fcntl_setfd(fd::borrow(fd)?, FdFlags::CLOEXEC)?;
    }
    set_collected();
    let names = env::take(NAMES);
    for name in [c"LISTEN_PID", c"LISTEN_PIDFDID", c"LISTEN_FDS"] {
        let _ = env::take(name);
    }
    let mut goes_on = true;
    for index in 0..count {
        let name = name_of(names, index);
        let name = crate::sys::cstr::at_start_of(&name).unwrap_or_default();
        if goes_on && wanted.is_none_or(|wanted| wanted == name) {
            goes_on = visit(&Socket::new(fd::borrow(FIRST + index)?, Source::Systemd, name)?);
        }
    }
    Ok(())
}

fn name_of(names: Option<&CStr>, index: RawFd) -> [c_char; NAME_SIZE] {
    let mut place = [0; NAME_SIZE];
    let name = names.and_then(|names| names.to_bytes().split(|&byte| byte == b':').nth(index as usize));
    for (place, &byte) in place.iter_mut().zip(name.unwrap_or(b"unknown")) {
        *place = byte as c_char;
    }
    place
}
