//! Programs through the Rust API.

mod runner;

use rdaemon::spawn::{
    self, Child, CommunicateFlags, Communication, Config, Exit, FdMapping, Flags, Full, Group, Hook, Output, PipeEnd,
    Stream, StringArray, StringPlace, Strings, WorkingDirectory,
};
use rdaemon::step::{Identity, Limit, SignalAction, SignalMapEntry};
use rdaemon::{Detail, Error, Step};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, c_int, c_void};
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

const AT_MOST: Option<Duration> = Some(Duration::from_secs(10));

fn main() {
    runner::run(&[
        ("a program runs, and its end is told", life),
        ("each way to fail is named", failure),
        ("a bad configuration is refused", refusal),
        ("streams, mapped and passed fds arrive", fds),
        ("the child is what the configuration says", attributes),
        ("a hook runs last", hook),
        ("a detached program is nobody's child", detached),
        ("a program is stopped", stopping),
        ("input and output flow at once", conversation),
        ("a full buffer and a time limit lose nothing", interruption),
        ("a command is found", commands),
        ("a forked process becomes the program", execution),
    ]);
}

fn shell<const LENGTH: usize>(arguments: [&CStr; LENGTH]) -> StringArray<'_, LENGTH> {
    StringArray::new(arguments)
}

/// Runs a program and answers what it said.
fn say(config: &Config<'_>) -> String {
    let mut said = Vec::new();
    let mut sink = |bytes: &[u8]| {
        said.extend_from_slice(bytes);
        Ok(())
    };
    let mut communication = Communication { outputs: [Output::Sink(&mut sink), Output::Discard], ..Default::default() };
    let status = spawn::run(config, &mut communication, AT_MOST).unwrap();
    assert_eq!(status.exit(), Exit::Exited(0));
    String::from_utf8(said).unwrap()
}

fn start(script: &CStr, flags: Flags) -> Child {
    let arguments = shell([c"/bin/sh", c"-c", script]);
    let streams = [Stream::Pipe, Stream::Pipe, Stream::Inherit];
    spawn::spawn(&Config { flags, streams, ..Config::new(arguments.list()) }).unwrap()
}

fn life() {
    let environment = StringArray::new([c"A=1", c"without equals sign"]);
    let arguments = shell([c"sh", c"-c", c"echo $A $#"]);
    let paths = StringArray::new([c"/nowhere/sh", c"/bin/sh"]);
    let config = Config::new(arguments.list());
    let config = Config { paths: Some(paths.list()), environment: Some(environment.list()), ..config };
    assert_eq!(say(&config), "1 0\n");
    let mut child = start(c"exit 3", Flags::PIDFD);
    assert!(child.pid() > 0 && child.pidfd().is_some());
    let status = child.wait(None).unwrap();
    assert_eq!((status.exit(), status.returncode(), status.wait_status()), (Exit::Exited(3), 3, 3 << 8));
    assert_eq!((child.wait(None), child.signal(0)), (Ok(status), Err(Errno::SRCH)));
    let status = start(c"kill -9 $$", Flags::empty()).wait(AT_MOST).unwrap();
    assert_eq!((status.exit(), status.returncode()), (Exit::Signalled(9), -9));
}

fn failure() {
    let missing = StringArray::new([c"/nowhere/program"]);
    for flags in [Flags::empty(), Flags::FORCE_FORK, Flags::DETACHED] {
        let mut config = Config { flags, ..Config::new(missing.list()) };
        assert_eq!(
            spawn::spawn(&config).err().map(|error| (error.step, error.errno)),
            Some((Step::Exec, Errno::NOENT))
        );
        config.working_directory = WorkingDirectory::Path(c"/nowhere");
        assert_eq!(spawn::spawn(&config).err().map(|error| error.step), Some(Step::Chdir));
    }
    let config = Config { flags: Flags::NO_REAP, ..Config::new(missing.list()) };
    let Some(Detail::Child(pid)) = spawn::spawn(&config).err().map(Error::detail) else { panic!("no child is left") };
    assert_eq!(runner::wait(pid), 127 << 8);
}

