//! Lines of text, cut into messages that fit a datagram.

/// As much as every receiver takes: RFC 3164, section 4.1.
pub(super) const DATAGRAM: usize = 1024;

/// Sends a message of this level; answers whether it arrived. One that does not is a line lost if the last argument says
/// so: a line is lost once, in however many parts.
pub(super) type Send<'a> = &'a mut dyn FnMut(u8, &[u8], bool) -> bool;

/// A line that is put together from the pieces in which it comes.
pub(super) struct Line {
    text: [u8; DATAGRAM],
    length: usize,
    /// How much of the text fits.
    room: usize,
    /// The level of the line, once a part of it has been sent.
    level: Option<u8>,
    /// That of lines which do not say it.
    default: u8,
    /// Whether they may say it, by "<n>" at their start.
    honours_prefix: bool,
    /// Whether a part of it was lost.
    is_lost: bool,
}

impl Line {
    pub(super) fn new(room: usize, default: u8, honours_prefix: bool) -> Line {
        Line {
            text: [0; DATAGRAM],
            length: 0,
            room: room.min(DATAGRAM),
            level: None,
            default,
            honours_prefix,
            is_lost: false,
        }
    }

    /// Takes bytes, and hands over each message that they complete, with its level.
    pub(super) fn feed(&mut self, bytes: &[u8], send: Send<'_>) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end(send),
                // What would confuse a terminal, or a receiver that stops at NUL.
                0..=8 | 11..=31 | 127 => self.push(&[b'\\', b'x', hexadecimal(byte >> 4), hexadecimal(byte)], send),
                _ => self.push(&[byte], send),
            }
        }
    }

    /// Ends the line, which may be without its newline. A blank one is none.
    pub(super) fn end(&mut self, send: Send<'_>) {
        self.send_until(self.length, send);
        (self.level, self.is_lost) = (None, false);
    }

    fn push(&mut self, bytes: &[u8], send: Send<'_>) {
        if self.length + bytes.len() > self.room {
            self.send_until(self.last_whole_character(bytes), send);
        }
        let free = self.text.iter_mut().skip(self.length);
        free.zip(bytes).for_each(|(place, &byte)| *place = byte);
        self.length += bytes.len();
    }

    /// How much of the text can be sent without cutting the UTF-8 character that goes on with `next`.
    fn last_whole_character(&self, next: &[u8]) -> usize {
        let is_continuation = |&byte: &u8| byte & 0xc0 == 0x80;
        if !next.first().is_some_and(is_continuation) {
            return self.length;
        }
        let text = self.text.get(..self.length).unwrap_or_default();
        let continued = text.iter().rev().take_while(|byte| is_continuation(byte)).count();
        let start = self.length.saturating_sub(continued + 1);
        let is_lead = text.get(start).is_some_and(|byte| byte & 0xc0 == 0xc0);
        // Four bytes are the longest; what is longer, or fills everything, is no UTF-8.
        if continued > 2 || start == 0 || !is_lead { self.length } else { start }
    }

    fn send_until(&mut self, end: usize, send: Send<'_>) {
        let (part, rest) = self.text.get(..self.length).unwrap_or_default().split_at_checked(end).unwrap_or_default();
        let (level, part) = match (self.level, part) {
            (Some(level), part) => (level, part),
            (None, [b'<', digit @ b'0'..=b'7', b'>', part @ ..]) if self.honours_prefix => (digit - b'0', part),
            (None, part) => (self.default, part),
        };
        if !part.is_empty() {
            self.is_lost |= !send(level, part, !self.is_lost);
        }
        self.level = Some(level);
        // The front of one character at most.
        let mut left = [0; 4];
        left.iter_mut().zip(rest).for_each(|(place, &byte)| *place = byte);
        self.length = rest.len();
        self.text.iter_mut().zip(left).for_each(|(place, byte)| *place = byte);
    }
}

fn hexadecimal(number: u8) -> u8 {
    match number & 15 {
        digit @ 0..=9 => b'0' + digit,
        letter => b'a' + letter - 10,
    }
}
