#!/usr/bin/env python3
"""examples/rdaemon.c: what an administrator does with it, with real programs. TAP for prove(1)."""

import contextlib
import fcntl
import http.client
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "harness"))
from cases import Skip, case, children, contains, equal, main, open_files_of, read, require_root, run, until, write

ROOT = os.path.dirname(HERE)
PROGRAMS = os.environ.get("EXAMPLES", os.path.join(ROOT, "target", "examples"))
RDAEMON = os.path.join(PROGRAMS, "rdaemon")
PYTHON = sys.executable
SLEEP = ("sleep", "600")
NOBODY = 65534
os.environ["LC_ALL"] = "C"

# ---- what the cases are made of ----


class Fixture:
    """A directory, and a pidfile in it."""

    def __init__(self, directory):
        self.directory = directory
        self.pidfile = self.path("pid")
        self.log = self.path("log")
        os.chmod(directory, 0o755)

    def path(self, name):
        return os.path.join(self.directory, name)

    def files(self):
        return set(os.listdir(self.directory))

    def command(self, action, *options, program=()):
        words = [RDAEMON, *action.split(), "--pidfile", self.pidfile, *options]
        return words + (["--", *program] if program else [])

    def do(self, wanted, action, *options, program=(), says="", **how):
        """Runs the tool, which must end with that status and say that; returns what it says."""
        done = run(*self.command(action, *options, program=program), **how)
        contains(done.stdout, says)
        if done.returncode != wanted:
            raise AssertionError("status %d, wanted %d: %s" % (done.returncode, wanted, done.stdout))
        return done.stdout

    def start(self, *options, program=SLEEP, **how):
        """Returns the daemon's pid."""
        said = self.do(0, "start", *options, program=program, **how)
        before, _, pid = said.rpartition(" ")
        equal(before, "rdaemon: %s: started as process" % self.pidfile)
        return int(pid)

    def stop(self, pid, *options, status=signal.SIGTERM):
        """Stops the daemon, which must end so."""
        self.do(0, "stop", *options, says="process %d has ended" % pid)
        equal(os.waitpid(pid, 0)[1], status)
        equal(os.path.exists(self.pidfile), False)

    def script(self, name, text, mode=0o755):
        return write(self.path(name), text, mode)

    def fifo(self, name="fifo"):
        return Fifo(self.path(name))

    def close(self):
        pass


