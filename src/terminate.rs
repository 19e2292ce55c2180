//! How a daemon ends: its hooks, its pidfile, and the signal or the exit status.

use crate::pidfile::Pidfile;
use crate::sys::errno;
use crate::sys::signals::{self, Disposition, Flag, Mask, Slot};
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use rustix::io::Errno;
use rustix::process::getpid;

/// A function of the daemon's that is called with [`Hooks::context`].
pub type Hook = extern "C" fn(*mut c_void);

/// What a daemon does on signals and at its end. Signal handlers call these, so they must be async-signal-safe. They are not
/// called in processes that the daemon forks.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// On SIGUSR1. `None`: its disposition stays.
    pub user1: Option<Hook>,
    /// On SIGUSR2. `None`: its disposition stays.
    pub user2: Option<Hook>,
    /// On a signal that terminates. 0, or `None`: the daemon ends now; else it goes on, and is to return soon.
    pub terminate: Option<extern "C" fn(*mut c_void) -> c_int>,
    /// Once, before the pidfile is removed, whichever way the daemon ends.
    pub exit: Option<Hook>,
    /// What each of them gets.
    pub context: *mut c_void,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks { user1: None, user2: None, terminate: None, exit: None, context: null_mut() }
    }
}

/// What the end of this process is to be, as the handlers read it.
#[derive(Clone, Copy)]
struct Ending {
    /// The daemon: the handlers are inherited by what it forks.
    pid: i32,
    pidfile: Option<Pidfile>,
    hooks: Hooks,
}

static ENDING: Slot<Ending> = Slot::new();
static HAS_BEGUN: Flag = Flag::new();

fn current() -> Option<Ending> {
    ENDING.get().filter(|ending| ending.pid == getpid().as_raw_pid())
}

/// Says which pidfile [`terminate`] removes. The hooks stay.
pub(crate) fn prepare(pidfile: Option<&Pidfile>) {
    let hooks = current().map(|ending| ending.hooks).unwrap_or_default();
    ENDING.set(Some(Ending { pid: getpid().as_raw_pid(), pidfile: pidfile.copied(), hooks }));
}

/// Says what happens before that, and handles the signals that have a hook.
pub(crate) fn install(hooks: &Hooks, pidfile: Option<&Pidfile>) -> Result<(), Errno> {
    ENDING.set(Some(Ending { pid: getpid().as_raw_pid(), pidfile: pidfile.copied(), hooks: *hooks }));
    if hooks.user1.is_some() {
        signals::set(libc::SIGUSR1, Disposition::Alone(user1))?;
    }
    if hooks.user2.is_some() {
        signals::set(libc::SIGUSR2, Disposition::Alone(user2))?;
    }
    Ok(())
}

extern "C" fn user1(_signal: c_int) {
    call(|hooks| hooks.user1);
}

extern "C" fn user2(_signal: c_int) {
    call(|hooks| hooks.user2);
}

fn call(which: fn(&Hooks) -> Option<Hook>) {
    errno::preserved(|| {
        if let Some(Ending { hooks, .. }) = current() {
            if let Some(hook) = which(&hooks) {
                hook(hooks.context);
            }
        }
    });
}

/// The handler of a signal that ends the daemon.
pub(crate) extern "C" fn terminate(signal: c_int) {
    errno::preserved(|| {
        if let Some(ending) = current() {
            let goes_on = ending.hooks.terminate.is_some_and(|hook| hook(ending.hooks.context) != 0);
            // Or another thread is at it.
            if goes_on || !HAS_BEGUN.raise() {
                return;
            }
            ending.run();
        }
        signals::die_of(signal);
    });
}

/// Ends the daemon with this exit status, by exit(3).
pub(crate) fn exit(status: c_int) -> ! {
    Mask::block_all();
    if !HAS_BEGUN.raise() {
        // A handler in another thread ends the process.
        loop {
            crate::deadline::pause();
        }
    }
    if let Some(ending) = current() {
        ending.run();
    }
    crate::sys::process::exit_with_handlers(status)
}

impl Ending {
    fn run(&self) {
        if let Some(hook) = self.hooks.exit {
            hook(self.hooks.context);
        }
        // What may not be removed is empty at least.
        let _ = self.pidfile.map(|pidfile| pidfile.remove());
    }
}