fn refusal() {
    let arguments = StringArray::new([c"/bin/true"]);
    let config = Config::new(arguments.list());
    let mapping = FdMapping { child_fd: 5, source: Stream::Null, input: false, end: None };
    let twice = [mapping; 2];
    let none = StringArray::new([]);
    let terminate = [SignalMapEntry { signal: libc::SIGTERM, action: SignalAction::Terminate }];
    let cases = [
        (Config { arguments: none.list(), ..config }, Step::Exec),
        (Config { paths: Some(none.list()), ..config }, Step::Exec),
        (Config { fd_map: &twice, ..config }, Step::MapFds),
        (Config { signal_map: &terminate, ..config }, Step::SetSignals),
        (Config { group: Group::Process(-1), ..config }, Step::Setpgid),
        (Config { blocked_signals: Some(&[0]), ..config }, Step::SignalMask),
        (Config { flags: Flags::DETACHED | Flags::NO_REAP, ..config }, Step::DoubleFork),
    ];
    for (config, subject) in cases {
        let error = spawn::spawn(&config).unwrap_err();
        assert_eq!((error.step, error.errno, error.detail()), (Step::Config, Errno::INVAL, Detail::Subject(subject)));
    }
}

fn fds() {
    let (path, c_path) = runner::scratch("file");
    std::fs::write(&path, "from the file").unwrap();
    let input = Stream::File { path: &c_path, flags: OFlags::empty(), mode: None };
    let end = PipeEnd::new();
    let kept = std::fs::File::open("/dev/null").unwrap();
    let swapped = std::fs::File::open(&path).unwrap();
    let map = [
        FdMapping { child_fd: 9, source: Stream::Pipe, input: false, end: Some(&end) },
        FdMapping { child_fd: 8, source: Stream::Fd(swapped.as_fd()), input: false, end: None },
        FdMapping { child_fd: 7, source: Stream::SameAsStdout, input: false, end: None },
    ];
    let pass = [kept.as_fd()];
    let arguments = shell([c"/bin/sh", c"-c", c"cat; cat <&8; echo >&9 nine; echo >&7 seven; ls /proc/self/fd"]);
    let config = Config {
        streams: [input, Stream::Pipe, Stream::Inherit],
        fd_map: &map,
        pass_fds: &pass,
        ..Config::new(arguments.list())
    };
    let mut child = spawn::spawn(&config).unwrap();
    let (mut said, mut nine) = (String::new(), String::new());
    std::fs::File::from(child.stdout.take().unwrap()).read_to_string(&mut said).unwrap();
    std::fs::File::from(end.take().unwrap()).read_to_string(&mut nine).unwrap();
    assert!(said.starts_with("from the filefrom the fileseven\n0\n1\n2\n"), "{said}");
    assert_eq!((nine.as_str(), child.wait(AT_MOST).unwrap().returncode()), ("nine\n", 0));
}

fn attributes() {
    let arguments = shell([c"/bin/sh", c"-c", c"pwd; umask; ulimit -n; ps -o sid= -p $$ | tr -d ' '; echo $$"]);
    let said = say(&Config {
        working_directory: WorkingDirectory::Path(c"/usr"),
        umask: Some(Mode::RWXG),
        limits: &[Limit { resource: libc::RLIMIT_NOFILE as c_int, soft: 77, hard: 77 }],
        group: Group::Session { terminal: None },
        ..Config::new(arguments.list())
    });
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..3], ["/usr", "0070", "77"]);
    assert_eq!(lines[3], lines[4]);
    let arguments = shell([c"/bin/cat", c"/proc/self/status"]);
    let other = Identity { uid: Some(1234), gid: Some(1234), groups: Some(&[]), ..Identity::default() };
    let signals = say(&Config {
        flags: Flags::NO_NEW_PRIVS | Flags::RESET_SIGNALS,
        signal_map: &[SignalMapEntry { signal: libc::SIGHUP, action: SignalAction::Ignore }],
        blocked_signals: Some(&[libc::SIGUSR1, libc::SIGTERM]),
        identity: if rustix::process::geteuid().is_root() { other } else { Identity::default() },
        ..Config::new(arguments.list())
    });
    assert!(
        signals.contains("SigBlk:\t0000000000004200") && signals.contains("SigIgn:\t0000000000000001"),
        "{signals}"
    );
    assert!(signals.contains("NoNewPrivs:\t1"), "{signals}");
    assert!(!rustix::process::geteuid().is_root() || signals.contains("Uid:\t1234\t1234\t1234\t1234"), "{signals}");
}