class Fifo:
    """What daemons write, line by line. It has no end of file: the case's time limit ends a wait."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = path
        self.file = os.fdopen(os.open(path, os.O_RDWR), "rb", buffering=0)

    def line(self):
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.file.read(1)
        return line.decode()[:-1]


def python(text, *arguments):
    return (PYTHON, "-c", text, *arguments)


IGNORE_SIGTERM = python(
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ignores', flush=True); signal.pause()"
)


def arguments_of(pid):
    return tuple(read("/proc/%d/cmdline" % pid).split("\0")[:-1])


def status_of(pid):
    """The fields of /proc/PID/status."""
    return dict(re.findall(r"^(\w+):\t(.*)$", read("/proc/%d/status" % pid), re.MULTILINE))


def environment_of(pid):
    return dict(word.split("=", 1) for word in read("/proc/%d/environ" % pid).split("\0")[:-1])


def lock_holder(path):
    """Whom the kernel names as the holder of the process lock; 0 for nobody."""
    flock = struct.Struct("@hhqqi4x")
    with open(path) as file:
        answer = flock.unpack(fcntl.fcntl(file, fcntl.F_GETLK, flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)))
    return answer[4] if answer[0] != fcntl.F_UNLCK else 0


def is_alive(pid):
    try:
        return status_of(pid)["State"][0] not in "ZX"
    except (OSError, KeyError):
        return False


def child_of(pid):
    """The one child that it has, once it has one that has executed its program."""
    ours = os.readlink("/proc/%d/exe" % pid)

    def program():
        try:
            return [child for child, _ in children(pid) if os.readlink("/proc/%d/exe" % child) != ours]
        except OSError:
            return []

    return until(program)[0]


def as_nobody(t):
    """For a tool that is run as another user: it has its own directory."""
    require_root()
    os.mkdir(t.path("nobodys"))
    os.chown(t.path("nobodys"), NOBODY, NOBODY)
    return dict(user=NOBODY, group=NOBODY, extra_groups=[])


# ---- the command line ----

USAGE = [
    (2, "ACTION: missing"),
    (3, "reload: no such action", "reload", "--pidfile", "p"),
    (2, "--pidfile: missing", "start", "--", "true"),
    (2, "PROGRAM: missing", "start", "--pidfile", "p"),
    (2, "PROGRAM: missing", "restart", "--pidfile", "p", "--"),
    (2, "unrecognized option '--nope'", "start", "--nope", "--pidfile", "p", "--", "true"),
    (2, "unrecognized option '--nope=5'", "stop", "--nope=5"),
    (2, "option '--pidfile' requires an argument", "status", "--pidfile"),
    (2, "option '--chdir' requires an argument", "start", "--pidfile", "p", "--chdir", "--", "true"),
    (2, "sleep: one word too many", "start", "--pidfile", "p", "sleep", "1"),
    (2, "sleep: one word too many", "stop", "--pidfile", "p", "sleep"),
    (2, "USR2: one word too many", "signal", "USR1", "USR2", "--pidfile", "p"),
    (2, "SIGNONE: not a signal", "signal", "SIGNONE", "--pidfile", "p"),
    (2, "signal: Invalid argument", "signal", "4711", "--pidfile", "p"),
    (2, "--timeout: not a time", "stop", "--pidfile", "p", "--timeout", "soon"),
    (2, "--timeout: not a time", "stop", "--pidfile", "p", "--timeout", "0"),
    (2, "--timeout: not a time", "stop", "--pidfile", "p", "--timeout", "nan"),
    (2, "--timeout: not a time", "stop", "--pidfile", "p", "--timeout", "1e9"),
    (2, "--umask: not a file creation mask", "start", "--pidfile", "p", "--umask", "8", "--", "true"),
    (2, "--umask: not a file creation mask", "start", "--pidfile", "p", "--umask", "1000", "--", "true"),
    (2, "--umask: not a file creation mask", "start", "--pidfile", "p", "--umask", "-1", "--", "true"),
    (2, "--respawn-max: not a number", "start", "--pidfile", "p", "--respawn-max", "-1", "--", "true"),
    (2, "HOME: not NAME=VALUE", "start", "--pidfile", "p", "--env", "HOME", "--", "true"),
    (2, "=x: not NAME=VALUE", "start", "--pidfile", "p", "--env", "=x", "--", "true"),
    (2, "no-such-user: no such user", "start", "--pidfile", "p", "--user", "no-such-user", "--", "true"),
    (2, "no-such-group: no such group", "start", "--pidfile", "p", "--user", "0:no-such-group", "--", "true"),
    (2, "4294967295: no such user", "start", "--pidfile", "p", "--user", "4294967295", "--", "true"),
    (2, "without an account needs a :GROUP", "start", "--pidfile", "p", "--user", "987654", "--", "true"),
    (2, "true: not an absolute path", "start", "--pidfile", "p", "--chroot", "/", "--", "true"),
]


@case
def bad_arguments_are_named_and_change_nothing(t):
    for status, message, *words in USAGE:
        done = run(RDAEMON, *words, cwd=t.directory)
        contains(done.stdout, "rdaemon: ")
        contains(done.stdout, message)
        equal((done.returncode, t.files()), (status, set()))


@case
def help_names_every_action_and_option(t):
    source = read(os.path.join(ROOT, "examples", "rdaemon.c"))
    options = re.findall(r'\{"(--[a-z-]+)", [A-Z]+,', source)
    equal(len(options), 17)
    for words in (["--help"], ["start", "--help"], ["status", "--pidfile", "p", "--help"]):
        done = run(RDAEMON, *words, stderr=subprocess.DEVNULL)
        equal(done.returncode, 0)
        for word in ["start", "stop", "restart", "status", "signal [SIGNAL]", "Examples", "Exit status", *options]:
            if word != "--help":
                contains(done.stdout, word)
        equal(max(map(len, done.stdout.splitlines())) <= 100, True)


# ---- a daemon's life ----


@case
def a_whole_life(t):
    t.do(3, "status", says="not running")
    t.do(0, "stop", says="not running")
    t.do(7, "signal", says="not running")
    pid = t.start()
    equal(arguments_of(pid), SLEEP)
    equal(read(t.pidfile), "%d\n" % pid)
    equal(lock_holder(t.pidfile), pid)
    t.do(0, "status", says="running as process %d" % pid)
    t.do(0, "start", program=SLEEP, says="already running as process %d" % pid)
    t.do(0, "signal 0", says="process %d has got signal 0" % pid)
    t.do(0, "restart", program=("sleep", "700"), says="started as process")
    equal(os.waitpid(pid, 0)[1], signal.SIGTERM)
    second = int(read(t.pidfile))
    equal(arguments_of(second), ("sleep", "700"))
    t.stop(second)
    t.do(3, "status", says="not running")
    t.do(0, "stop", says="not running")
    t.do(7, "signal HUP", says="not running")
    t.do(0, "restart", program=SLEEP, says="started as process")
    t.stop(int(read(t.pidfile)))


@case
def an_init_script_may_give_every_action_all_options(t):
    script = t.script("init", '#!/bin/sh\nexec %s "$@" --pidfile %s --chdir /tmp -- sleep 600\n' % (RDAEMON, t.pidfile))
    actions = ("start", "status", "start", "signal 0", "restart", "stop", "status", "stop", "reload")
    statuses = [run(script, *action.split()).returncode for action in actions]
    equal(statuses, [0, 0, 0, 0, 0, 0, 3, 0, 3])
    os.waitpid(-1, 0)
    os.waitpid(-1, 0)


@case
def a_start_detaches_from_a_service_manager_too(t):
    """As systemd, which runs init scripts, waits for the end of the process that it has started."""
    command = 'SYSTEMD_EXEC_PID=$$ exec "$@"'
    said = run("sh", "-c", command, "sh", *t.command("start", program=SLEEP)).stdout
    contains(said, "started as process")
    t.stop(int(read(t.pidfile)))


@case
def signals_have_names_with_and_without_sig_and_numbers(t):
    wanted = {
        signal.SIGUSR1: ("USR1", "SIGUSR1", "usr1", "sigusr1", "10"),
        signal.SIGTERM: ("", "TERM", "SIGTERM", "15"),
        signal.SIGKILL: ("kill", "9"),
        signal.SIGHUP: ("HUP",),
        signal.SIGINT: ("INT",),
        signal.SIGALRM: ("ALRM",),
    }
    for number, word in ((number, word) for number, words in wanted.items() for word in words):
        pid = t.start()
        t.do(0, "signal " + word, says="process %d has got signal" % pid)
        equal(os.waitpid(pid, 0)[1], number)
        t.do(1, "status", says="dead, and has left its pidfile")


@case
def the_signal_may_come_behind_the_options(t):
    pid = t.start()
    t.do(0, "signal", "USR2", says="signal USR2")
    equal(os.waitpid(pid, 0)[1], signal.SIGUSR2)


@case
def status_after_kill_9_is_1_until_it_is_stopped_or_started(t):
    pid = t.start()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))
    t.do(1, "status", says="dead, and has left its pidfile")  # also while it is a zombie
    os.waitpid(pid, 0)
    t.do(1, "status")
    t.do(7, "signal")
    t.do(0, "stop", says="not running")
    t.do(3, "status")
    pid = t.start()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    t.stop(t.start())


@case
def one_that_ignores_sigterm_is_killed_after_the_timeout(t):
    fifo = t.fifo()
    pid = t.start("--stdout", fifo.path, program=IGNORE_SIGTERM)
    equal(fifo.line(), "ignores")
    began = time.monotonic()
    t.do(0, "stop", "--timeout", "0.5", says="process %d was killed, as SIGTERM did not end it in time" % pid)
    equal(time.monotonic() - began >= 0.5, True)
    equal(os.waitpid(pid, 0)[1], signal.SIGKILL)
    t.do(3, "status")


@case
def a_stopped_process_is_continued_to_its_end(t):
    pid = t.start()
    t.do(0, "signal STOP")
    until(lambda: status_of(pid)["State"][0] == "T")
    t.do(0, "status", says="running")
    t.stop(pid)


@case
def restart_looks_first_and_then_stops(t):
    pid = t.start()
    t.do(5, "restart", program=["no-such-program"], says="no-such-program: No such file or directory")
    t.do(2, "restart", "--syslog", "no space", program=SLEEP)
    t.do(0, "status", says="process %d" % pid)
    broken = t.script("broken", "#!/no/such/interpreter\n")
    t.do(5, "restart", program=[broken], says="exec: No such file or directory")
    equal(os.waitpid(pid, 0)[1], signal.SIGTERM)
    t.do(3, "status")


@case
def restart_kills_what_ignores_sigterm(t):
    fifo = t.fifo()
    pid = t.start("--stdout", fifo.path, program=IGNORE_SIGTERM)
    equal(fifo.line(), "ignores")
    t.do(0, "restart", "--timeout", "0.3", program=SLEEP, says="started as process")
    equal(os.waitpid(pid, 0)[1], signal.SIGKILL)
    t.stop(int(read(t.pidfile)))


@case
def twenty_starts_at_once_make_one_daemon(t):
    for options in ((), ("--supervise",)):
        command = t.command("start", *options, program=SLEEP)
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        starts = [subprocess.Popen(command, **pipes) for _ in range(20)]
        said = [start.communicate()[0] for start in starts]
        equal([start.returncode for start in starts], 20 * [0])
        pid = int(read(t.pidfile))
        equal(sum("started as process %d\n" % pid in text for text in said), 1)
        equal(sum("already running as process %d\n" % pid in text for text in said), 19)
        equal([child for child, _ in children()], [pid])
        t.stop(pid, status=0 if options else signal.SIGTERM)


# ---- what the program gets ----


@case
def the_program_has_the_state_of_a_daemon(t):
    inherited, other_end = os.pipe()
    os.set_inheritable(inherited, True)

    def be_a_bad_parent():
        os.umask(0o777)
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD])

    for options in (), ("--supervise",):
        pid = t.start(*options, close_fds=False, preexec_fn=be_a_bad_parent)
        program = child_of(pid) if options else pid
        wanted = ["/dev/null"] * 3 + ([] if options else [t.pidfile])
        until(lambda: sorted(open_files_of(program).values()) == wanted)
        status = status_of(program)
        equal((status["SigIgn"], status["SigBlk"], status["Umask"]), ("0" * 16, "0" * 16, "0022"))
        equal(os.readlink("/proc/%d/cwd" % program), "/")
        equal(read("/proc/%d/stat" % program).rpartition(") ")[2].split()[4], "0")  # no terminal
        equal(os.getsid(program) in (program, os.getsid(0)), False)
        contains(read("/proc/%d/limits" % program), "Max core file size        1                    1")
        t.stop(pid, status=0 if options else signal.SIGTERM)
    os.close(inherited)
    os.close(other_end)


@case
def directory_umask_and_environment(t):
    os.mkdir(t.path("work"))
    options = ["--chdir", t.path("work"), "--umask", "027"]
    options += ["--env", "COLOUR=blue", "--env", "OLD=new", "--env", "EMPTY="]
    for more in (), ("--supervise",):
        pid = t.start(*options, *more, env=dict(os.environ, OLD="old", KEPT="a b"))
        program = child_of(pid) if more else pid
        equal(os.readlink("/proc/%d/cwd" % program), t.path("work"))
        equal(status_of(program)["Umask"], "0027")
        environment = environment_of(program)
        equal([environment.get(name) for name in ("COLOUR", "OLD", "EMPTY", "KEPT")], ["blue", "new", "", "a b"])
        t.stop(pid, status=0 if more else signal.SIGTERM)


@case
def outputs_are_appended_to_files(t):
    def says(*options):
        t.start(*options, program=("sh", "-c", "echo out; echo err >&2"))
        os.waitpid(-1, 0)

    write(t.path("a"), "before\n")
    says("--stdout", t.path("a"))
    equal(read(t.path("a")), "before\nout\nerr\n")
    says("--stdout", t.path("b"), "--stderr", t.path("c"))
    equal((read(t.path("b")), read(t.path("c"))), ("out\n", "err\n"))
    says("--stderr", t.path("c"))
    equal(read(t.path("c")), "err\nerr\n")
    says("--stdout", t.path("d"), "--stderr", t.path("d"))
    equal(read(t.path("d")), "out\nerr\n")
    equal(os.stat(t.path("d")).st_mode & 0o777, 0o640)


@case
def relative_paths_are_those_of_the_caller(t):
    os.mkdir(t.path("work"))
    t.script("program", "#!/bin/sh\necho $0 $PWD; exec sleep 600\n")
    fifo = t.fifo("out")
    options = ["--pidfile", "pid", "--stdout", "out", "--chdir", "work"]
    done = run(RDAEMON, "start", *options, "--", "./program", cwd=t.directory)
    equal(done.returncode, 0)
    equal(fifo.line(), "%s %s" % (t.path("./program"), t.path("work")))
    t.stop(int(read(t.pidfile)))


@case
def a_name_is_looked_up_in_path(t):
    t.script("by-name", "#!/bin/sh\nexec sleep 600\n")
    pid = t.start(program=["by-name"], env=dict(os.environ, PATH=t.directory + ":/usr/bin:/bin"))
    t.stop(pid)
    pid = t.start(program=["by-name"], env=dict(os.environ, PATH=".:/usr/bin:/bin"), cwd=t.directory)
    t.stop(pid)


@case
def arguments_reach_the_program_as_they_are(t):
    words = ["a b", "", "--", "$HOME", "*", "--pidfile", "'", "\n"]
    fifo = t.fifo()
    t.start("--stdout", fifo.path, program=python("import sys; print(sys.argv[1:], flush=True)", *words))
    equal(fifo.line(), repr(words))
    os.waitpid(-1, 0)


# ---- starts that fail ----


def failures_of(t):
    """Status, message, options, program."""
    os.mkdir(t.path("directory"))
    script = t.script("no-interpreter", "#!/no/such/interpreter\n")
    return [
        (5, "no-such-program: No such file or directory", (), ["no-such-program"]),
        (5, "/no/such/program: No such file or directory", (), ["/no/such/program"]),
        (5, "not-executable: Permission denied", (), [t.script("not-executable", "", 0o644)]),
        (5, "directory: Permission denied", (), [t.path("directory")]),
        (5, "no-interpreter: exec: No such file or directory", (), [script]),
        (1, "no-hash-bang: exec: Exec format error", (), [t.script("no-hash-bang", "echo no\n")]),
        (1, "pid: chdir: No such file or directory", ("--chdir", t.path("nowhere")), SLEEP),
        (1, "pid: open_streams: No such file or directory", ("--stdout", t.path("nowhere/log")), SLEEP),
        (1, "nowhere/pid: pidfile_open: No such file or directory", ("--pidfile", t.path("nowhere/pid")), SLEEP),
        (1, "directory: pidfile_open: Is a directory", ("--pidfile", t.path("directory")), SLEEP),
    ]


@case
def a_failed_start_says_why_and_leaves_nothing(t):
    failures = failures_of(t)
    before = t.files()
    for options in (), ("--supervise",), ("--foreground",), ("--foreground", "--supervise"):
        for status, message, more, program in failures:
            t.do(status, "start", *options, *more, program=program, says=message + "\n")
            equal(t.files(), before)
            equal([child for child, _ in children() if is_alive(child)], [])
        while children():
            os.waitpid(-1, 0)


@case
def a_start_in_progress_is_awaited(t):
    for action in "start", "restart":
        with open(t.pidfile, "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # as a starter has it until there is a daemon
            t.do(4, "status", says="starting")
            start = subprocess.Popen(t.command(action, "--timeout", "30", program=SLEEP), stdout=subprocess.PIPE)
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise AssertionError("it ended with %d" % start.wait(0.6))
        contains(start.communicate()[0].decode(), "started as process")
        equal(start.returncode, 0)
        t.stop(int(read(t.pidfile)))


@case
def closed_standard_streams_are_no_obstacle(t):
    script = t.script("no-interpreter", "#!/no/such/interpreter\n")
    for closed in "<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-":
        started = run("sh", "-c", '"$@" ' + closed, "sh", *t.command("start", program=SLEEP))
        equal(started.returncode, 0)
        pid = int(read(t.pidfile))
        equal([open_files_of(pid)[fd] for fd in range(3)], ["/dev/null"] * 3)
        t.stop(pid)
        failed = run("sh", "-c", '"$@" ' + closed, "sh", *t.command("start", program=[script]))
        equal(failed.returncode, 5)
        os.waitpid(-1, 0)


@case
def a_program_that_cannot_be_executed_in_time_is_given_up(t):
    if not shutil.which("strace"):
        raise Skip("no strace here")
    slow = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", shutil.which("sleep"), "-e", "inject=execve:delay_enter=3s"]
    done = run(*slow, *t.command("start", "--timeout", "2", program=SLEEP), stderr=subprocess.PIPE)
    contains(done.stderr, "rdaemon: sleep: exec: Connection timed out\n")
    equal((done.returncode, t.files()), (1, set()))
    os.waitpid(-1, 0)


@case
def what_is_not_permitted_has_its_own_status(t):
    nobody = as_nobody(t)
    t.do(4, "start", program=SLEEP, says="pidfile_open: Permission denied", **nobody)
    t.pidfile = t.path("nobodys/pid")
    t.do(4, "start", "--user", "0", program=SLEEP, says="drop_privileges: Operation not permitted", **nobody)
    t.do(4, "start", "--chroot", "/", program=["/bin/sleep", "600"], says="chroot: Operation not permitted", **nobody)
    t.do(4, "start", "--stdout", t.path("log"), program=SLEEP, says="open_streams: Permission denied", **nobody)
    equal(os.listdir(t.path("nobodys")), [])
    secret = t.script("secret", "#!/bin/sh\n", 0o700)
    t.do(5, "start", program=[secret], says="secret: Permission denied", **nobody)
    t.do(4, "start", "--user", "nobody", program=[secret], says="exec: Permission denied")
    equal(os.listdir(t.path("nobodys")), [])
    t.pidfile = t.path("pid")
    pid = t.start()
    t.do(0, "status", says="running as process %d" % pid, **nobody)
    t.do(4, "signal HUP", says="signal: Operation not permitted", **nobody)
    t.do(4, "stop", says="signal: Operation not permitted", **nobody)
    t.stop(pid)
    while children():
        os.waitpid(-1, 0)


# ---- pidfiles that are not what they should be ----


@case
def a_number_in_the_file_is_not_a_daemon(t):
    bystander = subprocess.Popen(SLEEP)
    number = "%d" % bystander.pid
    for text in (number + "\n", number, "-1\n", "0\n", "1 extra\n", "garbage", "9" * 100, "\0" * 100):
        write(t.pidfile, text)
        t.do(1, "status", says="dead, and has left its pidfile")
        t.do(7, "signal KILL", says="not running")
        run(*t.command("stop"))
        equal(bystander.poll(), None)
        t.stop(t.start())
    write(t.pidfile, "")
    t.do(3, "status", says="not running")
    t.do(0, "stop", says="not running")
    equal(os.path.exists(t.pidfile), False)
    write(t.pidfile, "garbage")
    t.do(1, "stop", says="pidfile_read: ")
    equal(read(t.pidfile), "garbage")
    bystander.kill()
    bystander.wait()


@case
def a_pidfile_that_others_may_write_is_not_believed(t):
    pid = t.start()
    os.chmod(t.pidfile, 0o666)
    for action in ("status", "stop", "signal TERM"):
        t.do(4, action, says="not to be believed")
    equal(is_alive(pid), True)
    os.chmod(t.pidfile, 0o644)
    t.stop(pid)


@case
def a_pidfile_of_a_stranger_is_not_believed(t):
    require_root()
    pid = t.start()
    os.chown(t.pidfile, NOBODY, NOBODY)
    for action in ("status", "stop", "signal TERM"):
        t.do(4, action, says="not to be believed")
    equal(is_alive(pid), True)
    os.chown(t.pidfile, 0, 0)
    t.stop(pid)


@case
def a_pidfile_of_another_kind_is_not_believed(t):
    os.symlink(write(t.path("real"), "1\n"), t.pidfile)
    for action, status in ("status", 4), ("stop", 1), ("signal TERM", 1):
        t.do(status, action, says="pidfile_read: Too many levels of symbolic links")
    t.do(1, "start", program=SLEEP, says="pidfile_open: Too many levels of symbolic links")
    os.unlink(t.pidfile)
    os.mkdir(t.pidfile)
    t.do(4, "status", says="pidfile_read: Is a directory")


@case
def workers_of_a_dead_daemon_are_nobody_to_signal(t):
    fifo = t.fifo()
    fork = "import os, signal; os.fork() and signal.pause(); print(os.getpid(), flush=True); signal.pause()"
    pid = t.start("--stdout", fifo.path, program=python(fork))
    worker = int(fifo.line())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    t.do(4, "status", says="only workers of a dead daemon remain")
    t.do(7, "signal KILL", says="only workers of a dead daemon remain")
    t.do(1, "stop", "--timeout", "0.2", says="only workers of a dead daemon remain")
    t.do(1, "start", "--timeout", "0.2", program=SLEEP, says="or by workers of a dead daemon")
    t.do(1, "restart", "--timeout", "0.2", program=SLEEP, says="or by workers of a dead daemon")
    equal(is_alive(worker), True)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    t.stop(t.start())


# ---- users and roots ----


@case
def a_user_and_his_groups(t):
    require_root()
    groups = sorted(os.getgrouplist("nobody", NOBODY))
    wanted = [
        ("root", 0, 0, sorted(os.getgrouplist("root", 0))),
        ("nobody", NOBODY, NOBODY, groups),
        (str(NOBODY), NOBODY, NOBODY, groups),
        ("nobody:daemon", NOBODY, 1, [1]),
        ("nobody:4711", NOBODY, 4711, [4711]),
        ("987654:4711", 987654, 4711, [4711]),
    ]
    for more in (), ("--supervise",):
        for user, uid, gid, groups in wanted:
            pid = t.start("--user", user, "--stdout", t.log, *more)
            program = child_of(pid) if more else pid
            status = status_of(program)
            equal(status["Uid"].split(), [str(uid)] * 4)
            equal(status["Gid"].split(), [str(gid)] * 4)
            equal(sorted(map(int, status["Groups"].split())), groups)
            equal((os.stat(t.pidfile).st_uid, os.stat(t.log).st_uid), (0, 0))
            t.stop(pid, status=0 if more else signal.SIGTERM)


@case
def a_user_has_his_own_home(t):
    require_root()
    root = dict(os.environ, HOME="/root", USER="root", LOGNAME="root")

    def home(*options):
        pid = t.start(*options, env=root)
        found = [environment_of(pid)[name] for name in ("HOME", "USER", "LOGNAME")]
        t.stop(pid)
        return found

    equal(home(), ["/root", "root", "root"])
    equal(home("--user", "daemon"), ["/usr/sbin", "daemon", "daemon"])
    equal(home("--user", "daemon", "--env", "HOME=/srv"), ["/srv", "daemon", "daemon"])


@case
def a_user_who_has_gone_is_no_obstacle_to_a_stop(t):
    pid = t.start()
    t.do(0, "status", "--user", "no-such-user")
    t.stop(pid, "--user", "no-such-user")


@case
def a_user_controls_his_own_daemon(t):
    nobody = as_nobody(t)
    pid = t.start("--user", "nobody")
    t.do(0, "status", says="running as process %d" % pid, **nobody)
    t.do(0, "signal 0", **nobody)
    t.do(0, "stop", says="process %d has ended" % pid, **nobody)
    os.waitpid(pid, 0)
    t.do(1, "status", says="dead, and has left its pidfile", **nobody)  # the directory is root's
    t.do(0, "stop")
    t.do(3, "status")
    t.pidfile = t.path("nobodys/pid")
    pid = t.start(**nobody)
    equal(status_of(pid)["Uid"].split(), [str(NOBODY)] * 4)
    t.do(0, "status", says="running as process %d" % pid)
    t.do(0, "stop", **nobody)
    os.waitpid(pid, 0)
    equal(os.listdir(t.path("nobodys")), [])


@case
def a_root_directory(t):
    require_root()
    os.makedirs(t.path("root/bin"))
    os.mkdir(t.path("root/work"))
    busybox = shutil.which("busybox")
    if not busybox:
        raise Skip("no busybox here")
    shutil.copy(busybox, t.path("root/bin/busybox"))
    if run("chroot", t.path("root"), "/bin/busybox", "true").returncode != 0:
        raise Skip("the busybox here is not static")
    options = ["--chroot", t.path("root"), "--chdir", "/work", "--user", "nobody", "--stdout", t.log]
    program = ["/bin/busybox", "sleep", "600"]
    for more in (), ("--supervise",):
        pid = t.start(*options, *more, program=program)
        sleep = pid if not more else until(lambda: [c for c, name in children(pid) if name == "busybox"])[0]
        equal(os.readlink("/proc/%d/root" % sleep), t.path("root"))
        equal(os.readlink("/proc/%d/cwd" % sleep), t.path("root/work"))
        equal(status_of(sleep)["Uid"].split(), [str(NOBODY)] * 4)
        t.do(0, "status", says="running as process %d" % pid)
        t.stop(pid, status=0 if more else signal.SIGTERM)
    t.do(5, "start", *options, program=["/bin/sleep", "600"], says="/bin/sleep: exec: No such file or directory")
    t.do(1, "start", "--chroot", t.path("nowhere"), program=program, says="chroot: No such file or directory")
    os.waitpid(-1, 0)
    t.do(3, "status")


# ---- syslog ----


class Receiver:
    """A syslog server's socket, and a way to run the tool where that is /dev/log."""

    def __init__(self, t):
        require_root()
        dev = t.path("dev")
        os.mkdir(dev)
        write(os.path.join(dev, "null"), "")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket_path = os.path.join(dev, "log")
        self.socket.bind(self.socket_path)
        os.chmod(self.socket_path, 0o666)
        mount = 'mount --bind /dev/null "$0"/null && mount --rbind "$0" /dev && exec "$@"'
        self.prefix = ["unshare", "--mount", "sh", "-c", mount, dev]
        if run(*self.prefix, "true").returncode != 0:
            raise Skip("no mount namespace can be made here")

    def run(self, command):
        return run(*self.prefix, *command)

    def remove(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)

    def message(self):
        """Priority, tag and text of the next message."""
        message = self.socket.recv(4096).decode()
        return re.fullmatch(r"<(\d+)>([^ ]+): (.*)", message, re.DOTALL).groups()


