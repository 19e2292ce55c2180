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

/// clone(2) or clone3(2), whose child calls `entry` on the caller's own stack, below this frame. Answers 0 in a process
/// in which `entry` returns.
///
/// # Safety
///
/// The arguments are valid for this system call, name no stack, and suspend the caller until the child has ended or
/// executed a program, or else give the child memory of its own.
pub(super) unsafe fn clone_into(
    number: c_long,
    [a, b, c]: [usize; 3],
    entry: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
) -> isize {
    let answer;
    // SAFETY: the system call returns twice in here and once in each memory out of here; in the child what is below the
    // stack pointer is its to use, as the caller sleeps or has another copy.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x0, x20",
            "blr x21",
            "mov x0, xzr",
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

/// The thread pointer, and where libc says at what distance from it, and in how many bytes, the thread's rseq area is;
/// null where libc has none.
pub(in crate::sys) fn rseq_area() -> (usize, *const isize, *const u32) {
    let (thread, offset, size);
    // SAFETY: reads the thread pointer and two entries of the GOT.
    unsafe {
        asm!(
            ".weak __rseq_offset",
            ".weak __rseq_size",
            "mrs {thread}, tpidr_el0",
            "adrp {offset}, :got:__rseq_offset",
            "ldr {offset}, [{offset}, :got_lo12:__rseq_offset]",
            "adrp {size}, :got:__rseq_size",
            "ldr {size}, [{size}, :got_lo12:__rseq_size]",
            thread = out(reg) thread, offset = out(reg) offset, size = out(reg) size,
            options(nostack, preserves_flags, pure, readonly),
        );
    }
    (thread, offset, size)
}

/// Where libc says whether the process has one thread, `__libc_single_threaded`; null where it does not.
pub(in crate::sys) fn single_threaded_flag() -> *const u8 {
    let flag;
    // SAFETY: reads an entry of the GOT.
    unsafe {
        asm!(
            ".weak __libc_single_threaded",
            "adrp {flag}, :got:__libc_single_threaded",
            "ldr {flag}, [{flag}, :got_lo12:__libc_single_threaded]",
            flag = out(reg) flag,
            options(nostack, preserves_flags, pure, readonly),
        );
    }
    flag
}

/// What precedes an abort handler of rseq(2).
pub(in crate::sys) const RSEQ_SIGNATURE: u32 = 0xd428_bc00;
