//! What is written in a pidfile.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// Replaces the content by the number and a newline; nothing is left there when that fails.
pub(super) fn write(file: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    let mut line = [0; 21];
    let [digits @ .., newline] = &mut line;
    let digits: &mut [u8; 20] = digits;
    let length = crate::decimal::digits(number.unsigned_abs().into(), digits).len() + 1;
    *newline = b'\n';
    let line = line.get(line.len() - length..).unwrap_or_default();
    rustix::fs::ftruncate(file, 0)?;
    let written = match rustix::io::pwrite(file, line, 0) {
        // A full disk may take a part.
        Ok(taken) if taken < line.len() => Err(Errno::NOSPC),
        result => result.map(drop),
    };
    written.inspect_err(|_| {
        let _ = rustix::fs::ftruncate(file, 0);
    })
}

/// The number in the first line; 0 for an empty file.
pub(super) fn read(file: BorrowedFd<'_>) -> Result<i32, Errno> {
    let mut buffer = [0; 32];
    let length = rustix::io::pread(file, &mut buffer, 0)?;
    let content = buffer.get(..length).unwrap_or_default();
    let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if content.is_empty() {
        return Ok(0);
    }
    // A line that fills the buffer may go on.
    let number = Some(line)
        .filter(|line| line.len() < buffer.len())
        .and_then(crate::decimal::parse)
        .and_then(|number| i32::try_from(number).ok());
    number.filter(|&number| number > 0).ok_or(Errno::BADMSG)
}