@case
def what_the_program_says_goes_to_syslog(t):
    log = Receiver(t)
    program = ("sh", "-c", "echo out; echo err >&2; echo '<4>warned'; exec sleep 600")
    for more in (), ("--user", "nobody"), ("--supervise",):
        started = log.run(t.command("start", "--syslog", "web", *more, program=program))
        pid = int(read(t.pidfile))
        equal((started.returncode, "started as process %d" % pid in started.stdout), (0, True))
        messages = {log.message() for _ in range(3)}
        tag = "web[%d]" % pid
        equal(messages, {("30", tag, "out"), ("27", tag, "err"), ("28", tag, "warned")})
        equal([name for name in open_files_of(pid).values() if name.startswith("socket:")], [])
        t.stop(pid, status=0 if "--supervise" in more else signal.SIGTERM)
        os.waitpid(-1, 0)  # the pump, once nobody writes any more


@case
def what_has_a_file_does_not_go_to_syslog(t):
    log = Receiver(t)
    program = ("sh", "-c", "echo out; echo err >&2")
    started = log.run(t.command("start", "--syslog", "web", "--stdout", t.log, program=program))
    equal(started.returncode, 0)
    equal(log.message()[2], "err")
    equal(read(t.log), "out\n")
    os.waitpid(-1, 0)
    os.waitpid(-1, 0)


