use core::ffi::c_char;

/// The version of this header: the first number changes when the ABI does.
pub const RDAEMON_VERSION_MAJOR: u32 = 0;
/// The second number changes when something was added; while the first is 0, also when the ABI does.
pub const RDAEMON_VERSION_MINOR: u32 = 1;
/// The third number changes when something was fixed.
pub const RDAEMON_VERSION_PATCH: u32 = 0;
/// The version as one number, for comparisons: MAJOR * 1000000 + MINOR * 1000 + PATCH.
pub const RDAEMON_VERSION_NUMBER: u32 = 1000;

/// The version in Cargo.toml, from which the numbers above may not differ.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
const NUMBER: u32 = 1_000_000 * number(env!("CARGO_PKG_VERSION_MAJOR"))
    + 1000 * number(env!("CARGO_PKG_VERSION_MINOR"))
    + number(env!("CARGO_PKG_VERSION_PATCH"));

const _: () = {
    assert!(RDAEMON_VERSION_NUMBER == NUMBER);
    assert!(NUMBER == 1_000_000 * RDAEMON_VERSION_MAJOR + 1000 * RDAEMON_VERSION_MINOR + RDAEMON_VERSION_PATCH);
};

const fn number(digits: &str) -> u32 {
    let mut value = 0;
    let mut i = 0;
    while i < digits.len() {
        value = value * 10 + (digits.as_bytes()[i] - b'0') as u32;
        i += 1;
    }
    value
}

/// Tells the version of the linked library, as RDAEMON_VERSION_NUMBER tells that of the header.
///
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_version() -> u32 {
    NUMBER
}

/// Tells the version of the linked library, as in "0.1.0". The string is static.
///
/// Async-signal-safe, thread-safe. Since 0.1.0.
#[unsafe(no_mangle)]
pub extern "C" fn rdaemon_version_string() -> *const c_char {
    VERSION.as_ptr().cast()
}
