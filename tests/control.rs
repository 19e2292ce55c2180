//! Controlling a daemon, signals as an fd, the log and users, through the Rust API.

mod runner;

use rdaemon::control::{self, Hooks, Patience, Signalled, State, Stopped};
use rdaemon::daemon::{self, Config, Daemon, Flags, Stream};
use rdaemon::syslog::{self, Options, Syslog};
use rdaemon::{Detail, Error, Step, signals, users};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

const PATIENCE: Patience = Patience { until_killed: Some(Duration::from_secs(5)), after_kill: None };

fn main() {
    runner::run(&[
        ("a daemon is started, found, signalled, restarted and stopped", life),
        ("a daemon ends as it says, and its end is told once", end),
        ("a daemon that does not get ready is not left", readiness),
        ("nobody runs", nobody),
        ("bad arguments are refused", refusal),
        ("signals come by an fd", signal_fd),
        ("messages go to the log", messages),
        ("streams go to the log", streams),
        ("users are found", accounts),
    ]);
}

fn start(config: &Config<'_>, hooks: &Hooks, run: fn(Daemon) -> c_int) -> Result<i32, Error> {
    // SAFETY: the process has one thread, owns no fd that it uses in the daemon, and its hooks only make system calls.
    unsafe { control::start(config, hooks, run) }.map(|started| started.pid)
}

fn wait_for_signals(_: Daemon) -> c_int {
    loop {
        std::thread::park();
    }
}

/// Says a letter down the pipe whose number is the context.
fn say(context: *mut c_void, letter: u8) {
    // SAFETY: a byte is read, and the number is of an open fd.
    unsafe { libc::write(context as c_int, (&raw const letter).cast(), 1) };
}

extern "C" fn say_user1(context: *mut c_void) {
    say(context, b'1');
}

extern "C" fn say_end(context: *mut c_void) {
    say(context, b'e');
}

/// What the hooks write to, and its reader.
fn pipe() -> (UnixStream, UnixStream, Hooks) {
    use std::os::fd::AsRawFd;
    let (reader, writer) = UnixStream::pair().unwrap();
    let context = writer.as_raw_fd() as usize as *mut c_void;
    (reader, writer, Hooks { user1: Some(say_user1), exit: Some(say_end), context, ..Hooks::default() })
}

fn letter(reader: &mut UnixStream) -> u8 {
    use std::io::Read;
    let mut letter = [0];
    reader.read_exact(&mut letter).unwrap();
    letter[0]
}

fn life() {
    let (path, pidfile) = runner::scratch("pid");
    let (mut reader, writer, hooks) = pipe();
    let kept = [writer.as_fd()];
    let config = Config { pidfile: Some(&pidfile), files_preserve: &kept, ..Config::default() };
    let first = start(&config, &hooks, wait_for_signals).unwrap();
    assert!(matches!(control::query(&pidfile), Ok(State::Running { pid, .. }) if pid == first));
    let refused = start(&config, &hooks, wait_for_signals).unwrap_err();
    assert_eq!((refused.errno, refused.detail()), (Errno::EXIST, Detail::Holder(first)));
    assert_eq!(control::signal(&pidfile, libc::SIGUSR1), Ok(Signalled::Sent(first)));
    assert_eq!(letter(&mut reader), b'1');
    // SAFETY: as in `start`.
    let second = unsafe { control::restart(&config, &hooks, PATIENCE, wait_for_signals) }.unwrap().pid;
    assert_eq!((letter(&mut reader), runner::wait(first)), (b'e', libc::SIGTERM));
    assert!(second != first);
    assert_eq!(control::stop(&pidfile, PATIENCE), Ok(Stopped::Terminated(second)));
    assert_eq!((letter(&mut reader), runner::wait(second)), (b'e', libc::SIGTERM));
    assert!(!path.exists());
}

fn end() {
    let (path, pidfile) = runner::scratch("pid");
    let (mut reader, writer, hooks) = pipe();
    let kept = [writer.as_fd()];
    let config = Config { pidfile: Some(&pidfile), files_preserve: &kept, ..Config::default() };
    let pid = start(&config, &hooks, |_| 7).unwrap();
    assert_eq!((runner::wait(pid), letter(&mut reader)), (7 << 8, b'e'));
    drop(writer);
    assert!(std::io::Read::read(&mut reader, &mut [0]).unwrap() == 0 && !path.exists());
}

fn readiness() {
    let (path, pidfile) = runner::scratch("pid");
    let flags = Flags::NOTIFY_READY;
    let config = Config { pidfile: Some(&pidfile), flags, timeout: Some(Duration::from_secs(5)), ..Config::default() };
    let fail = |own: Daemon| {
        daemon::fail(own.channel.unwrap(), Errno::ADDRINUSE).unwrap();
        wait_for_signals(Daemon { detached: true, channel: None, pidfile: None })
    };
    let failed = start(&config, &Hooks::default(), fail).unwrap_err();
    assert_eq!((failed.step, failed.errno), (Step::Ready, Errno::ADDRINUSE));
    assert!(!path.exists());
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) }, -1);
    let get_ready = |own: Daemon| i32::from(daemon::ready(own.channel.unwrap()).is_err());
    let pid = start(&config, &Hooks::default(), get_ready).unwrap();
    assert_eq!(runner::wait(pid), 0);
}

