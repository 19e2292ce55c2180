use core::arch::asm;
use core::ffi::c_long;

/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall4(number: c_long, args: [usize; 4]) -> isize {
    let answer;
    // SAFETY: the kernel clobbers rax, rcx and r11 alone; the caller promised that the arguments are valid.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    answer
}
