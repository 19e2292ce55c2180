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
#[allow(dead_code, reason = "not every program starts daemons")]
pub fn adopt_orphans() {
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
}

/// A path in a fresh directory, and its C string. The directory is left to the system's cleaning of /tmp.
#[allow(dead_code, reason = "not every program needs files")]
pub fn scratch(name: &str) -> (PathBuf, std::ffi::CString) {
    let mut template = *b"/tmp/rdaemon-test-XXXXXX\0";
    // SAFETY: the template is writable and ends with a NUL.
    let directory = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
    assert!(!directory.is_null());
    let directory = std::str::from_utf8(&template[..template.len() - 1]).unwrap();
    let path = PathBuf::from(directory).join(name);
    let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    (path, c_path)
}
