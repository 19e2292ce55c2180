"""Ratios of times, and their medians; what the benchmarks tell of the machine."""

import os
import statistics
import subprocess

QUICK = os.environ.get("QUICK", "") not in ("", "0")


def readable(ratio):
    return "%.*f" % (0 if ratio >= 100 else 2, ratio)


class Ratio:
    """Of two ways' times: the median of all rounds that have both, and the middle half."""

    def __init__(self, times, one, other, which):
        ones, others = times.get(one, {}), times.get(other, {})
        ratios = [ones[number][which] / others[number][which] for number in ones if number in others]
        self.median = statistics.median(ratios) if ratios else None
        quarters = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        self.half = quarters[::2]

    def __str__(self):
        return "-" if self.median is None else readable(self.median)


def first_line(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split("\n")[0]
    except OSError:
        return "no " + command[0]


def run_alone():
    """The processes that are started from now on are scheduled before others."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return "SCHED_FIFO"
    except PermissionError:
        return "scheduled as others are"


def version_of_libdaemon():
    """None where it is not installed."""
    version = first_line("pkg-config", "--silence-errors", "--modversion", "libdaemon")
    return version if version[:1].isdigit() else None