@case
def the_supervisor_tells_syslog_of_failures(t):
    log = Receiver(t)
    options = ("--syslog", "web", "--supervise", "--respawn-delay-step", "0.01", "--respawn-max", "2")
    started = log.run(t.command("start", *options, program=["false"]))
    equal(started.returncode, 0)
    messages = [log.message() for _ in range(6)]
    equal({priority for priority, _, _ in messages}, {"27"})
    contains(messages[0][2], "exited with 1")
    equal(messages[1][2], "rdaemon: false: started again in 10 ms")
    equal(messages[-1][2], "rdaemon: false: fails again and again: given up")
    until(lambda: not os.path.exists(t.pidfile))
    os.waitpid(-1, 0)
    os.waitpid(-1, 0)


@case
def without_a_syslog_server_the_start_fails(t):
    log = Receiver(t)
    command = t.command("start", "--syslog", "web", program=SLEEP)
    for message in "Connection refused", "No such file or directory":
        log.socket.close()
        refused = log.run(command)
        contains(refused.stdout, message)
        equal((refused.returncode, t.files()), (1, {"dev"}))
        log.remove()
    t.do(2, "start", "--syslog", "not a tag", program=SLEEP, says="config: ")


@case
def a_failed_start_leaves_no_pump(t):
    log = Receiver(t)
    script = t.script("no-interpreter", "#!/no/such/interpreter\n")
    for more in (), ("--supervise",):
        failed = log.run(t.command("start", "--syslog", "web", *more, program=[script]))
        contains(failed.stdout, "no-interpreter: exec: No such file or directory")
        equal((failed.returncode, os.path.exists(t.pidfile)), (5, False))
        os.waitpid(-1, 0)
        os.waitpid(-1, 0)