fn nobody() {
    let (path, pidfile) = runner::scratch("pid");
    for content in [None, Some("4711\n"), Some("")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        assert!(matches!(control::query(&pidfile), Ok(State::NotRunning)));
        assert_eq!(control::signal(&pidfile, libc::SIGTERM), Ok(Signalled::NotRunning));
        assert_eq!(control::stop(&pidfile, PATIENCE), Ok(Stopped::NotRunning));
        assert!(!path.exists());
    }
    std::fs::write(&path, "not a pidfile").unwrap();
    let error = control::stop(&pidfile, PATIENCE).unwrap_err();
    assert_eq!((error.step, error.errno, path.exists()), (Step::PidfileRead, Errno::BADMSG, true));
}

fn refusal() {
    let (_, pidfile) = runner::scratch("pid");
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!(error.step, Step::Config);
        error.detail()
    };
    let hooks = Hooks { user1: Some(say_user1), ..Hooks::default() };
    let no_pidfile = start(&Config::default(), &hooks, |_| 0).map(drop);
    assert_eq!(refused(no_pidfile), Detail::Subject(Step::PidfileOpen));
    assert_eq!(refused(control::signal(&pidfile, 1000).map(drop)), Detail::Subject(Step::Signal));
    let streams = [Stream::Default, Stream::Syslog, Stream::Default];
    let no_ident = start(&Config { pidfile: Some(&pidfile), streams, ..Config::default() }, &hooks, |_| 0).map(drop);
    assert_eq!(refused(no_ident), Detail::Subject(Step::LogPump));
}

fn signal_fd() {
    let fd = signals::open(&[libc::SIGUSR1, libc::SIGHUP]).unwrap();
    assert_eq!(signals::next(fd.as_fd(), Some(Duration::ZERO)), Err(Errno::TIMEDOUT));
    // SAFETY: raise takes a number.
    assert_eq!(unsafe { libc::raise(libc::SIGHUP) }, 0);
    let signal = signals::next(fd.as_fd(), None).unwrap();
    assert_eq!((signal.number, signal.pid), (libc::SIGHUP, std::process::id() as i32));
    assert_eq!(signals::open(&[libc::SIGKILL]).err(), Some(Errno::INVAL));
}

/// A log server of this process's own, and its path.
fn server() -> (UnixDatagram, CString) {
    let (path, c_path) = runner::scratch("log");
    let server = UnixDatagram::bind(path).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (server, c_path)
}

fn remove(path: &CStr) {
    rustix::fs::unlink(path).unwrap();
}

fn message(server: &UnixDatagram) -> String {
    let mut message = [0; 2000];
    let length = server.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

fn messages() {
    let (server, path) = server();
    let options = Options { ident: Some(c"me"), path: Some(&path), ..Options::default() };
    let mut log = Syslog::open(&options).unwrap();
    log.log(libc::LOG_ERR, b"one\ntwo\x1b").unwrap();
    assert_eq!([message(&server), message(&server)], ["<27>me: one", "<27>me: two\\x1b"]);
    // SAFETY: the process has one thread.
    let pump = unsafe { syslog::pump(&log, libc::LOG_INFO | libc::LOG_USER, &Default::default()) }.unwrap();
    rustix::io::write(&pump, b"three\n<2>four").unwrap();
    drop(pump);
    assert_eq!([message(&server), message(&server)], ["<14>me: three", "<10>me: four"]);
    drop(server);
    assert_eq!(log.log(libc::LOG_ERR, b"lost"), Err(Errno::CONNREFUSED));
    log.close();
    remove(&path);
}

fn streams() {
    let (server, path) = server();
    let (_, pidfile) = runner::scratch("pid");
    let config = Config {
        pidfile: Some(&pidfile),
        streams: [Stream::Default, Stream::Syslog, Stream::SameAsStdout],
        syslog: Options { flags: syslog::Flags::PID, ident: Some(c"me"), path: Some(&path), ..Options::default() },
        ..Config::default()
    };
    let pid = start(&config, &Hooks::default(), |_| {
        println!("hello");
        0
    });
    let pid = pid.unwrap();
    assert_eq!((runner::wait(pid), message(&server)), (0, format!("<30>me[{pid}]: hello")));
    remove(&path);
}

fn accounts() {
    let mut groups = [0; 64];
    let root = users::find_user(c"root", &mut groups).unwrap();
    assert_eq!((root.uid, root.gid, root.groups.unwrap().contains(&0)), (Some(0), Some(0), true));
    assert_eq!(users::find_user(c"nobody of this name", &mut groups).err(), Some(Errno::NOENT));
    let mut names: Vec<CString> = Vec::new();
    // SAFETY: the process has one thread.
    let broken = unsafe {
        users::real_users(|user| {
            names.push(CStr::to_owned(user.name));
            ControlFlow::<()>::Continue(())
        })
    };
    assert_eq!(broken, Ok(None));
    assert!(!names.iter().any(|name| name.as_c_str() == c"root"));
}
