use crate::sys::limits::{self, Pair};
use rustix::io::Errno;

/// What Linux takes for "no dump, not even into a pipe": with 0 it still pipes the dump into a handler that
/// core_pattern names.
#[cfg(target_os = "linux")]
const NO_DUMP: u64 = 1;
/// No dump.
#[cfg(not(target_os = "linux"))]
const NO_DUMP: u64 = 0;

/// `setrlimit(RLIMIT_CORE)`—Prevents core dumps of this process and of all that it starts.
///
/// With `undumpable` the process's dumpable attribute is cleared as well, which also keeps other processes of the same
/// user from tracing it, but makes its files in /proc unreadable to them, and to itself after a loss of privileges.
///
/// Where the hard limit is 0 already and may not be raised to 1, Linux could still pipe a dump away; the dumpable
/// attribute is cleared then too. Async-signal-safe.
pub fn prevent_core(undumpable: bool) -> Result<(), Errno> {
    match limits::set(libc::RLIMIT_CORE as _, Pair { soft: NO_DUMP, hard: NO_DUMP }) {
        Err(Errno::PERM) => {
            limits::set(libc::RLIMIT_CORE as _, Pair { soft: 0, hard: 0 })?;
            clear_dumpable()
        }
        Ok(()) if undumpable => clear_dumpable(),
        result => result,
    }
}

#[cfg(target_os = "linux")]
fn clear_dumpable() -> Result<(), Errno> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}

#[cfg(target_os = "freebsd")]
fn clear_dumpable() -> Result<(), Errno> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(None, DumpableBehavior::NotDumpable)
}

/// macOS has no such attribute; the limit of 0 is all there is.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn clear_dumpable() -> Result<(), Errno> {
    Ok(())
}
