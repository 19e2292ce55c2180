#!/usr/bin/env python3
"""Daemons as units of systemd, which is process 1 here: ./boot runs this in a container. TAP for prove(1)."""

import errno
import glob
import os
import pwd
import re
import shutil
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import Client

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "harness"))
from cases import Skip, case, contains, equal, main, read, run, until, write

ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAMS = os.environ["PROGRAMS"]
PYLAUNCHD = os.path.join(ROOT, "examples", "pylaunchd")
INSTALLED = "/usr/local/lib/pylaunchd"
UNITS = "/run/systemd/system"
KEY = "a key for tests"
USER = "someone"
ROUTES = ["--exec"] + (["--embed"] if "--embed  " in run(PROGRAMS + "/pylaunchd", "--help").stdout else [])

# ---- what the cases are made of ----


def do(*words, **options):
    """Runs a command, which must succeed, and returns what it says."""
    done = run(*words, **options)
    if done.returncode != 0:
        raise AssertionError("%s: status %d: %s" % (" ".join(words), done.returncode, done.stdout))
    return done.stdout


def as_user(*words):
    uid = pwd.getpwnam(USER).pw_uid
    return ("runuser", "-u", USER, "--", "env", "XDG_RUNTIME_DIR=/run/user/%d" % uid, *words)


class Systemd:
    """The manager of the system, or of a user, and what it says of units."""

    def __init__(self, user=False):
        self.user = user

    def command(self, name, *words):
        return as_user(name, "--user", *words) if self.user else (name, *words)

    def systemctl(self, *words):
        return do(*self.command("systemctl", *words))

    def show(self, unit, name):
        return self.systemctl("show", "--property", name, "--value", unit).rstrip("\n")

    def state(self, unit):
        return self.show(unit, "ActiveState"), self.show(unit, "SubState")

    def await_state(self, unit, *wanted):
        until(lambda: self.state(unit) == wanted)

    def pid(self, unit):
        return int(self.show(unit, "MainPID"))

    def end(self, unit):
        """It ends well, and nothing of it is remembered."""
        self.systemctl("stop", unit)
        equal(self.show(unit, "Result"), "success")


SYSTEM = Systemd()


class Journal:
    """What is said from now on."""

    # All that process 1 has to say of a unit that starts and ends well.
    PLAIN = r"(Starting|Started|Stopping|Stopped|Closed|Listening on) |.*: (Deactivated successfully|Consumed .*)\.$"

    def __init__(self):
        self.begin = time.time()

    def text(self, *matches):
        do("journalctl", "--sync")
        return do("journalctl", "--quiet", "--output", "cat", "--since", "@%f" % self.begin, *matches)

    def expect_no_complaint(self, unit):
        said = self.text("_PID=1", "UNIT=" + unit).splitlines()
        contains("\n".join(said), "Started ")
        equal([line for line in said if not re.match(self.PLAIN, line)], [])


class Fixture:
    def __init__(self, directory):
        self.directory = directory
        os.chmod(directory, 0o755)
        self.journal = Journal()
        self.units = set()

    def path(self, name):
        return os.path.join(self.directory, name)

    def unit(self, name, text):
        write(os.path.join(UNITS, name), text)
        self.units.add(name)
        SYSTEM.systemctl("daemon-reload")
        return name

    def service(self, name, command, *settings, head=()):
        sections = ["[Unit]", *head, "[Service]", "ExecStart=" + command, *settings]
        return self.unit(name + ".service", "\n".join(sections) + "\n")

    def puppet(self, *settings, options="", start=True):
        return Puppet(self, settings, options, start)

    def pylaunchd(self, route, *settings, idle_seconds="300"):
        """The units as they are, but for the options of the agent."""
        for unit in ("pylaunchd.service", "pylaunchd.socket"):
            self.unit(unit, read(os.path.join(PYLAUNCHD, "systemd", unit)))
        text = read(os.path.join(UNITS, "pylaunchd.service"))
        equal((text.count(" --agent "), text.count("--idle-seconds 300\n")), (1, 1))
        text = text.replace(" --agent ", " %s --agent " % route).replace("seconds 300", "seconds " + idle_seconds)
        self.unit("pylaunchd.service", "\n".join([text, *settings]) + "\n")
        SYSTEM.systemctl("start", "pylaunchd.socket")
        return "pylaunchd.service"

    def close(self):
        for unit in self.units:
            run("systemctl", "kill", "--signal", "KILL", unit)
        for unit in sorted(self.units, key=lambda unit: unit.endswith(".service")):
            run("systemctl", "stop", unit)
            run("systemctl", "reset-failed", unit)
            os.unlink(os.path.join(UNITS, unit))
        SYSTEM.systemctl("daemon-reload")


