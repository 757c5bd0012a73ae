"""Network devices for tests, by iproute2: pairs of virtual Ethernet devices, of which one goes to a container."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

# include/uapi/linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV6_IFADDR
_EVENTS = 0x1 | 0x100
_EVENT_TIMEOUT_S = 60


def ip(*arguments: str, pid: int | None = None) -> str:
    """What ip(8) writes, in the network namespace of a process."""
    command = ["nsenter", "-t", str(pid), "-n"] if pid is not None else []
    # sanitizers are for this process alone
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run([*command, "ip", *arguments], check=True, capture_output=True, text=True, env=environment).stdout


def devices(pid: int | None = None) -> dict[str, dict[str, Any]]:
    """By name, with `addr_info`."""
    return {device["ifname"]: device for device in json.loads(ip("-json", "address", pid=pid))}


def addresses(device: dict[str, Any], *scopes: str) -> list[str]:
    """Of these scopes, with the label of those that have another one than the device's name."""
    found = []
    for address in device["addr_info"]:
        if address["scope"] in (scopes or ("global", "site", "link", "host")):
            label = address.get("label", device["ifname"])
            found.append(f"{address['local']}/{address['prefixlen']}" + (f" {label}" if label != device["ifname"] else ""))
    return sorted(found)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look again whenever something is told of links or addresses."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.bind((0, _EVENTS))
        events.settimeout(_EVENT_TIMEOUT_S)
        while not is_so():
            events.recv(1 << 16)


def kept_state(name: str) -> dict[str, Any]:
    """What of a device of the host does not change by itself, and the routes that somebody has made."""
    device = devices()[name]
    state = {key: device[key] for key in ("ifindex", "mtu", "address", "master") if key in device}
    # an IPv6 address is tentative at first, and the time of a limited one goes on
    known = ("family", "local", "address", "prefixlen", "scope", "label", "metric", "dynamic", "broadcast", "noprefixroute", "nodad")
    return {**state, "is_up": "UP" in device["flags"],
            "addresses": sorted(str({key: address[key] for key in known if key in address}) for address in device["addr_info"]),
            "routes": sorted(json.dumps({key: value for key, value in route.items() if key != "flags"}, sort_keys=True)
                             for family in ("-4", "-6") for route in json.loads(ip("-json", family, "route", "show", "dev", name))
                             if route.get("protocol") != "kernel")}


@contextlib.contextmanager
def pair(name: str, peer: str) -> Iterator[None]:
    """Two devices that are connected, as long as this lasts, unless a container has taken one of them to its end."""
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    try:
        yield
    finally:
        for left in {name, peer} & devices().keys():
            with contextlib.suppress(subprocess.CalledProcessError):  # the other one of the pair was removed with it
                ip("link", "delete", left)
