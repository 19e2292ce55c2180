//! Decimal numbers, without the machinery of core::fmt and core::str, which is large and may panic.

/// The number's digits, at the end of the buffer.
pub(crate) fn digits(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut unused = buffer.len();
    for digit in buffer.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        unused -= 1;
        if number == 0 {
            break;
        }
    }
    buffer.get(unused..).unwrap_or_default()
}

/// The number that these digits, and nothing but digits, spell.
pub(crate) fn parse(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, &byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}