# ---- in the foreground ----


@case
def in_the_foreground_start_is_the_program(t):
    program = ("sh", "-c", "echo $$ $PWD; exec sleep 600")
    command = t.command("start", "--foreground", program=program)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        equal(process.stdout.readline(), "%d /\n" % process.pid)
        equal(read(t.pidfile), "%d\n" % process.pid)
        t.do(0, "status", says="running as process %d" % process.pid)
        t.do(0, "start", program=SLEEP, says="already running as process %d" % process.pid)
        t.do(0, "stop", says="process %d has ended" % process.pid)
        equal(process.wait(), -signal.SIGTERM)
    t.do(3, "status")
    equal(run(*t.command("start", "--foreground", program=("sh", "-c", "exit 7"))).returncode, 7)
    t.do(1, "status")


@case
def a_supervisor_in_the_foreground(t):
    for number in (signal.SIGTERM, signal.SIGINT):
        command = t.command("start", "--foreground", "--supervise", program=SLEEP)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            child_of(process.pid)
            equal(read(t.pidfile), "%d\n" % process.pid)
            process.send_signal(number)
            equal((process.wait(), process.stderr.read()), (0, ""))
        t.do(3, "status")


# ---- real programs ----


@case
def the_web_server_of_python(t):
    fifo = t.fifo()
    write(t.path("page"), "it serves\n")
    server = (PYTHON, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0")
    options = ("--stdout", fifo.path, "--stderr", t.log, "--chdir", t.directory)

    def answer():
        port = int(re.search(r"port (\d+)", fifo.line()).group(1))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/page")
        return connection.getresponse().read()

    pid = t.start(*options, program=server)
    equal(answer(), b"it serves\n")
    t.do(0, "restart", *options, program=server)
    equal(os.waitpid(pid, 0)[1], signal.SIGTERM)
    equal(answer(), b"it serves\n")
    contains(read(t.log), '"GET /page HTTP/1.1" 200')
    t.stop(int(read(t.pidfile)))


NGINX = """
pid %(directory)s/nginx.pid;
error_log %(directory)s/error.log;
events {}
http {
    access_log off;
    client_body_temp_path %(directory)s/body; proxy_temp_path %(directory)s/proxy;
    fastcgi_temp_path %(directory)s/fastcgi; uwsgi_temp_path %(directory)s/uwsgi; scgi_temp_path %(directory)s/scgi;
    server { listen unix:%(directory)s/socket; location / { return 200 "generation %(generation)d"; } }
}
"""


@case
def nginx_is_reloaded_and_ends_gracefully(t):
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not nginx:
        raise Skip("no nginx here")

    def configure(generation):
        write(t.path("nginx.conf"), NGINX % {"directory": t.directory, "generation": generation})

    def answer():
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(t.path("socket"))
            except OSError:
                return ""
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: client.recv(4096), b"")).decode()

    program = (nginx, "-c", t.path("nginx.conf"), "-g", "daemon off;", "-e", t.path("error.log"))
    for more in (), ("--supervise",):
        configure(1)
        pid = t.start("--stderr", t.log, *more, program=program)
        until(lambda: "generation 1" in answer())
        t.do(0, "status", says="running as process %d" % pid)
        configure(2)
        t.do(0, "signal HUP")
        until(lambda: "generation 2" in answer())
        if more:
            t.stop(pid, status=0)
            continue
        t.do(0, "signal QUIT")
        equal(os.waitpid(pid, 0)[1], 0)
        until(lambda: run(*t.command("status")).returncode == 1)  # once its workers have gone as well
        t.do(0, "stop")
        equal(os.path.exists(t.path("socket")), False)


