use core::arch::asm;
use core::ffi::{c_long, c_void};

/// # Safety
///
/// The arguments are valid for this system call.
pub(super) unsafe fn syscall6(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the kernel clobbers rax, rcx and r11 alone; the caller promised that the arguments are valid.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
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
    // stack pointer is its to use, as the caller sleeps or has another copy. The return address is pushed, hence no nostack.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r12",
            "call r13",
            "xor eax, eax",
            "2:",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") 0, in("r8") 0,
            in("r12") argument, in("r13") entry,
            clobber_abi("C"),
        );
    }
    answer
}

/// The thread pointer, and where libc says at what distance from it, and in how many bytes, the thread's rseq area is;
/// null where libc has none.
pub(in crate::sys) fn rseq_area() -> (usize, *const isize, *const u32) {
    let (thread, offset, size);
    // SAFETY: reads the first word of the thread's block, which is its own address, and two entries of the GOT.
    unsafe {
        asm!(
            ".weak __rseq_offset",
            ".weak __rseq_size",
            "mov {thread}, qword ptr fs:[0]",
            "mov {offset}, qword ptr [rip + __rseq_offset@GOTPCREL]",
            "mov {size}, qword ptr [rip + __rseq_size@GOTPCREL]",
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
            "mov {flag}, qword ptr [rip + __libc_single_threaded@GOTPCREL]",
            flag = out(reg) flag,
            options(nostack, preserves_flags, pure, readonly),
        );
    }
    flag
}

/// What precedes an abort handler of rseq(2).
pub(in crate::sys) const RSEQ_SIGNATURE: u32 = 0x5305_3053;
