//! The thread that C, or the kernel for a signal, calls a function of ours in.

use native::uncancelled;

/// Runs `f` and leaves errno as it was. The thread is not cancelled meanwhile: it would end in the middle of the call, and
/// leave all behind that the call had made.
pub(crate) fn undisturbed<T>(f: impl FnOnce() -> T) -> T {
    uncancelled(|| super::errno::preserved(f))
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod native {
    /// No system call is a cancellation point here, as none goes through libc.
    pub(super) fn uncancelled<T>(f: impl FnOnce() -> T) -> T {
        f()
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod native {
    use core::ffi::c_int;

    const PTHREAD_CANCEL_DISABLE: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };

    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    }

    /// libc's open, read, close, waitid are cancellation points.
    pub(super) fn uncancelled<T>(f: impl FnOnce() -> T) -> T {
        let before = set(PTHREAD_CANCEL_DISABLE);
        let result = f();
        set(before);
        result
    }

    fn set(state: c_int) -> c_int {
        let mut before = state;
        // SAFETY: the address is that of a variable, the state one of the two that there are.
        unsafe { pthread_setcancelstate(state, &raw mut before) };
        before
    }
}