class Fifo:
    """It has no end of file: the case's time limit ends a wait."""

    def __init__(self, path):
        os.mkfifo(path)
        self.file = os.fdopen(os.open(path, os.O_RDWR), "r+b", buffering=0)

    def write(self, line):
        self.file.write(line.encode() + b"\n")

    def read(self):
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.file.read(1)
        return line.decode()[:-1]


class Puppet:
    """A service that does as it is told: see puppet.c."""

    def __init__(self, t, settings, options, start):
        self.orders = Fifo(t.path("orders"))
        self.answers = Fifo(t.path("answers"))
        self.unit = t.service("puppet", "/programs/puppet %s %s" % (t.directory, options), *settings)
        if start:
            self.start()

    def start(self):
        SYSTEM.systemctl("start", "--no-block", self.unit)
        self.expect_start()

    def expect_start(self):
        name, pid = self.answers.read().split()
        equal(name, "started")
        self.pid = int(pid)

    def order(self, order):
        self.orders.write(order)

    def answer(self, order):
        name, result = self.answers.read().split()
        equal(name, order.split()[0])
        return int(result)

    def ask(self, order):
        self.order(order)
        return self.answer(order)

    def tell(self, order):
        equal(self.ask(order), 1)

    def show(self, name):
        return SYSTEM.show(self.unit, name)

    def expect(self, **properties):
        """At once, as the manager has read all that it was told before a barrier."""
        self.tell("barrier 30000")
        equal({name: self.show(name) for name in properties}, properties)

    def expect_end(self, result):
        until(lambda: self.show("ActiveState") in ("inactive", "failed"))
        equal(self.show("Result"), result)


def ask(address, text="Hello, World"):
    with Client(address, authkey=KEY.encode()) as client:
        client.send(text)
        return client.recv()


def expect_answer(address="/run/pylaunchd.sock"):
    equal(ask(address), "Uryyb, Jbeyq")


def stream_is_a_socket(pid, fd):
    return os.readlink("/proc/%d/fd/%d" % (pid, fd)).startswith("socket:")


def each_route(function):
    """The case for each way to Python."""
    for route in ROUTES:

        def one(t, route=route):
            function(t, route)

        one.__name__ = function.__name__ + "_by_" + route[2:]
        case(one)
    return function


# ---- PyLaunchd: a socket, and Type=notify ----


def install_pylaunchd():
    """As its README says."""
    do("install", "-D", "-t", INSTALLED, PROGRAMS + "/pylaunchd", PYLAUNCHD + "/Agent.py")
    os.makedirs("/etc/pylaunchd", 0o700)
    write("/etc/pylaunchd/key", KEY + "\n", 0o600)


@case
def the_units_of_pylaunchd_are_without_mistake(t):
    t.pylaunchd("")
    equal(do("systemd-analyze", "verify", UNITS + "/pylaunchd.service", UNITS + "/pylaunchd.socket"), "")


@each_route
def the_first_connection_starts_pylaunchd(t, route):
    unit = t.pylaunchd(route)
    equal(SYSTEM.state(unit), ("inactive", "dead"))
    expect_answer()
    equal(SYSTEM.state(unit), ("active", "running"))
    pid = SYSTEM.pid(unit)
    expect_answer()
    equal(SYSTEM.pid(unit), pid)
    SYSTEM.end(unit)
    equal(os.path.exists("/proc/%d" % pid), False)
    t.journal.expect_no_complaint(unit)


@each_route
def the_streams_of_pylaunchd_are_those_of_the_journal(t, route):
    unit = t.pylaunchd(route)
    expect_answer()
    pid = SYSTEM.pid(unit)
    equal([stream_is_a_socket(pid, fd) for fd in (1, 2)], [True, True])
    equal(os.readlink("/proc/%d/fd/0" % pid), "/dev/null")
    SYSTEM.end(unit)
    said = t.journal.text("_SYSTEMD_UNIT=" + unit, "_TRANSPORT=stdout", "_PID=%d" % pid)
    contains(said, "process %d serves\n" % pid)
    contains(said, "process %d ends\n" % pid)


