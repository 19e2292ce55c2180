//! What the caller opens for the child, where an error is still the caller's own.

use super::communicate::Pipes;
use super::config::WorkingDirectory;
use super::plan::{MOST_FDS, Plan};
use crate::channel::Channel;
use crate::error::{At, Error, Step};
use crate::step::map::{self, Move};
use crate::step::stdio::open_null;
use crate::stream::{Direction, Stream, StreamFile};
use crate::sys::fd::{self, Fd};
use rustix::fd::{AsRawFd, RawFd};
use rustix::io::Errno;

/// What was opened for the child, and where it goes there. Dropping it undoes the opening.
pub(crate) struct Prepared<'a> {
    null: Option<Fd>,
    opened: [Opened<'a>; MOST_FDS],
    moves: [Move; MOST_FDS],
    /// How many of the two arrays' places are in use.
    count: usize,
    /// The working directory, where its own number is given to something else in the child.
    directory: Option<Fd>,
}

/// What was opened for one fd of the child.
enum Opened<'a> {
    Nothing,
    File(StreamFile<'a>),
    Pipe { ours: Fd, theirs: Fd },
}

impl<'a> Prepared<'a> {
    pub(crate) const EMPTY: Prepared<'a> = Prepared {
        null: None,
        opened: [const { Opened::Nothing }; MOST_FDS],
        moves: [Move::NONE; MOST_FDS],
        count: 0,
        directory: None,
    };

    /// Opens it all, in place: it is large.
    pub(super) fn open(&mut self, plan: &Plan<'a>) -> Result<(), Error> {
        self.open_streams(plan).at(Step::OpenStreams)?;
        self.keep_directory(plan).at(Step::Chdir)
    }

    fn open_streams(&mut self, plan: &Plan<'a>) -> Result<(), Errno> {
        self.count = plan.mappings().count();
        for ((mapping, opened), place) in plan.mappings().zip(&mut self.opened).zip(&mut self.moves) {
            let source = match mapping.source {
                Stream::Default | Stream::SameAsStdout | Stream::Syslog => continue,
                Stream::Inherit if !fd::is_open(mapping.child_fd) => continue,
                Stream::Inherit => mapping.child_fd,
                Stream::Fd(fd) => fd.as_raw_fd(),
                Stream::Null => number_of_null(&mut self.null)?,
                Stream::File { .. } | Stream::Pipe => {
                    *opened = Opened::new(&mapping.source, mapping.direction())?;
                    opened.number()
                }
            };
            *place = Move { source, target: mapping.child_fd };
        }
        let stdout = self.moves().iter().find(|each| each.target == 1).map_or(1, |each| each.source);
        for (mapping, place) in plan.mappings().zip(&mut self.moves) {
            if let Stream::SameAsStdout = mapping.source {
                *place = Move { source: stdout, target: mapping.child_fd };
            }
        }
        Ok(())
    }

    fn keep_directory(&mut self, plan: &Plan<'_>) -> Result<(), Errno> {
        match plan.config.working_directory {
            WorkingDirectory::Fd(fd) if self.moves().iter().any(|each| each.target == fd.as_raw_fd()) => {
                self.directory = Some(map::duplicate_beside(fd, self.moves())?);
            }
            _ => {}
        }
        Ok(())
    }

    fn moves(&self) -> &[Move] {
        self.moves.get(..self.count).unwrap_or_default()
    }

    /// What the child does with its fds, and the fd of its working directory where that had to go elsewhere.
    pub(super) fn for_child(&mut self) -> (&mut [Move], Option<&Fd>) {
        (self.moves.get_mut(..self.count).unwrap_or_default(), self.directory.as_ref())
    }

    /// A channel whose writer's end no fd of the child takes the place of.
    pub(super) fn channel(&self) -> Result<Channel, Error> {
        let place = |channel: Channel| Ok(Channel { writer: map::beside(channel.writer, self.moves())?, ..channel });
        Channel::new().and_then(place).at(Step::Channel)
    }

    /// The caller's ends of the streams that are pipes.
    pub(crate) fn take_pipes(&mut self) -> Pipes {
        [0, 1, 2].map(|index| self.take_end(index))
    }

    /// The caller's end of the pipe that this entry of the map is.
    pub(crate) fn take_map_end(&mut self, index: usize) -> Option<Fd> {
        self.take_end(3 + index)
    }

    /// The caller's end of the pipe that the plan's mapping of this index is.
    fn take_end(&mut self, index: usize) -> Option<Fd> {
        let place = self.opened.get_mut(index).filter(|opened| matches!(opened, Opened::Pipe { .. }))?;
        match core::mem::replace(place, Opened::Nothing) {
            Opened::Pipe { ours, .. } => Some(ours),
            Opened::File(_) | Opened::Nothing => None,
        }
    }

    /// The child has its files: closing is not undoing from now on.
    pub(super) fn hand_over(&mut self) {
        for opened in self.opened.iter_mut().take(self.count) {
            if let Opened::File(_) = opened {
                *opened = Opened::Nothing;
            }
        }
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        for opened in self.opened.iter().take(self.count) {
            if let Opened::File(file) = opened {
                file.abandon();
            }
        }
    }
}

impl<'a> Opened<'a> {
    fn new(source: &Stream<'a>, direction: Direction) -> Result<Opened<'a>, Errno> {
        if let Some(file) = StreamFile::open(source, direction)? {
            return Ok(Opened::File(file));
        }
        let (reader, writer) = fd::pipe()?;
        Ok(match direction {
            Direction::Input => Opened::Pipe { ours: writer, theirs: reader },
            Direction::Output => Opened::Pipe { ours: reader, theirs: writer },
        })
    }

    fn number(&self) -> RawFd {
        match self {
            Opened::Nothing => -1,
            Opened::File(file) => file.fd.number(),
            Opened::Pipe { theirs, .. } => theirs.number(),
        }
    }
}

fn number_of_null(null: &mut Option<Fd>) -> Result<RawFd, Errno> {
    if null.is_none() {
        *null = Some(open_null()?);
    }
    Ok(null.as_ref().map_or(-1, Fd::number))
}
