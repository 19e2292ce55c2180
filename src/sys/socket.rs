//! Stream sockets between related processes, over which a pidfd can travel along with the bytes.

use super::fd::{self, Fd};
use super::poll::{Place, poll};
use crate::deadline::Deadline;
#[cfg(target_os = "linux")]
use rustix::fd::AsRawFd;
use rustix::fd::{BorrowedFd, RawFd};
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
    use super::{AsRawFd, BorrowedFd, Errno, Fd, RawFd, fd};
    use crate::sys::arch::syscall4;
    use core::mem::{MaybeUninit, size_of};

    /// A control message with fds.
    #[repr(C)]
    struct Control<const LONGS: usize> {
        header: libc::cmsghdr,
        // The data starts, and ends, at a multiple of a long.
        data: [libc::c_long; LONGS],
    }

    /// What a message of one fd needs.
    type One = Control<1>;
    /// What one of as many as the kernel takes needs.
    type Many = Control<256>;

    fn length(number: usize) -> usize {
        // SAFETY: CMSG_LEN only computes.
        unsafe { libc::CMSG_LEN((number * size_of::<RawFd>()) as _) as usize }
    }

    fn space(number: usize) -> usize {
        // SAFETY: CMSG_SPACE only computes.
        unsafe { libc::CMSG_SPACE((number * size_of::<RawFd>()) as _) as usize }
    }

    impl<const LONGS: usize> Control<LONGS> {
        fn empty() -> Self {
            // SAFETY: zero is a cmsghdr without anything.
            unsafe { MaybeUninit::zeroed().assume_init() }
        }

        /// With the header of a message of so many fds.
        fn of(number: usize) -> Self {
            let mut control = Self::empty();
            control.header.cmsg_level = libc::SOL_SOCKET;
            control.header.cmsg_type = libc::SCM_RIGHTS;
            control.header.cmsg_len = length(number) as _;
            control
        }
    }

    impl Many {
        fn with(fds: &[RawFd]) -> Result<Many, Errno> {
            let mut control = Many::of(fds.len());
            if space(fds.len()) > size_of::<Many>() {
                return Err(Errno::INVAL);
            }
            let data = (&raw mut control.data).cast::<RawFd>();
            // SAFETY: the data has room for so many fds.
            unsafe { fds.as_ptr().copy_to_nonoverlapping(data, fds.len()) };
            Ok(control)
        }
    }

    impl One {
        fn with(fd: RawFd) -> One {
            let mut control = One::of(1);
            // SAFETY: the data has room for an fd.
            unsafe { (&raw mut control.data).cast::<RawFd>().write(fd) };
            control
        }

        /// The fd that came, if one did.
        #[allow(clippy::unnecessary_cast, reason = "the type of cmsg_len differs between libcs")]
        fn fd(&self) -> Option<Fd> {
            let came = (self.header.cmsg_level, self.header.cmsg_type, self.header.cmsg_len as usize);
            if came != (libc::SOL_SOCKET, libc::SCM_RIGHTS, length(1)) {
                return None;
            }
            // SAFETY: the data holds an fd, as the header says.
            Fd::take(unsafe { (&raw const self.data).cast::<RawFd>().read() }).ok()
        }
    }

    /// A message of the data and of so much of the control.
    fn message<const LONGS: usize>(
        data: &mut libc::iovec,
        control: &mut Control<LONGS>,
        length: usize,
    ) -> libc::msghdr {
        // SAFETY: zero is a msghdr without anything.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = data;
        message.msg_iovlen = 1;
        if length > 0 {
            message.msg_control = core::ptr::from_mut(control).cast();
            message.msg_controllen = length as _;
        }
        message
    }

    // Raw calls, as libc's are cancellation points: a thread that ended in here would leave all behind, and in a process
    // made by the library it would run the caller's atexit handlers.

    pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let (control, length) = fd.map_or((One::empty(), 0), |fd| (One::with(fd.as_raw_fd()), size_of::<One>()));
        send_control(socket, bytes, control, length, 0)
    }

    pub(crate) fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> Result<(), Errno> {
        let length = if fds.is_empty() { 0 } else { space(fds.len()) };
        send_control(socket, bytes, Many::with(fds)?, length, libc::MSG_DONTWAIT)
    }

    fn send_control<const LONGS: usize>(
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        mut control: Control<LONGS>,
        length: usize,
        flags: libc::c_int,
    ) -> Result<(), Errno> {
        let mut data = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let message = message(&mut data, &mut control, length);
        let (socket, address) = (socket.as_raw_fd() as usize, &raw const message as usize);
        let flags = (flags | libc::MSG_NOSIGNAL) as usize;
        loop {
            // SAFETY: the message points to what outlives the call and is only read.
            match unsafe { syscall4(libc::SYS_sendmsg, socket, address, flags, 0) } {
                Err(Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }

    pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<Fd>), Errno> {
        let mut data = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut control = One::empty();
        let mut message = message(&mut data, &mut control, size_of::<One>());
        let (socket, address) = (socket.as_raw_fd() as usize, &raw mut message as usize);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message points to writable places of the lengths it names.
        let received = unsafe { syscall4(libc::SYS_recvmsg, socket, address, flags as usize, 0) }?;
        let fd = if message.msg_controllen == 0 { None } else { control.fd() };
        // The bytes count, also where there is no room for the fd.
        Ok((received as usize, fd.and_then(|fd| fd::above_stdio(fd).ok())))
    }

    const _: () = {
        // SAFETY: CMSG_SPACE only computes.
        assert!(unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as _) } as usize <= size_of::<One>());
    };
}

