//! `UID_MIN` of /etc/login.defs, as shadow-utils reads it: the first uid of a person.

use crate::sys::fd::{self, Fd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Where nothing else is said.
const UID_MIN: u32 = 500;

/// What is longer is not read to its end, and is no line of a number.
const LONGEST: usize = 256;

pub(super) fn uid_min() -> Result<u32, Errno> {
    match fd::open(CWD, c"/etc/login.defs", OFlags::RDONLY, Mode::empty()) {
        Err(Errno::NOENT) => Ok(UID_MIN),
        file => read(&file?),
    }
}

fn read(file: &Fd) -> Result<u32, Errno> {
    let mut line = Line { text: [0; LONGEST], length: 0 };
    let mut chunk = [0; 1024];
    let mut least = UID_MIN;
    loop {
        match rustix::io::read(file.lend(), &mut chunk) {
            Err(Errno::INTR) => {}
            Ok(0) => break Ok(line.end().unwrap_or(least)),
            result => {
                for &byte in chunk.get(..result?).unwrap_or_default() {
                    // The last one counts.
                    least = line.take(byte).unwrap_or(least);
                }
            }
        }
    }
}

struct Line {
    text: [u8; LONGEST],
    length: usize,
}

impl Line {
    /// The value, when this byte ends a line that has one.
    fn take(&mut self, byte: u8) -> Option<u32> {
        if byte == b'\n' {
            return self.end();
        }
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
        }
        self.length = self.length.saturating_add(1);
        None
    }

    fn end(&mut self) -> Option<u32> {
        // Nothing for one that did not fit.
        let value = self.text.get(..self.length).and_then(value);
        self.length = 0;
        value
    }
}

/// The value of a line that says `UID_MIN`.
fn value(line: &[u8]) -> Option<u32> {
    let mut words = line.split(|byte| byte.is_ascii_whitespace() || *byte == b'"').filter(|word| !word.is_empty());
    if words.next()? != b"UID_MIN" {
        return None;
    }
    number(words.next()?)
}

/// A number in C's notation.
fn number(text: &[u8]) -> Option<u32> {
    let (base, digits) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', digits @ ..] if !digits.is_empty() => (8, digits),
        digits => (10, digits),
    };
    let add = |number: u32, &byte: &u8| {
        let digit = char::from(byte).to_digit(base)?;
        number.checked_mul(base)?.checked_add(digit)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}
