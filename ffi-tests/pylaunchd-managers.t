#!/usr/bin/env python3
"""examples/pylaunchd under those who start it on demand, each on both of its routes. TAP for prove(1).

LAUNCHD_LIBRARY is an archive with launchd's branch, for a launchd of the test's own.
"""

import contextlib
import os
import plistlib
import pwd
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "harness"))
from cases import Skip, case, children, contains, equal, main, read, require_root, run, until, write

ROOT = os.path.dirname(HERE)
PROGRAMS = os.environ.get("EXAMPLES", os.path.join(ROOT, "target", "examples"))
LAUNCHD_LIBRARY = os.environ.get("LAUNCHD_LIBRARY", os.path.join(ROOT, "target", "launchd", "librdaemon.a"))
PYLAUNCHD = os.path.join(PROGRAMS, "pylaunchd")
ACTIVATE = os.path.join(PROGRAMS, "activate")
SOURCES = os.path.join(ROOT, "examples", "pylaunchd")
KEY = b"a key for tests"
ROUTES = ["--exec"] + (["--embed"] if "--embed  " in run(PYLAUNCHD).stdout else [])
for variable in [name for name in os.environ if name.startswith("LISTEN_")] + ["NOTIFY_SOCKET"]:
    os.environ.pop(variable, None)
os.environ.update(LC_ALL="C", SYSTEMD_LOG_LEVEL="err")

# ---- what the cases are made of ----


class Fixture:
    """A directory with a key, and who is started in it."""

    def __init__(self, directory):
        self.directory = directory
        self.socket = self.path("agent.sock")
        self.log = self.path("log")
        self.key = write(self.path("key"), KEY.decode() + "\n")
        self.stack = contextlib.ExitStack()

    def path(self, name):
        return os.path.join(self.directory, name)

    def agent(self, route, *options, agent=os.path.join(SOURCES, "Agent.py"), loader=PYLAUNCHD):
        return [loader, route, "--agent", agent, "--authkey-file", self.key, *options]

    def changed_agent(self, old, new):
        text = read(os.path.join(SOURCES, "Agent.py"))
        equal(text.count(old), 1)
        return write(self.path("Changed.py"), text.replace(old, new))

    def manager(self, *words, address=None, **options):
        """Starts one, whose output is the log; the agent's output is, too, unless it is told otherwise."""
        return self.stack.enter_context(Manager(words, address or self.socket, self.log, options))

    def for_each_route(self):
        """Each time with no socket and no log."""
        for route in ROUTES:
            for name in {"agent.sock", "log"} & set(os.listdir(self.directory)):
                os.unlink(self.path(name))
            yield route

    def close(self):
        self.stack.close()


