//! The upper unsafe floor: the C ABI of `include/rdaemon.h`, which cbindgen writes from here.
//!
//! One file per section of the header, mirroring the modules below. A C function takes its arguments in, calls the
//! function of the same name below, and turns the result into an int. Comments here are written for C programmers: they
//! are the manual.

#![allow(unsafe_code, reason = "this floor exists to hold it")]
#![allow(non_camel_case_types, reason = "the C names are spelled here, so that a search finds both ends")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the conventions at the top of the header are the contract of every C pointer"
)]
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "brackets are those of C's arrays, and of what stands for something, here"
)]

mod intake;

// In the order of the header's sections.
mod version;

mod status;

mod steps;

mod pidfile;

mod stream;

mod daemonize;

mod spawn;

mod child;

mod communicate;

mod command;

mod control;

mod signals;

mod activation;

mod notify;

mod syslog;

mod users;

pub use activation::*;
pub use child::*;
pub use command::*;
pub use communicate::*;
pub use control::*;
pub use daemonize::*;
pub use notify::*;
pub use pidfile::*;
pub use signals::*;
pub use spawn::*;
pub use status::*;
pub use steps::*;
pub use stream::*;
pub use syslog::*;
pub use users::*;
pub use version::*;
