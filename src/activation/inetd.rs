//! The one socket of inetd: standard input, and output and error as well. With "wait" it is a listener or receives
//! datagrams, with "nowait" it is a connection.

use super::{Kind, Socket, Source, Visit, set_collected};
use crate::step::{Source as StreamSource, redirect_stdio};
use crate::sys::fd;
use core::ffi::CStr;
use rustix::io::Errno;

/// inetd knows no names, so whichever is wanted is the one.
pub(super) fn collect(wanted: Option<&CStr>, visit: Visit<'_>) -> Result<(), Errno> {
    let name = wanted.unwrap_or(c"inetd");
    let fd = fd::duplicate(fd::borrow(0)?)?;
    let socket = Socket::new(fd.lend(), Source::Inetd, name)?;
    if socket.kind == Kind::Other {
        return Err(Errno::NOTSOCK);
    }
    // What is printed is not for the peer.
    redirect_stdio([StreamSource::Null; 3])?;
    set_collected();
    let _ = fd.into_number();
    visit(&socket);
    Ok(())
}
