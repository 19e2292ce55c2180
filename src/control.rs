//! A daemon as others see it: by its pidfile they ask for it, signal it, stop it, and start it.
//!
//! Whom to signal the kernel says, who names the holder of the pidfile's process lock, and a pidfd makes sure that the
//! signal goes to that process: a number that was written, or that was given to another process, is nobody's death. On
//! systems without process locks the number in a locked file is the best there is.
//!
//! A daemon must not call these with its own pidfile: closing it again would cost the daemon its process lock.

pub use crate::terminate::{Hook, Hooks};

use crate::daemon::{self, Config, Daemon, Daemonized};
use crate::deadline::{Deadline, pause};
use crate::error::{At, Error, Step, refuse, require};
use crate::grandchild::Grandchild;
use crate::pidfile::{self, Found, Presence};
use crate::sys::fd::Fd;
use crate::sys::poll::{Place, poll};
use crate::sys::signals::END;
use crate::terminate;
use core::ffi::{CStr, c_int};
use core::time::Duration;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// What a controller finds.
#[derive(Debug)]
pub enum State {
    /// No daemon runs.
    NotRunning,
    /// This one runs.
    Running {
        /// Its number.
        pid: i32,
        /// What becomes readable when it has ended: a pidfd, or elsewhere a kqueue.
        pidfd: OwnedFd,
    },
    /// One is starting, or only workers of a dead one remain. There is nobody to signal.
    Held,
}

/// Whether there was somebody to signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// No daemon runs.
    NotRunning,
    /// The daemon with this pid has got the signal.
    Sent(i32),
    /// One is starting, or only workers of a dead one remain.
    Held,
}

/// How a daemon was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// There was none. A stale pidfile is removed.
    NotRunning,
    /// The daemon with this pid has ended after SIGTERM.
    Terminated(i32),
    /// SIGTERM was not enough for the daemon with this pid; SIGKILL was.
    Killed(i32),
    /// Workers of a dead daemon, or a start in progress, hold the pidfile still.
    Held,
}

/// How long a daemon may take to end; `None` is for ever.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// After SIGTERM, until SIGKILL.
    pub until_killed: Option<Duration>,
    /// After SIGKILL.
    pub after_kill: Option<Duration>,
}

/// A daemon that was started.
#[derive(Debug)]
pub struct Started {
    /// Its number.
    pub pid: i32,
    /// A pidfd of it, where the system has such.
    pub pidfd: Option<OwnedFd>,
}

/// Asks who runs, and changes nothing.
///
/// `EPERM` at [`Step::PidfileRead`] for a file that others may write, or whose owner is neither root nor the caller nor
/// the one as whom the daemon runs: it may name anybody.
pub fn query(pidfile: &CStr) -> Result<State, Error> {
    Ok(match look(pidfile)? {
        Presence::Nobody => State::NotRunning,
        Presence::Held => State::Held,
        Presence::Daemon { pid, watch } => State::Running { pid, pidfd: watch.into() },
    })
}

/// Sends the daemon a signal; 0 only asks whether it could be sent.
pub fn signal(pidfile: &CStr, signal: c_int) -> Result<Signalled, Error> {
    require((0..END).contains(&signal), Step::Signal)?;
    loop {
        match look(pidfile)? {
            Presence::Nobody => return Ok(Signalled::NotRunning),
            Presence::Held => return Ok(Signalled::Held),
            Presence::Daemon { pid, watch } => match send(pid, &watch, signal) {
                Ok(()) => return Ok(Signalled::Sent(pid)),
                // It has ended meanwhile.
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::new(Step::Signal, errno)),
            },
        }
    }
}

/// Stops the daemon: SIGTERM, and SIGCONT in case it is stopped; after a time SIGKILL. A start in progress is waited for,
/// for as long as well, and then stopped.
///
/// `ETIMEDOUT` at [`Step::Stop`] when it survives SIGKILL for too long. `EBADMSG` when no daemon runs and the file is no
/// pidfile, as there is no number in it; then it is left.
pub fn stop(pidfile: &CStr, patience: Patience) -> Result<Stopped, Error> {
    let deadline = Deadline::after(patience.until_killed);
    loop {
        match look(pidfile)? {
            Presence::Nobody => {
                return match pidfile::clean(pidfile) {
                    Err(Errno::BADMSG) => Err(Error::new(Step::PidfileRead, Errno::BADMSG)),
                    // What may not be removed is stale all the same; what is held is another's by now.
                    _ => Ok(Stopped::NotRunning),
                };
            }
            Presence::Held if deadline.has_passed() => return Ok(Stopped::Held),
            Presence::Held => pause(),
            Presence::Daemon { pid, watch } => {
                let stopped = end(pid, &watch, Deadline::after(patience.until_killed), patience.after_kill)?;
                let _ = pidfile::clean(pidfile);
                return Ok(stopped);
            }
        }
    }
}

/// Makes a daemon, as [`daemon::daemonize`] does, in which `run` runs; with its result as exit status it ends, by
/// exit(3). Returns in the calling process only, once every step has succeeded; with [`daemon::Flags::NOTIFY_READY`] once
/// the daemon has said that it is ready, for which it has until [`Config::timeout`]. In a process that does not detach it
/// does not return, unless it fails.
///
/// The configuration must name a pidfile. `EEXIST`, with [`crate::Detail::Holder`], when a daemon runs already. SIGTERM
/// terminates, unless the signal map has a line of it.
///
/// # Safety
///
/// As of [`daemon::daemonize`]; and the hooks are async-signal-safe, and may be called with their context for as long as
/// the daemon lives.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn start(config: &Config<'_>, hooks: &Hooks, run: impl FnOnce(Daemon) -> c_int) -> Result<Started, Error> {
    start_promised(config, hooks, run)
}

