//! Stream sockets between related processes, over which an fd can travel along with the bytes.

use super::fd::{self, Fd};
use core::mem::{MaybeUninit, size_of};
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::io::Errno;

/// A connected pair, CLOEXEC and above the standard streams, that raises no SIGPIPE.
pub(crate) fn pair() -> Result<(Fd, Fd), Errno> {
    let mut pair = [-1; 2];
    #[cfg(not(target_vendor = "apple"))]
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let kind = libc::SOCK_STREAM;
    // SAFETY: two ints are written into an array of two.
    super::errno::result(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
    let (a, b) = (Fd::take(pair[0])?, Fd::take(pair[1])?);
    #[cfg(target_vendor = "apple")]
    for end in [&a, &b] {
        rustix::io::fcntl_setfd(end.lend(), rustix::io::FdFlags::CLOEXEC)?;
        rustix::net::sockopt::set_socket_nosigpipe(end.lend(), true)?;
    }
    Ok((fd::above_stdio(a)?, fd::above_stdio(b)?))
}

/// Room for a control message with one fd.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    // The data starts at a multiple of a long on every system here, and so does the space behind it.
    data: [libc::c_long; 1],
}

fn message(bytes: &mut libc::iovec, control: &mut Control, with_control: bool) -> libc::msghdr {
    // SAFETY: zero is a msghdr without anything.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = bytes;
    message.msg_iovlen = 1;
    if with_control {
        message.msg_control = core::ptr::from_mut(control).cast();
        message.msg_controllen = size_of::<Control>() as _;
    }
    message
}

impl Control {
    fn empty() -> Control {
        // SAFETY: zero is a cmsghdr without anything.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    fn with(fd: RawFd) -> Control {
        let mut control = Control::empty();
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN only computes.
        control.header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as _) } as _;
        // SAFETY: the data has room for an fd.
        unsafe { (&raw mut control.data).cast::<RawFd>().write(fd) };
        control
    }

    /// The fd that came, if one did.
    #[allow(clippy::unnecessary_cast, reason = "the type of cmsg_len differs between systems")]
    fn fd(&self) -> Option<Fd> {
        // SAFETY: CMSG_LEN only computes.
        let length = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as _) } as usize;
        let came = (self.header.cmsg_level, self.header.cmsg_type, self.header.cmsg_len as usize);
        if came != (libc::SOL_SOCKET, libc::SCM_RIGHTS, length) {
            return None;
        }
        // SAFETY: the data holds an fd, as the header says.
        Fd::take(unsafe { (&raw const self.data).cast::<RawFd>().read() }).ok()
    }
}

/// Sends all the bytes, and the fd with them. No SIGPIPE comes of it.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut data = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = fd.map_or_else(Control::empty, |fd| Control::with(fd.as_raw_fd()));
    let message = message(&mut data, &mut control, fd.is_some());
    #[cfg(target_vendor = "apple")]
    let flags = 0;
    #[cfg(not(target_vendor = "apple"))]
    let flags = libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the message points to what outlives the call and is only read.
        match length(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) }) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

/// Receives what is there, without waiting: how many bytes, and the fd that came with them, if one did.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<Fd>), Errno> {
    let mut data = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control::empty();
    let mut message = message(&mut data, &mut control, true);
    #[cfg(target_vendor = "apple")]
    let flags = libc::MSG_DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message points to writable places of the lengths it names.
    let received = length(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    let fd = if message.msg_controllen == 0 { None } else { control.fd() };
    Ok((received, fd.map(fd::above_stdio).transpose()?))
}

fn length(answer: isize) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| super::errno::last())
}

const _: () = {
    // SAFETY: CMSG_SPACE only computes.
    assert!(unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as _) } as usize <= size_of::<Control>());
};
