//! The panic handler of the C archive. `make check-symbols` proves that nothing reaches it.

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(rdaemon_prove_no_panic)]
    {
        unsafe extern "C" {
            fn rdaemon_panic_is_reachable() -> !;
        }
        // SAFETY: never linked: the undefined symbol is the finding.
        unsafe { rdaemon_panic_is_reachable() }
    }
    // SAFETY: abort has no precondition.
    #[cfg(not(rdaemon_prove_no_panic))]
    unsafe {
        libc::abort()
    }
}