# ---- supervision ----

CLOSE_ALL = "import os, signal; os.closerange(3, 1024); print(os.getpid(), flush=True); signal.pause()"


@case
def a_program_that_closes_all_fds_needs_a_supervisor(t):
    fifo = t.fifo()
    lost = t.start("--stdout", fifo.path, program=python(CLOSE_ALL))
    equal(int(fifo.line()), lost)
    t.do(1, "status")
    os.kill(lost, signal.SIGKILL)
    os.waitpid(lost, 0)
    pid = t.start("--stdout", fifo.path, "--supervise", program=python(CLOSE_ALL))
    program = int(fifo.line())
    equal(program != pid, True)
    t.do(0, "status", says="running as process %d" % pid)
    t.do(0, "start", program=SLEEP, says="already running as process %d" % pid)
    t.stop(pid, status=0)
    equal(is_alive(program), False)


@case
def a_program_that_fails_is_started_again_after_growing_delays(t):
    fifo = t.fifo()
    fail = "import sys, time; print(time.clock_gettime(time.CLOCK_MONOTONIC), flush=True); sys.exit(3)"
    options = ["--supervise", "--stdout", fifo.path, "--stderr", t.log]
    options += ["--respawn-delay-step", "0.1", "--respawn-delay-cap", "0.25"]
    options += ["--respawn-max", "4", "--respawn-period", "60"]
    pid = t.start(*options, program=python(fail))
    times = [float(fifo.line()) for _ in range(5)]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    equal([gap >= delay for gap, delay in zip(gaps, (0.1, 0.2, 0.25, 0.25))], [True] * 4)
    equal(max(gaps) < 10, True)
    equal(os.waitpid(pid, 0)[1], 1 << 8)
    equal(os.path.exists(t.pidfile), False)
    t.do(3, "status")
    log = read(t.log)
    equal(re.findall(r"started again in (\d+) ms", log), ["100", "200", "250", "250"])
    equal(len(re.findall(r"process \d+ exited with 3\n", log)), 5)
    equal(log.endswith("fails again and again: given up\n"), True)


