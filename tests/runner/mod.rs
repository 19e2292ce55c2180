//! Runs each case in a forked child, one after the other: the cases change the process they run in, and a fork wants a
//! process with one thread, which cargo's own harness is not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

pub type Case = (&'static str, fn());

/// Exits with the number of failures.
pub fn run(cases: &[Case]) {
    let failed = cases.iter().filter(|case| !passes(case)).count();
    println!("{} passed, {failed} failed", cases.len() - failed);
    std::process::exit(failed.try_into().unwrap_or(1));
}

fn passes(&(name, case): &Case) -> bool {
    // SAFETY: the process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: alarm takes a number.
        unsafe { libc::alarm(20) };
        adopt_orphans();
        let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
        // SAFETY: _exit has no precondition.
        unsafe { libc::_exit(i32::from(!passed)) };
    }
    let passed = wait(child) == 0;
    println!("{name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}

/// The wait status of a child.
pub fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the status is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// Makes orphans this process's children, so that it can wait for daemons.
fn adopt_orphans() {
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
}

/// A path of this process's own where nothing is yet, and its C string.
pub fn scratch(name: &str) -> (PathBuf, std::ffi::CString) {
    let path = PathBuf::from(format!("{}/{}-{name}", env!("CARGO_TARGET_TMPDIR"), std::process::id()));
    let _ = std::fs::remove_file(&path);
    let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    (path, c_path)
}
