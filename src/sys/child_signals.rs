//! Signal masks and dispositions between clone and exec, and in the thread that waits for it.
//!
//! Raw on Linux: libc's sigaction may take a lock that another thread held at the clone, and libc's masks spare the
//! signals by which it cancels threads and changes their ids.

use core::ffi::c_int;
use rustix::io::Errno;

/// A set of signals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set(native::Bits);

impl Set {
    pub(crate) const EMPTY: Set = Set(native::EMPTY);
    pub(crate) const FULL: Set = Set(native::FULL);

    /// Makes this the calling thread's mask; answers the one before.
    pub(crate) fn install(self) -> Set {
        Set(native::change_mask(libc::SIG_SETMASK, self.0))
    }

    /// The calling thread's mask.
    pub(crate) fn current() -> Set {
        Set(native::change_mask(libc::SIG_BLOCK, native::EMPTY))
    }

    /// A number that is no signal's changes nothing.
    pub(crate) fn add(&mut self, signal: c_int) {
        native::add(&mut self.0, signal);
    }
}

#[cfg(target_os = "linux")]
mod native {
    use super::{Errno, c_int};
    use crate::sys::arch::syscall4;
    use crate::sys::signals::END;
    use core::ptr::null;

    pub(super) type Bits = u64;
    pub(super) const EMPTY: Bits = 0;
    pub(super) const FULL: Bits = u64::MAX;
    const SIZE: usize = size_of::<Bits>();

    pub(super) fn change_mask(how: c_int, new: Bits) -> Bits {
        let mut before: Bits = 0;
        let (new, old) = (&raw const new as usize, &raw mut before as usize);
        // SAFETY: the kernel reads one set and writes one. It refuses only a bad `how`, address or size.
        let _ = unsafe { syscall4(libc::SYS_rt_sigprocmask, how as usize, new, old, SIZE) };
        before
    }

    pub(super) fn add(bits: &mut Bits, signal: c_int) {
        if (1..END).contains(&signal) {
            *bits |= 1 << (signal - 1);
        }
    }

    /// The kernel's struct sigaction begins with the handler; what follows differs, and is zero here.
    #[repr(C)]
    struct Action {
        handler: usize,
        rest: [usize; 7],
    }

    fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> Result<(), Errno> {
        // SAFETY: an action is as large as any architecture's, or larger. The kernel refuses SIGKILL and SIGSTOP.
        unsafe { syscall4(libc::SYS_rt_sigaction, signal as usize, new as usize, old as usize, SIZE) }.map(drop)
    }

    pub(crate) fn set_ignored(signal: c_int, ignored: bool) -> Result<(), Errno> {
        let handler = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
        sigaction(signal, &Action { handler, rest: [0; 7] }, core::ptr::null_mut())
    }

    pub(crate) fn clear_handlers() {
        for signal in 1..END {
            let mut action = Action { handler: libc::SIG_DFL, rest: [0; 7] };
            let asked = sigaction(signal, null(), &raw mut action);
            if asked.is_ok() && !matches!(action.handler, libc::SIG_DFL | libc::SIG_IGN) {
                let _ = set_ignored(signal, false);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod native {
    use super::{Errno, c_int};
    use crate::sys::signals::END;
    use core::mem::MaybeUninit;
    use core::ptr::{null, null_mut};

    pub(super) type Bits = [u32; 4];
    pub(super) const EMPTY: Bits = [0; 4];
    pub(super) const FULL: Bits = [u32::MAX; 4];

    fn words() -> usize {
        size_of::<libc::sigset_t>() / size_of::<u32>()
    }

    pub(super) fn change_mask(how: c_int, new: Bits) -> Bits {
        let mut before = EMPTY;
        // SAFETY: sigset_t is one word on macOS, and four on FreeBSD; bit n is signal n + 1.
        unsafe {
            libc::pthread_sigmask(how, (&raw const new).cast(), (&raw mut before).cast());
        }
        before
    }

    pub(super) fn add(bits: &mut Bits, signal: c_int) {
        let place = signal.wrapping_sub(1) as usize;
        if let Some(word) = bits.get_mut(place / 32).filter(|_| place / 32 < words()) {
            *word |= 1 << (place % 32);
        }
    }

    pub(crate) fn set_ignored(signal: c_int, ignored: bool) -> Result<(), Errno> {
        // SAFETY: zero is a sigaction without anything.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: the action is complete and runs nothing.
        crate::sys::errno::result(unsafe { libc::sigaction(signal, &raw const action, null_mut()) }).map(drop)
    }

    pub(crate) fn clear_handlers() {
        for signal in 1..END {
            // SAFETY: zero is a sigaction without anything.
            let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
            // SAFETY: libc writes one action.
            unsafe { libc::sigaction(signal, null(), &raw mut action) };
            if !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
                let _ = set_ignored(signal, false);
            }
        }
    }
}

/// Gives each signal that has a handler its default; ignored ones stay ignored.
pub(crate) use native::clear_handlers;
/// Ignores a signal, or gives it its default.
pub(crate) use native::set_ignored;