@each_route
def systemctl_shows_the_status_of_pylaunchd(t, route):
    unit = t.pylaunchd(route)
    for served in (1, 2):
        expect_answer()
        os.kill(SYSTEM.pid(unit), signal.SIGUSR1)
        until(lambda: SYSTEM.show(unit, "StatusText").startswith("clients served: %d," % served))
    contains(SYSTEM.systemctl("status", unit), 'Status: "clients served: 2, here: ')


@each_route
def an_idle_pylaunchd_ends_and_the_next_connection_starts_it_again(t, route):
    unit = t.pylaunchd(route, idle_seconds="0.2")
    pids = set()
    for _ in range(3):
        expect_answer()
        pids.add(SYSTEM.pid(unit))
        SYSTEM.await_state(unit, "inactive", "dead")
        equal(SYSTEM.show(unit, "Result"), "success")
        equal(SYSTEM.state("pylaunchd.socket"), ("active", "listening"))
        equal(os.path.exists("/run/pylaunchd.sock"), True)
    equal(len(pids - {0}), 3)
    t.journal.expect_no_complaint(unit)


@each_route
def no_client_is_lost_while_pylaunchd_ends(t, route):
    """They come just when it has been idle for long enough, a little earlier, and a little later.

    By default systemd would give up a unit that is started more than 5 times within 10 seconds.
    """
    unit = t.pylaunchd(route, "[Unit]", "StartLimitIntervalSec=0", idle_seconds="0.2")
    answers = []

    def come():
        for turn in range(10):
            time.sleep(0.18 + turn / 250)
            answers.append(ask("/run/pylaunchd.sock", "number %d" % turn) == "ahzore %d" % turn)

    clients = [threading.Thread(target=come) for _ in range(2)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    equal(answers, [True] * 20)
    SYSTEM.await_state(unit, "inactive", "dead")
    starts = t.journal.text("UNIT=" + unit, "JOB_TYPE=start").count("Started ")
    equal(1 < starts < 20, True)
    t.journal.expect_no_complaint(unit)


@each_route
def a_killed_pylaunchd_is_started_again(t, route):
    unit = t.pylaunchd(route, "[Service]", "Restart=on-failure")
    expect_answer()
    pid = SYSTEM.pid(unit)
    os.kill(pid, signal.SIGSTOP)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(ask("/run/pylaunchd.sock")))
    waiting.start()
    until(lambda: socket_has_waiting("/run/pylaunchd.sock"))
    os.kill(pid, signal.SIGKILL)
    waiting.join()
    equal(answers, ["Uryyb, Jbeyq"])
    equal((SYSTEM.show(unit, "NRestarts"), SYSTEM.pid(unit) != pid), ("1", True))


def socket_has_waiting(path):
    """A connection that nobody has accepted has no inode yet."""
    return any(" 0 " + path in re.sub(" +", " ", line) for line in read("/proc/net/unix").splitlines())


@case
def a_user_has_a_pylaunchd_of_his_own(t):
    """With the commands of its README."""
    home = pwd.getpwnam(USER).pw_dir
    address = "/run/user/%d/pylaunchd.sock" % pwd.getpwnam(USER).pw_uid
    for directory in (".config/pylaunchd", ".config/systemd/user"):
        do(*as_user("mkdir", "-p", os.path.join(home, directory)))
    key = write(os.path.join(home, ".config/pylaunchd/key"), KEY + "\n", 0o600)
    shutil.chown(key, USER, USER)
    units = glob.glob(PYLAUNCHD + "/systemd/pylaunchd.*")
    do(*as_user("install", "-m", "644", "-t", home + "/.config/systemd/user", *units))
    manager = Systemd(user=True)
    manager.systemctl("daemon-reload")
    manager.systemctl("enable", "--now", "pylaunchd.socket")
    client = as_user("python3", PYLAUNCHD + "/client.py", "--socket", address, "--authkey-file", key, "Hello, World")
    equal(do(*client), "Uryyb, Jbeyq\n")
    pid = manager.pid("pylaunchd.service")
    equal(os.stat("/proc/%d" % pid).st_uid, pwd.getpwnam(USER).pw_uid)
    equal(manager.state("pylaunchd.service"), ("active", "running"))
    contains(t.journal.text("_PID=%d" % pid, "_SYSTEMD_USER_UNIT=pylaunchd.service"), "process %d serves\n" % pid)
    manager.end("pylaunchd.service")
    equal(do(*client), "Uryyb, Jbeyq\n")
    manager.systemctl("disable", "--now", "pylaunchd.socket")
    manager.end("pylaunchd.service")


