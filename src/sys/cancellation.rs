//! pthread_cancel(3): a thread that ended in the middle of a call would leave all behind that the call had made.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod native {
    /// No system call is a cancellation point here, as none goes through libc.
    pub(in crate::sys) fn disabled<T>(f: impl FnOnce() -> T) -> T {
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
    pub(in crate::sys) fn disabled<T>(f: impl FnOnce() -> T) -> T {
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

pub(super) use native::disabled;
