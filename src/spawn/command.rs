//! Commands by name: where they are, and how another user's rights are had.

use crate::sys::cstr::at_start_of;
use crate::sys::env;
use crate::sys::path::is_executable;
use crate::sys::strings::{StringPlace, Strings, Thin};
use core::ffi::{CStr, c_char};
use rustix::fs::FileType;
use rustix::io::Errno;

/// Where commands are where nobody says so.
const DEFAULT_PATH: &[u8] = b"/usr/bin:/bin";
/// PATH_MAX, with the NUL.
const LONGEST_PATH: usize = 4096;
/// NAME_MAX, without.
const LONGEST_NAME: usize = 255;

/// Finds the command of this name in the directories of `path`, or, without one, of `PATH`; answers its path, which is
/// in the buffer then.
///
/// A name with a slash is a path already, and only looked at. An empty directory is the working one. `ENOENT`: no
/// regular file of that name may be executed; `ENAMETOOLONG` also for a buffer that is too short. `PATH` is not
/// believed in a set-user-id program.
pub fn find_command<'b>(name: &CStr, path: Option<&CStr>, buffer: &'b mut [u8]) -> Result<&'b CStr, Errno> {
    let name = name.to_bytes();
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if name.is_empty() {
        return Err(Errno::INVAL);
    }
    if last.len() > LONGEST_NAME || name.len() >= LONGEST_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut candidate = Candidate { bytes: [0; LONGEST_PATH], length: 0 };
    if name.contains(&b'/') {
        candidate.set([name, b"", b""])?;
        candidate.check()?;
    } else {
        let search = |path: &[u8], candidate: &mut Candidate| candidate.search(path, name);
        match path {
            Some(path) => search(path.to_bytes(), &mut candidate)?,
            None => env::with(c"PATH", |path| search(path.to_bytes(), &mut candidate))
                .unwrap_or_else(|| search(DEFAULT_PATH, &mut candidate))?,
        }
    }
    candidate.copy_to(buffer)
}

struct Candidate {
    bytes: [c_char; LONGEST_PATH],
    /// With the NUL.
    length: usize,
}

impl Candidate {
    fn search(&mut self, path: &[u8], name: &[u8]) -> Result<(), Errno> {
        let mut answer = Errno::NOENT;
        for directory in path.split(|&byte| byte == b':') {
            let slash: &[u8] = if directory.is_empty() || directory.ends_with(b"/") { b"" } else { b"/" };
            let directory = if directory.is_empty() { b"./" } else { directory };
            match self.set([directory, slash, name]).and_then(|()| self.check()) {
                Ok(()) => return Ok(()),
                Err(Errno::NAMETOOLONG) => answer = Errno::NAMETOOLONG,
                Err(_) => {}
            }
        }
        Err(answer)
    }

    fn set(&mut self, parts: [&[u8]; 3]) -> Result<(), Errno> {
        let mut bytes = parts.into_iter().flatten().chain(&[0]);
        self.length = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        let place = self.bytes.get_mut(..self.length).ok_or(Errno::NAMETOOLONG)?;
        place.fill_with(|| bytes.next().copied().unwrap_or_default() as c_char);
        Ok(())
    }

    fn check(&self) -> Result<(), Errno> {
        let path = at_start_of(&self.bytes).ok_or(Errno::NAMETOOLONG)?;
        let stat = rustix::fs::stat(path).map_err(|_| Errno::NOENT)?;
        let is_file = FileType::from_raw_mode(stat.st_mode as _) == FileType::RegularFile;
        if is_file && is_executable(path) { Ok(()) } else { Err(Errno::NOENT) }
    }

    #[allow(clippy::unnecessary_cast, reason = "c_char has a sign on some systems")]
    fn copy_to<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b CStr, Errno> {
        let place = buffer.get_mut(..self.length).ok_or(Errno::NAMETOOLONG)?;
        place.iter_mut().zip(&self.bytes).for_each(|(place, &byte)| *place = byte as u8);
        crate::sys::cstr::filling(place).ok_or(Errno::NAMETOOLONG)
    }
}

/// The arguments that run a command with these arguments as another user, through sudo(8), which asks no password:
/// `sudo -n -u USER -- ARGUMENTS`. `None` for no user or no arguments, and when they do not fit; one place is for the
/// end.
///
/// No shell sees the arguments. The path of sudo is left to [`find_command`].
pub fn sudo_arguments<'a>(
    user: &'a CStr,
    arguments: Strings<'a>,
    places: &'a mut [StringPlace],
) -> Option<Strings<'a>> {
    if user.is_empty() || arguments.into_iter().next().is_none() {
        return None;
    }
    let options = [c"sudo", c"-n", c"-u", user, c"--"];
    Strings::collect(options.map(Thin::from).into_iter().chain(arguments), places)
}
