"""Properties of a container's unit that annotations state, `org.systemd.property.NAME`: what docs/systemd.md of runc says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pyruntime.cgroups.systemd import PROPERTY_ANNOTATION, Property
from pyruntime.errors import InvalidBundleError
from pyruntime.plan.gvariant import NUMBERS, parse
from pyruntime.plan.unit_properties import resource_properties
from pyruntime.spec import Resources
from pyruntime.spec.refusal import entry, quote

# more microseconds have no room in the 64 bits
_LONGEST_S = (2**64 - 1) // 1_000_000
# by which the container's cgroup is where the plan has it, and the container's
_OF_RUNTIME = {"PIDs": "the processes of the unit are the container's", "Slice": "where the unit is says $.linux.cgroupsPath"}
_OF_DEVICES = ("DevicePolicy", "DeviceAllow")


class Stated(NamedTuple):
    """A property and the annotation that states it."""

    json_path: str
    property: Property


def stated_properties(annotations: Mapping[str, str], resources: Resources | None,
                      is_unified: bool) -> tuple[tuple[Stated, ...], tuple[str, ...]]:
    """And what is left out of them, in words.

    Raises InvalidBundleError for what systemd cannot be told at all; names and types of properties are its to refuse.
    """
    found: dict[str, Stated] = {}
    for key, text in annotations.items():
        if not key.startswith(PROPERTY_ANNOTATION):
            continue
        stated = Stated(entry("$.annotations", key), _property(key, text))
        name = stated.property[0]
        other = found.setdefault(name, stated)
        if other.property != stated.property:
            raise InvalidBundleError(None, stated.json_path, f"states another {name} than {other.json_path}")
    limits = dict(resource_properties(resources, is_unified)) if resources is not None else {}
    left_out = [found.pop(name) for name in list(_overridden(found.values(), limits))]
    return tuple(found.values()), tuple(f"{each.json_path} is left out: {each.property[0]} is what $.linux.resources says" for each in left_out)


def _property(key: str, text: str) -> Property:
    json_path, name = entry("$.annotations", key), key.removeprefix(PROPERTY_ANNOTATION)
    if not (name.isascii() and name.isalpha()):
        raise InvalidBundleError(None, json_path, f"names the property {quote(name)}, and systemd's have letters only")
    try:
        signature, value = parse(text)
    except ValueError as error:
        raise InvalidBundleError(None, json_path, f"is {quote(text)}, which is no value in GVariant's text format: {error}") from error
    stem = name.removesuffix("Sec")
    # documented with Sec, and in D-Bus with USec; SEC and USec are no such ends
    if stem != name and stem[-1:].islower():
        if signature not in NUMBERS or not 0 <= value <= _LONGEST_S:
            raise InvalidBundleError(None, json_path, f"is {quote(text)}, and seconds are a number from 0 to {_LONGEST_S}")
        name, signature, value = f"{stem}USec", "t", round(value * 1_000_000)
    if name in _OF_RUNTIME:
        raise InvalidBundleError(None, json_path, f"cannot be stated: {_OF_RUNTIME[name]}")
    if name == "Delegate" and value is False:
        raise InvalidBundleError(None, json_path, "cannot be false: systemd would change what is in the container's cgroup")
    return name, (signature, value)


def _overridden(stated: Iterable[Stated], limits: Mapping[str, tuple[str, Any]]) -> Iterator[str]:
    """The names of those that are otherwise by `linux.resources`: these are written to the cgroup's files, and count with runc and crun."""
    for each in stated:
        name, value = each.property
        if name in _OF_DEVICES or limits.get(name, value) != value:
            yield name
