#!/usr/bin/env python3
"""docs/logging.md: its recipes for logrotate(8), with the real one. TAP for prove(1)."""

import fcntl
import grp
import gzip
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "harness"))
from cases import Skip, case, equal, main, read, require_root, run, until, write

ROOT = os.path.dirname(HERE)
LOGFILE = os.path.join(os.environ.get("EXAMPLES", os.path.join(ROOT, "target", "examples")), "logfile")
ROTATIONS = 8
USER = "nobody"
os.environ["PATH"] += ":/usr/sbin:/sbin"

DOCUMENT = read(os.path.join(ROOT, "docs", "logging.md"))


def block(name, language):
    """The code that the document shows under that name."""
    return re.search(r"^<!-- %s -->\n```%s\n(.*?)^```$" % (re.escape(name), language), DOCUMENT, re.S | re.M).group(1)


# ---- what the cases are made of ----


class Fixture:
    """A directory, a daemon that logs into it, and a logrotate of the case's own."""

    def __init__(self, directory):
        self.directory = directory
        os.chmod(directory, 0o755)
        self.log = self.path("logfile.log")
        self.pidfile = self.path("logfile.pid")
        self.pid = None

    def close(self):
        pass

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, **options):
        subprocess.run([LOGFILE, self.pidfile, self.log, "1"], check=True, stdin=subprocess.DEVNULL, **options)
        self.pid = int(read(self.pidfile))

    def stop(self):
        with open(self.pidfile) as pidfile:
            os.kill(self.pid, signal.SIGTERM)
            fcntl.flock(pidfile, fcntl.LOCK_EX)
        equal(os.waitpid(self.pid, 0)[1], signal.SIGTERM)

    def configure(self, recipe, user=None):
        """The document's logrotate.conf, for this directory; the new log is that user's."""
        if not shutil.which("logrotate"):
            raise Skip("no logrotate")
        text = block(recipe, "")
        try:
            owner = owner_of(user or pwd.getpwuid(os.getuid()))
        except KeyError:
            raise Skip("the user or its group has no name")
        for old, new in (
            ("/var/log/logfile.log", self.log),
            ("/run/logfile.pid", self.pidfile),
            ("create 0640 root adm", "create 0640 " + owner),
            ("rotate 8", "rotate 100"),  # what is removed could not be compared
        ):
            text = text.replace(old, new)
        write(self.path("logrotate.conf"), text)

    def rotate(self):
        done = run("logrotate", "--force", "--state", self.path("state"), self.path("logrotate.conf"))
        equal((done.returncode, done.stdout), (0, ""))

    def has_lines(self):
        return os.path.getsize(self.log) > 0

    def rotate_often(self):
        """Each time when the daemon has begun with the new file."""
        for _ in range(ROTATIONS):
            until(self.has_lines)
            self.rotate()
        until(self.has_lines)

    def files(self):
        """The log and what became of it, oldest first."""
        numbered = [re.fullmatch(r"logfile\.log(?:\.(\d+)(?:\.gz)?)?", name) for name in os.listdir(self.directory)]
        found = sorted((int(match[1] or 0), match[0]) for match in numbered if match)
        return [self.path(name) for _, name in reversed(found)]

    def text(self):
        whole = b""
        for name in self.files():
            with (gzip.open if name.endswith(".gz") else open)(name, "rb") as file:
                whole += file.read()
        return whole.decode()

    def expect_every_line(self):
        lines = self.text().splitlines(keepends=True)
        equal(lines, ["line %d\n" % number for number in range(1, len(lines) + 1)])
        if len(lines) < ROTATIONS:
            raise AssertionError("there are %d lines only" % len(lines))


def owner_of(user):
    """As logrotate's `create` wants it."""
    return "%s %s" % (user.pw_name, grp.getgrgid(user.pw_gid).gr_name)


# ---- cases ----


@case
def the_document_shows_the_example(t):
    equal(block("examples/logfile.c", "c"), read(os.path.join(ROOT, "examples", "logfile.c")))


