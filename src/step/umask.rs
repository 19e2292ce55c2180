use rustix::fs::Mode;

/// `umask(mask)`—Sets the process's file creation mask and answers the one before. Async-signal-safe.
pub fn umask(mask: Mode) -> Mode {
    rustix::process::umask(mask)
}
