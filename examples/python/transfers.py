#!/usr/bin/env python3
"""Moves units between two accounts of a ledger, each exactly once, through nodes that may die at any time.

README.md beside this file says how the modules `mortise.v1` are made.
"""

import argparse
import json
import os
import time

import grpc
from grpc_status import rpc_status
from mortise.v1 import common_pb2, data_pb2, data_pb2_grpc

CALL_SECONDS = 3.0
"""How long one node may take for one answer, before another is asked."""
PAUSE_SECONDS = (0.02, 0.5)
"""The first pause between two attempts, and the longest."""


class Refused(Exception):
    """An error that another attempt will meet again."""

    def __init__(self, detail):
        code = common_pb2.ErrorCode.Name(detail.code)
        super().__init__(f"{code}: {detail.message}")
        self.detail = detail


def detail_of(error):
    """The node's own words in a failed call, or None where no node answered."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        return None
    for packed in status.details if status else ():
        detail = common_pb2.ErrorDetail()
        if packed.Unpack(detail):
            return detail
    return None


class Cluster:
    """The nodes, of which one leads: every call goes there, and follows where it goes."""

    def __init__(self, endpoints, patience):
        self.addresses = [endpoint.split("://")[-1] for endpoint in endpoints]
        self.patience = patience
        self.turn = 0
        self.channels = {}
        self.leader = self.addresses[0]

    def call(self, method, request):
        """Calls a method of the data service until somebody answers, or patience ends."""
        deadline = time.monotonic() + self.patience
        pause, longest = PAUSE_SECONDS
        while True:
            try:
                return getattr(self.stub(), method)(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                detail = detail_of(error)
                if detail is not None and not detail.retryable:
                    raise Refused(detail) from error
                if time.monotonic() > deadline:
                    raise
                if detail is not None and detail.leader_hint:
                    self.leader = detail.leader_hint
                elif detail is None or detail.code == common_pb2.ERROR_CODE_NOT_LEADER:
                    self.turn += 1
                    self.leader = self.addresses[self.turn % len(self.addresses)]
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def stub(self):
        if self.leader not in self.channels:
            # A node that comes back is to be found at once.
            options = [("grpc.max_reconnect_backoff_ms", int(1000 * PAUSE_SECONDS[1]))]
            self.channels[self.leader] = grpc.insecure_channel(self.leader, options)
        return data_pb2_grpc.DataStub(self.channels[self.leader])


class Session:
    """Within it every write takes effect exactly once."""

    def __init__(self, cluster, tenant):
        self.cluster, self.tenant, self.sequence = cluster, tenant, 0
        self.id = cluster.call("OpenSession", data_pb2.OpenSessionRequest(tenant=tenant)).session

    def write(self, command):
        self.sequence += 1
        request = data_pb2.WriteRequest(
            tenant=self.tenant,
            session=self.id,
            sequence=self.sequence,
            answered_up_to=self.sequence - 1,
            command=json.dumps(command).encode(),
        )
        return json.loads(self.cluster.call("Write", request).reply)

    def query(self, request):
        request = data_pb2.QueryRequest(tenant=self.tenant, request=json.dumps(request).encode())
        return json.loads(self.cluster.call("Query", request).response)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    endpoint = os.environ.get("MORTISE_ENDPOINT", "http://127.0.0.1:7400")
    parser.add_argument("--endpoint", default=endpoint, help="where nodes serve data, separated by commas (%(default)s)")
    parser.add_argument("--tenant", default="ledger", help="a tenant that runs the plugin ledger (%(default)s)")
    parser.add_argument("--units", type=int, default=1000, help="how many units to move (%(default)s)")
    parser.add_argument("--name", default="python", help="what the accounts' names begin with (%(default)s)")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for one write to succeed (%(default)s)")
    arguments = parser.parse_args()

    cluster = Cluster(arguments.endpoint.split(","), arguments.patience)
    ledger = Session(cluster, arguments.tenant)
    giver, taker = f"{arguments.name}-from", f"{arguments.name}-to"
    for account, overdraft in ((giver, "unlimited"), (taker, "none")):
        try:
            ledger.write({"open": {"account": account, "overdraft": overdraft}})
        except Refused as refused:
            if refused.detail.rejection.code != "account_exists":
                raise
    before = ledger.query({"balance": {"account": taker}})["balance"]["balance"]
    for number in range(1, arguments.units + 1):
        # Without an idempotency key: session and sequence do that work.
        ledger.write({"transfer": {"debit": giver, "credit": taker, "amount": 1}})
        if number % 50 == 0:
            print(f"{number} of {arguments.units} moved, by {cluster.leader}", flush=True)
    try:
        ledger.write({"transfer": {"debit": taker, "credit": giver, "amount": before + arguments.units + 1}})
    except Refused as refused:
        print(f"refused, as it should be: {refused.detail.rejection.code}")
    after = ledger.query({"balance": {"account": taker}})["balance"]["balance"]
    print(f"{after - before} units arrived")
    if after - before != arguments.units:
        raise SystemExit("not every unit was moved exactly once")


if __name__ == "__main__":
    main()
