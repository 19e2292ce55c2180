use core::arch::asm;
use core::ffi::{c_long, c_void};

/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall6(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the kernel clobbers x0 alone; the caller promised that the arguments are valid.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack, preserves_flags),
        );
    }
    answer
}

/// clone(2) or clone3(2), whose child calls `entry` on the caller's own stack, below this frame.
///
/// # Safety
///
/// The arguments are valid for this system call, name no stack, and suspend the caller until the child has ended or
/// executed a program, or else give the child memory of its own.
pub(super) unsafe fn clone_into(
    number: c_long,
    [a, b, c]: [usize; 3],
    entry: unsafe extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let answer;
    // SAFETY: the system call returns twice in here and once out of here; in the child what is below the stack pointer is
    // its to use, as the caller sleeps or has another copy.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") 0, in("x4") 0,
            in("x20") argument, in("x21") entry,
            clobber_abi("C"),
        );
    }
    answer
}
