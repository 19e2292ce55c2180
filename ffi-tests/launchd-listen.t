#!/usr/bin/env python3
"""examples/launchd-listen.c under systemd's rules, and under a launchd of the test's own. TAP for prove(1).

LAUNCHD_LIBRARY is an archive with launchd's branch, for the latter; RDAEMON_INCLUDE is where its header is.
"""

import errno
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "harness"))
from cases import Skip, case, contains, equal, main, run, until, write

ROOT = os.path.dirname(HERE)
PROGRAMS = os.environ.get("EXAMPLES", os.path.join(ROOT, "target", "examples"))
LAUNCHD_LISTEN = os.path.join(PROGRAMS, "launchd-listen")
INCLUDE = os.environ.get("RDAEMON_INCLUDE", os.path.join(ROOT, "include"))
LIBRARY = os.environ.get("LAUNCHD_LIBRARY", os.path.join(ROOT, "target", "launchd", "librdaemon.a"))
PYTHON = sys.executable
os.environ["LC_ALL"] = "C"

# ---- what the cases are made of ----

# What a server finds, as the kernel tells it.
SERVER = """
import json, os, sys
fds = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        fds[int(fd)] = os.readlink("/proc/self/fd/" + fd)
    except OSError:
        pass  # the directory itself
variables = {name: value for name, value in os.environ.items() if name.startswith("LISTEN")}
print(json.dumps([os.getpid(), variables, sorted(fds.items()), sys.argv[1:]]))
"""
TELL = (PYTHON, "-c", SERVER)

# Gets the fds that systemd would have handed over, and becomes the program with its variables.
SYSTEMD = """
import fcntl, os, sys
names, fds, program = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
for number, fd in enumerate([fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in fds], 3):
    os.dup2(fd, number)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(program[0], program)
"""

# JOB is what the property list says: the fds of each name, as in "web=7,8 admin=9".
LAUNCHD = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int launch_activate_socket(const char *name, int **fds, size_t *count);

