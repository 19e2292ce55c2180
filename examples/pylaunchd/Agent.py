"""The agent: answers each line of text that a multiprocessing.connection client sends with its ROT13.

pylaunchd starts it with a listening socket; clients must know the key.
"""

import argparse
import codecs
import io
import logging
import os
import pickle
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


class Agent:
    """Serves each peer in a thread of its own, so that a silent one keeps nobody waiting."""

    def __init__(self, listener, authkey):
        self.listener = listener
        self.authkey = authkey
        self.lock = threading.Lock()
        self.peers = {}  # socket: the time until which it must authenticate; None once it has
        self.served = 0

    def serve(self):
        """Serves until an exception ends it, such as the one of a signal."""
        try:
            while True:
                self.listener.settimeout(self.dismiss_late_strangers())
                try:
                    peer, _ = self.listener.accept()
                except (socket.timeout, ConnectionError):
                    continue
                self.admit(peer)
        finally:
            self.listener.close()
            with self.lock:
                for peer in self.peers:
                    hang_up(peer)

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

    def authenticate(self, peer, connection):
        deliver_challenge(connection, self.authkey)
        answer_challenge(connection, self.authkey)
        with self.lock:
            if peer in self.peers:
                self.peers[peer] = None
            self.served += 1

    def report_on_demand(self):
        """Each SIGUSR1 asks for a line in the log. A handler could not take the lock; a thread that waits can."""
        while True:
            signal.sigwait([signal.SIGUSR1])
            with self.lock:
                served, present = self.served, len(self.peers)
            logging.info("process %d: clients served: %d, here: %d", os.getpid(), served, present)


def read_key(path):
    with open(path, "rb") as file:
        key = file.read().strip()
    if not key:
        sys.exit(path + " is empty")
    return key


def stop(signum, frame):
    """Ends serve(), and is not disturbed while the end is on its way."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit()


def take_signals():
    """The loader holds them back until there are handlers."""
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # in the threads to come as well


def say_ready(options):
    """Tells the one who started the daemon that it serves."""
    if "_pylaunchd" in sys.builtin_module_names:
        import _pylaunchd

        _pylaunchd.ready()
    elif options.ready_fd is not None:
        command = [options.loader, "--say-ready", str(options.ready_fd)]
        subprocess.run(command, pass_fds=[options.ready_fd])
        os.close(options.ready_fd)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--authkey-file", required=True)
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
        agent = Agent(socket.socket(fileno=options.socket_fd), read_key(options.authkey_file))
        take_signals()
        threading.Thread(target=agent.report_on_demand, daemon=True).start()
        say_ready(options)
        logging.info("process %d serves", os.getpid())
        agent.serve()
    finally:
        remove(options.remove)
        logging.info("process %d ends", os.getpid())


if __name__ == "__main__":
    main()
