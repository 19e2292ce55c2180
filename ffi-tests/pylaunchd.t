#!/usr/bin/env python3
"""examples/: pylaunchd on both of its routes, its demo, and the plain daemon. TAP for prove(1)."""

import contextlib
import fcntl
import importlib.machinery
import importlib.util
import inspect
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "harness"))
from cases import CASES, Skip, case, children, contains, equal, main, read, run, write

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = os.environ.get("EXAMPLES", os.path.join(ROOT, "target", "examples"))
PYLAUNCHD = os.path.join(PROGRAMS, "pylaunchd")
RDAEMON = os.path.join(PROGRAMS, "rdaemon")
ACTIVATE = os.path.join(PROGRAMS, "activate")
SOURCES = os.path.join(ROOT, "examples", "pylaunchd")
KEY = b"a key for tests"


def load_demo():
    loader = importlib.machinery.SourceFileLoader("demo", os.path.join(SOURCES, "demo"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("demo", loader))
    loader.exec_module(module)
    return module


demo = load_demo()

# ---- what the cases are made of ----


class Case:
    """A directory, and a pylaunchd in it."""

    def __init__(self, route, directory):
        self.route = route
        self.directory = directory
        self.socket = self.path("agent.sock")
        self.pidfile = self.path("agent.sock.pid")
        self.log = self.path("log")
        write(self.path("key"), KEY.decode() + "\n")

    def close(self):
        if sys.exc_info()[0] and os.path.isfile(self.log):
            print("# " + read(self.log).replace("\n", "\n# "))

    def path(self, name):
        return os.path.join(self.directory, name)

    def command(self, *options, agent=None):
        command = [PYLAUNCHD, self.route, "--agent", agent or os.path.join(SOURCES, "Agent.py")]
        command += ["--socket", self.socket, "--authkey-file", self.path("key"), "--log", self.log]
        return command + list(options)

    def launch(self, *options, **keywords):
        return run(*self.command(*options, **keywords))

    def start(self, *options, **keywords):
        launched = self.launch(*options, **keywords)
        equal((launched.returncode, launched.stdout), (0, ""))
        return int(read(self.pidfile))

    def fail(self, message, *options, alive=(), **keywords):
        """A start that must fail with that message, and must leave nothing."""
        before = self.files()
        launched = self.launch(*options, **keywords)
        contains(launched.stdout, message)
        equal(launched.returncode, 1)
        equal(self.files() - {"log"}, before - {"log"})
        bury_all_but(alive)

    def stop(self):
        pid = int(read(self.pidfile))
        os.kill(pid, signal.SIGTERM)
        equal(os.waitpid(pid, 0)[1], 0)
        equal(self.files() & {"agent.sock", "agent.sock.pid"}, set())

    def files(self):
        return set(os.listdir(self.directory))

    def connect(self, key=KEY):
        return Client(self.socket, family="AF_UNIX", authkey=key)

    def ask(self, text="Hello, World"):
        with self.connect() as client:
            client.send(text)
            return client.recv()

    def expect_answer(self):
        equal(self.ask(), "Uryyb, Jbeyq")

    def stranger(self):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(self.socket)
        return peer

    def changed_agent(self, *changes):
        """A copy of the agent with pairs of old and new text exchanged."""
        return write(self.path("Changed.py"), change(read(os.path.join(SOURCES, "Agent.py")), *changes))


def bury_all_but(alive=()):
    """Waits for the end of all other processes that were started here."""
    while True:
        others = [pid for pid, _ in children() if pid not in alive]
        if not others:
            return
        os.waitpid(others[0], 0)


def change(text, *changes):
    for old, new in changes:
        equal(text.count(old), 1)
        text = text.replace(old, new)
    return text


# A case with a parameter named route is one for each route.

# ---- serving ----


@case
def answers_and_leaves_nothing(t, route):
    pid = t.start()
    t.expect_answer()
    client = os.path.join(SOURCES, "client.py")
    asked = run(sys.executable, client, "--socket", t.socket, "--authkey-file", t.path("key"), "one", "two words")
    equal(asked.stdout, "bar\ngjb jbeqf\n")
    with t.connect() as one, t.connect() as other:
        one.send("first")
        other.send("second")
        equal((other.recv(), one.recv()), ("frpbaq", "svefg"))
    equal(os.stat(t.socket).st_mode & 0o777, 0o600)
    contains(read(t.log), "process %d serves" % pid)
    t.stop()
    contains(read(t.log), "process %d ends" % pid)


@case
def the_daemon_has_the_state_of_one(t, route):
    inherited, other_end = os.pipe()
    os.set_inheritable(inherited, True)
    os.mkdir(t.path("work"))
    os.mkfifo(t.log)
    with open(t.log, "rb+", buffering=0) as log:
        launched = subprocess.run(t.command("--directory", t.path("work")), close_fds=False)
        equal(launched.returncode, 0)
        contains(log.read(4096), b" serves\n")  # until then the agent is busy with being ready
    pid = int(read(t.pidfile))
    fds = os.path.join("/proc", str(pid), "fd")
    open_files = sorted(os.readlink(os.path.join(fds, fd)) for fd in os.listdir(fds))
    wanted = ["/dev/null", t.log, t.log, t.pidfile] + ([t.directory] if route == "--embed" else [])
    equal([name for name in open_files if not name.startswith("socket:")], sorted(wanted))
    equal(len(open_files), len(wanted) + 3)  # the clients' socket, and a pair that wakes the agent
    equal(os.readlink("/proc/%d/cwd" % pid), t.path("work"))
    fields = read("/proc/%d/stat" % pid).rpartition(") ")[2].split()
    equal(int(fields[4]), 0)  # no terminal
    equal(os.getsid(pid) in (pid, os.getsid(0)), False)
    contains(read("/proc/%d/status" % pid), "Umask:\t0022")
    contains(read("/proc/%d/limits" % pid), "Max core file size        1                    1")
    os.close(inherited)
    os.close(other_end)
    t.stop()
    os.unlink(t.log)


@case
def the_kernel_names_the_daemon_as_the_holder(t, route):
    pid = t.start()
    flock = struct.Struct("@hhqqi4x")
    with open(t.pidfile) as file:
        answer = fcntl.fcntl(file, fcntl.F_GETLK, flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        equal(flock.unpack(answer)[4], pid)
    t.stop()


@case
def a_message_that_is_not_text_costs_the_connection_only(t, route):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (t.path("harm"),)

    t.start()
    for message in (pickle.dumps(5), pickle.dumps(Harm()), b"\x80", b"", pickle.dumps("x" * (2 << 20))):
        with t.connect() as client:
            with contextlib.suppress(ConnectionError):
                client.send_bytes(message)
            try:
                raise AssertionError("%r was answered with %r" % (message[:40], client.recv()))
            except (EOFError, ConnectionError):
                pass
    equal("harm" in t.files(), False)
    t.expect_answer()
    t.stop()


@case
def a_wrong_key_is_refused(t, route):
    t.start()
    for key in (b"wrong", KEY + b"\n"):
        try:
            t.connect(key)
            raise AssertionError("accepted")
        except AuthenticationError:
            pass
    t.expect_answer()
    t.stop()


@case
def silent_peers_keep_nobody_waiting(t, route):
    t.start()
    strangers = [t.stranger() for _ in range(100)]
    t.expect_answer()
    t.stop()
    for stranger in strangers:
        stranger.close()


@case
def a_peer_that_does_not_authenticate_in_time_is_dismissed(t, route):
    t.start(agent=t.changed_agent(("AUTHENTICATION_SECONDS = 10", "AUTHENTICATION_SECONDS = 0.2")))
    with t.stranger() as stranger:
        while stranger.recv(4096):
            pass
    with t.connect() as client:
        with t.stranger() as stranger:
            while stranger.recv(4096):
                pass
        client.send("still here")
        equal(client.recv(), "fgvyy urer")
    t.stop()


@case
def who_has_authenticated_is_not_dismissed_for_strangers(t, route):
    t.start(agent=t.changed_agent(("PEERS = 64", "PEERS = 2")))
    with t.connect() as client:
        client.send("a")
        equal(client.recv(), "n")
        strangers = [t.stranger() for _ in range(5)]
        with t.connect() as other:
            other.send("b")
            equal(other.recv(), "o")
            with t.stranger() as surplus:
                equal(surplus.recv(1), b"")
            client.send("c")
            equal(client.recv(), "p")
    for stranger in strangers:
        stranger.close()
    t.stop()


@case
def runs_in_the_foreground(t, route):
    for number in (signal.SIGINT, signal.SIGTERM):
        command = [word for word in t.command("--foreground") if word not in ("--log", t.log)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            contains(process.stderr.readline(), "process %d serves" % process.pid)
            equal(read(t.pidfile), "%d\n" % process.pid)
            t.expect_answer()
            process.send_signal(number)
            contains(process.stderr.read(), "process %d ends" % process.pid)
        equal(process.returncode, 0)
        equal(t.files(), {"key"})


PROBE = """
import multiprocessing, os, sys
sys.path.insert(0, %r)
sys.dont_write_bytecode = True
import Agent

def child(queue):
    queue.put(sys.executable)

if __name__ == "__main__":
    options = Agent.read_options()
    Agent.keep_to_ourselves(options)
    Agent.Alarm().take_signals()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    with open(%r, "w") as file:
        print(sys.executable, queue.get(), sys.argv[0], file=file)
    process.join()
    os.system("ls -l /proc/self/fd >" + %r)
    Agent.remove(options.remove)
    Agent.say_ready(options)
"""


@case
def the_agent_has_a_whole_python_and_its_children_none_of_its_fds(t, route):
    probe = write(t.path("probe.py"), PROBE % (SOURCES, t.path("python"), t.path("fds")))
    equal((t.launch(agent=probe).stdout, read(t.log)), ("", ""))
    bury_all_but()
    ours, childs, script = read(t.path("python")).split()
    equal((ours, childs, script), (python_of_pylaunchd(), python_of_pylaunchd(), probe))
    for inherited in ("socket:", "agent.sock.pid", t.directory + "\n"):
        equal(inherited in read(t.path("fds")), False)


def python_of_pylaunchd():
    return run(PYLAUNCHD).stdout.partition("the Python to use (")[2].partition(")")[0]


@case
def a_process_forked_by_the_agent_removes_nothing(t, route):
    ready = "        say_ready(options)\n"
    fork = "        if os.fork() == 0:\n            __import__('ctypes').CDLL(None).exit(0)\n        os.wait()\n"
    t.start(agent=t.changed_agent((ready, fork + ready)))
    t.expect_answer()
    t.stop()


# ---- starts that are refused, and daemons that die ----


@case
def a_second_start_names_the_first(t, route):
    pid = t.start()
    t.fail("pylaunchd: pidfile_open: already running as process %d\n" % pid, alive=[pid])
    t.expect_answer()
    t.stop()


@case
def of_many_starts_at_once_one_wins(t, route):
    starts = [subprocess.Popen(t.command(), stderr=subprocess.PIPE, text=True) for _ in range(20)]
    complaints = [start.communicate()[1] for start in starts]
    equal(sorted(start.returncode for start in starts), [0] + 19 * [1])
    refusals = ("already running as process %s" % read(t.pidfile), "held by a start in progress")
    for complaint in filter(None, complaints):
        equal(any(refusal in complaint for refusal in refusals), True)
    equal(t.files(), {"agent.sock", "agent.sock.pid", "key", "log"})
    t.expect_answer()
    t.stop()


@case
def what_a_killed_daemon_left_is_taken_over(t, route):
    pid = t.start()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    equal({"agent.sock", "agent.sock.pid"} <= t.files(), True)
    t.start()
    t.expect_answer()
    t.stop()


@case
def a_start_is_refused_for_its_reason(t, route):
    t.fail("pylaunchd: chdir: No such file or directory\n", "--directory", t.path("no/such"))
    t.fail("pylaunchd: pidfile_open: No such file or directory\n", "--pidfile", t.path("no/such.pid"))
    t.fail("pylaunchd: open_streams: No such file or directory\n", "--log", t.path("no/such.log"))
    t.fail("no/such.sock: No such file or directory\n", "--socket", t.path("no/such.sock"))
    t.fail("File name too long\n", "--socket", t.path("s" * 100))
    t.fail("no-agent.py: No such file or directory\n", "--agent", t.path("no-agent.py"))
    t.fail("no-key: No such file or directory\n", "--authkey-file", t.path("no-key"))
    t.fail("usage:", "--no-such-option")
    t.fail("usage:", "surplus")
    t.fail("agent.sock: File exists\n", "--socket", write(t.path("agent.sock"), "precious"))
    equal(read(t.path("agent.sock")), "precious")


@case
def an_agent_that_does_not_come_up_fails_the_start(t, route):
    ended = "pylaunchd: ready: the process ended before it reported\n"
    serve = "        agent.alarm.take_signals()\n"
    t.fail(ended, agent=write(t.path("broken.py"), "this is not Python"))
    for death in ("raise OSError", "sys.exit()", "os.kill(os.getpid(), signal.SIGKILL)"):
        t.fail(ended, agent=t.changed_agent((serve, "        %s\n" % death)))
    write(t.path("key"), "\n")
    t.fail(ended)
    contains(read(t.log), "key is empty")


@case
def a_signal_during_the_start_waits_for_the_handlers(t, route):
    early = ("PEERS = 64", "PEERS = 64\nos.kill(os.getpid(), signal.SIGTERM)")
    t.fail("pylaunchd: ready: the process ended", agent=t.changed_agent(early))
    contains(read(t.log), " ends")


@case
def a_missing_python_is_named(t):
    t.fail("pylaunchd: ready: No such file or directory\n", "--python", "/no/such/python")
    contains(read(t.log), "/no/such/python: No such file or directory")


# ---- other machines ----


@case
def every_python_of_this_machine_serves(t):
    for minor in range(8, 14):
        found = shutil.which("python3.%d" % minor)
        real = found and run(found, "-c", "import sys; print(sys.executable)")
        if not real or real.returncode != 0:
            continue
        pid = t.start("--python", real.stdout.strip())
        equal(os.path.realpath("/proc/%d/exe" % pid), os.path.realpath(real.stdout.strip()))
        t.expect_answer()
        t.stop()


@case
def without_python_inside_the_other_route_works(t):
    out = t.path("out")
    make = ["make", "-s", "-C", os.path.join(ROOT, "examples"), "OUT=" + out, "EMBED=no"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = run(*make, "demo", env=environment)
    contains(made.stdout, "pylaunchd is built without Python inside: EMBED=no.\n")
    contains(made.stdout, "All of it is so.\n")
    equal(made.returncode, 0)
    program = os.path.join(out, "pylaunchd")
    refused = run(program, "--embed", "--socket", t.socket, "--authkey-file", t.path("key"))
    equal((refused.returncode, "usage:" in refused.stdout, "--embed  " in refused.stdout), (1, True, False))


@case
def a_python3_config_that_does_not_serve_is_named(t):
    def find_python(config):
        write(t.path("python3-config"), "#!/bin/sh\n" + config, 0o755)
        environment = dict(os.environ, PATH=t.directory + ":" + os.environ["PATH"])
        found = run(os.path.join(SOURCES, "find-python"), env=environment)
        equal((found.returncode, "EMBED_LDFLAGS" in found.stdout), (0, False))
        return found.stdout

    contains(find_python("exit 1\n"), "WITHOUT_EMBED = python3-config --embed does not run\n")
    contains(find_python("echo -lno_such_library\n"), "WITHOUT_EMBED = a program with the flags of python3-config does")


# ---- the demo ----


def run_demo(t, route, loader=PYLAUNCHD, tool=RDAEMON, starter=ACTIVATE, agent=(), script=()):
    """The demo, with changes to its agent and to itself."""
    os.rename(t.changed_agent(*agent), t.path("Agent.py"))
    write(t.path("demo"), change(read(os.path.join(SOURCES, "demo")), *script))
    return run(sys.executable, t.path("demo"), loader, tool, starter, route)


@case
def the_demo_passes(t, route):
    passed = run_demo(t, route)
    contains(passed.stdout, '"Hello, World" -> "Uryyb, Jbeyq"')
    contains(passed.stdout, "no process, pidfile, socket or lock is left")
    for action in ("start", "status", "signal USR1", "restart", "stop"):
        contains(passed.stdout, "$ rdaemon %s --pidfile tool.pid" % action)
    contains(passed.stdout, "no process, pidfile or socket is left")
    contains(passed.stdout, "$ activate -l ./agent.sock pylaunchd")
    contains(passed.stdout, "as nobody was here, it has ended")
    contains(passed.stdout, "no process or socket is left")
    equal(passed.returncode, 0)


def expect_not_so(t, complaint, route, **changes):
    if "not done after 2 s" in complaint:
        changes["script"] = [("SECONDS = 20", "SECONDS = 2")]
    failed = run_demo(t, route, **changes)
    contains(failed.stdout, "NOT SO:   " + complaint)
    contains(failed.stdout, "Not all of it is so.")
    equal(failed.returncode, 1)


SERVE = "        agent.serve()\n"
CHALLENGE = "        deliver_challenge(connection, self.authkey)\n"
COUNT = "        self.count = getattr(self, 'count', 0) + 1\n"
AGENTS_THAT_FAIL = {
    "the agent answers 'HELLO, WORLD'": ('codecs.encode(text, "rot13")', "text.upper()"),
    "a wrong key is accepted": (
        CHALLENGE,
        COUNT + "        self.authkey = self.authkey if self.count != 3 else b'wrong'\n" + CHALLENGE,
    ),
    "after a wrong key the agent does not answer": (
        '            logging.warning("a peer was dismissed: %r", error)\n',
        "            os._exit(1)\n",
    ),
    "a silent peer is not even asked": (CHALLENGE, COUNT + "        assert self.count != 5\n" + CHALLENGE),
    "keep silent: not done after 2 s": (
        "threading.Thread(target=self.attend, args=[peer]).start()",
        "self.attend(peer)",
    ),
    "the silent peer was not there any more": (
        "            if len(self.peers) >= PEERS:\n",
        "            if any(self.peers.values()):\n",
    ),
    "stop: not done after 2 s": ("(number, self.note)", "(number, signal.SIG_IGN)"),
    "the daemon ended with status 768": ("        agent.alarm.ignore_signals()\n", "        sys.exit(3)\n"),
    "files remain: agent.pid, agent.sock": ("        remove(options.remove)\n", "        os._exit(0)\n"),
    "after SIGUSR1 the log has": ("            self.served += 1\n", "            self.served += 2\n"),
    "wait until it is idle: not done after 2 s": ("return self.idle_seconds and idle", "return False"),
    "start by a connection: not done after 2 s": (SERVE, "        options.remove or sys.exit(3)\n" + SERVE),
    "processes remain: [(": (SERVE, "        subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3)\n" + SERVE),
}


@case
def the_demo_notices_an_agent_that_fails(t):
    for complaint, mutation in AGENTS_THAT_FAIL.items():
        expect_not_so(t, complaint, "--exec", agent=[mutation])


@case
def the_demo_notices_what_remains_on_the_way_of_exec(t):
    for remains, rest in (("agent.pid", "[:1]"), ("agent.sock", "[1:]")):
        mutation = ("remove(options.remove)", "remove(options.remove%s)" % rest)
        expect_not_so(t, "files remain: %s\n" % remains, "--exec", agent=[mutation])


@case
def the_demo_notices_a_lock_that_is_held(t):
    worker = (SERVE, "        if os.fork() == 0:\n            time.sleep(60)\n" + SERVE)
    unlooked = ("        expect_no_process(self.pid, self.adopted)\n        try:\n", "        try:\n")
    expect_not_so(t, "the lock of the pidfile is still held", "--exec", agent=[worker], script=[unlooked])


LOADERS_THAT_FAIL = {
    "the start failed: no": "echo no; exit 1",
    "the start prints hello": 'echo hello; exec "$real" "$@"',
    "FileNotFoundError": "exit 0",
    "the daemon is in the session of this terminal": '"$real" "$@" --foreground & until test -S "$socket"; do :; done',
    "a second start succeeds": 'test -s "$pidfile" || exec "$real" "$@"',
    "a second start says already running": 'test -s "$pidfile" || exec "$real" "$@"; echo already running; exit 1',
    "after a second start the agent does not answer": '"$real" "$@" || { rm "$socket"; echo already running as process $(cat "$pidfile"); exit 1; }',
    "a start in a directory that is not there succeeds": 'case "$*" in *no/such*) exit 0; esac; exec "$real" "$@"',
    "a start in a directory that is not there says failed": 'case "$*" in *no/such*) echo failed; exit 1; esac; exec "$real" "$@"',
    "files remain: other.left": 'case "$*" in *no/such*) touch "${socket%/*}/other.left"; esac; exec "$real" "$@"',
    "files remain: agent.sock.new": 'touch "$socket.new"; exec "$real" "$@"',
}


def around(t, program, script):
    """A program that runs the script instead, for which the real one is $real."""
    return write(t.path("around"), "#!/bin/sh\nreal=%s\n%s\n" % (program, script), 0o755)


@case
def the_demo_notices_a_loader_that_fails(t):
    for complaint, script in LOADERS_THAT_FAIL.items():
        expect_not_so(t, complaint, "--exec", loader=around(t, PYLAUNCHD, "socket=$5\npidfile=$7\n" + script))


TOOLS_THAT_FAIL = {
    "rdaemon start ends with 1": "exit 1",
    "rdaemon status ends with 3": 'case $1 in status) exit 3; esac; exec "$real" "$@"',
    "kill the agent: not done after 2 s": 'action=$1; shift; exec "$real" "$action" --respawn-delay-step 30 "$@"',
    "restart by the tool: not done after 2 s": 'case $1 in restart) exit 0; esac; exec "$real" "$@"',
    "rdaemon status ends with 0": 'case $1 in status) test -e tool.pid || exit 0; esac; exec "$real" "$@"',
    "files remain: tool.left": 'case $1 in stop) touch tool.left; esac; exec "$real" "$@"',
}


@case
def the_demo_notices_a_tool_that_fails(t):
    for complaint, script in TOOLS_THAT_FAIL.items():
        expect_not_so(t, complaint, "--exec", tool=around(t, RDAEMON, script))


STARTERS_THAT_FAIL = {
    "activate says": "exit 1",
    "activate ended with status 3": '"$real" "$@" & trap "kill $!; wait $!; exit 3" TERM; wait',
    "files remain: agent.left": 'touch agent.left; exec "$real" "$@"',
}


@case
def the_demo_notices_a_starter_that_fails(t):
    for complaint, script in STARTERS_THAT_FAIL.items():
        expect_not_so(t, complaint, "--exec", starter=around(t, ACTIVATE, script))


# ---- the plain daemon ----


@case
def the_plain_daemon_lives_and_ends(t):
    def launch():
        return run(os.path.join(PROGRAMS, "daemon"), t.path("pid"), t.path("fifo"), "1")

    os.mkfifo(t.path("fifo"))
    fifo = os.open(t.path("fifo"), os.O_RDWR)
    equal((launch().returncode, "pid" in t.files()), (0, True))
    pid = int(read(t.path("pid")))
    for _ in range(2):
        contains(os.read(fifo, 4096).decode(), "process %d is well\n" % pid)
    second = launch()
    equal((second.returncode, second.stdout), (1, "daemon: pidfile_open: already running as process %d\n" % pid))
    os.kill(pid, signal.SIGTERM)
    equal(os.waitpid(pid, 0)[1], signal.SIGTERM)
    equal("pid" in t.files(), False)
    os.close(fifo)
    equal(run(os.path.join(PROGRAMS, "daemon")).returncode, 1)


# ---- running them ----


def on_each_route(function):
    def on(route):
        def case_on_route(t):
            if route == "--embed" and "--embed  " not in run(PYLAUNCHD).stdout:
                raise Skip("no Python inside here")
            t.route = route
            function(t, route)

        case_on_route.__name__ = "%s_(%s)" % (function.__name__, route[2:])
        return case_on_route

    return [on("--exec"), on("--embed")]


def expand(function):
    return on_each_route(function) if "route" in inspect.signature(function).parameters else [function]


CASES[:] = [each for function in CASES for each in expand(function)]

if __name__ == "__main__":
    main(lambda directory: Case("--exec", directory))
