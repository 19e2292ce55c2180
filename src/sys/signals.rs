//! Signal masks and dispositions, through libc, which keeps its own signals (32 and 33 on Linux) out of reach; and the
//! static slot that the terminate handler reads.

use super::errno::result;
use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use rustix::io::Errno;

/// A signal handler.
pub type Handler = extern "C" fn(c_int);

/// The number behind the highest signal.
#[cfg(target_os = "linux")]
pub(crate) const END: c_int = 65;
/// The number behind the highest signal.
#[cfg(target_os = "freebsd")]
pub(crate) const END: c_int = 129;
/// The number behind the highest signal.
#[cfg(target_vendor = "apple")]
pub(crate) const END: c_int = 32;

/// A signal mask.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    pub(crate) fn empty() -> Mask {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the set is writable.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset has initialised it.
        Mask(unsafe { set.assume_init() })
    }

    fn full() -> Mask {
        let Mask(mut set) = Mask::empty();
        // SAFETY: the set is initialised.
        unsafe { libc::sigfillset(&raw mut set) };
        Mask(set)
    }

    pub(crate) fn of(signals: &[c_int]) -> Mask {
        let Mask(mut set) = Mask::empty();
        for &signal in signals {
            // SAFETY: the set is initialised; a bad number is refused by libc.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        Mask(set)
    }

    /// Makes this the calling thread's mask; answers the one before.
    #[inline(never)]
    pub(crate) fn install(self) -> Mask {
        self.apply(libc::SIG_SETMASK)
    }

    fn apply(self, how: c_int) -> Mask {
        let mut before = Mask::empty();
        // SAFETY: both sets are initialised. The only error is a bad `how`.
        unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        before
    }

    /// Blocks these signals too in the calling thread.
    pub(crate) fn add(self) {
        self.apply(libc::SIG_BLOCK);
    }

    /// Blocks these signals no longer in the calling thread.
    pub(crate) fn remove(self) {
        self.apply(libc::SIG_UNBLOCK);
    }

    /// Blocks every signal in the calling thread; answers the mask before.
    pub(crate) fn block_all() -> Mask {
        Mask::full().install()
    }
}

/// The new disposition of a signal.
#[derive(Clone, Copy)]
pub(crate) enum Disposition {
    Default,
    Ignore,
    Handler(Handler),
    /// A handler that no other signal interrupts in its thread.
    Alone(Handler),
}

/// sigaction(2), with `SA_RESTART` for a handler.
pub(crate) fn set(signal: c_int, disposition: Disposition) -> Result<(), Errno> {
    // SAFETY: zero is a sigaction without anything.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
        Disposition::Handler(handler) | Disposition::Alone(handler) => handler as *const () as libc::sighandler_t,
    };
    action.sa_mask = if let Disposition::Alone(_) = disposition { Mask::full() } else { Mask::empty() }.0;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is complete; that the handler may run at any moment was promised by whoever supplied it.
    result(unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) }).map(drop)
}

/// Whether the signal is ignored.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    // SAFETY: zero is a sigaction without anything.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: nothing is set, and the action is written.
    let asked = result(unsafe { libc::sigaction(signal, core::ptr::null(), &raw mut action) });
    asked.is_ok() && action.sa_sigaction == libc::SIG_IGN
}

/// Ends the process as the signal's default would, from within the signal's handler.
pub(crate) fn die_of(signal: c_int) -> ! {
    let _ = set(signal, Disposition::Default);
    Mask::of(&[signal]).remove();
    // SAFETY: raise takes a number.
    unsafe { libc::raise(signal) };
    // The first process of a pid namespace has survived that.
    super::process::exit(128 + signal)
}

/// A value that a signal handler reads.
pub(crate) struct Slot<T: Copy> {
    value: UnsafeCell<MaybeUninit<T>>,
    full: AtomicBool,
}

// SAFETY: the callers of `set_signals` promise that no handler calls `get` in another thread while `set` writes, and in the
// same thread signals are blocked meanwhile. What pointers the value has were supplied for handlers.
unsafe impl<T: Copy> Sync for Slot<T> {}

impl<T: Copy> Slot<T> {
    pub(crate) const fn new() -> Slot<T> {
        Slot { value: UnsafeCell::new(MaybeUninit::uninit()), full: AtomicBool::new(false) }
    }

    pub(crate) fn set(&self, value: Option<T>) {
        self.full.store(false, Ordering::SeqCst);
        compiler_fence(Ordering::SeqCst);
        if let Some(value) = value {
            // SAFETY: readers look only while `full` is true.
            unsafe { self.value.get().write(MaybeUninit::new(value)) };
            self.full.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn get(&self) -> Option<T> {
        if !self.full.load(Ordering::SeqCst) {
            return None;
        }
        // SAFETY: `set` has finished writing, and the value is plain data.
        let value = unsafe { self.value.get().read() };
        // SAFETY: `full` says that `set` has initialised it.
        Some(unsafe { value.assume_init() })
    }
}

/// Whether something has begun, which only the first one to raise it may do.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) const fn new() -> Flag {
        Flag(AtomicBool::new(false))
    }

    pub(crate) fn lower(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether this call has raised it.
    pub(crate) fn raise(&self) -> bool {
        !was_set(&self.0)
    }
}

/// Sets it; answers what it was.
#[cfg(not(all(target_arch = "aarch64", target_os = "linux")))]
fn was_set(flag: &AtomicBool) -> bool {
    flag.swap(true, Ordering::SeqCst)
}

/// By hand, as the compiler calls a function of compiler_builtins here, which the archive is without.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
fn was_set(flag: &AtomicBool) -> bool {
    let before: u32;
    // SAFETY: the flag is a byte that may be written at any time, and 1 is a bool.
    unsafe {
        core::arch::asm!(
            "2: ldaxrb {before:w}, [{flag}]",
            "stlxrb {failed:w}, {one:w}, [{flag}]",
            "cbnz {failed:w}, 2b",
            flag = in(reg) flag.as_ptr(),
            one = in(reg) 1u32,
            before = out(reg) before,
            failed = out(reg) _,
            options(nostack),
        );
    }
    before != 0
}
