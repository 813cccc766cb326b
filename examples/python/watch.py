#!/usr/bin/env python3
"""Prints what is written to a ledger, a JSON object a line: each command once, in order, whatever happens to the nodes.

README.md beside this file says how the modules `mortise.v1` are made.
"""

import argparse
import itertools
import json

import cluster


def describe(event):
    """A command of the ledger, and what became of it. Its expirations do not exist."""
    described = {"sequence": event.sequence, "epoch": event.position.epoch, "command": json.loads(event.command)}
    if event.WhichOneof("outcome") == "reply":
        return described | {"reply": json.loads(event.reply)}
    return described | {"refused": event.error.rejection.code}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cluster.add_arguments(parser)
    parser.add_argument("--sequence", type=int, default=1, help="the first command, from 1 (%(default)s)")
    parser.add_argument("--limit", type=int, help="how many commands to print (all there will ever be)")
    arguments = parser.parse_args()

    events = cluster.connect(arguments).watch(arguments.tenant, arguments.sequence)
    for event in itertools.islice(events, arguments.limit):
        # To go on after an interruption: --sequence with the last one printed, plus 1.
        print(json.dumps(describe(event)), flush=True)


if __name__ == "__main__":
    main()