# ---- what systemd is told ----


@case
def a_start_lasts_until_ready(t):
    puppet = t.puppet("Type=notify")
    equal(SYSTEM.pid(puppet.unit), puppet.pid)
    puppet.expect(ActiveState="activating", SubState="start")
    puppet.tell("status so far so good")
    puppet.expect(StatusText="so far so good")
    puppet.tell("ready")
    puppet.expect(ActiveState="active", SubState="running")


@case
def an_error_is_shown(t):
    puppet = t.puppet("Type=notify")
    puppet.tell("error 28")
    puppet.expect(StatusErrno="28")


@case
def stopping_is_seen_before_the_end(t):
    puppet = t.puppet("Type=notify")
    puppet.tell("ready")
    puppet.tell("stopping")
    puppet.expect(ActiveState="deactivating")
    equal(puppet.ask("end 0"), 0)
    puppet.expect_end("success")
    equal(puppet.show("NRestarts"), "0")


@case
def main_pid_moves_to_a_child(t):
    puppet = t.puppet("Type=notify")
    puppet.tell("ready")
    child = puppet.ask("become-child")
    equal(child > 0 and child != puppet.pid, True)
    equal(puppet.show("MainPID"), str(child))
    until(lambda: not os.path.exists("/proc/%d" % puppet.pid))
    puppet.tell("status the child is believed")
    puppet.expect(ActiveState="active", StatusText="the child is believed", MainPID=str(child))


@case
def a_start_that_takes_too_long_is_ended(t):
    puppet = t.puppet("Type=notify", "TimeoutStartSec=1")
    puppet.expect_end("timeout")


@case
def a_start_that_asks_for_more_time_gets_it(t):
    began = time.monotonic()
    puppet = t.puppet("Type=notify", "TimeoutStartSec=5")
    puppet.tell("extend 50000000")
    until(lambda: time.monotonic() - began > 8)
    puppet.expect(ActiveState="activating", MainPID=str(puppet.pid))
    puppet.tell("ready")
    puppet.expect(ActiveState="active")


@case
def a_reload_lasts_until_ready(t):
    puppet = t.puppet("Type=notify")
    puppet.tell("ready")
    puppet.tell("reloading")
    puppet.expect(ActiveState="reloading")
    puppet.tell("ready")
    puppet.expect(ActiveState="active", MainPID=str(puppet.pid))


@case
def systemctl_reload_lasts_until_ready(t):
    version = int(re.match(r"systemd (\d+)", do("systemctl", "--version")).group(1))
    if version < 253:
        raise Skip("systemd %d has no Type=notify-reload" % version)
    puppet = t.puppet("Type=notify-reload")
    puppet.tell("ready")
    SYSTEM.systemctl("reload", "--no-block", puppet.unit)
    SYSTEM.await_state(puppet.unit, "reloading", "reload-signal")
    puppet.tell("ready")  # it is not the answer: MONOTONIC_USEC came before the signal, or not at all
    puppet.expect(SubState="reload-signal")
    puppet.tell("reloading")
    puppet.expect(SubState="reload-notify")
    puppet.tell("ready")
    puppet.expect(ActiveState="active", SubState="running", MainPID=str(puppet.pid))


# ---- the watchdog ----


@case
def a_service_that_feeds_the_watchdog_stays(t):
    puppet = t.puppet("Type=notify", "WatchdogSec=5", "Restart=on-failure")
    puppet.tell("ready")
    equal(puppet.ask("watchdog"), 5000000)
    began = time.monotonic()
    puppet.order("keep-feeding")
    until(lambda: time.monotonic() - began > 12)
    puppet.order("status well")
    equal(puppet.answer("keep-feeding") >= 4, True)
    equal(puppet.answer("status"), 1)
    puppet.expect(ActiveState="active", NRestarts="0", MainPID=str(puppet.pid))


