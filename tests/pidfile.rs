//! The pidfile through the Rust API.

mod runner;

use rdaemon::pidfile::{self, Options, State};
use rdaemon::{Detail, Step};
use rustix::io::Errno;

fn main() {
    runner::run(&[
        ("write, read and remove", life),
        ("a second process learns the holder's pid", second),
        ("a stale number does not count", stale),
        ("a symlink is refused", symlink),
    ]);
}

/// Runs `child` in a forked process, which must succeed.
fn in_child(child: impl FnOnce()) {
    // SAFETY: the process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).is_ok();
        // SAFETY: _exit has no precondition.
        unsafe { libc::_exit(i32::from(!passed)) };
    }
    assert_eq!(runner::wait(pid), 0);
}

fn life() {
    let (path, c_path) = runner::scratch("pid");
    let own = std::process::id() as i32;
    let mut pidfile = pidfile::open(&c_path, &Options::default()).unwrap();
    in_child(|| assert_eq!(pidfile::read(&c_path).unwrap().state, State::Held));
    pidfile.write().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{own}\n"));
}

fn second() {
    let (path, c_path) = runner::scratch("pid");
    let own = std::process::id() as i32;
    let mut pidfile = pidfile::open(&c_path, &Options::default()).unwrap();
    pidfile.write().unwrap();
    in_child(|| {
        assert_eq!(pidfile::read(&c_path).unwrap(), pidfile::Reading { state: State::Running(own), written: own });
        let error = pidfile::open(&c_path, &Options::default()).unwrap_err();
        assert_eq!((error.step, error.errno, error.detail()), (Step::PidfileOpen, Errno::EXIST, Detail::Holder(own)));
        assert_eq!(error.to_string(), format!("pidfile_open: already running as process {own}"));
        assert_eq!(pidfile.remove(), Err(Errno::PERM));
    });
    pidfile.remove().unwrap();
    pidfile.close().unwrap();
    assert!(!path.exists());
}

fn stale() {
    let (path, c_path) = runner::scratch("pid");
    std::fs::write(&path, "1\n").unwrap();
    assert_eq!(pidfile::read(&c_path).unwrap(), pidfile::Reading { state: State::Free, written: 1 });
    pidfile::open(&c_path, &Options::default()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
}

fn symlink() {
    let (path, c_path) = runner::scratch("pid");
    std::os::unix::fs::symlink("/dev/null", path).unwrap();
    assert_eq!(pidfile::open(&c_path, &Options::default()).unwrap_err().errno, Errno::LOOP);
}
