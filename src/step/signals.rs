use crate::pidfile::Pidfile;
use crate::sys::signals::{self, Disposition, Mask};
use crate::terminate::{self, terminate};
use core::ffi::c_int;
use rustix::io::Errno;

/// What a signal does.
#[derive(Clone, Copy, Debug)]
pub enum SignalAction {
    /// Its default.
    Default,
    /// Nothing.
    Ignore,
    /// The function runs, with `SA_RESTART`.
    Handler(extern "C" fn(c_int)),
    /// The pidfile is removed; then the process dies as by the signal's default, so that whoever waits for it sees
    /// which signal it was.
    Terminate,
}

/// One line of a signal map.
#[derive(Clone, Copy, Debug)]
pub struct SignalMapEntry {
    /// The signal's number.
    pub signal: c_int,
    /// What it does.
    pub action: SignalAction,
}

impl SignalMapEntry {
    /// `EINVAL` for a number out of range, for a signal that cannot be caught or that libc keeps for itself, and for
    /// `Terminate` on one whose default is not to end the process.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        let terminates = !matches!(self.action, SignalAction::Terminate) || !SURVIVABLE.contains(&self.signal);
        if is_catchable(self.signal) && terminates { Ok(()) } else { Err(Errno::INVAL) }
    }
}

/// The signals whose default is not to end the process.
const SURVIVABLE: &[c_int] = &[
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    #[cfg(not(target_os = "linux"))]
    libc::SIGINFO,
    // It ends a process on Linux.
    #[cfg(not(target_os = "linux"))]
    libc::SIGIO,
];

/// Whether it is a signal that can be caught and that libc leaves to the program.
pub(crate) fn is_catchable(signal: c_int) -> bool {
    (1..signals::END).contains(&signal) && !matches!(signal, libc::SIGKILL | libc::SIGSTOP) && !is_reserved(signal)
}

fn is_reserved(signal: c_int) -> bool {
    let libcs = if cfg!(target_env = "musl") { 32..=34 } else { 32..=33 };
    cfg!(not(target_vendor = "apple")) && libcs.contains(&signal)
}

/// `sigaction()`—Sets the disposition of each signal in the map; the others stay as they are.
///
/// `pidfile` is what [`SignalAction::Terminate`] removes. There is one such pidfile in a process, kept in a static slot
/// that the handler reads: the last call whose map says `Terminate` sets it. Nothing changes when an entry is refused.
///
/// # Safety
///
/// The handlers are async-signal-safe, and so is dying of a `Terminate` at any moment. No signal that an earlier map
/// said `Terminate` of is handled in another thread meanwhile.
#[expect(unsafe_code, reason = "declares what the caller promises")]
pub unsafe fn set_signals(map: &[SignalMapEntry], pidfile: Option<&Pidfile>) -> Result<(), Errno> {
    install(map, pidfile)
}

/// [`set_signals`], for callers whose own caller has promised.
pub(crate) fn install(map: &[SignalMapEntry], pidfile: Option<&Pidfile>) -> Result<(), Errno> {
    for entry in map {
        entry.check()?;
    }
    if map.iter().any(|entry| matches!(entry.action, SignalAction::Terminate)) {
        terminate::prepare(pidfile);
    }
    for entry in map {
        signals::set(entry.signal, disposition(entry.action))?;
    }
    Ok(())
}

fn disposition(action: SignalAction) -> Disposition {
    match action {
        SignalAction::Default => Disposition::Default,
        SignalAction::Ignore => Disposition::Ignore,
        SignalAction::Handler(handler) => Disposition::Handler(handler),
        SignalAction::Terminate => Disposition::Alone(terminate),
    }
}

/// `sigaction()`, `sigprocmask()`—Sets every signal to its default and empties the calling thread's signal mask.
///
/// `SIGKILL` and `SIGSTOP` have no other, and the signals that libc keeps for itself are left alone.
pub fn reset_signals() -> Result<(), Errno> {
    set_all_to_default(&[])?;
    Mask::empty().install();
    Ok(())
}

/// The dispositions alone, but for those that a map sets afterwards.
pub(crate) fn set_all_to_default(map: &[SignalMapEntry]) -> Result<(), Errno> {
    for signal in 1..signals::END {
        if is_catchable(signal) && !map.iter().any(|entry| entry.signal == signal) {
            signals::set(signal, Disposition::Default)?;
        }
    }
    Ok(())
}
