"""Talks to the agent: each line, or each word of the command line, is shown in ROT13."""

import argparse
import sys
from multiprocessing.connection import Client


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--authkey-file", required=True)
    parser.add_argument("text", nargs="*")
    options = parser.parse_args()
    with open(options.authkey_file, "rb") as file:
        authkey = file.read().strip()
    with Client(options.socket, family="AF_UNIX", authkey=authkey) as connection:
        for text in options.text or map(str.rstrip, sys.stdin):
            connection.send(text)
            print(connection.recv(), flush=True)


if __name__ == "__main__":
    main()
