//! Decimal numbers, without the machinery of core::fmt and its reachable panics.

/// The number's digits, at the end of the buffer.
pub(crate) fn digits(mut number: u32, buffer: &mut [u8; 12]) -> &[u8] {
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
