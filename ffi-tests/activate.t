#!/usr/bin/env python3
"""examples/activate.c: programs that it starts, and who connects to them. TAP for prove(1)."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "harness"))
from cases import Skip, case, children, contains, equal, main, open_files_of, read, run, until, write

PROGRAMS = os.environ.get("EXAMPLES", os.path.join(os.path.dirname(HERE), "target", "examples"))
ACTIVATE = os.path.join(PROGRAMS, "activate")
PYTHON = sys.executable
os.environ["LC_ALL"] = "C"

# ---- what the cases are made of ----

# Answers each line with its pid, the number of the socket, and the line in ROT13. "exit 3" is done. It ends when
# nobody has connected for so many seconds.
SERVER = """
import codecs, os, select, socket, sys
listeners = [socket.socket(fileno=fd) for fd in range(3, 3 + int(os.environ["LISTEN_FDS"]))]
while True:
    ready = select.select(listeners, [], [], float(sys.argv[1]))[0]
    if not ready:
        sys.exit(0)
    for listener in ready:
        with listener.accept()[0] as connection, connection.makefile("rw") as file:
            line = file.readline()[:-1]
            file.write("%d %d %s\\n" % (os.getpid(), listener.fileno(), codecs.encode(line, "rot13")))
        if line.startswith("exit "):
            sys.exit(int(line[5:]))
