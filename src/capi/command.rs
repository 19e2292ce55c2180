use super::intake::{answer, optional_strings, path, room};
use crate::spawn::{find_command, sudo_arguments};
use crate::sys::cstr;
use core::ffi::{c_char, c_int};
use rustix::io::Errno;

/// Finds a command by its name, as execvp(3) would, in the directories that path lists with colons between.
///
/// path: NULL for $PATH, or "/usr/bin:/bin" where that is not set, or not to be believed, as in a set-user-id program.
/// An empty entry is the working directory: the path found is relative then, as with any relative entry, and does not
/// go with another working_directory. A name with a slash is a path already: it is only checked. The path found goes to
/// the len bytes at buf, with its NUL; on failure these are left alone.
///
/// Returns the path's length (> 0); -ENOENT when there is no regular file of that name which this process may execute;
/// -ENAMETOOLONG for a name that is too long, or a path that does not fit; -EINVAL for a NULL or empty name, or NULL
/// with a len.
/// Async-signal-safe with a path, else not: it reads the environment. Thread-safe unless another thread changes that.
/// Needs about 5 KiB of stack. Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_find_command(
    name: *const c_char,
    path: *const c_char,
    buf: *mut c_char,
    len: usize,
) -> c_int {
    answer(|| {
        let name = self::path(name)?;
        let buffer = room(buf.cast::<u8>(), len)?;
        find_command(name, cstr::borrow(path), buffer).map(|path| path.count_bytes() as c_int)
    })
}

/// Writes the arguments that run argv as another user, through sudo(8) and without a password: sudo, -n, -u, user, --,
/// those of argv, and NULL.
///
/// ret_argv has len places, of which it needs six more than argv has arguments, and gets pointers to the caller's
/// strings and to static ones: argv and user must live as long as it. No shell sees the arguments. Where sudo is,
/// rdaemon_find_command() tells.
///
/// Returns the number of arguments, without the NULL; -E2BIG when they do not fit, and then ret_argv may hold a part of
/// them; -EINVAL for NULL, an empty user, or an empty argv; -ENAMETOOLONG for a user of 4096 bytes. That sudo refuses
/// is seen by the exit status 1 of the program, and by what it says on standard error. Async-signal-safe, thread-safe.
/// Since 0.1.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rdaemon_sudo_argv(
    user: *const c_char,
    argv: *const *const c_char,
    ret_argv: *mut *const c_char,
    len: usize,
) -> c_int {
    answer(|| {
        let user = path(user)?;
        let arguments = optional_strings(argv)?.ok_or(Errno::INVAL)?;
        if ret_argv.is_null() || user.is_empty() || arguments.count() == 0 {
            return Err(Errno::INVAL);
        }
        let places = room(ret_argv.cast(), len)?;
        sudo_arguments(user, arguments, places).map(|list| list.count() as c_int).ok_or(Errno::TOOBIG)
    })
}
