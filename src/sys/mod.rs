//! The lower unsafe floor: what rustix declines to offer, or offers with a reachable panic.
//!
//! Everything here is a safe function for the rest of the crate. Where such a function can still do harm (closing fds
//! that somebody owns, replacing a signal handler), the public function above it is an `unsafe fn` that says what its
//! caller must promise.

#![allow(unsafe_code, reason = "this floor exists to hold it")]

#[cfg(any(target_os = "linux", target_os = "android"))]
mod arch;
pub(crate) mod child_signals;
pub(crate) mod clock;
pub(crate) mod clone;
pub(crate) mod cstr;
pub(crate) mod env;
pub(crate) mod errno;
pub(crate) mod fd;
pub(crate) mod identity;
#[cfg(any(target_vendor = "apple", rdaemon_fake_launchd))]
pub(crate) mod launchd;
pub(crate) mod limits;
#[cfg(rdaemon_artifact)]
mod panic;
pub(crate) mod path;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod progress;
pub(crate) mod quiet_write;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod rseq;
pub(crate) mod signal_fd;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod strings;
pub(crate) mod thread;
pub(crate) mod users;
