//! How long `std::process::Command` takes to start /bin/true: first decile and median, in nanoseconds.
//!
//!     command MIB COUNT
//!
//! As spawn.c: MIB MiB are resident, in small pages.

use std::ffi::{c_int, c_long, c_void};
use std::process::Command;
use std::time::Instant;

unsafe extern "C" {
    fn mmap(at: *mut c_void, len: usize, access: c_int, flags: c_int, fd: c_int, offset: c_long) -> *mut c_void;
    fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int;
}

fn become_large(mib: usize) {
    const READ_WRITE: c_int = 3;
    const PRIVATE_ANONYMOUS_NORESERVE: c_int = 0x4022;
    const NOHUGEPAGE: c_int = 15;
    const POPULATE_WRITE: c_int = 23;
    let len = mib << 20;
    // SAFETY: A new mapping at an address that the kernel chooses.
    let memory = unsafe { mmap(std::ptr::null_mut(), len, READ_WRITE, PRIVATE_ANONYMOUS_NORESERVE, -1, 0) };
    assert_ne!(memory as isize, -1, "mmap");
    // SAFETY: The range is the mapping.
    assert_eq!(unsafe { madvise(memory, len, NOHUGEPAGE) }, 0, "madvise");
    // SAFETY: As before. Only faster than the loop, and not in every kernel.
    unsafe { madvise(memory, len, POPULATE_WRITE) };
    for offset in (0..len).step_by(4096) {
        // SAFETY: `offset` is inside the mapping, which is writable.
        unsafe { memory.cast::<u8>().add(offset).write_volatile(1) };
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|n| n.parse().expect("a number")).collect();
    let [mib, count] = numbers[..] else { panic!("usage: command MIB COUNT") };
    become_large(mib);

    let mut command = Command::new("/bin/true");
    let mut time_one = || {
        let before = Instant::now();
        let child = command.spawn();
        let time = before.elapsed();
        assert!(child.and_then(|mut child| child.wait()).expect("/bin/true").success());
        time.as_nanos()
    };
    let warm_up = count / 10 + 1;
    let mut times: Vec<_> = (0..warm_up + count).map(|_| time_one()).skip(warm_up).collect();
    times.sort_unstable();
    println!("{} {}", times[count / 10], times[count / 2]);
}