@case
def a_service_that_does_not_feed_the_watchdog_is_killed_and_started_again(t):
    puppet = t.puppet("Type=notify", "WatchdogSec=5", "Restart=on-failure")
    puppet.tell("ready")
    old = puppet.pid
    puppet.expect_start()
    equal((puppet.pid != old, os.path.exists("/proc/%d" % old)), (True, False))
    puppet.expect(ActiveState="activating", NRestarts="1", MainPID=str(puppet.pid))
    contains(t.journal.text("UNIT=" + puppet.unit), "Watchdog timeout")
    contains(t.journal.text("UNIT=" + puppet.unit), "status=6/ABRT")


@case
def a_service_may_trigger_the_watchdog_itself(t):
    puppet = t.puppet("Type=notify", "WatchdogSec=600")
    puppet.tell("ready")
    puppet.tell("trigger")
    puppet.expect_end("watchdog")


@case
def without_a_watchdog_none_is_wanted(t):
    equal(t.puppet("Type=notify").ask("watchdog"), 0)


# ---- fds that systemd keeps ----


@case
def stored_fds_come_back_after_a_restart(t):
    kept = write(t.path("kept"), "")
    puppet = t.puppet("Type=notify", "FileDescriptorStoreMax=8", "Restart=on-failure")
    puppet.tell("ready")
    puppet.tell("store one " + kept)
    puppet.tell("store other " + write(t.path("other"), ""))
    puppet.expect(NFileDescriptorStore="2")
    os.kill(puppet.pid, signal.SIGKILL)
    puppet.expect_start()
    fd = puppet.ask("take one")
    equal(os.path.samefile("/proc/%d/fd/%d" % (puppet.pid, fd), kept), True)
    puppet.expect(NRestarts="1")


@case
def stored_fds_are_forgotten_by_their_name(t):
    puppet = t.puppet("Type=notify", "FileDescriptorStoreMax=8", "Restart=on-failure")
    puppet.tell("ready")
    for name in ("one", "other"):
        puppet.tell("store %s %s" % (name, write(t.path(name), "")))
    puppet.tell("forget one")
    puppet.expect(NFileDescriptorStore="1")
    os.kill(puppet.pid, signal.SIGKILL)
    puppet.expect_start()
    equal(puppet.ask("take one"), -errno.ENOENT)


# ---- restarts ----


@case
def a_daemon_that_fails_is_started_again_and_one_that_ends_is_not(t):
    puppet = t.puppet("Type=exec", "Restart=on-failure")
    for restarts in ("1", "2"):
        equal(puppet.ask("end 1"), 0)
        puppet.expect_start()
        equal((puppet.show("NRestarts"), puppet.show("MainPID")), (restarts, str(puppet.pid)))
    equal(puppet.ask("end 0"), 0)
    puppet.expect_end("success")


# ---- Type=forking ----

PIDFILE = "/run/puppet/pid"
FORKING = ("Type=forking", "PIDFile=" + PIDFILE, "RuntimeDirectory=puppet", "RuntimeDirectoryPreserve=yes")


def forking(t, *settings):
    puppet = t.puppet(*FORKING, *settings, options="--detach " + PIDFILE)
    SYSTEM.await_state(puppet.unit, "active", "running")
    return puppet


def expect_main_process(puppet):
    """It is the one that the pidfile names, and a child of process 1."""
    equal(read(PIDFILE), "%d\n" % puppet.pid)
    equal(puppet.show("MainPID"), str(puppet.pid))
    contains(read("/proc/%d/status" % puppet.pid), "\nPPid:\t1\n")


@case
def systemd_finds_a_daemon_by_its_pidfile(t):
    # The pidfile is gone before systemd itself removes what is left of it.
    puppet = forking(t, "ExecStopPost=test ! -e " + PIDFILE)
    expect_main_process(puppet)
    SYSTEM.end(puppet.unit)
    equal(os.path.exists(PIDFILE), False)
    equal(os.path.exists("/proc/%d" % puppet.pid), False)
    t.journal.expect_no_complaint(puppet.unit)