class Manager:
    def __init__(self, words, address, log, options):
        with open(log, "a") as output:
            streams = dict(stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            self.process = subprocess.Popen(words, **{**streams, **options})
        self.pid = self.process.pid
        self.address = address
        self.log = log
        self.listens = False

    def connect(self, key=KEY):
        """The first client waits until the manager listens."""
        while True:
            try:
                client = Client(self.address, authkey=key)
                self.listens = True
                return client
            except (FileNotFoundError, ConnectionRefusedError):
                if self.listens or self.process.poll() is not None:
                    raise
                time.sleep(0.002)

    def ask(self, text="Hello, World"):
        with self.connect() as client:
            client.send(text)
            return client.recv()

    def expect_answer(self):
        equal(self.ask(), "Uryyb, Jbeyq")

    def agents(self):
        return [pid for pid, name in children(self.pid)]

    def end(self, statuses=(0,)):
        """Ends it, and then the agents that it leaves, which end well."""
        self.process.terminate()
        status = self.process.wait()
        if status not in statuses:
            raise AssertionError("the status is %d: %s" % (status, read(self.log)))
        for pid, _ in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            equal(os.waitpid(pid, 0)[1], 0)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass  # those who are left are slain


class Receiver:
    """A service manager that listens to what it is told."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)

    def next(self):
        """The pid of who tells, and what."""
        message, ancillary, _, _ = self.socket.recvmsg(4096, 1024)
        pid = next(struct.unpack("iii", data)[0] for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS)
        return pid, message.decode().rstrip("\n")

    def silent(self):
        return not select.select([self.socket], [], [], 0)[0]


def installed(name):
    found = shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:/usr/local/sbin")
    if not found:
        raise Skip("there is no %s here" % name)
    return found


def socket_activate():
    return installed("systemd-socket-activate")


def us():
    return pwd.getpwuid(os.geteuid()).pw_name


def environment_of(pid):
    return read("/proc/%d/environ" % pid)


@case
def there_is_a_python_inside_to_be_tested(t):
    if "--embed" not in ROUTES:
        raise Skip("no Python inside here")


# ---- systemd ----


@case
def systemd_hands_over_a_socket(t):
    for route in t.for_each_route():
        manager = t.manager(socket_activate(), "-l", t.socket, *t.agent(route))
        manager.expect_answer()
        with manager.connect() as one, manager.connect() as other:
            one.send("first")
            other.send("second")
            equal((other.recv(), one.recv()), ("frpbaq", "svefg"))
        contains(read(t.log), "process %d serves" % manager.pid)  # that of the manager: it did not fork
        if route == "--exec":  # the kernel does not see what a program takes out of its own
            equal("LISTEN_" in environment_of(manager.pid), False)
        manager.end()
        equal(sorted(os.listdir(t.directory)), ["agent.sock", "key", "log"])


@case
def systemd_hands_over_an_abstract_socket(t):
    for route in t.for_each_route():
        name = "rdaemon-test-%d" % os.getpid()
        manager = t.manager(socket_activate(), "-l", "@" + name, *t.agent(route), address="\0" + name)
        manager.expect_answer()
        manager.end()


@case
def systemd_hands_over_a_tcp_socket(t):
    for route in t.for_each_route():
        port = free_port()
        manager = t.manager(socket_activate(), "-l", "127.0.0.1:%d" % port, *t.agent(route), address=("127.0.0.1", port))
        manager.expect_answer()
        manager.end()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@case
def systemd_hands_over_each_connection(t):
    for route in t.for_each_route():
        for options in ([], ["--inetd"]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(t.socket)
            manager = t.manager(socket_activate(), "--accept", *options, "-l", t.socket, *t.agent(route, "--log", t.log, *options))
            with manager.connect() as one, manager.connect() as other:
                for client in (other, one, other):
                    client.send("a")
                    equal(client.recv(), "n")
                equal(len(manager.agents()), 2)
            until(lambda: read(t.log).count(" ends\n") == 2)
            os.unlink(t.log)
            manager.end([-signal.SIGTERM])


@case
def systemd_hands_over_a_socket_as_inetd_does(t):
    for route in t.for_each_route():
        agent = t.agent(route, "--inetd", "--log", t.log)
        manager = t.manager(socket_activate(), "--inetd", "-l", t.socket, *agent)
        manager.expect_answer()
        manager.expect_answer()
        manager.end()


@case
def sigterm_ends_an_agent_with_clients(t):
    for route in t.for_each_route():
        for options in ([], ["--accept"]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(t.socket)
            manager = t.manager(socket_activate(), *options, "-l", t.socket, *t.agent(route))
            with manager.connect() as client:
                client.send("a")
                equal(client.recv(), "n")
                manager.end([-signal.SIGTERM] if options else [0])
                try:
                    raise AssertionError("the client got %r" % client.recv())
                except (EOFError, ConnectionError):
                    pass


KILLER = """
        def kill(frame, event, argument, calls=iter(range(1, 1000))):
            if next(calls) == %d:
                os.kill(os.getpid(), signal.SIGTERM)
        sys.settrace(kill)
"""


@case
def sigterm_ends_an_agent_whatever_it_calls(t):
    """A signal comes at the beginning of a call, that of a lock's methods too."""
    calls = "        agent.serve()\n"
    for number in range(1, 60, 2):
        agent = t.changed_agent(calls, KILLER % number + calls)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(t.socket)
        manager = t.manager(socket_activate(), "-l", t.socket, *t.agent("--exec", agent=agent))
        with contextlib.suppress(EOFError, ConnectionError), manager.connect() as client:
            client.send("a")
            client.recv()
        manager.end()


@case
def the_standard_streams_of_a_manager_are_left_alone(t):
    for route in t.for_each_route():
        pair = socket.socketpair()
        manager = t.manager(socket_activate(), "-l", t.socket, *t.agent(route), stdout=pair[1], stderr=pair[1])
        manager.expect_answer()
        fds = ["/proc/%d/fd/%d" % (manager.pid, fd) for fd in range(3)]
        theirs = "socket:[%d]" % os.fstat(pair[1].fileno()).st_ino
        equal([os.readlink(fd) for fd in fds], ["/dev/null", theirs, theirs])
        contains(pair[0].recv(4096).decode(), "process %d serves" % manager.pid)
        manager.end()


@case
def a_connection_ends_when_nobody_authenticates_in_time(t):
    agent = t.changed_agent("AUTHENTICATION_SECONDS = 10", "AUTHENTICATION_SECONDS = 0.2")
    for route in t.for_each_route():
        manager = t.manager(socket_activate(), "--accept", "-l", t.socket, *t.agent(route, agent=agent))
        with manager.connect(), socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(t.socket)
            while stranger.recv(4096):
                pass
        until(lambda: read(t.log).count(" ends\n") == 2)
        manager.end([-signal.SIGTERM])


@case
def what_cannot_be_served_is_refused(t):
    run_activated = (sys.executable, "-c", ACTIVATED)
    for route in t.for_each_route():
        command = t.agent(route)
        alone = run(*command)
        contains(alone.stdout, "no service manager hands over a socket: say --socket PATH")
        no_socket = run(*command, "--inetd")
        contains(no_socket.stdout, "the socket of the service manager: Socket operation on non-socket")
        two = run(*run_activated, "stream", "2", *command)
        contains(two.stdout, "the socket of the service manager: Argument list too long")
        for kind in ("dgram", "seqpacket"):
            other = run(*run_activated, kind, "1", *command)
            contains(other.stdout, "the socket is not one of streams")
            equal(other.returncode, 1)
        for seconds in ("-1", "x", "", "1x", "nan", "inf", "1e9"):
            bad = run(*command, "--idle-seconds", seconds)
            contains(bad.stdout, "pylaunchd: %s: Invalid argument" % seconds)
            equal(bad.returncode, 1)
        equal((alone.returncode, no_socket.returncode, two.returncode), (1, 1, 1))


# Becomes a program that was handed over so many unnamed sockets.
ACTIVATED = """
import os, socket, sys
kind, count = getattr(socket, "SOCK_" + sys.argv[1].upper()), int(sys.argv[2])
sockets = [socket.socket(socket.AF_UNIX, kind) for _ in range(count)]
for number, one in enumerate(sockets, 3):
    one.bind("")
    if kind != socket.SOCK_DGRAM:
        one.listen()
    os.dup2(one.fileno(), number) if one.fileno() != number else os.set_inheritable(number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.argv[3], sys.argv[3:])
"""


@case
def the_units_are_well_formed_and_name_what_there_is(t):
    analyze = installed("systemd-analyze")
    units = {}
    for name in ("pylaunchd.socket", "pylaunchd.service"):
        text = read(os.path.join(SOURCES, "systemd", name)).replace("/usr/local/lib/pylaunchd/pylaunchd", PYLAUNCHD)
        units[name] = write(t.path(name), text)
    for scope in ("--user", "--system"):
        environment = dict(os.environ, XDG_RUNTIME_DIR=t.directory)
        verified = run(analyze, scope, "verify", "--man=no", *units.values(), env=environment)
        equal((verified.stdout, verified.returncode), ("", 0))
    service = read(units["pylaunchd.service"]).replace("\\\n", " ")
    command = shlex.split(service.partition("ExecStart=")[2].splitlines()[0])
    command = [word.replace("%E/pylaunchd/key", t.key).replace("/usr/local/lib/pylaunchd", SOURCES) for word in command]
    manager = t.manager(socket_activate(), "-l", t.socket, "--fdname=agent", *command)
    manager.expect_answer()
    manager.end()


# ---- notification ----


def start_notifying(t, route, receiver, *options, **keywords):
    name = "NOTIFY_SOCKET=" + receiver
    return t.manager(socket_activate(), "-E", name, "-l", t.socket, *t.agent(route, *options, **keywords))


@case
def ready_is_said_when_the_agent_serves(t):
    for number, route in enumerate(t.for_each_route()):
        gate = t.path("gate%d" % number)
        os.mkfifo(gate)
        take = "        agent.alarm.take_signals()\n"
        agent = t.changed_agent(take, "        open(%r).read()\n" % gate + take)
        receiver = Receiver(t.path("notify%d" % number))
        manager = start_notifying(t, route, t.path("notify%d" % number), agent=agent)
        until(lambda: os.path.exists(t.socket))
        with socket.socket(socket.AF_UNIX) as first:
            until(lambda: first.connect_ex(t.socket) == 0)
            with open(gate, "w"):  # open when the agent reads it
                equal(receiver.silent(), True)
                equal(" serves" in read(t.log), False)
            equal(receiver.next(), (manager.pid, "READY=1"))
            manager.expect_answer()
        os.kill(manager.pid, signal.SIGUSR1)
        pid, status = receiver.next()
        equal(pid, manager.pid)
        contains(status, "STATUS=clients served: 1, here: ")
        manager.end()
        equal(receiver.next(), (manager.pid, "STOPPING=1"))
        equal(receiver.silent(), True)


@case
def an_abstract_notify_socket_serves(t):
    for route in t.for_each_route():
        name = "@rdaemon-notify-%s-%d" % (route[2:], os.getpid())
        receiver = Receiver(name)
        manager = start_notifying(t, route, name, "--idle-seconds", "0.1")
        manager.expect_answer()
        equal(receiver.next(), (manager.pid, "READY=1"))
        equal(receiver.next(), (manager.pid, "STOPPING=1"))
        equal(manager.process.wait(), 0)


@case
def an_agent_that_does_not_serve_never_says_ready(t):
    write(t.key, "\n")
    for route in t.for_each_route():
        receiver = Receiver(t.path("notify" + route))
        manager = start_notifying(t, route, t.path("notify" + route))
        until(lambda: os.path.exists(t.socket))
        with socket.socket(socket.AF_UNIX) as client:
            until(lambda: client.connect_ex(t.socket) == 0)
            equal(manager.process.wait(), 1)
        equal(receiver.next(), (manager.pid, "STOPPING=1"))
        equal(receiver.silent(), True)


@case
def a_notify_socket_where_nobody_is_does_not_matter(t):
    for route in t.for_each_route():
        for address in (t.path("nobody"), "relative", "/" + 200 * "x"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(t.socket)
            manager = start_notifying(t, route, address)
            manager.expect_answer()
            manager.end()


@case
def a_daemon_that_detaches_says_ready_too(t):
    for route in t.for_each_route():
        receiver = Receiver(t.path("notify" + route))
        environment = dict(os.environ, NOTIFY_SOCKET=t.path("notify" + route))
        started = run(*t.agent(route, "--socket", t.socket, "--log", t.log), env=environment)
        equal((started.stdout, started.returncode), ("", 0))
        pid = int(read(t.socket + ".pid"))
        equal(receiver.next(), (pid, "READY=1"))
        os.kill(pid, signal.SIGTERM)
        equal(os.waitpid(pid, 0)[1], 0)
        equal(receiver.next(), (pid, "STOPPING=1"))


# ---- idle ----


def activate(t, *agent):
    return t.manager(ACTIVATE, "-l", t.socket, *agent)


def starts(t):
    return read(t.log).count("started as process")


@case
def an_idle_agent_ends_and_the_next_connection_starts_another(t):
    for route in t.for_each_route():
        manager = activate(t, *t.agent(route, "--idle-seconds", "0.2"))
        for number in range(1, 4):
            manager.expect_answer()
            equal(starts(t), number)
            until(lambda: read(t.log).count("exited with 0") == number)
        manager.end()
        equal(os.path.exists(t.socket), False)


@case
def an_agent_with_a_client_is_not_idle(t):
    for route in t.for_each_route():
        manager = activate(t, *t.agent(route, "--idle-seconds", "0.1"))
        with manager.connect() as client:
            (pid,) = manager.agents()
            process = os.pidfd_open(pid)
            equal(select.select([process], [], [], 0.5)[0], [])
            client.send("a")
            equal(client.recv(), "n")
        equal(select.select([process], [], [])[0], [process])
        os.close(process)
        manager.end()
        equal(starts(t), 1)


@case
def an_agent_that_has_not_been_idle_for_so_long_stays(t):
    for route in t.for_each_route():
        for options in (["--idle-seconds", "0"], ["--idle-seconds", "600"]):
            manager = activate(t, *t.agent(route, *options))
            manager.expect_answer()
            (pid,) = manager.agents()
            process = os.pidfd_open(pid)
            equal(select.select([process], [], [], 0.2)[0], [])
            os.close(process)
            manager.end()


@case
def who_connects_while_an_idle_agent_ends_is_answered(t):
    serve = "        agent.serve()\n"
    for route in t.for_each_route():
        gate = t.path("gate" + route)
        os.mkfifo(gate)
        agent = t.changed_agent(serve, serve + "        open(%r).read()\n" % gate)
        manager = activate(t, *t.agent(route, "--idle-seconds", "0.1", agent=agent))
        manager.expect_answer()
        with socket.socket(socket.AF_UNIX) as client:
            with open(gate, "w"):  # from here on the agent is about to end
                client.connect(t.socket)
                equal(starts(t), 1)
            equal(len(client.recv(4)), 4)
            equal(starts(t), 2)
        manager.end()


# ---- many clients ----


class Crowd:
    """Clients, so many at once. Every fifth has a wrong key, every fifth says nothing."""

    def __init__(self, manager, count, at_once=20):
        self.manager = manager
        self.turn = iter(range(count))
        self.lock = threading.Lock()
        self.answered, self.refused, self.silent, self.errors = 0, 0, [], []
        threads = [threading.Thread(target=self.come) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for peer in self.silent:
            peer.close()
        equal(self.errors, [])
        equal((self.answered, self.refused, len(self.silent)), (count - 2 * (count // 5), count // 5, count // 5))

    def come(self):
        while True:
            with self.lock:
                number = next(self.turn, None)
            if number is None:
                return
            try:
                self.behave(number)
            except Exception as error:
                self.errors.append("client %d: %r" % (number, error))

    def behave(self, number):
        if number % 5 == 3:
            try:
                self.manager.connect(b"wrong").close()
            except AuthenticationError:
                with self.lock:
                    self.refused += 1
        elif number % 5 == 4:
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(self.manager.address)
            with self.lock:
                self.silent.append(peer)
        else:
            equal(self.manager.ask("number %d" % number), "ahzore %d" % number)
            with self.lock:
                self.answered += 1


@case
def every_honest_client_of_a_crowd_is_answered(t):
    for route in t.for_each_route():
        manager = activate(t, *t.agent(route, "--idle-seconds", "600"))
        manager.expect_answer()
        Crowd(manager, 200)
        (pid,) = manager.agents()
        os.kill(pid, signal.SIGUSR1)
        until(lambda: "clients served: 121," in read(t.log))
        manager.end()
        equal(starts(t), 1)


# ---- inetd ----


def start_inetd(t, wait, *agent):
    """Its line is split at spaces; the program's name is its first argument."""
    require_root()
    inetd = installed("inetd")
    line = [t.socket, "stream", "unix", wait, us(), agent[0], *agent]
    return t.manager(inetd, "-i", write(t.path("inetd.conf"), " ".join(line) + "\n"))


@case
def inetd_waits_until_the_agent_is_idle(t):
    for route in t.for_each_route():
        manager = start_inetd(t, "wait", *t.agent(route, "--inetd", "--idle-seconds", "0.3", "--log", t.log))
        for number in range(1, 4):
            with manager.connect() as one, manager.connect() as other:
                one.send("a")
                other.send("b")
                equal((other.recv(), one.recv()), ("o", "n"))
            until(lambda: read(t.log).count(" ends\n") == number)
            equal(read(t.log).count(" serves\n"), number)
        manager.end()


@case
def a_crowd_of_inetd_is_answered(t):
    for route in t.for_each_route():
        manager = start_inetd(t, "wait", *t.agent(route, "--inetd", "--log", t.log))
        manager.expect_answer()
        Crowd(manager, 200)
        equal(read(t.log).count(" serves\n"), 1)
        manager.end()


@case
def inetd_starts_an_agent_for_each_connection(t):
    for route in t.for_each_route():
        manager = start_inetd(t, "nowait", *t.agent(route, "--inetd", "--log", t.log))
        manager.expect_answer()
        Crowd(manager, 20, at_once=10)
        until(lambda: read(t.log).count(" ends\n") == 21)
        manager.end()


# ---- s6 ----


@case
def s6_starts_an_agent_for_each_connection(t):
    server = installed("s6-ipcserver")
    for route in t.for_each_route():
        manager = t.manager(server, t.socket, *t.agent(route, "--inetd", "--log", t.log))
        manager.expect_answer()
        manager.expect_answer()
        until(lambda: read(t.log).count(" ends\n") == 2)
        manager.end()


@case
def s6_hands_over_a_socket(t):
    binder = installed("s6-ipcserver-socketbinder")
    for route in t.for_each_route():
        manager = t.manager(binder, "-B", t.socket, *t.agent(route, "--inetd", "--log", t.log))
        manager.expect_answer()
        manager.end()


# ---- launchd ----

# Does as the real one as to what is remembered, and tells what it was asked.
LAUNCHCTL = """#!/bin/sh
printf '%s\\n' "$*" >>"$LAUNCHCTL_SAID"
loaded=$LAUNCHCTL_SAID.loaded
case "$LAUNCHCTL_AGE $1" in
*" list") test -e "$loaded" ;;
new*bootstrap) test ! -e "$loaded" && touch "$loaded" ;;
new*bootout) test -e "$loaded" && rm "$loaded" ;;
old*" load") touch "$loaded" ;;
old*" unload") rm "$loaded" ;;
broken*" load") ;;
*) echo "Unrecognized subcommand: $1" >&2; exit 1 ;;
esac
"""


class Home:
    """A user's, with a launchctl."""

    def __init__(self, t, name, age="new"):
        self.home = t.path(name)
        self.folder = os.path.join(self.home, "Library", "Application Support", "PyLaunchd")
        self.plist = os.path.join(self.home, "Library", "LaunchAgents", "local.pylaunchd.plist")
        self.said = t.path("said")
        os.makedirs(self.home)
        os.makedirs(t.path("bin"), exist_ok=True)
        write(t.path("bin/launchctl"), LAUNCHCTL, 0o755)
        path = t.path("bin") + ":" + os.environ["PATH"]
        self.environment = dict(os.environ, HOME=self.home, PATH=path, LAUNCHCTL_SAID=self.said, LAUNCHCTL_AGE=age)
        self.environment["PYLAUNCHD"] = PYLAUNCHD

    def run(self, *options, **changes):
        write(self.said, "")
        script = os.path.join(SOURCES, "install.sh")
        return run("sh", script, *options, env={**self.environment, **changes})

    def commands(self):
        return [line for line in read(self.said).splitlines() if not line.startswith("list ")]

    def job(self):
        with open(self.plist, "rb") as file:
            return plistlib.load(file)

    def files(self):
        return sorted(os.path.join(at, name) for at, _, names in os.walk(self.home) for name in names)


@case
def install_sh_installs_what_serves_and_removes_it(t):
    home = Home(t, "A & <B> | \\1 's")
    installed_now = home.run()
    equal(installed_now.returncode, 0)
    contains(installed_now.stdout, "python3 client.py --socket ")
    equal(home.commands(), ["bootstrap gui/%d %s" % (os.getuid(), home.plist)])
    expected = [os.path.join(home.folder, name) for name in ("Agent.py", "key", "pylaunchd")]
    equal(home.files(), sorted(expected + [home.plist]))
    job = home.job()
    equal(sorted(job), ["Label", "ProgramArguments", "Sockets", "StandardErrorPath"])
    path = os.path.join(home.folder, "agent.sock")
    equal(job["Sockets"], {"agent": {"SockPathName": path, "SockPathMode": 0o600}})
    equal(job["Label"], "local.pylaunchd")
    equal(os.stat(os.path.join(home.folder, "key")).st_mode & 0o777, 0o600)
    with open(os.path.join(home.folder, "key"), "rb") as file:
        key = file.read()
    equal(len(key), 64)
    manager = t.manager(ACTIVATE, "-l", path, *job["ProgramArguments"], address=path)
    with manager.connect(key) as client:
        client.send("a")
        equal(client.recv(), "n")
    manager.end()
    equal(home.run("--uninstall").returncode, 0)
    equal(home.commands(), ["bootout gui/%d/local.pylaunchd" % os.getuid()])
    equal((home.files(), os.path.exists(home.folder)), ([], False))


@case
def install_sh_installs_anew_with_the_same_key(t):
    home = Home(t, "home")
    equal(home.run().returncode, 0)
    key = read(os.path.join(home.folder, "key"))
    equal(home.run().returncode, 0)
    domain = "gui/%d" % os.getuid()
    equal(home.commands(), ["bootout %s/local.pylaunchd" % domain, "bootstrap %s %s" % (domain, home.plist)])
    equal(read(os.path.join(home.folder, "key")), key)


@case
def install_sh_falls_back_to_load(t):
    home = Home(t, "home", age="old")
    equal(home.run().returncode, 0)
    equal(home.commands()[1:], ["load " + home.plist])
    equal(home.run("--uninstall").returncode, 0)
    equal(home.commands()[1:], ["unload " + home.plist])
    equal(home.run("--uninstall").returncode, 0)
    equal((home.commands(), home.files()), ([], []))


@case
def install_sh_says_why_it_fails(t):
    home = Home(t, "home", age="broken")
    for words, environment, complaint in (
        ([], {}, "install.sh: local.pylaunchd cannot be loaded"),
        ([], {"PYLAUNCHD": t.path("none")}, "none is not there: make examples builds it"),
        ([], {"HOME": t.path("h" * 80)}, "agent.sock is too long for a socket"),
        (["--no-such-option"], {}, "usage: install.sh [--uninstall]"),
        (["--uninstall", "surplus"], {}, "usage: install.sh [--uninstall]"),
    ):
        failed = home.run(*words, **environment)
        contains(failed.stdout, complaint)
        equal(failed.returncode, 1)


@case
def install_sh_leaves_what_is_not_its_own(t):
    home = Home(t, "home")
    equal(home.run().returncode, 0)
    write(os.path.join(home.folder, "notes"), "precious")
    home.run("--uninstall")
    equal(home.files(), [os.path.join(home.folder, "notes")])


# As launchd: the socket of the name agent is LAUNCHD_FD.
LAUNCHD = """
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int launch_activate_socket(const char *name, int **fds, size_t *count);

int launch_activate_socket(const char *name, int **fds, size_t *count) {
    const char *fd = getenv("LAUNCHD_FD");
    if (!fd)
        return ESRCH;
    if (strcmp(name, "agent") != 0)
        return ENOENT;
    *fds = malloc(sizeof **fds);
    **fds = atoi(fd);
    *count = 1;
    return 0;
}
"""


@case
def launchd_hands_over_a_socket_by_its_name(t):
    if not os.path.exists(LAUNCHD_LIBRARY):
        raise Skip("there is no %s" % LAUNCHD_LIBRARY)
    out = t.path("out")
    os.mkdir(out)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    compiled = run(*compiler, "-c", "-o", t.path("launchd.o"), write(t.path("launchd.c"), LAUNCHD))
    equal((compiled.stdout, compiled.returncode), ("", 0))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    words = ["OUT=" + out, "LIBRARY=" + LAUNCHD_LIBRARY, "LDFLAGS=" + t.path("launchd.o"), out + "/pylaunchd"]
    made = run("make", "-s", "-C", os.path.join(ROOT, "examples"), *words, env=environment)
    equal(made.returncode, 0)
    for route in t.for_each_route():
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(t.socket)
            listener.listen()
            environment = dict(os.environ, LAUNCHD_FD=str(listener.fileno()))
            agent = t.agent(route, "--idle-seconds", "0.2", loader=out + "/pylaunchd")
            for _ in range(2):
                manager = t.manager(*agent, env=environment, pass_fds=[listener.fileno()])
                manager.expect_answer()
                equal(manager.process.wait(), 0)
                contains(read(t.log), "process %d ends" % manager.pid)
        equal(os.path.exists(t.socket), True)


if __name__ == "__main__":
    main(Fixture)