@case
def the_delays_are_those_of_openrc(t):
    fifo = t.fifo()
    pid = t.start("--supervise", "--stderr", fifo.path, program=["false"])
    delays = []
    while len(delays) < 4:
        delays += re.findall(r"started again in (\d+) ms", fifo.line())
    equal(delays, ["128", "256", "384", "512"])
    t.stop(pid, status=0)
    contains(run(RDAEMON, "--help").stdout, "(0.128)")


@case
def a_long_life_ends_a_row_of_failures(t):
    fifo = t.fifo()
    options = ["--supervise", "--stderr", fifo.path]
    options += ["--respawn-delay-step", "0.05", "--respawn-max", "2", "--respawn-period", "0.2"]
    pid = t.start(*options, program=("sh", "-c", "sleep 0.3; exit 1"))
    delays = []
    while len(delays) < 4:
        delays += re.findall(r"started again in (\d+) ms", fifo.line())
    equal(delays, ["50"] * 4)
    t.stop(pid, status=0)


@case
def a_clean_exit_ends_the_supervisor(t):
    pid = t.start("--supervise", "--stderr", t.log, program=["true"])
    equal(os.waitpid(pid, 0)[1], 0)
    contains(read(t.log), "exited with 0")
    t.do(3, "status")
    equal(os.path.exists(t.pidfile), False)


