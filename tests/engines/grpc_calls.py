"""Makes unary gRPC calls on a unix socket: `METHOD REQUEST` for each line of its input, `CODE RESPONSE` or `CODE DETAILS` for each of
its output, messages and details in base64.

    python3 grpc_calls.py SOCKET TIMEOUT_S
"""

from __future__ import annotations

import base64
import sys

import grpc


def call(channel: grpc.Channel, method: str, request: bytes, timeout_s: float) -> tuple[str, bytes]:
    try:
        return "OK", channel.unary_unary(method)(request, timeout=timeout_s, wait_for_ready=True)
    except grpc.RpcError as error:
        return error.code().name, error.details().encode()


def main(socket: str, timeout_s: str) -> None:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        for line in sys.stdin:
            method, request = line.rstrip("\n").split(" ")
            code, answer = call(channel, method, base64.b64decode(request), float(timeout_s))
            print(code, base64.b64encode(answer).decode("ascii"), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
