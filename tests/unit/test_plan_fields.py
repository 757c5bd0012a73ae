"""Every field of config.json does something in every configuration that has it: it changes the plan, or it is warned of, or
it is refused with its path.

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
from pyruntime.plan.seccomp import Filter, filter_flags, filter_source
from pyruntime.plan.warnings import warnings_of
from pyruntime.spec import Mount, Namespace, Process, Seccomp, Spec, TimeOffset
from pyruntime.spec.explain import _bare

V1 = Host((6, 1), (*(Hierarchy(f"/cg/{name}", False, (name,)) for name in
                     ("cpu", "cpuset", "memory", "pids", "devices", "blkio", "freezer", "hugetlb", "net_cls", "net_prio", "rdma")),
                   Hierarchy("/cg/unified", True)), 0)
V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
DIRECTORIES = Directories("c", "/b", "/b/rootfs", "/run/c")

Field = tuple[str, str]
# what means nothing to a plan, and why
WITHOUT_EFFECT: dict[Field, str] = {
    ("Root", "path"): "made absolute when the bundle is opened",
    ("Memory", "check_before_update"): "a new cgroup uses nothing yet",
    **{field: "for further processes alone (test_plan_scheduling.py)"
       for field in (("Process", "exec_cpu_affinity"), ("CPUAffinity", "initial"), ("CPUAffinity", "final"))},
}
# of which no value is valid on Linux (test_spec_fields.py)
VALUELESS = {("Personality", "flags"), ("Process", "command_line"), ("User", "username"),
             *(("Spec", platform) for platform in ("freebsd", "solaris", "vm", "windows", "zos"))}


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
    spec = load(config)
    return compile(spec, host, DIRECTORIES, filter=filter_of(spec.linux.seccomp, host) if spec.linux.seccomp else None)


def filter_of(seccomp: Seccomp, host: Host) -> Filter:
    """What takes the place of a program says all that one is made from; the listener is told by the runtime."""
    source = repr((filter_source(seccomp), seccomp.listener_path, seccomp.listener_metadata)).encode()
    return Filter(source, filter_flags(seccomp, host))


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
        return [value + 1, value - 1, 0, 2**20]
    if field == ("DeviceCgroupRule", "access"):
        return ["r", "w", "rwm"]
    if isinstance(value, str):
        struct = next(s for s in (Namespace, Mount, Process, TimeOffset, Spec, *msgspec_structs()) if s.__name__ == field[0])
        declared = _bare(typing.get_type_hints(struct, include_extras=True)[field[1]])
        if isinstance(declared, type) and issubclass(declared, enum.Enum):
            return [member.value for member in declared]
        return [value + "x", value + "1", "/other", "1", "1.2.0", "1GB"]
    return []


def msgspec_structs() -> list[type[msgspec.Struct]]:
    import pyruntime.spec

    return [value for name in pyruntime.spec.__all__
            if isinstance(value := getattr(pyruntime.spec, name), type) and issubclass(value, msgspec.Struct)]


def without_user_namespace() -> dict[str, Any]:
    """And without a bind mount and one namespace more, so that there is a type that another can be changed to."""
    config = full()
    linux = config["linux"]
    linux["namespaces"] = [namespace for namespace in linux["namespaces"] if namespace["type"] not in ("user", "ipc")]
    del linux["uidMappings"], linux["gidMappings"]
    config["mounts"] = [{"destination": "/data", "type": "tmpfs", "source": "data", "options": ["size=1k"]},
                        {"destination": "/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "rslave"]},
                        {"destination": "/cgroup2", "type": "cgroup2", "options": ["nosuid"]}]
    # rules that begin by denying are what holds already
    linux["resources"]["devices"] = [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    linux["devices"] += [{"path": "/opt/pipe", "type": "p", "fileMode": 0o600, "uid": 3, "gid": 4},
                         {"path": "/opt/disk", "type": "b", "major": 8, "minor": 1, "fileMode": 0o600, "uid": 3, "gid": 4}]
    config["process"]["scheduler"] = {"policy": "SCHED_RR", "priority": 1}
    # no other action takes so large a number
    del linux["seccomp"]["syscalls"][0]["errnoRet"]
    return config


def in_user_namespace() -> dict[str, Any]:
    config = full()
    config["mounts"] = [{"destination": "/data", "source": "/volumes/data", "options": ["rbind", "ro", "rslave"]}]
    # on a network namespace that is not the user namespace's own nothing can be set
    config["linux"]["namespaces"] = [{"type": namespace["type"]} for namespace in config["linux"]["namespaces"]
                                     if namespace["type"] != "ipc"]
    return config


def in_joined_user_namespace() -> dict[str, Any]:
    config = in_user_namespace()
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "user":
            namespace["path"] = "/proc/7/ns/user"
    return config


def with_bound_dev() -> dict[str, Any]:
    config = without_user_namespace()
    config["mounts"] = [{"destination": "/dev", "source": "/dev", "options": ["rbind", "nosuid"]}]
    return config


def idle() -> dict[str, Any]:
    config = without_user_namespace()
    config["linux"]["resources"]["cpu"]["idle"] = 1
    return config


CONFIGURATIONS = {"full": full, "no user namespace": without_user_namespace, "user namespace": in_user_namespace,
                  "joined user namespace": in_joined_user_namespace, "bound dev": with_bound_dev, "idle": idle}
# places where a field means nothing, and why
CGROUP_NAME = {("Mount", "source"): "of a cgroup mount it is a name that means nothing"}
EXCEPTIONS: dict[str, dict[Field, str]] = {
    "full": {("Mount", "type"): "of a bind mount it is a dummy (config.md)"},
    "no user namespace": CGROUP_NAME, "idle": CGROUP_NAME,
    "joined user namespace": {("IDMapping", name): "that there are mappings is warned of, whatever they are"
                              for name in ("container_id", "host_id", "size")},
}


def told(config: dict[str, Any], host: Host) -> tuple[Plan, tuple[str, ...]]:
    return plan_of(config, host), warnings_of(load(config), host)


def judge(config: dict[str, Any], host: Host) -> tuple[set[Field], set[Field]]:
    """Fields that have an effect, and those that stand at some place where neither leaving them out nor any other value has one."""
    config, effective = strip_refused(config, host)
    silent: set[Field] = set()
    unchanged = told(config, host)
    for place, value in places(config):
        field = field_at(place)
        if field is None:
            continue
        ignored = False
        others = [other for other in alternatives(value, field) if other != value]
        for changed in [without(config, place)] + [with_value(config, place, other) for other in others]:
            try:
                ignored |= (differs := told(changed, host) != unchanged) is False
            except UnsupportedFieldError:
                differs = True
            except InvalidBundleError:
                continue  # says nothing: another field does not allow it
            if differs:
                # what changes the plan is also the fields that it is in
                effective |= {outer for n in range(1, len(place) + 1) if (outer := field_at(place[:n]))}
                break
        else:
            if ignored:
                silent.add(field)
    return effective, silent


@pytest.mark.parametrize("host", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_field_is_executed_or_refused(name: str, host: Host) -> None:
    config = CONFIGURATIONS[name]()
    expected = {field for field in WITHOUT_EFFECT if any(field_at(place) == field for place, _ in places(config))}
    _, silent = judge(config, host)
    expected |= set(EXCEPTIONS.get(name, {}))
    assert silent == expected, {f"{s}.{n}" for s, n in silent ^ expected}


def test_every_field_has_an_effect_somewhere() -> None:
    every = all_fields()
    assert len(every) > 120
    effective = {field for make in CONFIGURATIONS.values() for host in (V1, V2) for field in judge(make(), host)[0]}
    idle = every - effective
    assert idle == VALUELESS | set(WITHOUT_EFFECT), {f"{s}.{n}" for s, n in idle ^ (VALUELESS | set(WITHOUT_EFFECT))}
