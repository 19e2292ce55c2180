use super::config::{Config, Detach, Flags};
use super::started_by::evidence;
use crate::activation;
use crate::error::{Error, Step, refuse, require};
use crate::step::{SignalAction, SignalMapEntry};
use crate::stream::{Direction, Stream, check_path};
use crate::terminate::Hooks;
use rustix::fs::Mode;
use rustix::io::Errno;

/// A configuration with nothing left to refuse. Only this can run.
pub(super) struct Plan<'a> {
    pub(super) config: &'a Config<'a>,
    pub(super) detach: bool,
    /// The streams, their defaults resolved.
    pub(super) streams: [Stream<'a>; 3],
    /// The lowest fd that is closed, unless it is kept.
    pub(super) lowest: u32,
    /// Of a worker.
    pub(super) hooks: Option<&'a Hooks>,
}

const DEFAULT_MAP: [SignalMapEntry; 4] = [
    SignalMapEntry { signal: libc::SIGTTIN, action: SignalAction::Ignore },
    SignalMapEntry { signal: libc::SIGTTOU, action: SignalAction::Ignore },
    SignalMapEntry { signal: libc::SIGTSTP, action: SignalAction::Ignore },
    SignalMapEntry { signal: libc::SIGTERM, action: SignalAction::Terminate },
];

impl<'a> Plan<'a> {
    /// All refusals are here, before anything has changed.
    pub(super) fn new(config: &'a Config<'a>) -> Result<Plan<'a>, Error> {
        flags(config)?;
        paths(config)?;
        streams(&config.streams)?;
        if config.streams.iter().any(|stream| matches!(stream, Stream::Syslog)) {
            refuse(config.syslog.check(), Step::LogPump)?;
        }
        let mask_is_one = config.umask.is_none_or(|mask| Mode::from_bits_retain(0o777).contains(mask));
        require(mask_is_one, Step::Umask)?;
        refuse(config.pidfile_options.check(), Step::PidfileOpen)?;
        refuse(config.identity.check(), Step::DropPrivileges)?;
        for entry in config.signal_map.unwrap_or_default() {
            refuse(entry.check(), Step::SetSignals)?;
        }
        for limit in config.limits {
            refuse(limit.check(), Step::SetLimits)?;
            let core_prevented = !config.flags.contains(Flags::KEEP_CORE);
            require(!(core_prevented && limit.resource == libc::RLIMIT_CORE as _), Step::PreventCore)?;
        }
        let detach = detach(config)?;
        let mut streams = config.streams;
        for stream in streams.iter_mut().filter(|stream| matches!(stream, Stream::Default)) {
            *stream = if detach { Stream::Null } else { Stream::Inherit };
        }
        let kept = if config.flags.contains(Flags::KEEP_LISTEN_FDS) { activation::uncollected() } else { 0 };
        Ok(Plan { config, detach, streams, lowest: 3 + kept.unsigned_abs(), hooks: None })
    }

    /// For a worker, which has a pidfile, and its own ways with some signals.
    pub(super) fn for_worker(config: &'a Config<'a>, hooks: &'a Hooks) -> Result<Plan<'a>, Error> {
        require(config.pidfile.is_some(), Step::PidfileOpen)?;
        let is_hooked = |signal| match signal {
            libc::SIGUSR1 => hooks.user1.is_some(),
            libc::SIGUSR2 => hooks.user2.is_some(),
            _ => false,
        };
        let map = config.signal_map.unwrap_or_default();
        require(!map.iter().any(|entry| is_hooked(entry.signal)), Step::SetSignals)?;
        Ok(Plan { hooks: Some(hooks), ..Plan::new(config)? })
    }

    pub(super) fn signal_map(&self) -> &'a [SignalMapEntry] {
        match self.config.signal_map {
            Some(map) => map,
            None if self.config.flags.contains(Flags::KEEP_SIGNALS) => &[],
            None if self.config.pidfile.is_some() => &DEFAULT_MAP,
            None => DEFAULT_MAP.split_last().map_or(&[], |(_, ignored)| ignored),
        }
    }
}

fn flags(config: &Config<'_>) -> Result<(), Error> {
    const KEPT: [(Flags, Step); 4] = [
        (Flags::KEEP_CWD, Step::Chdir),
        (Flags::KEEP_UMASK, Step::Umask),
        (Flags::KEEP_CORE, Step::PreventCore),
        (Flags::KEEP_SIGNALS, Step::SetSignals),
    ];
    let mut changed = Flags::empty();
    changed.set(Flags::KEEP_CWD, config.working_directory.is_some());
    changed.set(Flags::KEEP_UMASK, config.umask.is_some());
    changed.set(Flags::KEEP_CORE, config.flags.contains(Flags::UNDUMPABLE));
    changed.set(Flags::KEEP_SIGNALS, config.signal_map.is_some());
    let contradiction = config.flags & changed;
    require(config.flags.bits() & !Flags::all().bits() == 0, Step::Config)?;
    // The old working directory is outside of a new root.
    require(!(config.flags.contains(Flags::KEEP_CWD) && config.chroot_directory.is_some()), Step::Chroot)?;
    KEPT.iter().try_for_each(|&(kept, subject)| require(!contradiction.contains(kept), subject))
}

fn paths(config: &Config<'_>) -> Result<(), Error> {
    let named = [
        (config.chroot_directory, Step::Chroot),
        (config.working_directory, Step::Chdir),
        (config.pidfile, Step::PidfileOpen),
    ];
    named.iter().try_for_each(|&(path, subject)| path.map_or(Ok(()), |path| refuse(check_path(path), subject)))
}

fn streams(streams: &[Stream<'_>; 3]) -> Result<(), Error> {
    for (fd, stream) in streams.iter().enumerate() {
        refuse(stream.check_file(Direction::of(fd)), Step::OpenStreams)?;
        let possible = match stream {
            Stream::Pipe => false,
            Stream::SameAsStdout => fd == 2,
            Stream::Syslog => fd > 0,
            _ => true,
        };
        require(possible, Step::RedirectStdio)?;
    }
    Ok(())
}

fn detach(config: &Config<'_>) -> Result<bool, Error> {
    let evidence = evidence();
    let activated = evidence.is_activated() || config.flags.contains(Flags::INETD);
    match config.detach {
        Detach::No => Ok(false),
        Detach::Auto => Ok(!activated && !evidence.is_by_manager()),
        Detach::Yes if activated && !config.flags.contains(Flags::DETACH_ACTIVATED) => {
            Err(Error::refused(Step::DoubleFork, Errno::ALREADY))
        }
        Detach::Yes => Ok(true),
    }
}