/// Without pidfds, nothing but the bytes travels.
#[cfg(not(target_os = "linux"))]
mod native {
    use super::{BorrowedFd, Errno, Fd, RawFd};
    use rustix::net::{RecvFlags, SendFlags};

    #[cfg(target_vendor = "apple")]
    const QUIET: SendFlags = SendFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    const QUIET: SendFlags = SendFlags::NOSIGNAL;

    pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], _fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        send_with(socket, bytes, QUIET)
    }

    fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], flags: SendFlags) -> Result<(), Errno> {
        loop {
            match rustix::net::send(socket, bytes, flags) {
                Err(Errno::INTR) => {}
                result => return result.map(drop),
            }
        }
    }

    /// Nobody here takes fds.
    pub(crate) fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> Result<(), Errno> {
        if fds.is_empty() { send_with(socket, bytes, QUIET | SendFlags::DONTWAIT) } else { Err(Errno::OPNOTSUPP) }
    }

    pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<Fd>), Errno> {
        rustix::net::recv(socket, bytes, RecvFlags::DONTWAIT).map(|(_, length)| (length, None))
    }
}

/// Receives what is there, without waiting: how many bytes, and the fd that came with them, if one did.
pub(crate) use native::receive;
/// Sends all the bytes, and the fd with them. No SIGPIPE comes of it.
pub(crate) use native::send;

/// A datagram socket, CLOEXEC and above the standard streams.
fn datagram_socket() -> Result<Fd, Errno> {
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
    Ok(socket)
}

/// Where a socket is, and how many bytes of it count.
struct Address {
    address: libc::sockaddr_un,
    length: usize,
}

impl Address {
    /// With a NUL behind the path.
    fn of_path(path: &[u8]) -> Result<Address, Errno> {
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
        Ok(Address { address, length: size_of::<libc::sockaddr_un>() })
    }

    /// Of the abstract namespace, where that is meant by a first byte of '@'.
    fn of_name(name: &[u8]) -> Result<Address, Errno> {
        match name {
            [b'/', ..] => Address::of_path(name),
            [b'@', rest @ ..] if !rest.is_empty() && cfg!(target_os = "linux") => {
                let mut address = Address::of_path(name)?;
                if let Some(first) = address.address.sun_path.first_mut() {
                    *first = 0;
                }
                address.length = core::mem::offset_of!(libc::sockaddr_un, sun_path) + name.len();
                Ok(address)
            }
            _ => Err(Errno::INVAL),
        }
    }
}

/// A datagram socket that is connected to the one with this path.
pub(crate) fn connect_datagram(path: &[u8]) -> Result<Fd, Errno> {
    let socket = datagram_socket()?;
    connect(&socket, &Address::of_path(path)?).map(|()| socket)
}

/// Raw on Linux, where libc's connect is a cancellation point.
fn connect(socket: &Fd, address: &Address) -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    {
        let (fd, place) = (socket.number() as usize, &raw const address.address as usize);
        // SAFETY: an address of that length is read.
        unsafe { super::arch::syscall4(libc::SYS_connect, fd, place, address.length, 0) }.map(drop)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let place = (&raw const address.address).cast();
        // SAFETY: an address of that length is read.
        let connected = unsafe { libc::connect(socket.number(), place, address.length as libc::socklen_t) };
        super::errno::result(connected).map(drop)
    }
}

/// Sends one datagram to the socket of this name, a path or '@' and an abstract one, with these fds. A reader that is
/// busy is waited for until then: `EAGAIN`.
pub(crate) fn send_datagram(name: &[u8], bytes: &[u8], fds: &[RawFd], deadline: Deadline) -> Result<(), Errno> {
    let address = Address::of_name(name)?;
    let socket = datagram_socket()?;
    connect(&socket, &address)?;
    loop {
        match native::send_with_fds(socket.lend(), bytes, fds) {
            Err(Errno::AGAIN) if poll(&mut [Place::writable(Some(socket.number()))], deadline)? => {}
            result => return result,
        }
    }
}

/// What kind of socket it is.
pub(crate) struct Nature {
    pub(crate) family: core::ffi::c_int,
    pub(crate) socket_type: core::ffi::c_int,
    pub(crate) listens: bool,
}

/// Asks the kernel.
pub(crate) fn nature(socket: BorrowedFd<'_>) -> Result<Nature, Errno> {
    use rustix::fd::AsRawFd as _;
    let option = |option| {
        let mut value: core::ffi::c_int = 0;
        let mut length = size_of_val(&value) as libc::socklen_t;
        let place = (&raw mut value).cast();
        // SAFETY: an int is written, as the length says.
        let asked = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, place, &raw mut length) };
        super::errno::result(asked).map(|_| value)
    };
    Ok(Nature {
        family: family(socket)?,
        socket_type: option(libc::SO_TYPE)?,
        // Of a kind of socket that cannot it may be an error.
        listens: option(libc::SO_ACCEPTCONN).is_ok_and(|listens| listens != 0),
    })
}

fn family(socket: BorrowedFd<'_>) -> Result<core::ffi::c_int, Errno> {
    use rustix::fd::AsRawFd as _;
    // SAFETY: zero is an address without anything.
    let mut address: libc::sockaddr_storage = unsafe { core::mem::zeroed() };
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an address of at most that length is written.
    let asked = unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    super::errno::result(asked).map(|_| address.ss_family.into())
}
