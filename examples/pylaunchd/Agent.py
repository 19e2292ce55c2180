"""The agent: answers each line of text that a multiprocessing.connection client sends with its ROT13.

pylaunchd starts it with a listening socket, or with the connection of one client; clients must know the key.
"""

import argparse
import codecs
import io
import logging
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

PEERS = 64
AUTHENTICATION_SECONDS = 10
MESSAGE_BYTES = 1 << 20
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
EMBEDDED = "_pylaunchd" in sys.builtin_module_names
if EMBEDDED:
    import _pylaunchd


class PlainUnpickler(pickle.Unpickler):
    """Text needs no class, and a message that names one could run anything."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError("a message may only be text, not " + name)


def answer(message):
    text = PlainUnpickler(io.BytesIO(message)).load()
    return codecs.encode(text, "rot13")


def hang_up(peer):
    """Ends whatever a thread waits for on this socket."""
    try:
        peer.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the peer was faster


class Alarm:
    """Wakes the main thread, when a signal has come or a peer has left."""

    def __init__(self):
        self.signals = set()
        self.inner, self.outer = socket.socketpair()
        for end in (self.inner, self.outer):
            end.setblocking(False)

    def take_signals(self):
        """The loader holds them back until there are handlers."""
        signal.set_wakeup_fd(self.outer.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self.note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def note(self, number, frame):
        """Raises nothing: the main thread might be in the middle of anything, such as the release of a lock."""
        self.signals.add(number)

    def ignore_signals(self):
        """The end is on its way, and not to be disturbed: Python would take its handlers away before."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def ring(self):
        try:
            self.outer.send(b"\0")
        except BlockingIOError:
            pass  # it rings already

    def fileno(self):
        return self.inner.fileno()

    def heard(self):
        """The signals since the last time."""
        try:
            self.inner.recv(4096)
        except BlockingIOError:
            pass
        signals, self.signals = self.signals, set()
        return signals


