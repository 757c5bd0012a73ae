"""Links, addresses and routes of one network namespace (rtnetlink(7)); pyroute2 has the format of the messages.

Its sockets are not used: they belong to an event loop, and to the namespace of the thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from pyruntime.plan.net_devices import Address

# include/uapi/linux/netlink.h, rtnetlink.h, sockios.h, if.h
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 270, 10, 11, 12
_REQUEST, _ACK, _DUMP_INTERRUPTED, _ACK_TLVS = 0x001, 0x004, 0x010, 0x200
_REPLACE, _EXCLUSIVE, _CREATE, _APPEND, _DUMP = 0x100, 0x200, 0x400, 0x800, 0x300
_ERROR, _DONE = 2, 3
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG
_NEWADDR, _GETADDR, _GETLINK, _SETLINK, _NEWROUTE, _GETROUTE = 20, 22, 18, 19, 24, 26
_IFF_UP = 1
_SIOCGSKNS = 0x894C
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, 2 lengths, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")
_RTA_OIF, _RTA_CACHEINFO = 4, 12
_RTPROT_KERNEL, _RTN_UNICAST, _RTNH_F_ONLINK, _RTM_F_CLONED = 2, 1, 0x4, 0x200

_RECEIVED_BYTES = 1 << 18
# of a list that changes while it is read
_DUMPS_MAX = 20


class RefusedError(OSError):
    """What the kernel answers; `detail` is what it says besides, '' if nothing."""

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.detail = detail


class Link(msgspec.Struct, frozen=True):
    """A network device. master: index of what it is a part of, a bridge for instance; 0 for nothing."""

    index: int
    name: str
    is_up: bool
    master: int


class Netlink:
    """A socket of a network namespace, which exists at least as long.

    descriptor   a netlink socket, which is the object's then; None: one of the calling thread's namespace
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._socket = (socket.socket(fileno=descriptor) if descriptor is not None
                        else socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE))
        self._sequence = 0
        for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def open_namespace(self) -> int:
        """A descriptor of the namespace."""
        return fcntl.ioctl(self._socket, _SIOCGSKNS)

    def link(self, wanted: str | int) -> Link | None:
        """A device by its name or its index; None if there is none. Raises RefusedError."""
        message = ifinfmsg()
        if isinstance(wanted, int):
            message["index"] = wanted
        else:
            message["attrs"] = [("IFLA_IFNAME", wanted)]
        try:
            (found,) = self._ask(_GETLINK, _encode(message))
        except RefusedError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        link = _link_of(found)
        # a device may have further names, which do not count
        return link if wanted in (link.index, link.name) else None

    def links(self) -> list[Link]:
        """All devices. Raises RefusedError."""
        return [_link_of(data) for data in self._dump(_GETLINK, _encode(ifinfmsg()))]

    def move(self, index: int, name: str, namespace: int, new_index: int) -> None:
        """Put a device into another namespace; it is down then. name: its new one, or a template for it.

        Raises RefusedError. If the name is taken there it may have been moved nevertheless, under its old one.
        """
        self._set_link(index, IFLA_NET_NS_FD=namespace, IFLA_NEW_IFINDEX=new_index, IFLA_IFNAME=name)

    def rename(self, index: int, name: str) -> None:
        self._set_link(index, IFLA_IFNAME=name)

    def set_up(self, index: int) -> None:
        self._set_link(index, flags=_IFF_UP)

    def set_master(self, index: int, master: int) -> None:
        self._set_link(index, IFLA_MASTER=master)

    def _set_link(self, index: int, flags: int = 0, **attributes: object) -> None:
        message = ifinfmsg()
        message["index"] = index
        message["flags"] = message["change"] = flags
        message["attrs"] = list(attributes.items())
        self._ask(_SETLINK, _encode(message))

    def addresses(self, index: int) -> list[Address]:
        """Of a device. Raises RefusedError."""
        message = ifaddrmsg()
        message["index"] = index
        found = []
        for data in self._dump(_GETADDR, _encode(message)):
            address = ifaddrmsg(data)
            address.decode()
            attributes = dict(address["attrs"])
            if address["index"] == index:
                found.append(Address(address["family"], address["prefixlen"], address["scope"],
                                     attributes.pop("IFA_FLAGS", address["flags"]), attributes))
        return found

    def add_address(self, index: int, address: Address) -> None:
        """To a device; one that is there is changed. Raises RefusedError."""
        message = ifaddrmsg()
        message["family"], message["prefixlen"], message["scope"] = address.family, address.prefix_length, address.scope
        message["index"], message["flags"] = index, address.flags & 0xFF
        message["attrs"] = list(address.attributes.items())
        self._ask(_NEWADDR, _encode(message), _CREATE | _REPLACE)

    def routes(self, index: int) -> list[bytes]:
        """Routes over a device alone, which somebody has made, as `add_route` takes them. Raises RefusedError."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _ROUTE.pack(family, *(0,) * 8) + _ATTRIBUTE.pack(8, _RTA_OIF) + struct.pack("=I", index)
            found += [route for data in self._dump(_GETROUTE, request) if (route := _route_of(data[_HEADER.size:], index)) is not None]
        return found

    def add_route(self, route: bytes) -> None:
        """Beside those that are there. Raises RefusedError."""
        self._ask(_NEWROUTE, route, _CREATE | _APPEND)

    def _dump(self, type: int, payload: bytes) -> list[bytes]:
        for _ in range(_DUMPS_MAX):
            found = self._exchange(type, payload, _DUMP)
            if found is not None:
                return found
        raise RefusedError(errno.EINTR, "the list changes all the time")

    def _ask(self, type: int, payload: bytes, flags: int = 0) -> list[bytes]:
        return self._exchange(type, payload, _ACK | flags) or []

    def _exchange(self, type: int, payload: bytes, flags: int) -> list[bytes] | None:
        """What is answered, with headers; None if it changed meanwhile."""
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(payload), type, _REQUEST | flags, self._sequence, 0) + payload)
        found: list[bytes] = []
        is_interrupted = False
        while True:
            for data in _split(self._socket.recv(_RECEIVED_BYTES)):
                _, type, flags, sequence, _ = _HEADER.unpack_from(data)
                if sequence != self._sequence:
                    continue
                is_interrupted |= bool(flags & _DUMP_INTERRUPTED)
                if type not in (_ERROR, _DONE):
                    found.append(data)
                    continue
                _raise_error(data, flags)
                return None if is_interrupted else found


def _encode(message: Any) -> bytes:
    message.encode()
    return bytes(message.data[_HEADER.size:])


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + _HEADER.size <= len(data):
        length = max(_HEADER.unpack_from(data, at)[0], _HEADER.size)
        yield data[at:at + length]
        at += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, type = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield type & 0x3FFF, data[at:at + length]
        at += (length + 3) & ~3


def _raise_error(data: bytes, flags: int) -> None:
    number = -int.from_bytes(data[_HEADER.size:_HEADER.size + 4], "little", signed=True) if len(data) >= _HEADER.size + 4 else 0
    if number <= 0:
        return
    # behind the number is the header of what was sent, without its content (NETLINK_CAP_ACK)
    texts = [text for type, text in _attributes(data[2 * _HEADER.size + 4:]) if type == _ERROR_TEXT] if flags & _ACK_TLVS else []
    raise RefusedError(number, texts[0][_ATTRIBUTE.size:].rstrip(b"\0").decode(errors="replace") if texts else "")


def _link_of(data: bytes) -> Link:
    message = ifinfmsg(data)
    message.decode()
    attributes = dict(message["attrs"])
    return Link(message["index"], attributes.get("IFLA_IFNAME", ""), bool(message["flags"] & _IFF_UP), attributes.get("IFLA_MASTER", 0))


def _route_of(data: bytes, index: int) -> bytes | None:
    *first, protocol, scope, type, flags = _ROUTE.unpack_from(data)
    attributes = dict(_attributes(data[_ROUTE.size:]))
    outward = attributes.get(_RTA_OIF)
    if (protocol == _RTPROT_KERNEL or type != _RTN_UNICAST or flags & _RTM_F_CLONED
            or outward is None or struct.unpack_from("=I", outward, _ATTRIBUTE.size)[0] != index):
        return None
    attributes.pop(_RTA_CACHEINFO, None)
    return _ROUTE.pack(*first, protocol, scope, type, flags & _RTNH_F_ONLINK) + b"".join(
        attribute + bytes(-len(attribute) % 4) for attribute in attributes.values())
