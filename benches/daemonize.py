"""One daemon, made by python-daemon.

    daemonize.py MIB BOARD

As daemonize.c: MIB MiB are resident, besides the interpreter's own.
"""

import mmap
import os
import struct
import sys
from time import monotonic_ns

import daemon

BEGUN, GOES_ON, STARTED = range(3)
POPULATE_WRITE = 23


def become_large(mib):
    memory = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory.madvise(POPULATE_WRITE)
    return memory


def note(moment):
    if moment != GOES_ON or os.getpid() == caller:
        struct.pack_into("=Q", board, 8 * moment, monotonic_ns())


caller = os.getpid()
held = become_large(int(sys.argv[1]))
with open(sys.argv[2], "r+b") as file:
    board = mmap.mmap(file.fileno(), 24)
# The caller ends inside of it, as soon as it has forked.
os.register_at_fork(after_in_parent=lambda: note(GOES_ON))
context = daemon.DaemonContext(detach_process=True)

note(BEGUN)
context.open()
note(STARTED)
os._exit(0)
