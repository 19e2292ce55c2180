//! Daemonize through the Rust API.

mod runner;

use rdaemon::daemon::{self, Config, Daemonized, Detach, Flags, Stream};
use rdaemon::{Detail, Error, Step};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::time::Duration;

fn main() {
    runner::run(&[
        ("the daemon runs, and its pidfile tells", life),
        ("without detaching there is one process", foreground),
        ("ready, and fail", readiness),
        ("a failed step is named", failure),
        ("a bad configuration is refused", refusal),
    ]);
}

fn exit(status: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(status) }
}

fn daemonize(config: &Config<'_>) -> Result<Daemonized, Error> {
    // SAFETY: the process has one thread, and owns no fd that it still uses in the daemon.
    unsafe { rdaemon::daemonize(config) }
}

fn life() {
    let (path, pidfile) = runner::scratch("pid");
    let (log, log_path) = runner::scratch("log");
    let output = Stream::File { path: &log_path, flags: OFlags::empty(), mode: Some(Mode::RUSR) };
    let config = Config {
        pidfile: Some(&pidfile),
        streams: [Stream::Default, output, Stream::SameAsStdout],
        ..Config::default()
    };
    match daemonize(&config).unwrap() {
        Daemonized::Original { pid, pidfd, channel } => {
            assert!(pidfd.is_some() && channel.is_none());
            assert_eq!(runner::wait(pid), 0);
            assert!(!path.exists());
            assert_eq!(std::fs::read_to_string(log).unwrap(), format!("{pid}\nerror\n"));
        }
        Daemonized::Daemon(daemon) => {
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            print!("{written}");
            eprintln!("error");
            let removed = daemon.pidfile.is_some_and(|pidfile| pidfile.remove().is_ok());
            exit(i32::from(!removed));
        }
    }
}

fn foreground() {
    let own = std::process::id();
    let config = Config { detach: Detach::No, flags: Flags::KEEP_FDS, ..Config::default() };
    assert!(matches!(daemonize(&config), Ok(Daemonized::Daemon(daemon)) if !daemon.detached));
    assert_eq!((std::process::id(), std::env::current_dir().unwrap()), (own, "/".into()));
}

fn readiness() {
    for refusal in [None, Some(Errno::NODATA)] {
        let config = Config { flags: Flags::NOTIFY_READY, ..Config::default() };
        match daemonize(&config).unwrap() {
            Daemonized::Original { pid, pidfd, channel } => {
                let pidfd = pidfd.as_ref().map(AsFd::as_fd);
                let told = daemon::wait_ready(channel.unwrap().as_fd(), pidfd, Some(Duration::from_secs(10)));
                assert_eq!(
                    told.map_err(|error| (error.step, error.errno)),
                    match refusal {
                        None => Ok(()),
                        Some(errno) => Err((Step::Ready, errno)),
                    }
                );
                assert_eq!(runner::wait(pid), 0);
            }
            Daemonized::Daemon(own) => {
                let channel = own.channel.unwrap();
                let told = match refusal {
                    None => daemon::ready(channel),
                    Some(errno) => daemon::fail(channel, errno),
                };
                exit(i32::from(told.is_err()));
            }
        }
    }
}

fn failure() {
    let config = Config { working_directory: Some(c"/nonexistent"), ..Config::default() };
    let error = daemonize(&config).unwrap_err();
    assert_eq!((error.step, error.errno, error.detail()), (Step::Chdir, Errno::NOENT, Detail::None));
}

fn refusal() {
    let config = Config { umask: Some(Mode::from_bits_retain(0o1000)), ..Config::default() };
    let error = daemon::check(&config).unwrap_err();
    assert_eq!((error.step, error.errno, error.detail()), (Step::Config, Errno::INVAL, Detail::Subject(Step::Umask)));
    assert_eq!(daemonize(&config).unwrap_err(), error);
}
