//! This process becomes a daemon: [`Config`] -> `Plan` -> run.
//!
//! The order of the steps, which `run` writes once:
//!
//! 1. In the original process, where an error still reaches the terminal: refuse what can be refused; make fds 0 to 2
//!    open; open and lock the pidfile; open `/dev/null`, the files of the streams and the log; make the report channel;
//!    fork.
//! 2. In the intermediate process: block all signals; new session; fork; end.
//! 3. In the daemon, all signals still blocked: close the fds; umask; start what logs the streams; chroot; working directory; process lock and pid
//!    into the pidfile; limits; groups, gid, uid; core prevention; no_new_privs; streams; signal dispositions; report;
//!    and the signal mask, last.

mod config;
mod opened;
mod plan;
mod ready;
mod run;
mod started_by;

pub use crate::stream::Stream;
pub use config::{Config, Detach, Flags};
pub(crate) use ready::await_ready;
pub use ready::{fail, ready, wait_ready};
pub use run::{Daemon, Daemonized};
pub use started_by::{StartedBy, started_by};

use crate::error::Error;
use crate::terminate::Hooks;
use plan::Plan;

/// Answers what [`daemonize`] would refuse. It opens nothing and changes nothing.
pub fn check(config: &Config<'_>) -> Result<(), Error> {
    Plan::new(config).map(drop)
}

/// Makes the process a daemon, and returns twice: in the original process once every step has succeeded in the daemon,
/// and in the daemon.
///
/// Without detaching (see [`Detach`]) it returns once, in this process. An error is returned in the original process
/// only, which is then as it was; a process that was to become the daemon has ended, without running any handler of
/// atexit(3) or flushing any buffer. Without detaching the steps before the failed one stay done.
///
/// Not async-signal-safe.
///
/// # Safety
///
/// - In a process with more threads only the calling one continues in the daemon: nothing that it goes on to do there
///   needs a lock that another thread holds.
/// - Nobody uses or owns the fds that are closed: all but 0 to 2 and those in `files_preserve`, also the fds of
///   streams.
/// - No other thread changes the environment during the call, and handlers in the signal map are async-signal-safe.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn daemonize(config: &Config<'_>) -> Result<Daemonized, Error> {
    Plan::new(config)?.run()
}

/// [`daemonize`], for the C floor, whose own caller has promised.
#[cfg(feature = "capi")]
pub(crate) fn daemonize_promised(config: &Config<'_>) -> Result<Daemonized, Error> {
    Plan::new(config)?.run()
}

/// The same for a daemon that a controller starts.
pub(crate) fn daemonize_worker(config: &Config<'_>, hooks: &Hooks) -> Result<Daemonized, Error> {
    Plan::for_worker(config, hooks)?.run()
}

/// Answers what [`daemonize_worker`] would refuse.
pub(crate) fn check_worker(config: &Config<'_>, hooks: &Hooks) -> Result<(), Error> {
    Plan::for_worker(config, hooks).map(drop)
}
