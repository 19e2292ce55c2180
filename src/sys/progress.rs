//! The step that the daemon has reached, readable by the original process although the daemon was killed.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, Ordering};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

const LENGTH: usize = size_of::<AtomicI32>();

/// One number in memory that a fork shares instead of copying it.
pub(crate) struct Progress(NonNull<AtomicI32>);

impl Progress {
    pub(crate) fn new() -> Result<Progress, Errno> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let page = unsafe { rustix::mm::mmap_anonymous(core::ptr::null_mut(), LENGTH, protection, flags) }?;
        NonNull::new(page.cast()).map(Progress).ok_or(Errno::NOMEM)
    }

    fn cell(&self) -> &AtomicI32 {
        // SAFETY: the mapping is a page, zeroed, writable, and lives until the drop.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn set(&self, step: i32) {
        self.cell().store(step, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i32 {
        self.cell().load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: `new` made exactly this mapping and nobody else refers to it.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}