extern "C" fn refuse(context: *mut c_void) -> c_int {
    // The context is a number in the clothes of a pointer.
    context as usize as c_int
}

fn hook() {
    for (result, expected) in [(0, None), (-5, Some(Errno::IO)), (5, Some(Errno::IO)), (99_999, Some(Errno::CANCELED))]
    {
        let arguments = StringArray::new([c"/bin/true"]);
        // SAFETY: the function only looks at a number.
        let hook = unsafe { Hook::new(refuse, result as isize as *mut c_void) };
        let config = Config { hook: Some(hook), ..Config::new(arguments.list()) };
        match spawn::spawn(&config) {
            Ok(mut child) => assert_eq!((child.wait(None).unwrap().returncode(), expected), (0, None)),
            Err(error) => assert_eq!((error.step, Some(error.errno)), (Step::Hook, expected)),
        }
    }
}

fn detached() {
    let mut child = start(c"read x; ps -o ppid=,pid=,sid= -p $$", Flags::DETACHED);
    let mut said = [0; 100];
    let output = Output::Buffer { bytes: &mut said, length: 0 };
    let mut communication = Communication { input: b"go\n", outputs: [output, Output::Discard], ..Default::default() };
    assert_eq!(child.communicate(&mut communication, AT_MOST), Ok(Full::empty()));
    assert_eq!(child.wait(AT_MOST), Err(Errno::CHILD));
    let [Output::Buffer { bytes, length }, _] = communication.outputs else { unreachable!() };
    let said = String::from_utf8(bytes[..length].to_vec()).unwrap();
    let [parent, pid, session] = said.split_whitespace().map(|it| it.parse().unwrap()).collect::<Vec<i32>>()[..] else {
        panic!("{said}")
    };
    // The case is a subreaper.
    assert_eq!((parent, pid), (std::process::id() as i32, child.pid()));
    // SAFETY: getsid takes a number. rustix has no answer where the leader is outside of the pid namespace.
    assert!(session != pid && session != unsafe { libc::getsid(0) });
    assert_eq!(runner::wait(pid), 0);
}

fn stopping() {
    let mut child = start(c"trap '' TERM; echo; while :; do sleep 1; done", Flags::PIDFD);
    let mut byte = [0];
    rustix::io::read(child.stdout.as_ref().unwrap(), &mut byte).unwrap();
    assert_eq!(child.wait(Some(Duration::ZERO)), Err(Errno::TIMEDOUT));
    let status = child.stop(Some(Duration::from_millis(50)), AT_MOST).unwrap();
    assert_eq!(status.exit(), Exit::Signalled(libc::SIGKILL));
}

fn conversation() {
    const MUCH: usize = 1 << 20;
    let input = vec![b'\r'; MUCH];
    let mut output = vec![0; MUCH + 1];
    let mut lines = 0;
    let mut count = |bytes: &[u8]| {
        lines += bytes.iter().filter(|&&byte| byte == b'\n').count();
        Ok(())
    };
    let mut communication = Communication {
        flags: CommunicateFlags::UNIVERSAL_NEWLINES | CommunicateFlags::UNTIL_EXIT,
        input: &input,
        outputs: [Output::Buffer { bytes: &mut output, length: 0 }, Output::Sink(&mut count)],
        ..Default::default()
    };
    let arguments = shell([c"/bin/sh", c"-c", c"sleep 9 & tee /dev/stderr; kill $!"]);
    let status = spawn::run(&Config::new(arguments.list()), &mut communication, AT_MOST).unwrap();
    assert_eq!((status.returncode(), communication.input.len()), (0, 0));
    assert!(matches!(communication.outputs[0], Output::Buffer { length: MUCH, .. }));
    assert_eq!((lines, output[MUCH - 1], output[MUCH]), (MUCH, b'\n', 0));
}

