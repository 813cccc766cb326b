"""A cluster of Mortise, as any client sees it: its leader is found and followed, calls are repeated, watches go on."""

import os
import time

import grpc
from grpc_status import rpc_status
from mortise.v1 import common_pb2, data_pb2, data_pb2_grpc

CALL_SECONDS = 3.0
"""How long one node may take for one answer, before another is asked."""
WATCH_SECONDS = 10.0
"""How long one node is listened to, before the watch is begun anew: so one that hangs is left."""
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
        self.pause = PAUSE_SECONDS[0]

    def call(self, method, request):
        """Calls a method of the data service until somebody answers, or patience ends."""
        begun = time.monotonic()
        while True:
            try:
                answer = getattr(self.stub(), method)(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                self.failed(error, begun)
            else:
                self.pause = PAUSE_SECONDS[0]
                return answer

    def watch(self, tenant, sequence):
        """Yields a tenant's commands as they are applied, from a sequence on: each once and in order, whoever leads."""
        request = data_pb2.WatchRequest(tenant=tenant, sequence=sequence)
        heard = time.monotonic()
        while True:
            try:
                for response in self.stub().Watch(request, timeout=WATCH_SECONDS):
                    yield from response.events
                    # Where to go on, wherever that is. A node with another history refuses instead.
                    request = data_pb2.WatchRequest(
                        tenant=tenant,
                        sequence=response.next_sequence,
                        tenant_id=response.tenant_id,
                        after=response.after if response.HasField("after") else None,
                    )
                    heard, self.pause = time.monotonic(), PAUSE_SECONDS[0]
            except grpc.RpcError as error:
                self.failed(error, heard)

    def failed(self, error, since):
        """Decides where the next attempt goes, and waits; raises where there is to be none."""
        detail = detail_of(error)
        if detail is not None and not detail.retryable:
            raise Refused(detail) from error
        if time.monotonic() - since > self.patience:
            raise error
        if detail is not None and detail.leader_hint:
            self.leader = detail.leader_hint
        elif detail is None or detail.code == common_pb2.ERROR_CODE_NOT_LEADER:
            self.turn += 1
            self.leader = self.addresses[self.turn % len(self.addresses)]
        time.sleep(self.pause)
        self.pause = min(2 * self.pause, PAUSE_SECONDS[1])

    def stub(self):
        if self.leader not in self.channels:
            # A node that comes back is to be found at once.
            options = [("grpc.max_reconnect_backoff_ms", int(1000 * PAUSE_SECONDS[1]))]
            self.channels[self.leader] = grpc.insecure_channel(self.leader, options)
        return data_pb2_grpc.DataStub(self.channels[self.leader])


def add_arguments(parser):
    """What every program that speaks to a cluster takes."""
    endpoint = os.environ.get("MORTISE_ENDPOINT", "http://127.0.0.1:7400")
    parser.add_argument("--endpoint", default=endpoint, help="where nodes serve data, separated by commas (%(default)s)")
    parser.add_argument("--tenant", default="ledger", help="a tenant that runs the plugin ledger (%(default)s)")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for one answer to come (%(default)s)")


def connect(arguments):
    """The cluster that these arguments name. Nothing is sent yet."""
    return Cluster(arguments.endpoint.split(","), arguments.patience)