@case
def a_restarted_daemon_has_a_new_pidfile(t):
    puppet = forking(t)
    for _ in range(3):
        old = puppet.pid
        SYSTEM.systemctl("restart", puppet.unit)
        puppet.expect_start()
        equal(puppet.pid != old, True)
        expect_main_process(puppet)
    t.journal.expect_no_complaint(puppet.unit)


@case
def a_killed_daemon_with_a_pidfile_is_started_again(t):
    puppet = forking(t, "Restart=on-failure")
    os.kill(puppet.pid, signal.SIGKILL)
    puppet.expect_start()
    SYSTEM.await_state(puppet.unit, "active", "running")
    expect_main_process(puppet)
    equal(puppet.show("NRestarts"), "1")


@case
def a_start_that_fails_is_a_failure_of_the_unit(t):
    unit = t.service("puppet", "/programs/puppet %s --detach /run/puppet/no/pid" % t.directory, *FORKING)
    equal(run("systemctl", "start", unit).returncode, 1)
    equal((SYSTEM.show(unit, "ActiveState"), SYSTEM.show(unit, "Result")), ("failed", "exit-code"))
    contains(t.journal.text("_PID=1", "UNIT=" + unit), "Control process exited, code=exited, status=1/FAILURE")


@case
def a_daemon_that_insists_detaches_with_its_socket(t):
    puppet = t.puppet(*FORKING, options="--detach " + PIDFILE, start=False)
    address = t.path("socket")
    SYSTEM.systemctl("start", t.unit("puppet.socket", "[Socket]\nListenStream=%s\n" % address))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        puppet.expect_start()
        SYSTEM.await_state(puppet.unit, "active", "running")
        expect_main_process(puppet)
        equal((puppet.ask("serve"), client.recv(1)), (1, b"!"))
    SYSTEM.end(puppet.unit)
    equal(SYSTEM.state("puppet.socket"), ("active", "listening"))
    t.journal.expect_no_complaint(puppet.unit)


# ---- Type=exec: the daemon does not detach ----


@case
def a_daemon_that_systemd_has_started_does_not_fork(t):
    pidfile, log = "/run/plain/pid", "/run/plain/log"
    unit = t.service("plain", "/programs/daemon %s %s 600" % (pidfile, log), "Type=exec", "RuntimeDirectory=plain",
                     "RuntimeDirectoryPreserve=yes", "ExecStopPost=test ! -e " + pidfile)
    SYSTEM.systemctl("start", unit)
    until(lambda: os.path.exists(log) and read(log))
    pid = SYSTEM.pid(unit)
    equal(read(pidfile), "%d\n" % pid)
    contains(read(log), "process %d is well\n" % pid)
    SYSTEM.end(unit)
    equal(os.path.exists(pidfile), False)
    t.journal.expect_no_complaint(unit)


# ---- an init script ----


@case
def an_init_script_starts_a_daemon(t):
    """As the manual of examples/rdaemon.c has it; systemd makes a unit of Type=forking of it."""
    script = "/etc/init.d/web"
    rdaemon = "exec /programs/rdaemon \"$1\" --pidfile /run/web.pid -- /bin/sleep 600"
    head = "### BEGIN INIT INFO\n# Provides: web\n# Default-Start: 3\n### END INIT INFO"
    write(script, "#!/bin/sh\n%s\n%s\n" % (head, rdaemon), 0o755)
    SYSTEM.systemctl("daemon-reload")
    try:
        SYSTEM.systemctl("start", "web.service")
        equal(SYSTEM.show("web.service", "Type"), "forking")
        pid = int(read("/run/web.pid"))
        equal(os.readlink("/proc/%d/exe" % pid).rpartition("/")[2], "sleep")
        contains(read("/proc/%d/cgroup" % pid), "web.service")
        SYSTEM.systemctl("stop", "web.service")
        equal(os.path.exists("/proc/%d" % pid), False)
    finally:
        run("systemctl", "kill", "--signal", "KILL", "web.service")
        os.unlink(script)
        SYSTEM.systemctl("daemon-reload")


def make_user():
    do("useradd", "--create-home", USER)
    do("loginctl", "enable-linger", USER)
    SYSTEM.systemctl("start", "user@%d.service" % pwd.getpwnam(USER).pw_uid)


if __name__ == "__main__":
    install_pylaunchd()
    make_user()
    print("# " + do("systemctl", "--version").splitlines()[0], flush=True)
    main(Fixture)