@case
def the_code_of_the_document_compiles(t):
    parts = [part for part in re.findall(r"^```c\n(.*?)^```$", DOCUMENT, re.S | re.M) if "int main" not in part]
    if len(parts) < 4:
        raise AssertionError("only %d parts were found" % len(parts))
    heads = "".join("#include <%s.h>\n" % name for name in ("rdaemon", "stdio", "string", "syslog", "unistd"))
    function = "int parts(int clients);\nint parts(int clients) {\n%sreturn pid;\n}\n" % "".join(parts)
    source = write(t.path("parts.c"), heads + function)
    options = ["-Wall", "-Wextra", "-Werror", "-Wno-unused", "-fsyntax-only", "-I", os.path.join(ROOT, "include")]
    compiled = run(os.environ.get("CC", "cc"), *options, source)
    equal((compiled.returncode, compiled.stdout), (0, ""))


@case
def no_line_is_lost_or_torn_when_the_log_is_opened_anew(t):
    t.configure("reopened")
    t.start()
    t.rotate_often()
    t.stop()
    t.expect_every_line()
    equal(len(t.files()), ROTATIONS + 1)


@case
def a_hangup_as_soon_as_the_pidfile_is_there(t):
    """Right after the start, and again and again."""
    for _ in range(20):
        t.start()
        for _ in range(20):
            os.kill(t.pid, signal.SIGHUP)
        t.stop()
        os.unlink(t.log)


@case
def the_new_file_has_the_mode_and_owner_of_the_recipe(t):
    require_root()
    user = pwd.getpwnam(USER)
    t.configure("reopened", user)
    t.start()
    until(t.has_lines)
    t.rotate()
    until(t.has_lines)
    status = os.stat(t.log)
    equal((stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid), (0o640, user.pw_uid, user.pw_gid))
    t.stop()


def as_a_user(t):
    """A daemon that may write its log, and its pidfile, and nothing else there."""
    require_root()
    user = pwd.getpwnam(USER)
    for name in (t.log, t.pidfile):
        open(name, "w").close()
        os.chown(name, user.pw_uid, user.pw_gid)
    t.start(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
    return user


@case
def a_daemon_without_rights_may_open_the_new_file(t):
    t.configure("reopened", as_a_user(t))
    t.rotate_often()
    t.stop()
    t.expect_every_line()


@case
def a_log_that_cannot_be_opened_goes_on_in_the_old_file(t):
    as_a_user(t)
    t.configure("reopened", pwd.getpwuid(0))
    until(t.has_lines)
    t.rotate()
    until(lambda: "is not opened anew: Permission denied\n" in read(t.log + ".1"))
    size = os.path.getsize(t.log + ".1")
    until(lambda: os.path.getsize(t.log + ".1") > size)
    t.stop()
    lines = [line for line in t.text().splitlines(keepends=True) if not line.startswith("logfile: ")]
    equal(lines, ["line %d\n" % number for number in range(1, len(lines) + 1)])
    equal(os.path.getsize(t.log), 0)


def holes(path):
    with open(path, "rb") as file:
        return file.read().count(b"\0")


def truncate_often(t):
    t.configure("copied")
    for _ in range(ROTATIONS):
        until(t.has_lines)
        t.rotate()
        before = os.path.getsize(t.log)
        until(lambda: os.path.getsize(t.log) > before)


@case
def a_file_truncated_under_the_daemon_has_no_holes(t):
    t.start()
    until(lambda: os.path.getsize(t.log) > 4096)
    truncate_often(t)
    t.stop()
    equal(holes(t.log), 0)
    lines = read(t.log).splitlines(keepends=True)
    numbers = [int(re.fullmatch(r"line (\d+)\n", line)[1]) for line in lines]
    equal(numbers, list(range(numbers[0], numbers[-1] + 1)))
    if numbers[0] == 1:
        raise AssertionError("the log was not truncated")


@case
def a_file_of_a_shells_redirection_does_get_holes(t):
    """What the case before would see if the daemon's file were not opened for append."""
    with open(t.log, "w") as log:
        command = ["sh", "-c", "i=0; while :; do i=$((i + 1)); echo line $i; done"]
        writer = subprocess.Popen(command, stdout=log, stdin=subprocess.DEVNULL)
    try:
        until(lambda: os.path.getsize(t.log) > 4096)
        t.configure("copied")
        t.rotate()
        until(t.has_lines)
    finally:
        writer.kill()
        writer.wait()
    if not holes(t.log):
        raise AssertionError("there are none")


if __name__ == "__main__":
    main(Fixture)
