use core::arch::asm;
use core::ffi::c_long;

/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall4(number: c_long, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the kernel clobbers x0 alone; the caller promised that the arguments are valid.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d,
            options(nostack, preserves_flags),
        );
    }
    answer
}
