//! The daemon's pid and the step that it has reached, readable by the original process although the daemon, or the
//! process between the two, was killed.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, Ordering};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// Numbers in memory that a fork shares instead of copying it; 0 until they are known.
pub(crate) struct Progress(NonNull<Page>);

struct Page {
    pid: AtomicI32,
    step: AtomicI32,
    verdict: AtomicI32,
}

/// Whether there is a daemon is decided once: by itself, before its first step, or by the original process, when it gives
/// up.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Started = 1,
    GivenUp = 2,
}

const LENGTH: usize = size_of::<Page>();

impl Progress {
    pub(crate) fn new() -> Result<Progress, Errno> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let page = unsafe { rustix::mm::mmap_anonymous(core::ptr::null_mut(), LENGTH, protection, flags) }?;
        NonNull::new(page.cast()).map(Progress).ok_or(Errno::NOMEM)
    }

    fn page(&self) -> &Page {
        // SAFETY: the mapping is a page, zeroed, writable, and lives until the drop.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn set_pid(&self, pid: i32) {
        self.page().pid.store(pid, Ordering::Relaxed);
    }

    pub(crate) fn pid(&self) -> i32 {
        self.page().pid.load(Ordering::Relaxed)
    }

    /// False when the other process has decided otherwise.
    pub(crate) fn decide(&self, verdict: Verdict) -> bool {
        let verdict = verdict as i32;
        self.page().verdict.compare_exchange(0, verdict, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    pub(crate) fn reach(&self, step: i32) {
        self.page().step.store(step, Ordering::Relaxed);
    }

    pub(crate) fn step(&self) -> i32 {
        self.page().step.load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: `new` made exactly this mapping and nobody else refers to it.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}
