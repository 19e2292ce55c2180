//! Lists of strings as execve(2) takes them: pointers, and a NULL behind the last.

use core::ffi::{CStr, c_char};
use core::marker::PhantomData;
use core::ptr::{NonNull, null};

/// A list of strings with a NULL at its end: arguments, an environment, candidate paths.
#[derive(Clone, Copy, Debug)]
pub struct Strings<'a> {
    first: NonNull<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

/// So many strings, of which [`list`](StringArray::list) makes a list.
#[derive(Debug)]
#[repr(C)]
pub struct StringArray<'a, const LENGTH: usize> {
    strings: [*const c_char; LENGTH],
    end: *const c_char,
    borrowed: PhantomData<&'a CStr>,
}

/// A place for a string, or for the NULL behind the last: what a list of a length that only the run time knows is made
/// in.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct StringPlace(*const c_char);

impl StringPlace {
    /// Nothing yet.
    pub const EMPTY: StringPlace = StringPlace(null());
}

impl<'a, const LENGTH: usize> StringArray<'a, LENGTH> {
    /// These strings, in this order.
    #[must_use]
    pub fn new(strings: [&'a CStr; LENGTH]) -> StringArray<'a, LENGTH> {
        StringArray { strings: strings.map(CStr::as_ptr), end: null(), borrowed: PhantomData }
    }

    /// The list.
    #[must_use]
    pub fn list(&self) -> Strings<'_> {
        Strings { first: NonNull::from(self).cast(), strings: PhantomData }
    }
}

impl<'a> Strings<'a> {
    /// Makes a list of these strings in `places`; `None` when they do not fit: one place is for the end.
    pub fn collect<T: Into<Thin<'a>>>(
        strings: impl IntoIterator<Item = T>,
        places: &'a mut [StringPlace],
    ) -> Option<Strings<'a>> {
        let mut strings = strings.into_iter();
        for place in places.iter_mut() {
            *place = strings.next().map_or(StringPlace::EMPTY, |string| StringPlace(string.into().as_ptr()));
            if place.0.is_null() {
                return Some(Strings { first: NonNull::from(places).cast(), strings: PhantomData });
            }
        }
        None
    }

    /// The list that C hands over, unless it is NULL.
    pub(crate) fn at(first: *const *const c_char) -> Option<Strings<'a>> {
        NonNull::new(first.cast_mut()).map(|first| Strings { first, strings: PhantomData })
    }

    pub(crate) fn as_ptr(self) -> *const *const c_char {
        self.first.as_ptr()
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = Thin<'a>;

    fn next(&mut self) -> Option<Thin<'a>> {
        // SAFETY: the list goes on here, if only with its NULL, behind which `next` does not go.
        let string = NonNull::new(unsafe { self.first.read() }.cast_mut())?;
        // SAFETY: no NULL, so the list goes on.
        self.first = unsafe { self.first.add(1) };
        Some(Thin(string, PhantomData))
    }
}

/// A string whose length nobody has looked for: that would be a call of libc.
#[derive(Clone, Copy, Debug)]
pub struct Thin<'a>(NonNull<c_char>, PhantomData<&'a CStr>);

impl Thin<'_> {
    pub(crate) fn as_ptr(self) -> *const c_char {
        self.0.as_ptr()
    }
}

impl<'a> From<&'a CStr> for Thin<'a> {
    fn from(string: &'a CStr) -> Thin<'a> {
        Thin(NonNull::from(string).cast(), PhantomData)
    }
}