@case
def a_killed_program_is_started_again(t):
    pid = t.start("--supervise", "--stderr", t.log)
    first = child_of(pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in [child for child, _ in children(pid)])
    equal(child_of(pid) != first, True)
    t.do(0, "status", says="running as process %d" % pid)
    contains(read(t.log), "process %d was killed by signal 9\nrdaemon: sleep: started again in 128 ms\n" % first)
    t.stop(pid, status=0)


FORWARDED = ("HUP", "QUIT", "USR1", "USR2", "ALRM", "WINCH")
TELL_SIGNALS = """
import os, signal, sys
told = [getattr(signal, "SIG" + name) for name in sys.argv[1:]]
signal.pthread_sigmask(signal.SIG_BLOCK, told)
print("ready", flush=True)
while True:
    os.write(1, (signal.sigwait(told).name + "\\n").encode())
"""


@case
def signals_are_passed_on(t):
    fifo = t.fifo()
    pid = t.start("--supervise", "--stdout", fifo.path, program=python(TELL_SIGNALS, *FORWARDED))
    equal(fifo.line(), "ready")
    for name in FORWARDED:
        t.do(0, "signal " + name, says="process %d" % pid)
        equal(fifo.line(), "SIG" + name)
    for _ in range(50):
        os.kill(pid, signal.SIGUSR1)
        equal(fifo.line(), "SIGUSR1")
    t.stop(pid, status=0)


@case
def a_burst_of_signals_loses_no_kind(t):
    fifo = t.fifo()
    pid = t.start("--supervise", "--stdout", fifo.path, program=python(TELL_SIGNALS, *FORWARDED))
    equal(fifo.line(), "ready")
    for _ in range(100):
        for name in FORWARDED:
            os.kill(pid, getattr(signal, "SIG" + name))
    missing = {"SIG" + name for name in FORWARDED}
    while missing:
        missing.discard(fifo.line())
    t.do(0, "stop")
    equal(os.waitpid(pid, 0)[1], 0)


@case
def a_supervised_program_that_ignores_sigterm_is_killed_in_time(t):
    fifo = t.fifo()
    pid = t.start("--supervise", "--stdout", fifo.path, "--stderr", t.log, "--timeout", "0.5", program=IGNORE_SIGTERM)
    equal(fifo.line(), "ignores")
    program = child_of(pid)
    t.stop(pid, "--timeout", "30", status=0)
    equal(is_alive(program), False)
    contains(read(t.log), "killed, as SIGTERM did not end it in time")


@case
def a_program_does_not_outlive_its_killed_supervisor(t):
    pid = t.start("--supervise")
    program = child_of(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    equal(os.waitpid(program, 0)[1], signal.SIGKILL)
    t.do(1, "status")
    t.stop(t.start())


@case
def a_supervisor_that_waits_ends_at_once(t):
    fifo = t.fifo()
    pid = t.start("--supervise", "--stderr", fifo.path, "--respawn-delay-step", "30", program=["false"])
    fifo.line()
    contains(fifo.line(), "started again in 30000 ms")
    t.do(0, "signal USR1")
    began = time.monotonic()
    t.stop(pid, "--timeout", "25", status=0)
    equal(time.monotonic() - began < 20, True)


@case
def a_program_that_has_gone_is_tried_again(t):
    program = t.script("program", "#!/bin/sh\nexec sleep 600\n")
    fifo = t.fifo()
    pid = t.start("--supervise", "--stderr", fifo.path, program=[program])
    first = child_of(pid)
    os.rename(program, program + ".old")
    os.kill(first, signal.SIGTERM)
    while "exec: No such file or directory" not in fifo.line():
        pass
    os.rename(program + ".old", program)
    child_of(pid)
    t.stop(pid, status=0)


@case
def the_supervisor_outlives_the_reader_of_its_log(t):
    fifo = t.fifo()
    pid = t.start("--supervise", "--stderr", fifo.path)
    fifo.file.close()
    first = child_of(pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in [child for child, _ in children(pid)])
    child_of(pid)
    t.stop(pid, status=0)


if __name__ == "__main__":
    main(Fixture)