"""


def server(idle=600):
    return (PYTHON, "-c", SERVER, str(idle))


class Fixture:
    """A directory, and a starter."""

    def __init__(self, directory):
        self.directory = directory
        self.socket = self.path("socket")
        self.stack = contextlib.ExitStack()

    def path(self, name):
        return os.path.join(self.directory, name)

    def activate(self, *words, **options):
        return self.stack.enter_context(Activate(words, options))

    def connect(self, address=None):
        return self.stack.enter_context(Client(address or self.socket))

    def script(self, name, text):
        return write(self.path(name), text, 0o755)

    def close(self):
        self.stack.close()


class Activate:
    """The starter, which listens by now. `said` are the lines that the program has written."""

    def __init__(self, words, options):
        streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.process = subprocess.Popen((ACTIVATE, *words), **streams, **options)
        self.pid = self.process.pid
        self.said = self.process.stdout
        for _ in range(sum(word in ("-l", "--listen") for word in words)):
            self.expect("listening on")

    def expect(self, text):
        line = self.process.stderr.readline()
        contains(line, text)
        return line

    def started(self):
        """Returns the pid of the program that is started next."""
        return int(self.expect("started as process").rpartition(" ")[2])

    def end(self, number=signal.SIGTERM):
        """Ends it, which must succeed; returns what it has said since."""
        self.process.send_signal(number)
        said = self.process.stderr.read()
        equal(self.process.wait(), 0)
        return said

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdout.close()
        self.process.stderr.close()


class Client:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX) if isinstance(address, str) else socket.socket(address[0])
        self.socket.connect(address if isinstance(address, str) else address[1])
        self.file = self.socket.makefile("rw")

    def ask(self, line):
        """Returns the pid of who answers, and which socket he has."""
        self.say(line)
        return self.answer(line)

    def say(self, line):
        self.file.write(line + "\n")
        self.file.flush()

    def answer(self, line):
        pid, fd, said = self.file.readline()[:-1].split(" ", 2)
        equal(said, line.translate(ROT13))
        return int(pid), int(fd)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()
        self.socket.close()


LETTERS = "abcdefghijklmnopqrstuvwxyz"
ROT13 = str.maketrans(LETTERS, LETTERS[13:] + LETTERS[:13])

# ---- what the kernel knows ----


def loaded(pid):
    """Waits until the kernel has done all that belongs to execve(2), of which closing fds is not the last."""
    return until(lambda: read("/proc/%d/environ" % pid))


def environment_of(pid):
    return dict(word.split("=", 1) for word in loaded(pid).split("\0")[:-1])


def listen_variables_of(pid):
    return {name: value for name, value in environment_of(pid).items() if name.startswith("LISTEN")}


def seconds(ticks):
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def unix_listener(path):
    """As /proc/PID/fd names the socket that listens there; None: there is none."""
    lines = [line.split() for line in read("/proc/net/unix").splitlines()[1:]]
    inodes = [fields[6] for fields in lines if fields[3] == "00010000" and fields[7:] == [path]]
    return "socket:[%s]" % inodes[0] if inodes else None


def tcp_listeners(pid, table="tcp"):
    """The address and the port, in hexadecimal and in host order, and the file of each that the process has."""
    files = open_files_of(pid).values()
    lines = [line.split() for line in read("/proc/net/" + table).splitlines()[1:]]
    found = [(fields[1].split(":"), "socket:[%s]" % fields[9]) for fields in lines if fields[3] == "0A"]
    return [(address, int(port, 16), file) for (address, port), file in found if file in files]


def loopback(pid):
    ((address, port, file),) = tcp_listeners(pid)
    return (socket.AF_INET, ("127.0.0.1", port)), file


# ---- on demand ----


@case
def the_first_connection_starts_the_program_and_is_answered_by_it(t):
    starter = t.activate("-l", t.socket, *server())
    equal(children(starter.pid), [])
    client = t.connect()
    pid = starter.started()
    equal(client.ask("first"), (pid, 3))
    equal([child for child, _ in children(starter.pid)], [pid])
    equal(t.connect().ask("second"), (pid, 3))
    contains(starter.end(), "process %d was killed by signal 15\n" % pid)


@case
def one_that_has_ended_is_started_again_by_the_next_connection_only(t):
    starter = t.activate("-l", t.socket, *server(idle=0.05))
    listener = unix_listener(t.socket)
    pids = []
    for _ in range(3):
        client = t.connect()
        pids.append(starter.started())
        equal(client.ask("hello"), (pids[-1], 3))
        starter.expect("process %d exited with 0\n" % pids[-1])
        equal(children(starter.pid), [])
    equal(len(set(pids)), 3)
    equal(unix_listener(t.socket), listener)
    equal(starter.end(), "")


@case
def a_connection_that_comes_before_the_end_is_answered_after_it(t):
    starter = t.activate("-l", t.socket, *server())
    first, second = t.connect(), t.connect()
    second.say("patience")
    equal(first.ask("exit 0"), (starter.started(), 3))
    starter.expect("exited with 0")
    equal(second.answer("patience"), (starter.started(), 3))
    starter.end()


@case
def fifty_clients_at_once_are_answered(t):
    starter = t.activate("-l", t.socket, *server())
    clients = [t.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.say("client %d" % number)
    pid = starter.started()
    for number, client in enumerate(clients):
        equal(client.answer("client %d" % number), (pid, 3))
    starter.end()


# ---- what the program gets ----


@case
def listen_pid_is_the_pid_of_each_program_anew(t):
    starter = t.activate("-l", t.socket, *server())
    for _ in range(2):
        client = t.connect()
        pid = starter.started()
        equal(listen_variables_of(pid), {"LISTEN_PID": str(pid), "LISTEN_FDS": "1"})
        equal(client.ask("exit 0"), (pid, 3))
        starter.expect("exited with 0")
    starter.end()


@case
def sockets_have_numbers_and_names_in_their_order(t):
    paths = [t.path(name) for name in ("b", "a")]
    starter = t.activate("-l", paths[0], "--listen", "0", "-l", paths[1], "--fdname", "web:admin:web", *server())
    address, tcp = loopback(starter.pid)
    client = t.connect(address)
    pid = starter.started()
    wanted = {"LISTEN_PID": str(pid), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web:admin:web"}
    equal(listen_variables_of(pid), wanted)
    equal(client.ask("one"), (pid, 4))
    equal(t.connect(paths[0]).ask("two"), (pid, 3))
    equal(t.connect(paths[1]).ask("three"), (pid, 5))
    files = open_files_of(pid)
    equal([files[fd] for fd in (3, 4, 5)], [unix_listener(paths[0]), tcp, unix_listener(paths[1])])
    starter.end()


@case
def the_program_has_no_other_fds_and_default_signals(t):
    inherited, other_end = os.pipe()
    with os.fdopen(inherited), os.fdopen(other_end):
        starter = t.activate("-l", t.socket, "sleep", "600", pass_fds=[inherited])
        contains(open_files_of(starter.pid), inherited)
        t.connect()
        pid = starter.started()
        ours = open_files_of(starter.pid)
        wanted = {0: ours[0], 1: ours[1], 2: ours[2], 3: unix_listener(t.socket)}
        loaded(pid)
        until(lambda: open_files_of(pid) == wanted)
        status = dict(re.findall(r"^(\w+):\t(.*)$", read("/proc/%d/status" % pid), re.MULTILINE))
        equal([int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")], [0, 0, 0])
        starter.end()


@case
def the_environment_is_passed_on_but_for_what_was_meant_for_the_starter(t):
    given = {"LISTEN_PID": "1", "LISTEN_PIDFDID": "7", "LISTEN_FDS": "9", "LISTEN_FDNAMES": "old", "MINE": "=a b"}
    for options in (), ("--inetd",):
        starter = t.activate("-l", t.socket, *options, "sleep", "600", env={**os.environ, **given})
        t.connect()
        pid = starter.started()
        listen = {} if options else {"LISTEN_PID": str(pid), "LISTEN_FDS": "1"}
        equal(listen_variables_of(pid), listen)
        equal(environment_of(pid), {**os.environ, "MINE": "=a b", **listen})
        starter.end()


@case
def for_inetd_the_socket_is_standard_input_and_output(t):
    program = "import socket; c = socket.socket(fileno=0).accept()[0]; c.sendall(c.recv(99).upper())"
    starter = t.activate("-l", t.socket, "--inetd", PYTHON, "-c", program)
    client = t.connect()
    files = open_files_of(starter.started())
    equal((files[0], files[1]), 2 * (unix_listener(t.socket),))
    equal(files[2], open_files_of(starter.pid)[2])
    client.say("hello")
    equal(client.file.readline(), "HELLO\n")
    starter.expect("exited with 0")
    starter.end()


@case
def a_starter_without_standard_streams_has_no_socket_in_their_place(t):
    words = [ACTIVATE, "-l", t.socket, *server()]
    process = subprocess.Popen(("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words))
    until(lambda: unix_listener(t.socket))
    pid, fd = t.connect().ask("hello")
    equal(fd, 3)
    equal([open_files_of(pid)[fd] for fd in range(3)], 3 * ["/dev/null"])
    process.terminate()
    equal(process.wait(), 0)


# ---- others that take what it hands over ----


@case
def rdaemon_listen_finds_the_sockets_by_their_names(t):
    paths = [t.path(name) for name in ("web", "admin")]
    taker = os.path.join(PROGRAMS, "launchd-listen")
    words = ("-l", paths[0], "-l", paths[1], "--fdname", "web:admin", "--", taker, "admin", "--")
    starter = t.activate(*words, *server())
    client = t.connect(paths[1])
    equal(client.ask("hello"), (starter.started(), 3))
    starter.end()


@case
def a_server_of_systemd_ends_when_it_is_idle_and_is_started_again(t):
    proxy = "/lib/systemd/systemd-socket-proxyd"
    if not os.path.exists(proxy):
        raise Skip("no %s here" % proxy)
    with socket.create_server(("127.0.0.1", 0)) as backend:
        address = "127.0.0.1:%d" % backend.getsockname()[1]
        starter = t.activate("-l", t.socket, proxy, "--exit-idle-time=0.1s", address)
        for _ in range(2):
            client = t.connect()
            pid = starter.started()
            client.say("through")
            with backend.accept()[0] as connection:
                equal(connection.recv(99), b"through\n")
            client.socket.shutdown(socket.SHUT_WR)
            equal(client.file.readline(), "")
            starter.expect("process %d exited with 0\n" % pid)
        starter.end()


# ---- addresses ----


@case
def a_port_alone_is_for_this_machine_only(t):
    starter = t.activate("-l", "0", *server())
    equal([address for address, _, _ in tcp_listeners(starter.pid)], ["0100007F"])
    equal(tcp_listeners(starter.pid, "tcp6"), [])
    address, file = loopback(starter.pid)
    pid, fd = t.connect(address).ask("hello")
    equal(open_files_of(pid)[fd], file)
    starter.end()


@case
def a_host_may_be_named(t):
    for host, wanted in ("127.0.0.2", "0200007F"), ("0.0.0.0", "00000000"), ("[127.0.0.3]", "0300007F"):
        starter = t.activate("-l", host + ":0", *server())
        equal([address for address, _, _ in tcp_listeners(starter.pid)], [wanted])
        starter.end()


@case
def ipv6_stands_in_brackets(t):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        raise Skip("no IPv6 here: %s" % error)
    starter = t.activate("-l", "[::1]:0", *server())
    ((_, port, _),) = tcp_listeners(starter.pid, "tcp6")
    client = t.connect((socket.AF_INET6, ("::1", port)))
    equal(client.ask("hello"), (starter.started(), 3))
    starter.end()


@case
def abstract_unix_addresses(t):
    name = "@rdaemon-activate-%d" % os.getpid()
    starter = t.activate("-l", name, *server())
    client = t.connect("\0" + name[1:])
    pid = starter.started()
    equal(client.ask("hello"), (pid, 3))
    equal(open_files_of(pid)[3], unix_listener(name))
    starter.end()


@case
def a_port_can_be_listened_at_again_at_once(t):
    starter = t.activate("-l", "0", *server())
    address, _ = loopback(starter.pid)
    t.connect(address).ask("hello")  # whose connection the server closes first, and so has in TIME_WAIT
    starter.end()
    starter = t.activate("-l", str(address[1][1]), *server())
    t.connect(address).ask("hello")
    starter.end()


# ---- errors ----

LONG = "/" + 200 * "x"
USAGE = [
    ("usage: activate -l ADDRESS",),
    ("usage: activate -l ADDRESS", "true"),
    ("usage: activate -l ADDRESS", "-l", "./s"),
    ("activate: unrecognized option '--nope'", "--nope"),
    ("activate: option requires an argument", "-l"),
    ("usage: activate -l ADDRESS", *(65 * ("-l", "0")), "true"),
    ("activate: a:b: not as many names as sockets", "-l", "./s", "--fdname", "a:b", "true"),
    ("activate: a: not as many names as sockets", "-l", "./s", "-l", "./r", "--fdname", "a", "true"),
    ("activate: --inetd: for one socket", "-l", "./s", "-l", "./r", "--inetd", "true"),
    ("activate: --inetd: for one socket", "-l", "./s", "--inetd", "--fdname", "a", "true"),
    ("activate: no-such-program: No such file or directory", "-l", "./s", "no-such-program"),
    ("activate: ./plain: No such file or directory", "-l", "./s", "./plain"),
]
BAD_ADDRESSES = {
    "": "neither a path nor a port",
    "name": "neither a path nor a port",
    "-1": "neither a path nor a port",
    "65536": "neither a path nor a port",
    "99999999999999999999": "neither a path nor a port",
    ":80": "neither a path nor a port",
    "[]:80": "neither a path nor a port",
    "127.0.0.1:": "neither a path nor a port",
    "127.0.0.1:http": "neither a path nor a port",
    "[::1]": "neither a path nor a port",
    "300.0.0.1:80": "",
    "192.0.2.1:0": "Cannot assign requested address",
    "./no/such/directory": "No such file or directory",
    ".": "Address already in use",
    "./plain": "Address already in use",
    LONG: "File name too long",
    "@" + LONG: "File name too long",
}


def fails(t, says, *words):
    done = run(ACTIVATE, *words, cwd=t.directory)
    contains(done.stdout, says)
    equal((done.returncode, os.listdir(t.directory)), (1, ["plain"]))


@case
def bad_arguments_are_named_and_nothing_is_left(t):
    write(t.path("plain"), "")
    for says, *words in USAGE:
        fails(t, says, *words)


@case
def bad_addresses_are_named_and_the_sockets_before_them_removed(t):
    write(t.path("plain"), "")
    for address, reason in BAD_ADDRESSES.items():
        fails(t, "activate: %s: %s" % (address, reason), "-l", "./s", "-l", address, "true")


@case
def an_address_in_use_is_refused_and_its_owner_stays(t):
    starter = t.activate("-l", t.socket, "-l", "0", *server())
    address, _ = loopback(starter.pid)
    for text in t.socket, str(address[1][1]):
        done = run(ACTIVATE, "-l", text, "true")
        equal((done.returncode, done.stdout), (1, "activate: %s: Address already in use\n" % text))
    pid, _ = t.connect().ask("hello")
    equal(t.connect(address).ask("hello"), (pid, 4))
    starter.end()


TELL_START = "exec cut -d ' ' -f 22 /proc/$$/stat"


@case
def each_failure_in_a_row_makes_the_pause_longer(t):
    starter = t.activate("-l", t.socket, "sh", "-c", "(%s); exit 3" % TELL_START)
    t.connect()
    starts = []
    for pause in 500, 1000:
        pid = starter.started()
        starter.expect("process %d exited with 3\n" % pid)
        starter.expect("no two starts within %d ms\n" % pause)
        starts.append(seconds(starter.said.readline()))
    equal(starts[1] - starts[0] > 0.25, True)  # the first one may have been held up
    equal(starter.end(), "")


@case
def success_ends_a_row_of_failures(t):
    os.mkfifo(t.path("status"))
    script = t.script("script", "#!/bin/sh\nread status <%s\nexit $status\n" % t.path("status"))
    starter = t.activate("-l", t.socket, script)
    t.connect()
    for status in 1, 0, 1:
        starter.started()
        with open(t.path("status"), "w") as fifo:
            fifo.write("%d\n" % status)
        starter.expect("exited with %d\n" % status)
        if status:
            starter.expect("no two starts within 500 ms\n")
    equal(starter.end(), "")


@case
def one_that_succeeds_but_accepts_nothing_does_not_spin(t):
    starter = t.activate("-l", t.socket, "sh", "-c", TELL_START)
    t.connect()
    starts = [seconds(starter.said.readline()) for _ in range(4)]
    equal(starts[-1] - starts[0] > 0.15, True)  # three pauses of 0.1 s
    starter.end()


@case
def a_program_that_has_gone_is_told_of_and_tried_again(t):
    os.mkdir(t.path("bin"))
    script = t.script("bin/script", "#!/bin/sh\nexec sleep 600\n")
    starter = t.activate("-l", t.socket, script)
    os.rename(script, script + ".old")
    t.connect()
    starter.expect("activate: %s: exec: No such file or directory\n" % script)
    starter.expect("no two starts within 500 ms\n")
    equal(children(starter.pid), [])
    os.rename(script + ".old", script)
    starter.started()
    starter.end()


@case
def a_killed_program_has_failed(t):
    starter = t.activate("-l", t.socket, *server())
    t.connect().ask("hello")
    pid = starter.started()
    os.kill(pid, signal.SIGKILL)
    starter.expect("process %d was killed by signal 9\n" % pid)
    starter.expect("no two starts within 500 ms\n")
    starter.end()


# ---- the end ----


@case
def each_signal_that_ends_the_starter_ends_the_program_and_removes_the_socket(t):
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
        starter = t.activate("-l", t.socket, "sleep", "600")
        t.connect()
        pid = starter.started()
        contains(starter.end(number), "process %d was killed by signal 15\n" % pid)
        equal(os.path.exists("/proc/%d" % pid), False)
        equal(os.listdir(t.directory), [])


@case
def it_ends_also_while_it_waits_and_in_a_pause(t):
    starter = t.activate("-l", t.socket, "true")
    equal(starter.end(), "")
    equal(os.listdir(t.directory), [])
    starter = t.activate("-l", t.socket, "false")
    t.connect()
    starter.started()
    starter.expect("exited with 1")
    starter.expect("no two starts within 500 ms\n")
    equal(starter.end(), "")
    equal(os.listdir(t.directory), [])


@case
def a_signal_that_tells_of_no_end_starts_nothing(t):
    starter = t.activate("-l", t.socket, "sleep", "600")
    os.kill(starter.pid, signal.SIGCHLD)
    taken = re.compile(r"^ShdPnd:\t0+$", re.MULTILINE)
    until(lambda: taken.search(read("/proc/%d/status" % starter.pid)))
    equal(starter.end(), "")


@case
def a_program_that_ignores_sigterm_is_killed(t):
    starter = t.activate("-l", t.socket, "sh", "-c", "trap '' TERM; echo ignores; exec sleep 600")
    t.connect()
    pid = starter.started()
    equal(starter.said.readline(), "ignores\n")
    contains(starter.end(), "process %d was killed by signal 9\n" % pid)
    equal(os.path.exists("/proc/%d" % pid), False)


@case
def it_outlives_the_reader_of_its_messages(t):
    starter = t.activate("-l", t.socket, *server())
    starter.process.stderr.close()
    pid, _ = t.connect().ask("exit 0")
    again, _ = t.connect().ask("hello")
    equal(again != pid, True)
    starter.process.terminate()
    equal(starter.process.wait(), 0)


if __name__ == "__main__":
    main(Fixture)
