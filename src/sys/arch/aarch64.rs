use core::arch::asm;
use core::ffi::c_long;

/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall4(number: c_long, args: [usize; 4]) -> isize {
    let answer;
    // SAFETY: the kernel clobbers x0 alone; the caller promised that the arguments are valid.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") args[0] => answer,
            in("x1") args[1], in("x2") args[2], in("x3") args[3],
            options(nostack, preserves_flags),
        );
    }
    answer
}
