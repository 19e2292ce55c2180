//! The daemon's pid and the step that it has reached, readable by the original process although the daemon, or the
//! process between the two, was killed.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, Ordering, fence};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// Numbers in memory that a fork shares instead of copying it; 0 until they are known.
pub(crate) struct Progress(NonNull<Page>);

struct Page {
    pid: AtomicI32,
    step: AtomicI32,
    given_up: AtomicI32,
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

    /// The original process waits no longer. The number of a daemon that goes on all the same is known by now.
    pub(crate) fn give_up(&self) {
        self.page().given_up.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Asked by the daemon once its number is there, before its first step; and when it has reported.
    pub(crate) fn is_given_up(&self) -> bool {
        fence(Ordering::SeqCst);
        self.page().given_up.load(Ordering::SeqCst) != 0
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
