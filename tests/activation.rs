//! Sockets handed over, and what the manager is told, through the Rust API.

mod runner;

use rdaemon::activation::{self, Flags, Kind, Source, Visits};
use rdaemon::notify::{self, Notification};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

fn main() {
    runner::run(&[
        ("sockets are visited, once", sockets),
        ("the one socket is found", one_socket),
        ("without a manager there is nothing", nothing),
        ("the manager is told", told),
        ("without a manager nobody is told", not_told),
    ]);
}

fn set(name: &str, value: &str) {
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var(name, value) };
}

/// A listener as fd 3, as systemd hands it over.
fn offer() {
    let (path, _) = runner::scratch("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    // SAFETY: takes numbers; nobody owns fd 3 in a test that has opened nothing else.
    assert_eq!(unsafe { libc::dup2(listener.as_raw_fd(), 3) }, 3);
    std::mem::forget(listener);
    set("LISTEN_PID", &std::process::id().to_string());
    set("LISTEN_FDS", "1");
    set("LISTEN_FDNAMES", "web");
}

fn sockets() {
    offer();
    let mut seen = Vec::new();
    let mut visitor = |socket: &activation::Socket<'_>| {
        seen.push((socket.fd, socket.source, socket.kind, socket.family, socket.name.to_owned()));
        0
    };
    // SAFETY: the process has one thread, and nobody else owns fd 3.
    let visits = unsafe { activation::listen(None, Flags::empty(), &mut visitor) };
    assert_eq!(visits, Ok(Visits::All(1)));
    assert_eq!(seen, [(3, Source::Systemd, Kind::Listener, libc::AF_UNIX, c"web".to_owned())]);
    assert!(["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].iter().all(|name| std::env::var_os(name).is_none()));
    // SAFETY: as above.
    assert_eq!(unsafe { activation::listen_fd(None, Flags::empty()) }.err(), Some(Errno::ALREADY));
    assert!(rdaemon::daemon::started_by().is_activated());
}

fn one_socket() {
    offer();
    // SAFETY: the process has one thread, and nobody else owns fd 3.
    let fd = unsafe { activation::listen_fd(Some(c"web"), Flags::empty()) }.unwrap();
    assert_eq!(fd.as_raw_fd(), 3);
}

fn nothing() {
    // SAFETY: the process has one thread.
    let visits = unsafe { activation::listen(None, Flags::empty(), &mut |_| 0) };
    assert_eq!(visits, Err(Errno::SRCH));
}

fn told() {
    let (path, _) = runner::scratch("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    set("NOTIFY_SOCKET", path.to_str().unwrap());
    set("WATCHDOG_USEC", "2000000");
    let message = || {
        let mut message = [0; 100];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let ready = Notification { flags: notify::Flags::READY, status: Some(c"serving"), ..Notification::default() };
    assert_eq!((notify::notify(&ready), message().as_str()), (Ok(true), "READY=1\nSTATUS=serving\n"));
    assert_eq!(notify::notify(&Notification::default()), Err(Errno::INVAL));
    assert_eq!(notify::store_fds(Some(c"web"), &[manager.as_fd()]), Ok(true));
    assert_eq!(message(), "FDSTORE=1\nFDNAME=web\n");
    assert_eq!(notify::barrier(Some(Duration::ZERO)), Err(Errno::TIMEDOUT));
    assert_eq!(notify::watchdog(), Ok(Some(Duration::from_secs(2))));
    std::fs::remove_file(path).unwrap();
}

fn not_told() {
    let ready = Notification { flags: notify::Flags::READY, ..Notification::default() };
    assert_eq!((notify::notify(&ready), notify::watchdog()), (Ok(false), Ok(None)));
}
