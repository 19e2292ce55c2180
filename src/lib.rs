//! Well-behaved Unix daemons, and the programs they start, without allocation, for Rust and for C.
//!
//! # Data flow
//!
//! ```text
//! Config --Plan::new--> Plan --run--> step::* --> Result<_, Error { step, errno }>
//!          all refusals happen       one act      | before the fork: returned
//!          here; nothing has         per file     | after it: one record of fixed size,
//!          changed yet                            v down a CLOEXEC channel to the original process
//! ```
//!
//! [`step`] holds the mechanisms, one process-changing act per file, none of which knows another. [`daemon`] and
//! [`spawn`] are the policies that string them together, each in an order that is written once: this process becomes a
//! daemon; a child becomes another program, and reports through the memory that it shares. [`pidfile`] tells whether a
//! daemon runs, and [`control`] signals it, stops it and starts it; [`activation`] takes over a manager's sockets, and
//! [`notify`] tells it how things are; [`signals`], [`syslog`] and [`users`] are what a daemon needs besides. The C ABI of `include/rdaemon.h` (feature `capi`) is a thin floor above.
//!
//! Unsafe code lives in two rooms only: `sys`, which talks to the kernel and to libc, and `capi`, which talks to C.

#![no_std]
#![deny(missing_docs, unsafe_code)]

pub mod activation;
#[cfg(feature = "capi")]
pub mod capi;
mod channel;
pub mod control;
pub mod daemon;
mod deadline;
mod decimal;
mod error;
mod file;
mod grandchild;
pub mod notify;
pub mod pidfile;
pub mod signals;
pub mod spawn;
pub mod step;
mod stream;
/// cbindgen:ignore
mod sys;
pub mod syslog;
mod terminate;
pub mod users;
mod variables;

pub use daemon::{check, daemonize};
pub use error::{Detail, Error, Step};
