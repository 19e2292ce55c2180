//! The steps: one process-changing act per file. No step knows another; [`crate::daemon`] strings them together.
//!
//! A step answers the errno of the system call that refused it. Each can be used alone, and says whether it is
//! async-signal-safe.

mod core;
mod cwd;
pub(crate) mod fds;
pub(crate) mod fork;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod map;
mod no_new_privs;
mod root;
mod session;
pub(crate) mod signals;
pub(crate) mod stdio;
mod umask;

pub use self::core::prevent_core;
pub use cwd::chdir;
pub use fds::close_fds;
pub use fork::{DoubleFork, double_fork};
pub use identity::{Identity, drop_privileges};
pub use limits::{Limit, set_limits};
pub use no_new_privs::no_new_privs;
pub use root::chroot;
pub use session::setsid;
pub use signals::{SignalAction, SignalMapEntry, reset_signals, set_signals};
pub use stdio::{Source, open_stdio, redirect_stdio};
pub use umask::umask;
