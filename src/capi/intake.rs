//! Pointers, sizes and fds from C: raw before, checked after. The only place that dereferences.

use crate::spawn::Strings;
use crate::sys::thread::undisturbed;
use core::ffi::{CStr, c_char, c_int};
use core::mem::{MaybeUninit, size_of};
use core::time::Duration;
use rustix::io::Errno;

/// A C struct with a size that may grow.
///
/// # Safety
///
/// The struct consists of integers and pointers without padding, so that zero bytes are a value of it, and its own
/// bytes are all initialised.
pub(super) unsafe trait Sized_: Copy {
    /// How large its first version was.
    const FIRST: usize;

    /// All defaults.
    fn zeroed() -> Self {
        // SAFETY: the implementation promises that zero bytes are a value.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// Declares the size of a struct's first version, and with it that the struct may cross.
macro_rules! sized {
    ($($name:ty = $first:expr,)*) => { $(
        // SAFETY: its fields are integers and pointers, as the assertion below and the header's tests check.
        unsafe impl $crate::capi::intake::Sized_ for $name {
            const FIRST: usize = $first;
        }
        const _: () = assert!(size_of::<$name>() >= $first);
    )* };
}
pub(super) use sized;

/// A struct of whatever version the caller was compiled with: what is missing is zero, and what this library does not
/// know must be.
pub(super) fn sized_in<T: Sized_>(from: *const T, size: usize) -> Result<T, Errno> {
    let mut value = T::zeroed();
    copy_in(from.cast(), size, T::FIRST, (&raw mut value).cast(), size_of::<T>()).map(|()| value)
}

#[inline(never)]
fn copy_in(from: *const u8, size: usize, first: usize, to: *mut u8, room: usize) -> Result<(), Errno> {
    if from.is_null() && size == 0 {
        return Ok(());
    }
    if from.is_null() || size < first {
        return Err(Errno::INVAL);
    }
    // No version will be as large as a page.
    if size > 4096 {
        return Err(Errno::TOOBIG);
    }
    let known = size.min(room);
    // SAFETY: the C caller says that `size` bytes are there, and `known` is no more than that or than the room.
    unsafe { from.copy_to_nonoverlapping(to, known) };
    for unknown in known..size {
        // SAFETY: within the caller's `size` bytes.
        if unsafe { from.wrapping_add(unknown).read() } != 0 {
            return Err(Errno::TOOBIG);
        }
    }
    Ok(())
}

/// Fills the caller's struct, of whatever version: a shorter one gets the front, a longer one a zeroed tail.
pub(super) fn sized_out<T: Sized_>(to: *mut T, size: usize, value: &T) {
    copy_out(core::ptr::from_ref(value).cast(), size_of::<T>(), to.cast(), size);
}

#[inline(never)]
fn copy_out(from: *const u8, length: usize, to: *mut u8, size: usize) {
    if to.is_null() {
        return;
    }
    let known = size.min(length);
    // SAFETY: the C caller says that `size` bytes may be written, and `known` is no more than that or than the value.
    unsafe { to.copy_from_nonoverlapping(from, known) };
    // SAFETY: what is behind the known part is within the caller's `size` bytes.
    unsafe { to.wrapping_add(known).write_bytes(0, size - known) };
}

/// Writes a single value, unless the caller does not want it.
pub(super) fn out<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: the C caller says that it points to a place for one.
        unsafe { to.write(value) };
    }
}

/// An array. NULL is an empty one only if its length says so.
pub(super) fn array<'a, T>(first: *const T, length: usize) -> Result<&'a [T], Errno> {
    if length == 0 {
        return Ok(&[]);
    }
    if first.is_null() || !first.is_aligned() || length > isize::MAX as usize / size_of::<T>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the C caller says that so many are there, for the call.
    Ok(unsafe { core::slice::from_raw_parts(first, length) })
}

/// A list from C, item by item as the floor below wants it. It lives on the stack, so it has an end.
pub(super) struct Converted<T, const MOST: usize> {
    items: [MaybeUninit<T>; MOST],
}

