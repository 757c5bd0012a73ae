"""The features document claims what is executed, and all of it: each claim is tried, and what is not claimed is refused."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from filters import compiled, rule
from spec_examples import load, put, small

import pyruntime
from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan.compile import Place, compile
from pyruntime.plan.mount_options import parse_mount_options
from pyruntime.plan.warnings import warnings_of
from pyruntime.runtimes.bundle import OpenedBundle
from pyruntime.runtimes.compiled import CompiledBundle
from pyruntime.runtimes.filters import compile_filter
from pyruntime.spec import Hooks
from pyruntime.spec.default_config import default_config
from pyruntime.spec.seccomp import SeccompAction, SeccompArchitecture, SeccompOperator

pytestmark = pytest.mark.conformance(63)
FEATURES = pyruntime.features()
LINUX = FEATURES["linux"]
V1_CONTROLLERS = ("blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls", "net_prio", "pids", "rdma")
ABLE: dict[str, Any] = {"has_apparmor": True, "has_selinux": True, "resctrl": "/sys/fs/resctrl"}
HOSTS = {"v1": Host((6, 18), tuple(Hierarchy(f"/cg/{name}", False, (name,)) for name in V1_CONTROLLERS), 0, **ABLE),
         "v2": Host((6, 18), (Hierarchy("/cg", True),), 0, **ABLE)}

# what the specification lets the document have (features.md, features-linux.md, version 1.3); what a name leads to is its type
STRINGS = list[str]
ENABLED = {"enabled": bool}
SHAPE: dict[str, Any] = {
    "ociVersionMin": str, "ociVersionMax": str, "hooks": STRINGS, "mountOptions": STRINGS, "annotations": dict[str, str],
    "potentiallyUnsafeConfigAnnotations": STRINGS,
    "linux": {
        "namespaces": STRINGS, "capabilities": STRINGS,
        "cgroup": {"v1": bool, "v2": bool, "systemd": bool, "systemdUser": bool, "rdma": bool},
        "seccomp": {"enabled": bool, "actions": STRINGS, "operators": STRINGS, "archs": STRINGS, "knownFlags": STRINGS,
                    "supportedFlags": STRINGS},
        "apparmor": ENABLED, "selinux": ENABLED, "memoryPolicy": {"modes": STRINGS, "flags": STRINGS},
        "intelRdt": {"enabled": bool, "schemata": bool, "monitoring": bool}, "mountExtensions": {"idmap": ENABLED},
        "netDevices": ENABLED,
    },
}
# config.md, "Linux mount options"; what it says to be of a file system (acl, noacl) is not for this list
_OPTIONS = """async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime noexec
noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec ridmap
rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave
rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable"""
OPTIONS = _OPTIONS.split()


def misfits(document: Any, shape: Any, at: str = "") -> list[str]:
    """Where a document has what the shape has not, or of another type."""
    if isinstance(shape, dict):
        unknown = [f"{at}.{name}" for name in document if name not in shape]
        return unknown + [line for name, inner in shape.items() if name in document for line in misfits(document[name], inner, f"{at}.{name}")]
    try:
        msgspec.convert(document, shape, strict=True)
    except msgspec.ValidationError as error:
        return [f"{at}: {error}"]
    return []


def test_the_document_has_the_specifications_form() -> None:
    assert misfits(FEATURES, SHAPE) == []
    assert misfits({"ociVersionMin": 1, "linux": {"cgroup": {"v3": True}}}, SHAPE) == [
        ".ociVersionMin: Expected `str`, got `int`", ".linux.cgroup.v3"]
    # false and empty say that there is no such thing, and nothing here is left unsaid
    assert set(FEATURES) == set(SHAPE) and set(LINUX) >= set(SHAPE["linux"]) - {"memoryPolicy"}


def test_command_and_function_say_the_same() -> None:
    printed = subprocess.run([sys.executable, "-m", "pyruntime", "features"], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == FEATURES


def executed(place: tuple[str | int, ...], value: object, host: Host = HOSTS["v2"]) -> bool:
    """Whether a plan can be made for it."""
    config = put(default_config(), place, value)
    try:
        plan = compile(load(config), host, Place("c", "/b", "/b/rootfs", "/run/c"))
    except UnsupportedFieldError:
        return False
    return plan != compile(load(default_config()), host, Place("c", "/b", "/b/rootfs", "/run/c"))


MAPPING = [{"containerID": 0, "hostID": 100000, "size": 10}]
MAPPED_MOUNT = {"destination": "/m", "type": "bind", "source": "/s", "options": ["rbind", "idmap"], "uidMappings": MAPPING,
                "gidMappings": MAPPING}
CLAIMS: dict[tuple[str, ...], tuple[tuple[str | int, ...], object]] = {
    ("apparmor", "enabled"): (("process", "apparmorProfile"), "profile"),
    ("selinux", "enabled"): (("process", "selinuxLabel"), "u:r:t:s0"),
    ("intelRdt", "enabled"): (("linux", "intelRdt"), {"closID": "c"}),
    ("intelRdt", "schemata"): (("linux", "intelRdt"), {"closID": "c", "schemata": ["L3:0=f"]}),
    ("intelRdt", "monitoring"): (("linux", "intelRdt"), {"closID": "c", "enableMonitoring": True}),
    ("mountExtensions", "idmap", "enabled"): (("mounts", 0), MAPPED_MOUNT),
    ("netDevices", "enabled"): (("linux", "netDevices"), {"eth0": {}}),
    ("cgroup", "rdma"): (("linux", "resources", "rdma"), {"d": {"hcaHandles": 3}}),
    ("memoryPolicy",): (("linux", "memoryPolicy"), {"mode": "MPOL_INTERLEAVE", "nodes": "0"}),
}


@pytest.mark.parametrize("claim", CLAIMS, ids=".".join)
def test_what_is_claimed_is_executed_and_the_rest_is_refused(claim: tuple[str, ...]) -> None:
    found: Any = LINUX
    for name in claim:
        found = found.get(name, False)
    assert bool(found) == executed(*CLAIMS[claim])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_cgroup_versions(version: str) -> None:
    assert LINUX["cgroup"][version] is executed(("linux", "resources", "pids"), {"limit": 7}, HOSTS[version]) is True


def test_memory_policies_that_are_claimed() -> None:
    """And no others, since these are all that the specification has."""
    claimed = LINUX.get("memoryPolicy", {})
    modes = ["DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL"]
    tried = {f"MPOL_{mode}": {"mode": f"MPOL_{mode}"} | ({} if mode in ("DEFAULT", "LOCAL") else {"nodes": "0"}) for mode in modes}
    assert set(claimed.get("modes", [])) == {mode for mode, policy in tried.items() if executed(("linux", "memoryPolicy"), policy)}
    flags = {flag: {"mode": "MPOL_BIND", "nodes": "0", "flags": [f"MPOL_F_{flag}"]}
             for flag in ("NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES")}
    assert set(claimed.get("flags", [])) == {
        f"MPOL_F_{flag}" for flag, policy in flags.items() if executed(("linux", "memoryPolicy"), policy)}


@pytest.mark.conformance(1)
def test_versions() -> None:
    for version in (FEATURES["ociVersionMin"], FEATURES["ociVersionMax"], "1.99.0"):
        assert load(small() | {"ociVersion": version}).oci_version == version
    assert FEATURES["ociVersionMin"] == "1.0.0" and FEATURES["ociVersionMax"] == "1.3.0"
    # what is older than the first version is read as well, and no version to be promised
    assert load(small() | {"ociVersion": "0.5.0"}).oci_version == "0.5.0"
    with pytest.raises(UnsupportedFieldError):
        load(small() | {"ociVersion": "2.0.0"})


def test_hooks() -> None:
    assert FEATURES["hooks"] == list(Hooks.__struct_encode_fields__)
    for kind in FEATURES["hooks"]:
        hooks = load(put(small(), ("hooks", kind), [{"path": "/bin/true"}])).hooks
        assert [name for name in Hooks.__struct_fields__ if getattr(hooks, name)] == [re.sub("([A-Z])", r"_\1", kind).lower()]


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_mount_options(option: str) -> None:
    """One that is claimed is no data of a file system."""
    assert (option in FEATURES["mountOptions"]) is (not parse_mount_options((option,)).unknown) is True


def test_no_mount_option_is_claimed_that_is_unknown() -> None:
    assert {option for option in FEATURES["mountOptions"] if option not in OPTIONS} <= {"nodirsync"}
    assert len(set(FEATURES["mountOptions"])) == len(FEATURES["mountOptions"])


def test_capabilities_are_the_kernels() -> None:
    """Of the headers that this was compiled with, and of this kernel, if it is not newer."""
    macros = subprocess.run(["gcc", "-E", "-dM", "-include", "linux/capability.h", "-x", "c", "/dev/null"], capture_output=True, text=True,
                            check=True).stdout
    header = dict(re.findall(r"^#define (CAP_\w+) (\d+)$", macros, re.MULTILINE))
    assert {name for name in header if name != "CAP_LAST_CAP"} == set(LINUX["capabilities"])
    sets = {name: LINUX["capabilities"] for name in ("bounding", "permitted", "effective", "inheritable", "ambient")}
    every = Host((6, 18), HOSTS["v2"].hierarchies, 2**64 - 1)
    assert warnings_of(load(put(default_config(), ("process", "capabilities"), sets)), every) == ()
    assert warnings_of(load(put(default_config(), ("process", "capabilities", "bounding"), ["CAP_OF_NO_KERNEL"])), every)


def test_seccomp_actions_and_operators() -> None:
    assert LINUX["seccomp"]["enabled"] is True
    assert set(LINUX["seccomp"]["actions"]) == {str(action) for action in SeccompAction}
    assert set(LINUX["seccomp"]["operators"]) == {str(operator) for operator in SeccompOperator}
    programs = {compiled("SCMP_ACT_ERRNO" if action == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW", rule("chdir", action), listenerPath="/l").program
                for action in LINUX["seccomp"]["actions"]}
    assert len(programs) == len(SeccompAction) - 1  # KILL is KILL_THREAD
    conditions = [rule("chdir", "SCMP_ACT_ERRNO", (0, operator.removeprefix("SCMP_CMP_"), 6, 2)) for operator in LINUX["seccomp"]["operators"]]
    assert len({compiled("SCMP_ACT_ALLOW", condition).program for condition in conditions}) == len(SeccompOperator)


@pytest.mark.parametrize("architecture", [str(architecture) for architecture in SeccompArchitecture])
def test_seccomp_architectures(architecture: str) -> None:
    if architecture in LINUX["seccomp"]["archs"]:
        assert compiled("SCMP_ACT_ALLOW", rule("chdir", "SCMP_ACT_ERRNO"), architectures=[architecture]).program
    else:
        with pytest.raises(UnsupportedFieldError):
            compiled("SCMP_ACT_ALLOW", rule("chdir", "SCMP_ACT_ERRNO"), architectures=[architecture])


def test_libseccomp_is_the_one_that_is_linked() -> None:
    with open("/proc/self/maps") as maps:
        (path,) = {line.split()[-1] for line in maps if "libseccomp" in line}
    library = ctypes.CDLL(path)

    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]

    library.seccomp_version.restype = ctypes.POINTER(Version)
    found = library.seccomp_version().contents
    assert FEATURES["annotations"]["io.github.seccomp.libseccomp.version"] == f"{found.major}.{found.minor}.{found.micro}"


# what others' runtimes act on, and what looks like it
ANNOTATIONS = {"run.oci.handler": "wasm", "run.oci.systemd.subgroup": "x", "org.systemd.property": "uint64 7",
               "Org.systemd.property.CPUWeight": "uint64 7", "org.criu.config": "/etc/criu", "run.oci.seccomp_fail_unknown_syscall": "1",
               "run.oci.pidfd_receiver": "/s", "run.oci.keep_original_groups": "0"}
UNSAFE = {"org.systemd.property.CPUWeight": "uint64 7"}


@pytest.mark.conformance(64)
@pytest.mark.parametrize("units", [None, ""], ids=["without-systemd", "with-systemd"])
def test_annotations_change_nothing_but_those_that_are_named(units: str | None) -> None:
    """Which are properties of a container's unit, where systemd makes one, and whose groups it has; else all are only told with the state."""
    assert FEATURES["potentiallyUnsafeConfigAnnotations"] == ["org.systemd.property.", "run.oci.keep_original_groups"]
    place = Place("c", "/b", "/b/rootfs", "/run/c", units)
    for host in HOSTS.values():
        properties = []
        for given in ({}, ANNOTATIONS, ANNOTATIONS | UNSAFE):
            annotated = load(default_config() | {"annotations": given})
            assert annotated.annotations == given
            assert compile(annotated, host, place) == compile(load(default_config()), host, place)
            assert warnings_of(annotated, host) == warnings_of(load(default_config()), host)
            bundle = CompiledBundle(OpenedBundle("/b", "/b/rootfs", annotated), host, units, compile_filter)
            properties.append(bundle.unit_properties("c", ()) if units is not None else [])
        plain, otherwise, named = properties
        assert plain == otherwise
        assert [each for each in named if each not in plain] == ([("CPUWeight", ("t", 7))] if units is not None else [])