int launch_activate_socket(const char *name, int **fds, size_t *count)
{
    static char taken[1024] = " ";
    char wanted[64];
    const char *job = getenv("JOB");
    if (!job)
        return ESRCH;
    snprintf(wanted, sizeof wanted, " %s=", name);
    const char *numbers = strstr(job, wanted);
    if (!numbers)
        return ENOENT;
    if (strstr(taken, wanted))
        return EALREADY;
    strcat(taken, wanted);
    *fds = malloc(100 * sizeof **fds);
    *count = 0;
    numbers += strlen(wanted) - 1;
    while (*numbers == '=' || *numbers == ',')
        (*fds)[(*count)++] = (int)strtol(numbers + 1, (char **)&numbers, 10);
    return 0;
}
"""


class Fixture:
    """Listening sockets."""

    def __init__(self, directory):
        self.directory = directory
        self.sockets = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def listeners(self, count):
        """Returns their fds."""
        self.sockets += [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        return [listener.fileno() for listener in self.sockets[-count:]]

    def close(self):
        for listener in self.sockets:
            listener.close()


def numbers(fds):
    return ",".join(map(str, fds))


def systemd(given, names, *words):
    return run(PYTHON, "-c", SYSTEMD, names, numbers(given), LAUNCHD_LISTEN, *words, pass_fds=given)


def launchd(job, *words):
    """job: the fds by the names."""
    text = "".join(" %s=%s" % (name, numbers(fds)) for name, fds in job.items())
    given = [fd for fds in job.values() for fd in fds]
    return run(with_launchd(), *words, pass_fds=given, env={**os.environ, "JOB": text})


BUILT = tempfile.TemporaryDirectory()


def with_launchd():
    """The adapter, linked with that launchd."""
    program = os.path.join(BUILT.name, "launchd-listen")
    if not os.path.exists(LIBRARY):
        raise Skip("no %s here" % LIBRARY)
    if not os.path.exists(program):
        fake = write(os.path.join(BUILT.name, "launchd.c"), LAUNCHD)
        source = os.path.join(ROOT, "examples", "launchd-listen.c")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        flags = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I" + INCLUDE, "-o", program)
        done = run(*compiler, *flags, source, fake, LIBRARY)
        equal((done.returncode, done.stdout), (0, ""))
    return program


def is_given(done, listeners, names, arguments=()):
    """The server has these, in this order, under these names, and no other fd."""
    equal(done.returncode, 0)
    pid, variables, fds, words = json.loads(done.stdout)
    equal(variables, {"LISTEN_PID": str(pid), "LISTEN_FDS": str(len(listeners)), "LISTEN_FDNAMES": names})
    wanted = [[number, os.readlink("/proc/self/fd/%d" % fd)] for number, fd in enumerate(listeners, 3)]
    equal([entry for entry in fds if entry[0] >= 3], wanted)
    equal(words, list(arguments))


def fails(done, message):
    equal((done.returncode, done.stdout), (1, "launchd-listen: %s\n" % message))


# ---- systemd ----


@case
def of_systemd_the_server_has_the_sockets_that_were_named(t):
    first, second, third = t.listeners(3)
    is_given(systemd([first], "web", "web", "--", *TELL), [first], "web")
    is_given(systemd([first, second, third], "a:b:a", "a", "--", *TELL), [first, third], "a:a")
    is_given(systemd([first, second, third], "a:b:c", "b", "c", "--", *TELL), [second, third], "b:c")
    is_given(systemd([first, second, third], "a:b:c", "c", "b", "a", "--", *TELL), [first, second, third], "a:b:c")


@case
def of_systemd_a_name_that_is_not_there_is_an_error(t):
    fails(systemd(t.listeners(1), "web", "admin", "--", *TELL), "admin: No such file or directory")


@case
def the_server_is_the_same_process(t):
    (listener,) = t.listeners(1)
    command = (PYTHON, "-c", SYSTEMD, "web", str(listener), LAUNCHD_LISTEN, "web", "--", *TELL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[listener]) as process:
        equal(json.load(process.stdout)[0], process.pid)


@case
def the_server_accepts_on_what_it_was_given(t):
    (listener,) = t.listeners(1)
    program = "import socket; c = socket.socket(fileno=3).accept()[0]; c.sendall(c.recv(99).upper())"
    command = (PYTHON, "-c", SYSTEMD, "web", str(listener), LAUNCHD_LISTEN, "web", "--", PYTHON, "-c", program)
    with subprocess.Popen(command, pass_fds=[listener]) as process:
        with socket.create_connection(t.sockets[0].getsockname()) as client:
            client.sendall(b"hello")
            equal(client.recv(99), b"HELLO")
        equal(process.wait(), 0)


@case
def arguments_are_passed_on_also_another_double_dash(t):
    (listener,) = t.listeners(1)
    words = ("a b", "", "--", "-l")
    is_given(systemd([listener], "web", "web", "--", *TELL, *words), [listener], "web", words)


@case
def the_real_systemd_socket_activate(t):
    tool = shutil.which("systemd-socket-activate")
    if not tool:
        raise Skip("no systemd-socket-activate here")
    paths = [t.path(name) for name in ("web", "admin")]
    words = ("-l", paths[0], "-l", paths[1], "--fdname=web:admin", LAUNCHD_LISTEN, "admin", "--", *TELL)
    process = subprocess.Popen((tool, *words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with process, socket.socket(socket.AF_UNIX) as client:
        until(lambda: client.connect_ex(paths[1]) in (0, errno.EISCONN))
        pid, variables, fds, _ = json.load(process.stdout)
        equal(pid, process.pid)
        equal(variables, {"LISTEN_PID": str(pid), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin"})
        equal([fd for fd, _ in fds if fd >= 3], [3])


# ---- errors ----


@case
def bad_arguments_are_told(t):
    for words in "", "web", "--", "web --", "-- /bin/true", "web /bin/true", "-- web /bin/true":
        done = run(LAUNCHD_LISTEN, *words.split())
        contains(done.stdout, "usage: launchd-listen NAME")
        equal(done.returncode, 1)


@case
def one_that_no_manager_has_started_says_so(t):
    fails(run(LAUNCHD_LISTEN, "web", "--", *TELL), "web: launchd has not started this")


@case
def a_program_that_cannot_be_executed_is_named(t):
    given = t.listeners(1)
    fails(systemd(given, "web", "web", "--", "/no/such/program"), "/no/such/program: exec: No such file or directory")
    plain = write(t.path("plain"), "")
    fails(systemd(given, "web", "web", "--", plain), plain + ": exec: Permission denied")


@case
def more_sockets_than_there_is_room_for_are_an_error(t):
    given = t.listeners(65)
    is_given(systemd(given[:64], ":".join(64 * ["w"]), "w", "--", *TELL), given[:64], ":".join(64 * ["w"]))
    fails(systemd(given, ":".join(65 * ["w"]), "w", "--", *TELL), "w: Too many open files")
    name = 250 * "n"
    fails(systemd(given[:20], ":".join(20 * [name]), name, "--", *TELL), name + ": Too many open files")


# ---- launchd ----


@case
def of_launchd_the_server_has_the_sockets_of_a_name(t):
    first, second, other = t.listeners(3)
    is_given(launchd({"web": [first], "x": [other]}, "web", "--", *TELL, "-v"), [first], "web", ["-v"])
    is_given(launchd({"web": [second, first]}, "web", "--", *TELL), [second, first], "web:web")


@case
def of_launchd_several_names_are_asked_for_in_their_order(t):
    first, second, third = t.listeners(3)
    job = {"web": [third, first], "admin": [second]}
    is_given(launchd(job, "web", "admin", "--", *TELL), [third, first, second], "web:web:admin")
    is_given(launchd(job, "admin", "web", "--", *TELL), [second, third, first], "admin:web:web")


@case
def launchd_names_what_it_refuses(t):
    job = {"web": t.listeners(1)}
    fails(launchd(job, "no", "--", *TELL), "no: No such file or directory")
    fails(launchd(job, "web", "no", "--", *TELL), "no: No such file or directory")
    fails(launchd(job, "web", "web", "--", *TELL), "web: Operation already in progress")


@case
def one_that_launchd_has_not_started_says_so(t):
    done = run(with_launchd(), "web", "--", *TELL)
    fails(done, "web: launchd has not started this")


if __name__ == "__main__":
    main(Fixture)