fn interruption() {
    let mut child = start(c"echo 12345; read x; echo 6789", Flags::empty());
    let mut room = [0; 4];
    let mut communication = Communication { input: b"x\n", ..Default::default() };
    communication.outputs[0] = Output::Buffer { bytes: &mut room, length: 0 };
    let mut said = String::new();
    loop {
        let result = child.communicate(&mut communication, Some(Duration::ZERO));
        if let Output::Buffer { bytes, length } = &mut communication.outputs[0] {
            said.push_str(std::str::from_utf8(&bytes[..*length]).unwrap());
            *length = 0;
        }
        match result {
            Ok(full) if full.is_empty() => break,
            Ok(full) => assert_eq!(full, Full::STDOUT),
            Err(errno) => assert_eq!(errno, Errno::TIMEDOUT),
        }
    }
    assert_eq!((said.as_str(), child.wait(AT_MOST).unwrap().returncode()), ("12345\n6789\n", 0));
    let arguments = shell([c"/bin/sh", c"-c", c"echo 12345; exec sleep 100"]);
    let config = Config::new(arguments.list());
    let mut communication = Communication::default();
    communication.outputs[0] = Output::Buffer { bytes: &mut room, length: 0 };
    let ended = spawn::run(&config, &mut communication, AT_MOST);
    assert_eq!(ended.map_err(|error| (error.step, error.errno)), Err((Step::Communicate, Errno::NOBUFS)));
    let ended = spawn::run(&config, &mut Communication::default(), Some(Duration::from_millis(20)));
    assert_eq!(ended.map_err(|error| (error.step, error.errno)), Err((Step::Wait, Errno::TIMEDOUT)));
}

fn commands() {
    let mut buffer = [0; 100];
    assert_eq!(spawn::find_command(c"sh", Some(c"/nowhere:/bin"), &mut buffer), Ok(c"/bin/sh"));
    assert_eq!(spawn::find_command(c"passwd", Some(c"/etc"), &mut buffer), Err(Errno::NOENT));
    let mut places = [StringPlace::EMPTY; 8];
    let arguments = StringArray::new([c"echo", c"a b;$(c)"]);
    let list = spawn::sudo_arguments(c"nobody", arguments.list(), &mut places).unwrap();
    assert_eq!(list.count(), 7);
    assert!(spawn::sudo_arguments(c"nobody", arguments.list(), &mut places[..7]).is_none());
    let names = ["/bin/echo".to_owned(), "run time".to_owned()].map(|name| std::ffi::CString::new(name).unwrap());
    let list = Strings::collect(names.iter().map(std::ffi::CString::as_c_str), &mut places).unwrap();
    assert_eq!(spawn::spawn(&Config::new(list)).unwrap().wait(AT_MOST).unwrap().returncode(), 0);
}

fn execution() {
    // SAFETY: the process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let arguments = shell([c"/bin/sh", c"-c", c"exit 4"]);
        // SAFETY: the process ends either way.
        let error = unsafe { spawn::exec(&Config::new(arguments.list())) };
        panic!("{error}");
    }
    assert_eq!(runner::wait(child), 4 << 8);
    let missing = StringArray::new([c"/nowhere/program"]);
    // SAFETY: the case owns nothing that the call spoils.
    let error = unsafe { spawn::exec(&Config::new(missing.list())) };
    assert_eq!((error.step, error.errno), (Step::Exec, Errno::NOENT));
}
