use core::arch::asm;
use core::ffi::c_long;

/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall4(number: c_long, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the kernel clobbers rax, rcx and r11 alone; the caller promised that the arguments are valid.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    answer
}
