//! Who started this process: what is evidence, and what is only a hint.

use crate::activation;
use crate::variables::{is_own_pid, is_own_pidfd_id, is_set};
use rustix::fs::FileType;
use rustix::process::{Pid, getppid};

bitflags::bitflags! {
    /// What is known of who started this process. Variables that name no pid are inherited by children of children,
    /// and a socket on standard input may come from anywhere: they are hints, on which no decision rests.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StartedBy: u32 {
        /// A conclusion: it was given sockets, and is expected to serve them.
        const ACTIVATED = 1;
        /// A conclusion: a service manager watches it.
        const MANAGER = 1 << 1;
        /// Evidence: `LISTEN_PID` is this process, and so is `LISTEN_PIDFDID`, where given.
        const LISTEN_PID = 1 << 2;
        /// Evidence: `SYSTEMD_EXEC_PID` is this process.
        const SYSTEMD_EXEC_PID = 1 << 3;
        /// Evidence: it leads a session, and its parent is process 1, an init.
        const PARENT_IS_INIT = 1 << 4;
        /// A hint: `NOTIFY_SOCKET` is set.
        const NOTIFY_SOCKET = 1 << 5;
        /// A hint: `INVOCATION_ID` is set.
        const INVOCATION_ID = 1 << 6;
        /// A hint: `XPC_SERVICE_NAME` is set.
        const XPC_SERVICE = 1 << 7;
        /// A hint: standard input is a socket.
        const STDIN_IS_SOCKET = 1 << 8;
    }
}

impl StartedBy {
    /// Whether the process was given sockets to serve.
    #[must_use]
    pub fn is_activated(self) -> bool {
        self.contains(StartedBy::ACTIVATED)
    }

    /// Whether a service manager watches the process.
    #[must_use]
    pub fn is_by_manager(self) -> bool {
        self.contains(StartedBy::MANAGER)
    }
}

/// Looks at the environment, the parent and standard input. No other thread may change the environment meanwhile.
#[must_use]
pub fn started_by() -> StartedBy {
    let mut found = evidence();
    found.set(StartedBy::NOTIFY_SOCKET, is_set(c"NOTIFY_SOCKET"));
    found.set(StartedBy::INVOCATION_ID, is_set(c"INVOCATION_ID"));
    found.set(StartedBy::XPC_SERVICE, is_set(c"XPC_SERVICE_NAME"));
    found.set(StartedBy::STDIN_IS_SOCKET, stdin_is_socket());
    found
}

/// The evidence, and the conclusions that rest on it.
pub(super) fn evidence() -> StartedBy {
    let mut found = StartedBy::empty();
    if is_own_pid(c"LISTEN_PID") == Ok(true) && is_own_pidfd_id(c"LISTEN_PIDFDID") == Ok(true) {
        found |= StartedBy::LISTEN_PID | StartedBy::ACTIVATED | StartedBy::MANAGER;
    }
    // What told of them is gone.
    if activation::is_collected() {
        found |= StartedBy::ACTIVATED | StartedBy::MANAGER;
    }
    if is_own_pid(c"SYSTEMD_EXEC_PID") == Ok(true) {
        found |= StartedBy::SYSTEMD_EXEC_PID | StartedBy::MANAGER;
    }
    if parent_is_init() {
        found |= StartedBy::PARENT_IS_INIT | StartedBy::MANAGER;
    }
    found
}

/// An orphan has process 1 as its parent, too, but what an init starts leads a session.
fn parent_is_init() -> bool {
    getppid() == Some(Pid::INIT) && crate::sys::process::leads_session() && first_process_is_init()
}

/// In a container process 1 may be anything.
#[cfg(target_os = "linux")]
fn first_process_is_init() -> bool {
    use rustix::fs::{CWD, Mode, OFlags};
    const INITS: [&[u8]; 6] = [b"init\n", b"systemd\n", b"runit\n", b"s6-svscan\n", b"openrc-init\n", b"dinit\n"];
    let mut name = [0; 16];
    let length = crate::sys::fd::open(CWD, c"/proc/1/comm", OFlags::RDONLY, Mode::empty())
        .and_then(|file| rustix::io::read(file.lend(), &mut name))
        .unwrap_or(0);
    INITS.contains(&name.get(..length).unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
fn first_process_is_init() -> bool {
    true
}

fn stdin_is_socket() -> bool {
    let stat = crate::sys::fd::borrow(0).and_then(rustix::fs::fstat);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode as _) == FileType::Socket)
}
