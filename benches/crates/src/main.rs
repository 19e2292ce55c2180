//! One daemon, made by one of the crates `daemonize` and `fork`.
//!
//!     crates METHOD MIB BOARD
//!
//! As daemonize.c: MIB MiB are resident.

use fork::{CheckedDaemon, DaemonOptions, Fork};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq)]
enum Moment {
    Begun,
    GoesOn,
    Started,
}

static BOARD: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
static CALLER: AtomicU32 = AtomicU32::new(0);

/// The first time counts. No other process than the caller goes on.
fn note(moment: Moment) {
    if moment == Moment::GoesOn && std::process::id() != CALLER.load(Ordering::Relaxed) {
        return;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: It is written only.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let nanoseconds = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    // SAFETY: `main` has mapped a page.
    let place = unsafe { &*BOARD.load(Ordering::Relaxed).add(moment as usize) };
    let _ = place.compare_exchange(0, nanoseconds, Ordering::Relaxed, Ordering::Relaxed);
}

fn map_board(path: &str) {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::options().read(true).write(true).open(path).expect("the board");
    let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
    // SAFETY: A new mapping at an address that the kernel chooses.
    let board = unsafe { libc::mmap(null_mut(), 24, access, libc::MAP_SHARED, fd, 0) };
    assert_ne!(board, libc::MAP_FAILED, "mmap");
    BOARD.store(board.cast(), Ordering::Relaxed);
}

fn become_large(mib: usize) {
    let (len, access) = (mib << 20, libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: A new mapping at an address that the kernel chooses.
    let memory = unsafe { libc::mmap(null_mut(), len, access, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED, "mmap");
    // SAFETY: The range is the mapping.
    assert_eq!(unsafe { libc::madvise(memory, len, libc::MADV_NOHUGEPAGE) }, 0, "madvise");
    // SAFETY: As before. Only faster than the loop, and not in every kernel.
    unsafe { libc::madvise(memory, len, libc::MADV_POPULATE_WRITE) };
    for offset in (0..len).step_by(4096) {
        // SAFETY: `offset` is inside the mapping, which is writable.
        unsafe { memory.cast::<u8>().add(offset).write_volatile(1) };
    }
}

// Each goes on in the caller, if that does not end inside of it, and in the daemon.

fn by_daemonize() {
    match daemonize::Daemonize::new().execute() {
        daemonize::Outcome::Parent(result) => drop(result.expect("daemonize")),
        daemonize::Outcome::Child(result) => {
            note(Moment::Started);
            result.expect("daemonize");
        }
    }
}

/// The caller ends inside of it, as soon as it has forked.
fn by_fork() {
    extern "C" fn note_that_it_goes_on() {
        note(Moment::GoesOn);
    }
    // SAFETY: The handler only looks at the clock.
    assert_eq!(unsafe { libc::pthread_atfork(None, Some(note_that_it_goes_on), None) }, 0, "pthread_atfork");
    if let Fork::Child = fork::daemon(false, false).expect("fork") {
        note(Moment::Started);
    }
}

fn by_checked_fork() {
    let mut options = DaemonOptions::new();
    options.current_directory("/").and_then(|options| options.redirect_standard_io_to_null()).expect("fork");
    if let CheckedDaemon::Daemon(notifier) = fork::checked_daemon(options, Duration::from_secs(20)).expect("fork") {
        note(Moment::Started);
        notifier.notify_ready().expect("fork");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [method, mib, board] = &arguments[..] else { panic!("usage: crates METHOD MIB BOARD") };
    let method = match method.as_str() {
        "daemonize" => by_daemonize,
        "fork::daemon" => by_fork,
        "fork::checked_daemon" => by_checked_fork,
        _ => panic!("no such method"),
    };
    map_board(board);
    become_large(mib.parse().expect("a number"));

    CALLER.store(std::process::id(), Ordering::Relaxed);
    note(Moment::Begun);
    method();
    note(Moment::GoesOn);
    // SAFETY: Nothing is left to be done.
    unsafe { libc::_exit(0) }
}
