//! The steps through the Rust API. The hard cases are in ffi-tests, where the same code runs through the C ABI.

mod runner;

use rdaemon::step::{self, DoubleFork, Identity, Limit, SignalAction, SignalMapEntry, Source};
use rustix::fs::Mode;
use std::fs::File;
use std::os::fd::AsRawFd;

fn main() {
    runner::run(&[
        ("close_fds keeps what it is told to, in any order", close_fds),
        ("redirect_stdio swaps", redirect_stdio),
        ("umask answers the mask before", umask),
        ("set_limits sets RLIMIT_NOFILE", set_limits),
        ("set_limits refuses a soft limit above the hard one", bad_limit),
        ("set_signals ignores", set_signals),
        ("set_signals refuses SIGKILL and changes nothing", bad_signal),
        ("double_fork ends in a session that it does not lead", double_fork),
        ("drop_privileges without a change is fine", no_change),
        ("drop_privileges refuses the id -1", bad_identity),
    ]);
}

fn is_open(fd: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}

fn close_fds() {
    let files: Vec<File> = (0..4).map(|_| File::open("/dev/null").unwrap()).collect();
    let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: the files are open until they are forgotten below.
    let borrowed = |i: usize| unsafe { rustix::fd::BorrowedFd::borrow_raw(numbers[i]) };
    // SAFETY: the closed fds belong to the forgotten files.
    unsafe { step::close_fds(3, &[borrowed(3), borrowed(1), borrowed(3)], false) }.unwrap();
    assert_eq!(numbers.iter().map(|&fd| is_open(fd)).collect::<Vec<_>>(), [false, true, false, true]);
    std::mem::forget(files);
}

fn redirect_stdio() {
    let target = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    let out = File::create(runner::scratch("out").0).unwrap();
    // SAFETY: the file is open for as long as this function runs.
    let out = unsafe { rustix::fd::BorrowedFd::borrow_raw(out.as_raw_fd()) };
    step::redirect_stdio([Source::Null, Source::Fd(out), Source::Inherit]).unwrap();
    let (stdout, stderr) = (target(1), target(2));
    // SAFETY: fds 1 and 2 are open.
    let std = |fd| unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) };
    step::redirect_stdio([Source::Inherit, Source::Fd(std(2)), Source::Fd(std(1))]).unwrap();
    assert_eq!((target(1), target(2)), (stderr, stdout));
}

fn umask() {
    step::umask(Mode::from_raw_mode(0o27));
    assert_eq!(step::umask(Mode::empty()), Mode::from_raw_mode(0o27));
}

fn set_limits() {
    step::set_limits(&[Limit { resource: libc::RLIMIT_NOFILE as _, soft: 100, hard: 101 }]).unwrap();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line: Vec<&str> = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split(' ').collect();
    assert!(line.contains(&"100") && line.contains(&"101"));
}

fn bad_limit() {
    let limit = Limit { resource: libc::RLIMIT_NOFILE as _, soft: 101, hard: 100 };
    assert_eq!(step::set_limits(&[limit]), Err(rustix::io::Errno::INVAL));
}

/// A field of /proc/self/status, in hexadecimal.
fn status_mask(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

fn set_signals() {
    let map = [SignalMapEntry { signal: libc::SIGUSR1, action: SignalAction::Ignore }];
    // SAFETY: the map has no handlers.
    unsafe { step::set_signals(&map, None) }.unwrap();
    assert_ne!(status_mask("SigIgn") & (1 << (libc::SIGUSR1 - 1)), 0);
    step::reset_signals().unwrap();
    let left_to_libc = 0b11 << (32 - 1);
    assert_eq!(["SigIgn", "SigCgt", "SigBlk"].map(|field| status_mask(field) & !left_to_libc), [0; 3]);
}

fn bad_signal() {
    let ignored = status_mask("SigIgn");
    let map = [libc::SIGUSR1, libc::SIGKILL].map(|signal| SignalMapEntry { signal, action: SignalAction::Ignore });
    // SAFETY: the map has no handlers.
    assert_eq!(unsafe { step::set_signals(&map, None) }, Err(rustix::io::Errno::INVAL));
    assert_eq!(status_mask("SigIgn"), ignored);
}

fn double_fork() {
    // SAFETY: the process has one thread.
    match unsafe { step::double_fork() }.unwrap() {
        DoubleFork::Original { pid, pidfd } => {
            assert!(pidfd.is_some());
            assert_eq!(runner::wait(pid), 0);
        }
        DoubleFork::Daemon => {
            let session = rustix::process::getsid(None).map_or(0, |session| session.as_raw_pid());
            let pid = std::process::id() as i32;
            // SAFETY: _exit has no precondition.
            unsafe { libc::_exit(i32::from(pid == session || session <= 0)) };
        }
    }
}

fn no_change() {
    step::drop_privileges(&Identity { relinquish: true, ..Identity::default() }).unwrap();
}

fn bad_identity() {
    let identity = Identity { uid: Some(u32::MAX), ..Identity::default() };
    assert_eq!(step::drop_privileges(&identity), Err(rustix::io::Errno::INVAL));
}
