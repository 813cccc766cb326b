#!/usr/bin/env python3
"""Moves units between two accounts of a ledger, each exactly once, through nodes that may die at any time.

README.md beside this file says how the modules `mortise.v1` are made.
"""

import argparse
import json

import cluster
from mortise.v1 import data_pb2


class Session:
    """Within it every write takes effect exactly once."""

    def __init__(self, nodes, tenant):
        self.nodes, self.tenant, self.sequence = nodes, tenant, 0
        self.id = nodes.call("OpenSession", data_pb2.OpenSessionRequest(tenant=tenant)).session

    def write(self, command):
        self.sequence += 1
        request = data_pb2.WriteRequest(
            tenant=self.tenant,
            session=self.id,
            sequence=self.sequence,
            answered_up_to=self.sequence - 1,
            command=json.dumps(command).encode(),
        )
        return json.loads(self.nodes.call("Write", request).reply)

    def query(self, request):
        request = data_pb2.QueryRequest(tenant=self.tenant, request=json.dumps(request).encode())
        return json.loads(self.nodes.call("Query", request).response)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cluster.add_arguments(parser)
    parser.add_argument("--units", type=int, default=1000, help="how many units to move (%(default)s)")
    parser.add_argument("--name", default="python", help="what the accounts' names begin with (%(default)s)")
    arguments = parser.parse_args()

    nodes = cluster.connect(arguments)
    ledger = Session(nodes, arguments.tenant)
    giver, taker = f"{arguments.name}-from", f"{arguments.name}-to"
    for account, overdraft in ((giver, "unlimited"), (taker, "none")):
        try:
            ledger.write({"open": {"account": account, "overdraft": overdraft}})
        except cluster.Refused as refused:
            if refused.detail.rejection.code != "account_exists":
                raise
    before = ledger.query({"balance": {"account": taker}})["balance"]["balance"]
    for number in range(1, arguments.units + 1):
        # Without an idempotency key: session and sequence do that work.
        ledger.write({"transfer": {"debit": giver, "credit": taker, "amount": 1}})
        if number % 50 == 0:
            print(f"{number} of {arguments.units} moved, by {nodes.leader}", flush=True)
    try:
        ledger.write({"transfer": {"debit": taker, "credit": giver, "amount": before + arguments.units + 1}})
    except cluster.Refused as refused:
        print(f"refused, as it should be: {refused.detail.rejection.code}")
    after = ledger.query({"balance": {"account": taker}})["balance"]["balance"]
    print(f"{after - before} units arrived")
    if after - before != arguments.units:
        raise SystemExit("not every unit was moved exactly once")


if __name__ == "__main__":
    main()