impl<T: Copy, const MOST: usize> Converted<T, MOST> {
    pub(super) const EMPTY: Self = Converted { items: [MaybeUninit::uninit(); MOST] };

    /// Converts the list in place, as a copy of so many items costs stack.
    pub(super) fn fill<C>(&mut self, list: &[C], mut item: impl FnMut(&C) -> Result<T, Errno>) -> Result<&[T], Errno> {
        let places = self.items.get_mut(..list.len()).ok_or(Errno::INVAL)?;
        for (place, from) in places.iter_mut().zip(list) {
            place.write(item(from)?);
        }
        // SAFETY: the loop has written every one of these places.
        Ok(unsafe { core::slice::from_raw_parts(places.as_ptr().cast(), places.len()) })
    }
}

/// A time limit in milliseconds; -1 is none.
pub(super) fn limit(milliseconds: c_int) -> Result<Option<Duration>, Errno> {
    match milliseconds {
        -1 => Ok(None),
        _ => u64::try_from(milliseconds).map(Duration::from_millis).map(Some).map_err(|_| Errno::INVAL),
    }
}

/// Room for so many items that is written to.
pub(super) fn room<'a, T>(first: *mut T, length: usize) -> Result<&'a mut [T], Errno> {
    if length == 0 {
        return Ok(&mut []);
    }
    if first.is_null() || !first.is_aligned() || length > isize::MAX as usize / size_of::<T>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the C caller says that so many are there, for the call, and nobody else's meanwhile.
    Ok(unsafe { core::slice::from_raw_parts_mut(first, length) })
}

/// A handle: an input and an output, and so never NULL.
pub(super) fn handle<T: Sized_>(handle: *const T, size: usize) -> Result<T, Errno> {
    if handle.is_null() { Err(Errno::INVAL) } else { sized_in(handle, size) }
}

/// A list of strings with a NULL at its end, or NULL.
pub(super) fn optional_strings<'a>(first: *const *const c_char) -> Result<Option<Strings<'a>>, Errno> {
    if first.is_aligned() { Ok(Strings::at(first)) } else { Err(Errno::INVAL) }
}

/// A path: not NULL, and with its NUL within what the kernel takes.
pub(super) fn path<'a>(path: *const c_char) -> Result<&'a CStr, Errno> {
    optional_path(path)?.ok_or(Errno::INVAL)
}

/// A path, or NULL.
#[inline(never)]
pub(super) fn optional_path<'a>(path: *const c_char) -> Result<Option<&'a CStr>, Errno> {
    const PATH_MAX: usize = 4096;
    if path.is_null() {
        return Ok(None);
    }
    for length in 0..PATH_MAX {
        // SAFETY: no NUL before this byte, so the C caller's string goes on here.
        if unsafe { path.wrapping_add(length).read() } == 0 {
            // SAFETY: a string that ends here, borrowed for the call.
            return Ok(Some(unsafe { CStr::from_ptr(path) }));
        }
    }
    Err(Errno::NAMETOOLONG)
}

/// A C buffer that is written to until it is full, and counts on.
pub(super) struct Text {
    to: *mut c_char,
    room: usize,
    length: usize,
}

impl Text {
    pub(super) fn new(to: *mut c_char, room: usize) -> Text {
        Text { to, room, length: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.length + 1 < self.room {
                // SAFETY: within the C caller's buffer, and before its last byte.
                unsafe { self.to.wrapping_add(self.length).write(byte as c_char) };
            }
            self.length += 1;
        }
    }

    /// Writes the NUL; answers the length of the whole text.
    pub(super) fn end(self) -> usize {
        if self.room > 0 {
            // SAFETY: at most the last byte of the C caller's buffer.
            unsafe { self.to.wrapping_add(self.length.min(self.room - 1)).write(0) };
        }
        self.length
    }
}

/// A result as C wants it, the calling thread left undisturbed.
pub(super) fn answer(call: impl FnOnce() -> Result<c_int, Errno>) -> c_int {
    undisturbed(|| call().unwrap_or_else(|errno| errno.raw_os_error().wrapping_neg()))
}
