use super::config::{Config, FdMapping, Flags, Group, WorkingDirectory};
use crate::error::{Error, Step, refuse, require};
use crate::step::SignalAction;
use crate::stream::{Direction, Stream, check_path};
use crate::sys::fd::{borrow_open, numbers};
use crate::sys::signals::END;
use rustix::fd::{AsRawFd, RawFd};
use rustix::fs::Mode;
use rustix::io::Errno;

/// A configuration with nothing left to refuse. Only this can run.
pub(super) struct Plan<'a> {
    pub(super) config: &'a Config<'a>,
}

/// How many fds a child can be given: the streams and the map.
pub(super) const MOST_FDS: usize = 3 + Config::MOST_MAPPINGS;

impl<'a> Plan<'a> {
    /// For a new process. All refusals are here, before anything has changed.
    pub(super) fn new(config: &'a Config<'a>) -> Result<Plan<'a>, Error> {
        // A detached program has no parent that could reap it or whose end it could follow, and its own place.
        let needs_parent = config.has(Flags::NO_REAP) || config.death_signal.is_some();
        let stays = needs_parent || config.group != Group::Inherit;
        require(!(config.has(Flags::DETACHED) && stays), Step::DoubleFork)?;
        Plan::of(config)
    }

    /// For this process: there is nobody to have the other end of a pipe, a pidfd, or the child's pid.
    pub(super) fn for_this_process(config: &'a Config<'a>) -> Result<Plan<'a>, Error> {
        const OF_A_SPAWN: Flags = Flags::PIDFD.union(Flags::FORCE_FORK).union(Flags::NO_REAP).union(Flags::DETACHED);
        let plan = Plan::of(config)?;
        require(!config.flags.intersects(OF_A_SPAWN), Step::Fork)?;
        let pipes = plan.mappings().any(|mapping| matches!(mapping.source, Stream::Pipe));
        require(!pipes, Step::OpenStreams)?;
        Ok(plan)
    }

    fn of(config: &'a Config<'a>) -> Result<Plan<'a>, Error> {
        let plan = Plan { config };
        require(config.flags.bits() & !Flags::all().bits() == 0, Step::Config)?;
        let mut programs = config.paths.unwrap_or(config.arguments);
        require(config.arguments.into_iter().next().is_some() && programs.next().is_some(), Step::Exec)?;
        require(config.fd_map.len() <= Config::MOST_MAPPINGS, Step::MapFds)?;
        for (index, mapping) in plan.mappings().enumerate() {
            plan.check_mapping(index, &mapping)?;
        }
        for &fd in numbers(config.pass_fds) {
            refuse(borrow_open(fd).map(drop), Step::MapFds)?;
            require(!plan.is_target(fd), Step::MapFds)?;
        }
        plan.check_directories()?;
        plan.check_signals()?;
        let mask_is_one = config.umask.is_none_or(|mask| Mode::from_bits_retain(0o777).contains(mask));
        require(mask_is_one, Step::Umask)?;
        for limit in config.limits {
            refuse(limit.check(), Step::SetLimits)?;
        }
        refuse(config.identity.check(), Step::DropPrivileges)?;
        match config.group {
            Group::Process(group) => require(group >= 0, Step::Setpgid)?,
            Group::Session { terminal: Some(fd) } => refuse(not_negative(fd), Step::ControllingTerminal)?,
            Group::Session { terminal: None } | Group::Inherit => {}
        }
        Ok(plan)
    }

    /// The streams, then the map, as one.
    pub(super) fn mappings(&self) -> impl Iterator<Item = FdMapping<'a>> + use<'a> {
        let config = self.config;
        let stream = move |(child_fd, source): (RawFd, &Stream<'a>)| {
            let becomes_null = config.has(Flags::DETACHED)
                && matches!(source, Stream::Default)
                && !config.fd_map.iter().any(|mapping| mapping.child_fd == child_fd);
            let source = if becomes_null { Stream::Null } else { *source };
            FdMapping { child_fd, source, input: child_fd == 0, end: None }
        };
        (0..).zip(&config.streams).map(stream).chain(config.fd_map.iter().copied())
    }

    /// Whether something is said of the child's fd of this number, beyond that a stream is as it is.
    fn is_target(&self, fd: RawFd) -> bool {
        let streams = self.mappings().take(self.config.streams.len());
        let is_map = self.config.fd_map.iter().any(|mapping| mapping.child_fd == fd);
        is_map || streams.into_iter().any(|stream| stream.child_fd == fd && !stream.is_inherited())
    }

    fn check_mapping(&self, index: usize, mapping: &FdMapping<'_>) -> Result<(), Error> {
        refuse(not_negative(mapping.child_fd), Step::MapFds)?;
        let earlier =
            |other: &FdMapping<'_>| other.child_fd == mapping.child_fd && !matches!(other.source, Stream::Default);
        require(!self.mappings().take(index).any(|other| earlier(&other)), Step::MapFds)?;
        let is_map = index >= self.config.streams.len();
        let has_direction = matches!(mapping.source, Stream::Pipe | Stream::File { .. });
        require(!is_map || !mapping.input || has_direction, Step::MapFds)?;
        match mapping.source {
            Stream::Default => require(!is_map, Step::MapFds),
            Stream::Inherit if is_map => refuse(borrow_open(mapping.child_fd).map(drop), Step::MapFds),
            Stream::Fd(fd) => refuse(borrow_open(fd.as_raw_fd()).map(drop), Step::MapFds),
            Stream::File { .. } => refuse(mapping.source.check_file(mapping.direction()), Step::OpenStreams),
            Stream::SameAsStdout => self.check_stdout(mapping.child_fd),
            // There is no daemon whose log it would be.
            Stream::Syslog => require(false, Step::MapFds),
            Stream::Null | Stream::Inherit | Stream::Pipe => Ok(()),
        }
    }

    fn check_stdout(&self, child_fd: RawFd) -> Result<(), Error> {
        require(child_fd > 1, Step::MapFds)?;
        let stdout_is_mapped = self.mappings().any(|other| other.child_fd == 1 && !other.is_inherited());
        if stdout_is_mapped { Ok(()) } else { refuse(borrow_open(1).map(drop), Step::MapFds) }
    }

    fn check_directories(&self) -> Result<(), Error> {
        let root = self.config.chroot_directory;
        root.map_or(Ok(()), |path| refuse(check_path(path), Step::Chroot))?;
        match self.config.working_directory {
            WorkingDirectory::Inherit => Ok(()),
            WorkingDirectory::Path(path) => refuse(check_path(path), Step::Chdir),
            WorkingDirectory::Fd(_) if root.is_some() => Err(Error::refused(Step::Chroot, Errno::INVAL)),
            WorkingDirectory::Fd(fd) => refuse(borrow_open(fd.as_raw_fd()).map(drop), Step::Chdir),
        }
    }

    fn check_signals(&self) -> Result<(), Error> {
        for entry in self.config.signal_map {
            refuse(entry.check(), Step::SetSignals)?;
            let possible = matches!(entry.action, SignalAction::Default | SignalAction::Ignore);
            require(possible, Step::SetSignals)?;
        }
        let is_signal = |signal: &i32| (1..END).contains(signal);
        require(self.config.blocked_signals.unwrap_or_default().iter().all(is_signal), Step::SignalMask)?;
        require(self.config.death_signal.as_ref().is_none_or(is_signal), Step::DeathSignal)
    }
}

impl FdMapping<'_> {
    pub(super) fn direction(&self) -> Direction {
        if self.input || self.child_fd == 0 { Direction::Input } else { Direction::Output }
    }

    fn is_inherited(&self) -> bool {
        matches!(self.source, Stream::Default | Stream::Inherit)
    }
}

fn not_negative(fd: RawFd) -> Result<(), Errno> {
    if fd < 0 { Err(Errno::BADF) } else { Ok(()) }
}
