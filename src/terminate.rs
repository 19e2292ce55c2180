//! How a daemon ends: its hooks, its pidfile, and the signal or the exit status.

use crate::pidfile::Pidfile;
use crate::sys::signals::{self, Disposition, Flag, Mask, Slot};
use crate::sys::thread::undisturbed;
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
    /// Of a worker.
    hooks: Option<Hooks>,
}

static ENDING: Slot<Ending> = Slot::new();
static HAS_BEGUN: Flag = Flag::new();

/// What is said of this very process. One that it forked into another pid namespace may have the same number, but not the
/// lock.
fn current() -> Option<Ending> {
    let is_own = |ending: &Ending| {
        let has_pidfile = |pidfile: Pidfile| !pidfile.is_anothers();
        ending.pid == getpid().as_raw_pid() && ending.pidfile.is_none_or(has_pidfile)
    };
    ENDING.get().filter(is_own)
}

/// Says which pidfile [`terminate`] removes. A worker's stays, and so do its hooks.
pub(crate) fn prepare(pidfile: Option<&Pidfile>) {
    let worker = current().filter(|ending| ending.hooks.is_some());
    let pidfile = pidfile.copied().or(worker.and_then(|worker| worker.pidfile));
    set(pidfile, worker.and_then(|worker| worker.hooks));
}

/// Says what happens before that, and handles the signals that have a hook.
pub(crate) fn install(hooks: &Hooks, pidfile: Option<&Pidfile>) -> Result<(), Errno> {
    set(pidfile.copied(), Some(*hooks));
    if hooks.user1.is_some() {
        signals::set(libc::SIGUSR1, Disposition::Alone(user1))?;
    }
    if hooks.user2.is_some() {
        signals::set(libc::SIGUSR2, Disposition::Alone(user2))?;
    }
    Ok(())
}

fn set(pidfile: Option<Pidfile>, hooks: Option<Hooks>) {
    // A handler must not meet it half-written.
    let mask = Mask::block_all();
    if current().is_none() {
        // It may have been raised in the daemon that forked this one.
        HAS_BEGUN.lower();
    }
    ENDING.set(Some(Ending { pid: getpid().as_raw_pid(), pidfile, hooks }));
    mask.install();
}

/// Lets the signals come that the hooks are for, though the process that starts the daemon may have blocked them.
pub(crate) fn unblock(hooks: &Hooks) {
    let [user1, user2] = [(hooks.user1, libc::SIGUSR1), (hooks.user2, libc::SIGUSR2)]
        .map(|(hook, signal)| if hook.is_some() { signal } else { libc::SIGTERM });
    Mask::of(&[libc::SIGTERM, user1, user2]).remove();
}

extern "C" fn user1(_signal: c_int) {
    call(|hooks| hooks.user1);
}

extern "C" fn user2(_signal: c_int) {
    call(|hooks| hooks.user2);
}

fn call(which: fn(&Hooks) -> Option<Hook>) {
    undisturbed(|| {
        let hooks = current().and_then(|ending| ending.hooks).filter(|_| !HAS_BEGUN.is_raised());
        if let Some((hooks, hook)) = hooks.and_then(|hooks| Some((hooks, which(&hooks)?))) {
            hook(hooks.context);
        }
    });
}

/// The handler of a signal that ends the daemon.
pub(crate) extern "C" fn terminate(signal: c_int) {
    undisturbed(|| {
        if let Some(ending) = current() {
            // Or another thread is at it.
            if HAS_BEGUN.is_raised() || ending.goes_on() || !HAS_BEGUN.raise() {
                return;
            }
            ending.run();
        }
        signals::die_of(signal);
    });
}

/// Ends the daemon with this exit status, by exit(3).
pub(crate) fn exit(status: c_int) -> ! {
    let mask = Mask::block_all();
    let ending = current();
    if ending.is_some() && !HAS_BEGUN.raise() {
        // A handler in another thread ends the process.
        loop {
            crate::deadline::pause();
        }
    }
    if let Some(ending) = ending {
        ending.run();
    }
    mask.install();
    crate::sys::process::exit_with_handlers(status)
}

impl Ending {
    fn goes_on(&self) -> bool {
        let hooks = self.hooks.unwrap_or_default();
        hooks.terminate.is_some_and(|hook| hook(hooks.context) != 0)
    }

    fn run(&self) {
        let hooks = self.hooks.unwrap_or_default();
        if let Some(hook) = hooks.exit {
            hook(hooks.context);
        }
        // What may not be removed is empty at least.
        let _ = self.pidfile.map(|pidfile| pidfile.remove());
    }
}
