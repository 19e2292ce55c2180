//! Stream sockets between related processes, over which a pidfd can travel along with the bytes.

use super::fd::{self, Fd};
#[cfg(target_os = "linux")]
use rustix::fd::AsRawFd;
use rustix::fd::BorrowedFd;
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

#[cfg(target_os = "linux")]
mod native {
    use super::{AsRawFd, BorrowedFd, Errno, Fd, fd};
    use crate::sys::arch::syscall4;
    use core::mem::{MaybeUninit, size_of};
    use rustix::fd::RawFd;

    /// A control message with one fd.
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        // The data starts, and ends, at a multiple of a long.
        data: [libc::c_long; 1],
    }

    impl Control {
        fn empty() -> Control {
            // SAFETY: zero is a cmsghdr without anything.
            unsafe { MaybeUninit::zeroed().assume_init() }
        }

        fn length() -> usize {
            // SAFETY: CMSG_LEN only computes.
            unsafe { libc::CMSG_LEN(size_of::<RawFd>() as _) as usize }
        }

        fn with(fd: RawFd) -> Control {
            let mut control = Control::empty();
            control.header.cmsg_level = libc::SOL_SOCKET;
            control.header.cmsg_type = libc::SCM_RIGHTS;
            control.header.cmsg_len = Control::length() as _;
            // SAFETY: the data has room for an fd.
            unsafe { (&raw mut control.data).cast::<RawFd>().write(fd) };
            control
        }

        /// The fd that came, if one did.
        #[allow(clippy::unnecessary_cast, reason = "the type of cmsg_len differs between libcs")]
        fn fd(&self) -> Option<Fd> {
            let came = (self.header.cmsg_level, self.header.cmsg_type, self.header.cmsg_len as usize);
            if came != (libc::SOL_SOCKET, libc::SCM_RIGHTS, Control::length()) {
                return None;
            }
            // SAFETY: the data holds an fd, as the header says.
            Fd::take(unsafe { (&raw const self.data).cast::<RawFd>().read() }).ok()
        }
    }

    fn message(data: &mut libc::iovec, control: &mut Control, with_control: bool) -> libc::msghdr {
        // SAFETY: zero is a msghdr without anything.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = data;
        message.msg_iovlen = 1;
        if with_control {
            message.msg_control = core::ptr::from_mut(control).cast();
            message.msg_controllen = size_of::<Control>() as _;
        }
        message
    }

    // Raw calls, as libc's are cancellation points: a thread that ended in here would leave all behind, and in a process
    // made by the library it would run the caller's atexit handlers.

    pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut data = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = fd.map_or_else(Control::empty, |fd| Control::with(fd.as_raw_fd()));
        let message = message(&mut data, &mut control, fd.is_some());
        let (socket, address) = (socket.as_raw_fd() as usize, &raw const message as usize);
        loop {
            // SAFETY: the message points to what outlives the call and is only read.
            match unsafe { syscall4(libc::SYS_sendmsg, socket, address, libc::MSG_NOSIGNAL as usize, 0) } {
                Err(Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }

    pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<Fd>), Errno> {
        let mut data = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut control = Control::empty();
        let mut message = message(&mut data, &mut control, true);
        let (socket, address) = (socket.as_raw_fd() as usize, &raw mut message as usize);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message points to writable places of the lengths it names.
        let received = unsafe { syscall4(libc::SYS_recvmsg, socket, address, flags as usize, 0) }?;
        let fd = if message.msg_controllen == 0 { None } else { control.fd() };
        Ok((received as usize, fd.map(fd::above_stdio).transpose()?))
    }

    const _: () = {
        // SAFETY: CMSG_SPACE only computes.
        assert!(unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as _) } as usize <= size_of::<Control>());
    };
}

/// Without pidfds, nothing but the bytes travels.
#[cfg(not(target_os = "linux"))]
mod native {
    use super::{BorrowedFd, Errno, Fd};
    use rustix::net::{RecvFlags, SendFlags};

    pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], _fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        #[cfg(target_vendor = "apple")]
        let flags = SendFlags::empty();
        #[cfg(not(target_vendor = "apple"))]
        let flags = SendFlags::NOSIGNAL;
        loop {
            match rustix::net::send(socket, bytes, flags) {
                Err(Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }

    pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<Fd>), Errno> {
        rustix::net::recv(socket, bytes, RecvFlags::DONTWAIT).map(|(_, length)| (length, None))
    }
}

/// Receives what is there, without waiting: how many bytes, and the fd that came with them, if one did.
pub(crate) use native::receive;
/// Sends all the bytes, and the fd with them. No SIGPIPE comes of it.
pub(crate) use native::send;

/// A datagram socket, CLOEXEC and above the standard streams, connected to the one with this path.
pub(crate) fn connect_datagram(path: &[u8]) -> Result<Fd, Errno> {
    #[cfg(not(target_vendor = "apple"))]
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let kind = libc::SOCK_DGRAM;
    // SAFETY: socket takes numbers.
    let socket = Fd::take(super::errno::result(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?)?;
    let socket = fd::above_stdio(socket)?;
    #[cfg(target_vendor = "apple")]
    {
        rustix::io::fcntl_setfd(socket.lend(), rustix::io::FdFlags::CLOEXEC)?;
        rustix::net::sockopt::set_socket_nosigpipe(socket.lend(), true)?;
    }
    // SAFETY: zero is an address without anything.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as _;
    // The last byte stays, as a NUL.
    if path.len() >= address.sun_path.len() {
        return Err(Errno::NAMETOOLONG);
    }
    for (place, &byte) in address.sun_path.iter_mut().zip(path) {
        *place = byte as _;
    }
    connect(&socket, &address).map(|()| socket)
}

/// Raw on Linux, where libc's connect is a cancellation point.
fn connect(socket: &Fd, address: &libc::sockaddr_un) -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    {
        let (fd, address) = (socket.number() as usize, core::ptr::from_ref(address) as usize);
        // SAFETY: an address of that size is read.
        unsafe { super::arch::syscall4(libc::SYS_connect, fd, address, size_of::<libc::sockaddr_un>(), 0) }.map(drop)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: an address of that size is read.
        let connected = unsafe { libc::connect(socket.number(), core::ptr::from_ref(address).cast(), size) };
        super::errno::result(connected).map(drop)
    }
}
