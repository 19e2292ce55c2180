//! A moment on CLOCK_MONOTONIC by which something must have happened.

use crate::sys::clock::monotonic_nanoseconds;
use core::time::Duration;
use rustix::time::Timespec;

const SECOND: u64 = 1_000_000_000;

/// A moment, in nanoseconds, or never.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<u64>);

impl Deadline {
    pub(crate) const NEVER: Deadline = Deadline(None);

    #[inline(never)]
    pub(crate) fn milliseconds(limit: u64) -> Deadline {
        Deadline(Some(monotonic_nanoseconds().saturating_add(limit * 1_000_000)))
    }

    pub(crate) fn after(limit: Option<Duration>) -> Deadline {
        let nanoseconds =
            |limit: Duration| limit.as_secs().saturating_mul(SECOND).saturating_add(u64::from(limit.subsec_nanos()));
        Deadline(limit.map(|limit| monotonic_nanoseconds().saturating_add(nanoseconds(limit))))
    }

    pub(crate) fn earlier(self, other: Deadline) -> Deadline {
        Deadline(match (self.0, other.0) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    /// The time left, in the form that poll wants; `None` is for ever.
    pub(crate) fn remaining(self) -> Option<Timespec> {
        let left = self.0?.saturating_sub(monotonic_nanoseconds());
        Some(Timespec { tv_sec: (left / SECOND) as _, tv_nsec: (left % SECOND) as _ })
    }

    pub(crate) fn is_never(self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|moment| moment <= monotonic_nanoseconds())
    }
}

/// A millisecond, for what can only be asked again and again.
#[inline(never)]
pub(crate) fn pause() {
    let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    let _ = rustix::thread::nanosleep(&millisecond);
}