/// Stops the daemon, and starts it with this configuration, which decides from then on. A configuration that is refused
/// stops nothing.
///
/// `EEXIST` when another start was quicker, or when workers of the old daemon hold the pidfile.
///
/// # Safety
///
/// As of [`start`].
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn restart(
    config: &Config<'_>,
    hooks: &Hooks,
    patience: Patience,
    run: impl FnOnce(Daemon) -> c_int,
) -> Result<Started, Error> {
    restart_promised(config, hooks, patience, run)
}

/// [`start`], for callers whose own caller has promised.
pub(crate) fn start_promised(
    config: &Config<'_>,
    hooks: &Hooks,
    run: impl FnOnce(Daemon) -> c_int,
) -> Result<Started, Error> {
    let deadline = Deadline::after(config.timeout);
    match daemon::daemonize_worker(config, hooks)? {
        Daemonized::Daemon(daemon) => {
            terminate::unblock(hooks);
            terminate::exit(run(daemon))
        }
        Daemonized::Original { pid, pidfd, channel } => {
            let daemon = Grandchild { pid, pidfd: pidfd.map(Fd::from) };
            if let Some(channel) = channel.map(Fd::from) {
                let pidfd = daemon.pidfd.as_ref().map(Fd::lend);
                if let Err(error) = daemon::await_ready(channel.lend(), pidfd, deadline) {
                    let signal = abandon(daemon, &channel, config.pidfile).filter(|_| error.errno == Errno::SRCH);
                    return Err(signal.map_or(error, |signal| Error::killed(error.step, signal)));
                }
            }
            Ok(Started { pid, pidfd: daemon.pidfd.map(OwnedFd::from) })
        }
    }
}

/// [`restart`], for callers whose own caller has promised.
pub(crate) fn restart_promised(
    config: &Config<'_>,
    hooks: &Hooks,
    patience: Patience,
    run: impl FnOnce(Daemon) -> c_int,
) -> Result<Started, Error> {
    daemon::check_worker(config, hooks)?;
    if let Some(pidfile) = config.pidfile {
        match stop(pidfile, patience) {
            // To be emptied by the start, as any file that it meets.
            Err(Error { errno: Errno::BADMSG, .. }) => {}
            result => drop(result?),
        }
        // Its workers may take longer.
        let deadline = Deadline::after(patience.until_killed);
        while matches!(look(pidfile)?, Presence::Held) && !deadline.has_passed() {
            pause();
        }
    }
    start_promised(config, hooks, run)
}

/// A daemon that did not get ready is not left. Answers the signal that had ended it before, if it is
/// this process's to know.
fn abandon(daemon: Grandchild, channel: &Fd, pidfile: Option<&CStr>) -> Option<i32> {
    let mut died_before = false;
    if let Some(pidfd) = &daemon.pidfd {
        died_before = has_ended(pidfd, Deadline::milliseconds(0)) == Ok(true);
        let _ = end(daemon.pid, pidfd, Deadline::milliseconds(1000), Some(Duration::ZERO));
    }
    let signal = daemon.bury(channel);
    let _ = pidfile.map(pidfile::clean);
    signal.filter(|_| died_before)
}

fn look(pidfile: &CStr) -> Result<Presence, Error> {
    refuse(crate::stream::check_path(pidfile), Step::PidfileRead)?;
    match Found::open(pidfile).at(Step::PidfileRead)? {
        None => Ok(Presence::Nobody),
        Some(found) => found.presence().at(Step::PidfileRead),
    }
}

fn end(pid: i32, watch: &Fd, until_killed: Deadline, after_kill: Option<Duration>) -> Result<Stopped, Error> {
    for signal in [libc::SIGTERM, libc::SIGCONT] {
        send_to_living(pid, watch, signal)?;
    }
    if has_ended(watch, until_killed)? {
        return Ok(Stopped::Terminated(pid));
    }
    send_to_living(pid, watch, libc::SIGKILL)?;
    if has_ended(watch, Deadline::after(after_kill))? {
        return Ok(Stopped::Killed(pid));
    }
    Err(Error::new(Step::Stop, Errno::TIMEDOUT))
}

fn send_to_living(pid: i32, watch: &Fd, signal: c_int) -> Result<(), Error> {
    match send(pid, watch, signal) {
        Err(Errno::SRCH) => Ok(()),
        result => result.at(Step::Signal),
    }
}

#[cfg(target_os = "linux")]
fn send(_pid: i32, watch: &Fd, signal: c_int) -> Result<(), Errno> {
    crate::sys::process::kill_by_pidfd(watch.lend(), signal)
}

#[cfg(not(target_os = "linux"))]
fn send(pid: i32, _watch: &Fd, signal: c_int) -> Result<(), Errno> {
    crate::sys::process::kill(pid, signal)
}

fn has_ended(watch: &Fd, deadline: Deadline) -> Result<bool, Error> {
    poll(&mut [Place::readable(Some(watch.number()))], deadline).at(Step::Stop)
}
