use rustix::io::Errno;
use rustix::process::Pid;

/// `setsid()`—Starts a new session and process group, without a controlling terminal, and answers its id.
///
/// `EPERM` when the process leads a process group already. Async-signal-safe.
pub fn setsid() -> Result<Pid, Errno> {
    rustix::process::setsid()
}