class Agent:
    """Serves each peer in a thread of its own, so that a silent one keeps nobody waiting."""

    def __init__(self, socket, authkey, idle_seconds=0):
        self.socket = socket
        self.authkey = authkey
        self.idle_seconds = idle_seconds
        self.alarm = Alarm()
        self.lock = threading.Lock()
        self.peers = {}  # socket: the time until which it must authenticate; None once it has
        self.served = 0
        self.busy = time.monotonic()  # when a peer was last seen to be here
        self.ends = False

    def serve(self):
        """Serves until a signal ends it, it is idle, the one client has gone, or an exception ends it."""
        try:
            with selectors.PollSelector() as selector:
                self.serve_with(selector, self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        finally:
            with self.lock:
                for peer in self.peers:
                    hang_up(peer)
            self.socket.close()

    def serve_with(self, selector, listens):
        selector.register(self.alarm, selectors.EVENT_READ)
        if listens:
            self.socket.setblocking(False)
            selector.register(self.socket, selectors.EVENT_READ)
        else:
            self.admit(self.socket)
        while not (self.ends or (self.is_idle() if listens else not self.peers)):
            ready = [key.fileobj for key, _ in selector.select(self.patience())]
            self.heed(self.alarm.heard())
            if self.socket in ready and not self.ends:
                self.accept()

    def heed(self, signals):
        self.ends |= bool(signals & {signal.SIGTERM, signal.SIGINT})
        if signal.SIGUSR1 in signals:
            self.report()

    def accept(self):
        try:
            peer, _ = self.socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # another agent was faster, or the peer has gone
        self.admit(peer)

    def is_idle(self):
        """Who connects now is not lost: the socket is the service manager's, who starts the next agent."""
        with self.lock:
            idle = not self.peers and time.monotonic() - self.busy >= self.idle_seconds
        return self.idle_seconds and idle

    def patience(self):
        """The seconds until there may be something to do though nothing happens, or None."""
        limits = [self.dismiss_late_strangers()]
        if self.idle_seconds:
            with self.lock:
                limits.append(self.idle_seconds - (0 if self.peers else time.monotonic() - self.busy))
        return min((max(limit, 0.001) for limit in limits if limit is not None), default=None)

    def dismiss_late_strangers(self):
        """Returns the seconds until the next stranger is late, or None."""
        now = time.monotonic()
        with self.lock:
            for stranger in [peer for peer, limit in self.peers.items() if limit and limit <= now]:
                self.dismiss(stranger)
            return min((limit - now for limit in self.peers.values() if limit), default=None)

    def dismiss(self, peer):
        del self.peers[peer]
        hang_up(peer)

    def admit(self, peer):
        """When all places are taken, the stranger who has been here longest makes room."""
        peer.setblocking(True)
        with self.lock:
            if len(self.peers) >= PEERS:
                strangers = [other for other, limit in self.peers.items() if limit]
                if not strangers:
                    peer.close()
                    return
                self.dismiss(strangers[0])
            self.peers[peer] = time.monotonic() + AUTHENTICATION_SECONDS
        threading.Thread(target=self.attend, args=[peer]).start()

    def attend(self, peer):
        try:
            with peer, Connection(os.dup(peer.fileno())) as connection:
                self.authenticate(peer, connection)
                while True:
                    connection.send(answer(connection.recv_bytes(MESSAGE_BYTES)))
        except EOFError:
            pass  # the peer has gone
        except Exception as error:
            logging.warning("a peer was dismissed: %r", error)
        finally:
            with self.lock:
                self.peers.pop(peer, None)
                self.busy = time.monotonic()
            self.alarm.ring()

    def authenticate(self, peer, connection):
        deliver_challenge(connection, self.authkey)
        answer_challenge(connection, self.authkey)
        with self.lock:
            if peer in self.peers:
                self.peers[peer] = None
            self.served += 1

    def report(self):
        """Each SIGUSR1 asks for a line in the log."""
        with self.lock:
            served, present = self.served, len(self.peers)
        status = "clients served: %d, here: %d" % (served, present)
        logging.info("process %d: %s", os.getpid(), status)
        say_status(status)


def read_key(path):
    with open(path, "rb") as file:
        key = file.read().strip()
    if not key:
        sys.exit(path + " is empty")
    return key


def say_ready(options):
    """Tells the one who started the daemon that it serves."""
    if EMBEDDED:
        return _pylaunchd.ready()
    if options.ready_fd is not None:
        command = [options.loader, "--say-ready", str(options.ready_fd)]
        subprocess.run(command, pass_fds=[options.ready_fd])
        os.close(options.ready_fd)
    notify("READY=1")


def say_stopping():
    _pylaunchd.stopping() if EMBEDDED else notify("STOPPING=1")


def say_status(status):
    _pylaunchd.status(status) if EMBEDDED else notify("STATUS=" + status)


def notify(message):
    """As rdaemon_notify() does, but from this process: a service manager need not believe a child of it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(5)
            manager.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:
        logging.warning("%s: %s", address, error)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--authkey-file", required=True)
    parser.add_argument("--idle-seconds", type=float, default=0, help="ends when nobody has been here for so long")
    taken_over = parser.add_argument_group("when Python has taken the place of the loader")
    taken_over.add_argument("--lock-fd", type=int, help="the pidfile, which no child may inherit")
    taken_over.add_argument("--ready-fd", type=int, help="for LOADER --say-ready, once it serves")
    taken_over.add_argument("--loader")
    taken_over.add_argument("--remove", action="append", default=[], help="at the end; in order")
    return parser.parse_args()


def keep_to_ourselves(options):
    for fd in (options.socket_fd, options.lock_fd, options.ready_fd):
        if fd is not None:
            os.set_inheritable(fd, False)


def remove(paths):
    for path in paths:
        try:
            os.unlink(path)
        except OSError as error:
            logging.warning("%s", error)


def main():
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    options = read_options()
    try:
        keep_to_ourselves(options)
        served = socket.socket(fileno=options.socket_fd)
        if served.type != socket.SOCK_STREAM:
            sys.exit("the socket is not one of streams")
        agent = Agent(served, read_key(options.authkey_file), options.idle_seconds)
        agent.alarm.take_signals()
        agent.heed(agent.alarm.heard())
        if agent.ends:
            return
        say_ready(options)
        logging.info("process %d serves", os.getpid())
        agent.serve()
        agent.alarm.ignore_signals()
    finally:
        say_stopping()
        remove(options.remove)
        logging.info("process %d ends", os.getpid())


if __name__ == "__main__":
    main()
