"""What the test programs in Python are made of. Their results are TAP, for prove(1).

    @case
    def sums_are_right(t):
        equal(1 + 1, 2)

    main(Fixture)       # a new Fixture(directory) for each case; its close() ends it

Usage of such a program: PROGRAM [substring of the names of the cases to run]...
A case passes when it raises nothing and leaves no process behind.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

CASES = []
CASE_SECONDS = 60


class Skip(Exception):
    """Ends a case without a verdict. RDAEMON_REQUIRE_ALL=1 makes a failure of it."""


def case(function):
    CASES.append(function)
    return function


def run(*command, **options):
    merged = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.run(command, **{**merged, **options})


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text, mode=0o644):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def equal(got, wanted):
    if got != wanted:
        raise AssertionError("got %r, wanted %r" % (got, wanted))


def contains(text, part):
    if part not in text:
        raise AssertionError("%r is not in %r" % (part, text))


def until(condition):
    """Waits until it is so, with the time limit of the case, and returns what it then is."""
    while not condition():
        time.sleep(0.002)
    return condition()


def require_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


# ---- processes ----


def adopt_orphans():
    """Makes daemons that are started here children of this process, which then sees each of them end.

    Returns whether the system can do that.
    """
    PR_SET_CHILD_SUBREAPER = 36
    try:
        return ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    except (AttributeError, OSError):
        return False


def children(parent=None):
    """The processes below one, this one by default: pid and name."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, _, fields = read("/proc/%s/stat" % pid).partition(" (")[2].rpartition(") ")
        except OSError:
            continue  # it has ended meanwhile
        if int(fields.split()[1]) == (parent or os.getpid()):
            found.append((int(pid), name))
    return found


def open_files_of(pid):
    """The names by the fds. A program that is being loaded has more of them for an instant."""
    files = {}
    for fd in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(FileNotFoundError):
            files[int(fd)] = os.readlink("/proc/%d/fd/%s" % (pid, fd))
    return files


def expect_no_process():
    """The dead are init's to bury, and here ours."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
    raise AssertionError("processes remain: %s" % children())


def slay_children():
    while children():
        for pid, _ in children():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


# ---- running the cases ----


def run_case(function, make_fixture):
    def too_late(signum, frame):
        raise AssertionError("not done after %d s" % CASE_SECONDS)

    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS, 5)  # again, as the clean-up may wait too
    try:
        with tempfile.TemporaryDirectory() as directory:
            fixture = make_fixture(os.path.realpath(directory))
            try:
                function(fixture)
                expect_no_process()
            finally:
                signal.alarm(0)
                slay_children()
                fixture.close()
    finally:
        signal.alarm(0)


def outcome(function, make_fixture):
    """The TAP for a case: "ok" or "not ok", and what is behind the name."""
    try:
        run_case(function, make_fixture)
        return "ok", ""
    except Skip as skipped:
        if os.environ.get("RDAEMON_REQUIRE_ALL") == "1":
            return "not ok", ": %s" % skipped
        return "ok", " # SKIP %s" % skipped
    except Exception:
        print("# " + traceback.format_exc().replace("\n", "\n# "))
        return "not ok", ""


def main(make_fixture):
    if not adopt_orphans():
        print("1..0 # SKIP the system has no PR_SET_CHILD_SUBREAPER")
        return
    wanted = sys.argv[1:]
    names = [(function, function.__name__.replace("_", " ")) for function in CASES]
    chosen = [(f, name) for f, name in names if not wanted or any(word in name for word in wanted)]
    print("1..%d" % len(chosen))
    failures = 0
    for number, (function, name) in enumerate(chosen, 1):
        began = time.monotonic()
        verdict, comment = outcome(function, make_fixture)
        failures += verdict != "ok"
        print("%s %d - %s%s" % (verdict, number, name, comment), flush=True)
        if os.environ.get("TIMES"):
            print("# %.2f s" % (time.monotonic() - began))
    sys.exit(failures > 0 or not chosen)
