"""Network devices of the host that become a container's: which, and what of them is kept (config-linux.md "Network Devices")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pyruntime.spec import Linux
from pyruntime.spec.refusal import entry

# include/uapi/linux/if_addr.h, rtnetlink.h
IFA_F_SECONDARY = 0x01  # of IPv6: a temporary address, which the kernel makes
IFA_F_PERMANENT = 0x80
RT_SCOPE_UNIVERSE = 0
# NODAD, OPTIMISTIC, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN; the others tell what has become of the address
_GIVEN_FLAGS = 0x02 | 0x04 | 0x10 | 0x100 | 0x200 | 0x400
_GIVEN_ATTRIBUTES = ("IFA_ADDRESS", "IFA_LOCAL", "IFA_BROADCAST", "IFA_ANYCAST", "IFA_RT_PRIORITY", "IFA_PROTO")
_FOREVER = 2**32 - 1
_LONGEST_LABEL = 15  # IFNAMSIZ, which counts the NUL
_AF_INET6 = 10


class NetDeviceMove(msgspec.Struct, frozen=True):
    """A device of the host and its name in the container, which may be a template with `%d`.

    json_path, name_path   of the device, and of what says its name
    """

    host_name: str
    name: str
    json_path: str
    name_path: str

    @property
    def is_template(self) -> bool:
        """Whether the kernel makes a free name of it."""
        return "%d" in self.name

    def __str__(self) -> str:
        return f"{'move network device':32} {self.host_name} to {self.name}  # {self.json_path}"


def moves_of(linux: Linux) -> tuple[NetDeviceMove, ...]:
    """In the order of the configuration."""
    moves = []
    for host_name, device in linux.net_devices.items():
        path = entry("$.linux.netDevices", host_name)
        moves.append(NetDeviceMove(host_name, device.name or host_name, path, path if device.name is None else f"{path}.name"))
    return tuple(moves)


class Address(msgspec.Struct, frozen=True):
    """An address of a device. attributes: of rtnetlink(7), by pyroute2's names; flags: all 32 bits."""

    family: int
    prefix_length: int
    scope: int
    flags: int
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.attributes.get('IFA_LOCAL') or self.attributes.get('IFA_ADDRESS')}/{self.prefix_length}"


def kept_addresses(addresses: Iterable[Address]) -> list[Address]:
    """Those that the container gets: permanent ones of global scope, of any family."""
    return [address for address in addresses if address.flags & IFA_F_PERMANENT and address.scope == RT_SCOPE_UNIVERSE]


def restored_addresses(addresses: Iterable[Address]) -> list[Address]:
    """Those that the host gets again: all but what the kernel makes from others."""
    return [address for address in addresses if not (address.family == _AF_INET6 and address.flags & IFA_F_SECONDARY)]


def renamed(address: Address, old_name: str, new_name: str) -> Address:
    """The address as it is added to the device that has the new name; without what tells only of its past."""
    given = {name: address.attributes[name] for name in _GIVEN_ATTRIBUTES if name in address.attributes}
    label = address.attributes.get("IFA_LABEL", old_name)
    # labels begin with the device's name, and the kernel renames them with it
    label = new_name + label.removeprefix(old_name) if label.startswith(old_name) else label
    if label != new_name and len(label.encode()) <= _LONGEST_LABEL:
        given["IFA_LABEL"] = label
    life = address.attributes.get("IFA_CACHEINFO")
    if life is not None and (life["ifa_preferred"], life["ifa_valid"]) != (_FOREVER, _FOREVER):
        given["IFA_CACHEINFO"] = {"ifa_preferred": life["ifa_preferred"], "ifa_valid": life["ifa_valid"], "cstamp": 0, "tstamp": 0}
    given["IFA_FLAGS"] = address.flags & _GIVEN_FLAGS
    return Address(address.family, address.prefix_length, address.scope, address.flags & _GIVEN_FLAGS, given)
