"""Network devices on their way from the host into a container, and back if it is not made (config-linux.md "Network Devices")."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence

import msgspec

from pyruntime.errors import SetupError
from pyruntime.native.process import open_netlink
from pyruntime.network.netlink import Link, Netlink, RefusedError
from pyruntime.notices import log as _log
from pyruntime.plan.net_devices import Address, NetDeviceMove, kept_addresses, renamed, restored_addresses

_STEP = "move network device"
# of finding an index that nobody takes meanwhile
_TRIES_MAX = 5


class _Device(msgspec.Struct, frozen=True):
    """A device as it was on the host."""

    move: NetDeviceMove
    link: Link
    addresses: tuple[Address, ...]
    routes: tuple[bytes, ...]


class NetDevices:
    """Devices of the calling thread's network namespace that a container gets: all or none.

    Whoever has called `move` calls `give_back` or `close`. As long as neither was called the container's namespace exists, so that the kernel
    does not destroy what is in it.
    """

    def __init__(self, moves: Sequence[NetDeviceMove]) -> None:
        self._moves = moves
        self._held = contextlib.ExitStack()
        self._host: Netlink | None = None
        self._container: Netlink | None = None
        # with the index in the container
        self._moved: list[tuple[_Device, int]] = []

    def move(self, pidfd: int) -> None:
        """Into the network namespace of a process: with their names there and the addresses that are kept, and up.

        Raises SetupError; `give_back` then takes back what was done.
        """
        try:
            self._move_all(pidfd)
        except OSError as error:
            raise SetupError("move network devices", None, error.errno or 0, "$.linux.netDevices", _detail(error)) from error

    def _move_all(self, pidfd: int) -> None:
        host = self._host = Netlink()
        self._held.callback(host.close)
        container = self._container = Netlink(open_netlink(pidfd))
        self._held.callback(container.close)
        # nothing is touched before all are found
        devices = [_look_at(host, move) for move in self._moves]
        names = {link.name for link in _list(container)}
        for move in self._moves:
            if move.name in names:
                raise SetupError(_STEP, move.host_name, errno.EEXIST, move.name_path, f"the container has a device {move.name!r}")
        with _opened(container) as namespace:
            for device in devices:
                self._set_up(device, self._move(device, namespace))

    def _move(self, device: _Device, namespace: int) -> int:
        """To the namespace; its index there."""
        assert self._host is not None and self._container is not None
        move = device.move
        for tries in range(1, _TRIES_MAX + 1):
            used = {link.index for link in _list(self._container)}
            # the number is chosen, so that the device is known by it, whatever its name has become
            index = device.link.index if device.link.index not in used else max(used) + 1
            self._moved.append((device, index))
            try:
                self._host.move(device.link.index, move.name, namespace, index)
            except RefusedError as error:
                is_here = self._host.link(device.link.index) is not None
                if is_here:
                    self._moved.pop()
                if is_here and error.errno == errno.EBUSY and tries < _TRIES_MAX:
                    continue
                json_path = move.name_path if error.errno == errno.EEXIST else move.json_path
                raise SetupError(_STEP, move.host_name, error.errno or 0, json_path, error.detail) from error
            return index
        raise AssertionError("the last try has returned or raised")

    def _set_up(self, device: _Device, index: int) -> None:
        assert self._container is not None
        link = self._container.link(index)
        if link is None:
            raise SetupError(_STEP, device.move.host_name, errno.ENODEV, device.move.json_path, "somebody has taken it away")
        for address in kept_addresses(device.addresses):
            try:
                self._container.add_address(index, renamed(address, device.link.name, link.name))
            except RefusedError as error:
                raise SetupError("keep address", str(address), error.errno or 0, device.move.json_path, error.detail) from error
        try:
            self._container.set_up(index)
        except RefusedError as error:
            raise SetupError("set network device up", link.name, error.errno or 0, device.move.json_path, error.detail) from error

    def give_back(self) -> None:
        """To where they were moved from, as they were there; what cannot be is warned of."""
        with self._held:
            if not self._moved or self._host is None or self._container is None:
                return
            back = []
            for device, index in reversed(self._moved):
                with _warned(device, "cannot be taken back"):
                    here = self._host.link(device.link.index)
                    if here is not None and here.name == device.link.name:
                        continue  # interrupted before it was moved
                    self._give_back(device, index, device.link.index if here is None else _free_index(self._host))
                    if here is None:
                        back.append(device)
                    elif device.routes:
                        _log.warning("network device %s has lost its routes: its index was taken while it was in a container", device.link.name)
            # a route may lead over another device
            for device in back:
                for route in device.routes:
                    with _warned(device, "has lost a route"):
                        self._host.add_route(route)

    def _give_back(self, device: _Device, index: int, new_index: int) -> None:
        assert self._host is not None and self._container is not None
        host, link = self._host, device.link
        name = link.name
        if host.link(name) is not None:
            _log.warning("network device %s: its name was taken while it was in a container", name)
            name = "dev%d"  # as the kernel names what comes back from a container that has ended
        with _opened(host) as namespace:
            self._container.move(index, name, namespace, new_index)
        for address in restored_addresses(device.addresses):
            with _warned(device, f"has lost its address {address}"):
                host.add_address(new_index, renamed(address, link.name, link.name))
        if link.master:
            with _warned(device, "has lost its master"):
                host.set_master(new_index, link.master)
        if link.is_up:
            host.set_up(new_index)

    def close(self) -> None:
        """They are the container's."""
        self._held.close()


@contextlib.contextmanager
def _opened(of: Netlink) -> Iterator[int]:
    namespace = of.open_namespace()
    try:
        yield namespace
    finally:
        os.close(namespace)


def _look_at(host: Netlink, move: NetDeviceMove) -> _Device:
    link = host.link(move.host_name)
    if link is None:
        raise SetupError("find network device", move.host_name, errno.ENODEV, move.json_path)
    return _Device(move, link, tuple(host.addresses(link.index)), tuple(host.routes(link.index)))


def _free_index(of: Netlink) -> int:
    return max(link.index for link in of.links()) + 1


def _list(container: Netlink) -> list[Link]:
    return container.links()


def _detail(error: OSError) -> str:
    return error.detail if isinstance(error, RefusedError) else ""


@contextlib.contextmanager
def _warned(device: _Device, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        detail = _detail(error)
        _log.warning("network device %s %s: %s%s", device.link.name, what, error, f" ({detail})" if detail else "")
