use rustix::io::Errno;

/// `prctl(PR_SET_NO_NEW_PRIVS)`—Makes execve(2) grant no privilege from now on: set-user-id bits and file capabilities
/// have no effect.
///
/// It holds for the calling thread and what it starts, and cannot be undone. `ENOSYS` on systems without it.
/// Async-signal-safe.
pub fn no_new_privs() -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    return rustix::thread::set_no_new_privs(true);
    #[cfg(target_os = "freebsd")]
    return rustix::process::set_no_new_privs(None);
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    return Err(Errno::NOSYS);
}
