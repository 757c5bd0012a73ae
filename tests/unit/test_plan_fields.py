"""Every field of config.json does something: it changes the plan, or it is refused with its path.

Fields are found by walking the structs, so a new one fails here until it is executed, refused, or named below.
"""

from __future__ import annotations

import copy
import enum
import typing
from typing import Any

import msgspec
import pytest
from spec_examples import Place, full, json_path, load, places

from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan.compile import Place as Directories
from pyruntime.plan.compile import compile
from pyruntime.plan.operations import Plan
from pyruntime.spec import Mount, Namespace, Process, Spec, TimeOffset
from pyruntime.spec.explain import _bare

V1 = Host((6, 1), (*(Hierarchy(f"/cg/{name}", False, (name,)) for name in
                     ("cpu", "cpuset", "memory", "pids", "devices", "blkio", "freezer")), Hierarchy("/cg/unified", True)), 0)
V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
DIRECTORIES = Directories("c", "/b", "/b/rootfs", "/run/c")

Field = tuple[str, str]
# what means nothing to a plan, and why
WITHOUT_EFFECT: dict[Field, str] = {
    ("Spec", "oci_version"): "checked on loading, told by the state",
    ("Spec", "annotations"): "told by the state",
    ("Root", "path"): "made absolute when the bundle is opened",
    ("User", "username"): "of Windows",
    ("Memory", "use_hierarchy"): "Linux has had nothing else since 5.11",
    ("Memory", "check_before_update"): "a new cgroup uses nothing yet",
    ("Personality", "flags"): "none is valid",
}


def all_fields() -> set[Field]:
    """Of all structs that a Spec can hold."""
    found: set[Field] = set()

    def walk(declared: Any) -> None:
        declared = _bare(declared)
        if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
            for name, hint in typing.get_type_hints(declared, include_extras=True).items():
                if name in declared.__struct_fields__:
                    found.add((declared.__name__, name))
                    walk(hint)
        else:
            for argument in typing.get_args(declared):
                if argument is not Ellipsis:
                    walk(argument)

    walk(Spec)
    return found


def field_at(place: Place) -> Field | None:
    """The field whose value stands there, or a part of it; None for a key of a map alone."""
    declared: Any = Spec
    field: Field | None = None
    for step in place:
        if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
            names = dict(zip(declared.__struct_encode_fields__, declared.__struct_fields__, strict=True))
            field = (declared.__name__, names[str(step)])
            declared = _bare(typing.get_type_hints(declared, include_extras=True)[names[str(step)]])
        else:
            arguments = typing.get_args(declared)
            declared = _bare(arguments[0] if typing.get_origin(declared) is tuple else arguments[1])
    return field


def at(config: Any, place: Place) -> Any:
    for step in place:
        config = config[step]
    return config


def without(config: dict[str, Any], place: Place) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    del at(changed, place[:-1])[place[-1]]
    return changed


def with_value(config: dict[str, Any], place: Place, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    at(changed, place[:-1])[place[-1]] = value
    return changed


def plan_of(config: dict[str, Any], host: Host) -> Plan:
    return compile(load(config), host, DIRECTORIES)


def strip_refused(config: dict[str, Any], host: Host) -> tuple[dict[str, Any], set[Field]]:
    """The rest of the configuration, which is executed, and the fields that were refused, with all below them."""
    by_path = {json_path(place): place for place, _ in places(config)}
    refused: set[Field] = set()
    while True:
        try:
            plan_of(config, host)
        except UnsupportedFieldError as error:
            assert error.json_path in by_path, error
            place = by_path[error.json_path]
            below = [place] + [other for other, _ in places(config) if other[:len(place)] == place]
            if place[-1] == "uidMappings" and place[0] == "mounts":
                below.append((*place[:-1], "gidMappings"))
                config = without(config, below[-1])
            refused |= {field for other in below if (field := field_at(other))}
            config = without(config, place)
            by_path = {json_path(place): place for place, _ in places(config)}
        else:
            return config, refused


def alternatives(value: object, field: Field) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, 0]
    if field == ("DeviceCgroupRule", "access"):
        return ["r", "w", "rwm"]
    if isinstance(value, str):
        struct = next(s for s in (Namespace, Mount, Process, TimeOffset, Spec, *msgspec_structs()) if s.__name__ == field[0])
        declared = _bare(typing.get_type_hints(struct, include_extras=True)[field[1]])
        if isinstance(declared, type) and issubclass(declared, enum.Enum):
            return [member.value for member in declared]
        return [value + "x", value + "1", "/other", "1"]
    return []


def msgspec_structs() -> list[type[msgspec.Struct]]:
    import pyruntime.spec

    return [value for name in pyruntime.spec.__all__
            if isinstance(value := getattr(pyruntime.spec, name), type) and issubclass(value, msgspec.Struct)]


def configurations() -> list[dict[str, Any]]:
    """The full one; and one without a user namespace and without a bind mount, where other fields have their effect."""
    one, other = full(), full()
    linux = other["linux"]
    # without one more, so that there is a type that another can be changed to
    linux["namespaces"] = [namespace for namespace in linux["namespaces"] if namespace["type"] not in ("user", "ipc")]
    del linux["uidMappings"], linux["gidMappings"]
    other["mounts"] = [{"destination": "/data", "type": "tmpfs", "source": "data", "options": ["size=1k"]}]
    # rules that begin by denying are what holds already
    linux["resources"]["devices"] = [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    other["process"]["scheduler"] = {"policy": "SCHED_RR", "priority": 1}
    return [one, other]


@pytest.mark.parametrize("host", [V1, V2], ids=["v1", "v2"])
def test_every_field_is_executed_or_refused(host: Host) -> None:
    executed: set[Field] = set()
    refused: set[Field] = set()
    for config in configurations():
        config, found = strip_refused(config, host)
        refused |= found
        unchanged = plan_of(config, host)
        for place, value in places(config):
            field = field_at(place)
            # what changes the plan is also the fields that it is in
            within = {other for n in range(1, len(place) + 1) if (other := field_at(place[:n]))}
            if field is None or within <= executed:
                continue
            changes = [without(config, place)] + [with_value(config, place, other) for other in alternatives(value, field)]
            for changed in changes:
                try:
                    if plan_of(changed, host) != unchanged:
                        executed |= within
                        break
                except UnsupportedFieldError:
                    refused.add(field)
                except InvalidBundleError:
                    continue
    every = all_fields()
    assert len(every) > 120
    silent = every - executed - refused
    assert silent == set(WITHOUT_EFFECT), {f"{s}.{n}" for s, n in silent ^ set(WITHOUT_EFFECT)}
