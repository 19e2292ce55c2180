"""How long subprocess.Popen takes to start /bin/true: first decile and median, in nanoseconds.

    popen.py METHOD MIB COUNT       METHOD: Popen or Popen+pipes

As spawn.c: MIB MiB are resident, in small pages.
"""

import mmap
import subprocess
import sys
from time import perf_counter_ns

METHODS = {
    "Popen": {"close_fds": False},
    "Popen+pipes": {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": "/",
        "start_new_session": True,
    },
}


def become_large(mib):
    memory = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory[:: mmap.PAGESIZE] = b"\1" * len(range(0, len(memory), mmap.PAGESIZE))
    return memory


def time_one(keywords):
    before = perf_counter_ns()
    child = subprocess.Popen(["/bin/true"], **keywords)
    after = perf_counter_ns()
    child.communicate()
    if child.returncode != 0:
        sys.exit("/bin/true: %d" % child.returncode)
    return after - before


method, mib, count = METHODS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
held = become_large(mib)
warm_up = count // 10 + 1
times = sorted([time_one(method) for _ in range(warm_up + count)][warm_up:])
print(times[count // 10], times[count // 2])
