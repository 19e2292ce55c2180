//! The end of a started program.

use crate::deadline::{Deadline, pause};
use crate::sys::fd::{self, Fd};
use crate::sys::poll::{Place, poll};
use crate::sys::process;
use rustix::fd::{AsRawFd, RawFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

/// A started program, as the one who started it knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// -1: none. Not this struct's to close.
    pub(crate) pidfd: RawFd,
    pub(crate) state: State,
}

/// What is known of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing; the process is this one's child.
    Child,
    /// Nothing; it is nobody's child but init's.
    Detached,
    /// It has been reaped: the number may be another process's by now.
    Ended(ExitStatus),
    /// It has ended, and who knows how is somebody else.
    Lost,
}

/// How a program ended, as waitpid(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(i32);

/// [`ExitStatus`], decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
    /// This signal ended it, and a core was dumped.
    Dumped(i32),
}

impl ExitStatus {
    #[cfg(feature = "capi")]
    pub(crate) fn from_wait_status(status: i32) -> ExitStatus {
        ExitStatus(status)
    }

    /// The number that the `W` macros of C take.
    #[must_use]
    pub const fn wait_status(self) -> i32 {
        self.0
    }

    /// How it was.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match (self.0 & 0x7f, self.0 & 0x80) {
            (0, _) => Exit::Exited(self.0 >> 8 & 0xff),
            (signal, 0) => Exit::Signalled(signal),
            (signal, _) => Exit::Dumped(signal),
        }
    }

    /// The exit status, or the negative signal: the returncode of PEP 324.
    #[must_use]
    pub const fn returncode(self) -> i32 {
        match self.exit() {
            Exit::Exited(status) => status,
            Exit::Signalled(signal) | Exit::Dumped(signal) => -signal,
        }
    }
}

impl Process {
    /// Waits until it has ended. `ECHILD`: its status went to somebody else, or it was never this process's to get.
    pub(crate) fn wait(&mut self, deadline: Deadline) -> Result<ExitStatus, Errno> {
        if deadline.is_never() && self.state == State::Child {
            while let Err(Errno::INTR) = self.reap(WaitOptions::empty()) {}
        }
        let mut opened = None;
        loop {
            if let Some(end) = self.end()? {
                return end;
            }
            if deadline.has_passed() {
                return Err(Errno::TIMEDOUT);
            }
            match self.pidfd(&mut opened) {
                Some(pidfd) => drop(wait_readable(pidfd, deadline)?),
                None => pause(),
            }
        }
    }

    /// How it ended, if it has.
    pub(crate) fn end(&mut self) -> Result<Option<Result<ExitStatus, Errno>>, Errno> {
        match self.state {
            State::Child => self.reap(WaitOptions::NOHANG)?,
            State::Detached => {
                if wait_readable(fd::borrow(self.pidfd)?.as_raw_fd(), Deadline::milliseconds(0))? {
                    self.state = State::Lost;
                }
            }
            State::Ended(_) | State::Lost => {}
        }
        Ok(match self.state {
            State::Child | State::Detached => None,
            State::Ended(status) => Some(Ok(status)),
            State::Lost => Some(Err(Errno::CHILD)),
        })
    }

    /// An fd to wait on: the child is not reaped yet, so that the number is still its own.
    pub(crate) fn pidfd(&self, opened: &mut Option<Fd>) -> Option<RawFd> {
        if self.pidfd < 0 && opened.is_none() {
            *opened = fd::watch_exit(self.pid).ok();
        }
        if self.pidfd < 0 { opened.as_ref().map(Fd::number) } else { Some(self.pidfd) }
    }

    fn reap(&mut self, options: WaitOptions) -> Result<(), Errno> {
        match self.reap_by_pidfd(options) {
            // No pidfd, or a kernel before 5.4.
            Err(Errno::BADF | Errno::INVAL | Errno::NOSYS) => {}
            result => return result,
        }
        match waitpid(Pid::from_raw(self.pid), options | process::wait_options()) {
            Ok(Some((_, status))) => self.state = State::Ended(ExitStatus(status.as_raw())),
            Ok(None) => {}
            Err(Errno::CHILD) => self.state = State::Lost,
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Not by number, which somebody who has reaped the child may have freed for another one.
    #[cfg(target_os = "linux")]
    fn reap_by_pidfd(&mut self, options: WaitOptions) -> Result<(), Errno> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::from_bits_retain((options | process::wait_options()).bits());
        match waitid(WaitId::PidFd(fd::borrow(self.pidfd)?), options | WaitIdOptions::EXITED) {
            Ok(Some(end)) => {
                let signal = end.terminating_signal().unwrap_or(0);
                let dumped = if end.dumped() { 0x80 } else { 0 };
                let status = end.exit_status().unwrap_or(0) << 8 | signal | dumped;
                self.state = State::Ended(ExitStatus(status));
            }
            Ok(None) => {}
            Err(Errno::CHILD) => self.state = State::Lost,
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn reap_by_pidfd(&mut self, _options: WaitOptions) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    /// `ESRCH` once it has been reaped, whoever has its number then.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Errno> {
        if matches!(self.state, State::Ended(_) | State::Lost) {
            return Err(Errno::SRCH);
        }
        if self.pidfd >= 0 {
            match process::kill_by_pidfd(fd::borrow(self.pidfd)?, signal) {
                Err(Errno::NOSYS) => {}
                result => return result,
            }
        }
        // Nothing else tells whose number it is.
        if self.state == State::Detached {
            return Err(Errno::BADF);
        }
        if self.is_reaped() {
            return Err(Errno::SRCH);
        }
        process::kill(self.pid, signal)
    }

    /// Whether somebody else has reaped the child, so that its number is no longer its own.
    fn is_reaped(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let Some(pid) = Pid::from_raw(self.pid) else {
            return true;
        };
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let peek = peek | WaitIdOptions::from_bits_retain(process::wait_options().bits());
        matches!(waitid(WaitId::Pid(pid), peek), Err(Errno::CHILD))
    }

    /// SIGTERM, and SIGCONT for one that is stopped; then SIGKILL.
    pub(crate) fn stop(
        &mut self,
        until_killed: Deadline,
        after: impl FnOnce() -> Deadline,
    ) -> Result<ExitStatus, Errno> {
        self.signal_running(libc::SIGTERM)?;
        self.signal_running(libc::SIGCONT)?;
        match self.wait(until_killed) {
            Err(Errno::TIMEDOUT) => {}
            result => return result,
        }
        self.signal_running(libc::SIGKILL)?;
        self.wait(after())
    }

    /// One that has gone needs no signal.
    fn signal_running(&self, signal: i32) -> Result<(), Errno> {
        match self.signal(signal) {
            Err(Errno::SRCH) => Ok(()),
            result => result,
        }
    }
}

/// A number that is no fd any more would be ready for ever.
fn wait_readable(pidfd: RawFd, deadline: Deadline) -> Result<bool, Errno> {
    let mut places = [Place::readable(Some(pidfd))];
    let ready = poll(&mut places, deadline)?;
    if places.iter().any(Place::is_bad) { Err(Errno::BADF) } else { Ok(ready) }
}
