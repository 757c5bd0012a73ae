"""Checks of a whole config.json (runtime-spec, config.md and config-linux.md)."""

from __future__ import annotations

from pyruntime.spec.checks.host import OTHER_PLATFORMS
from pyruntime.spec.checks.namespaces import check_mappings, check_namespaces
from pyruntime.spec.checks.process import check_process
from pyruntime.spec.checks.resources import check_resources
from pyruntime.spec.checks.seccomp import check_seccomp
from pyruntime.spec.checks.text import check_absolute, check_mask, numbers_in
from pyruntime.spec.container import Hooks, Mount, Spec
from pyruntime.spec.isolation import Device, DeviceType, IntelRdt, Linux, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, NamespaceType
from pyruntime.spec.refusal import Refused, entry, quote

_MAJOR_VERSIONS = ("0", "1")
_WITHOUT_NODES = (MemoryPolicyMode.DEFAULT, MemoryPolicyMode.LOCAL)
_OF_NODES = {MemoryPolicyFlag.STATIC_NODES, MemoryPolicyFlag.RELATIVE_NODES}
_BALANCED = (MemoryPolicyMode.BIND, MemoryPolicyMode.PREFERRED_MANY)
_LARGEST_FILE_MODE = 0o7777


def check_spec(spec: Spec) -> None:
    """Refuse what no container is described by, on whatever platform."""
    _check_version(spec.oci_version)
    for platform in OTHER_PLATFORMS:
        if getattr(spec, platform) is not None:
            from pyruntime.spec.platforms import check_section  # nobody else needs it

            check_section(platform, getattr(spec, platform))
    check_namespaces(spec)
    for i, mount in enumerate(spec.mounts):
        # of a remount it means nothing
        if mount.source is None and ("bind" in mount.options or "rbind" in mount.options) and "remount" not in mount.options:
            raise Refused(f"$.mounts[{i}].source", "is required for a bind mount, but missing or empty")
        if mount.uid_mappings or mount.gid_mappings or "idmap" in mount.options or "ridmap" in mount.options:
            _check_mapped_mount(mount, f"$.mounts[{i}]", spec.linux)
    if spec.process is not None:
        check_process(spec.process, "$.process", is_windows=spec.windows is not None)
    _check_hooks(spec.hooks)
    if "" in spec.annotations:
        raise Refused(entry("$.annotations", ""), "the key is empty")
    _check_linux(spec.linux)


def _check_version(version: str) -> None:
    if not _is_semantic_version(version):
        raise Refused("$.ociVersion", f"{quote(version)} is not a version of the form 1.2.3")
    # every 1.x is compatible with this one: what a newer minor version adds is an unknown field, and ignored. What is older than
    # 1.0 has its form, or is refused by what it says in another one.
    if version.partition(".")[0] not in _MAJOR_VERSIONS:
        raise Refused("$.ociVersion", f"{quote(version)} is not of major version {_MAJOR_VERSIONS[-1]}", unsupported=True)


def _is_semantic_version(version: str) -> bool:
    """By the grammar of SemVer 2.0.0: three numbers, pre-release parts after `-`, build parts after `+`."""
    release, plus, build = version.partition("+")
    core, dash, prerelease = release.partition("-")
    numbers, before, after = core.split("."), prerelease.split("."), build.split(".")
    return (len(numbers) == 3 and all(part.isdecimal() and _has_no_leading_zero(part) for part in numbers)
            and (not dash or all(_is_identifier(part) and _has_no_leading_zero(part) for part in before))
            and (not plus or all(map(_is_identifier, after))) and version.isascii())


def _is_identifier(text: str) -> bool:
    return text.replace("-", "0").isalnum()


def _has_no_leading_zero(text: str) -> bool:
    return not text.isdecimal() or text == "0" or not text.startswith("0")


def _check_mapped_mount(mount: Mount, json_path: str, linux: Linux) -> None:
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        given, missing = ("uidMappings", "gidMappings") if mount.uid_mappings else ("gidMappings", "uidMappings")
        raise Refused(f"{json_path}.{missing}", f"is required with {given}, but missing or empty")
    check_mappings(mount.uid_mappings, f"{json_path}.uidMappings")
    check_mappings(mount.gid_mappings, f"{json_path}.gidMappings")
    if not mount.uid_mappings and linux.namespace(NamespaceType.USER) is None:
        raise Refused(f"{json_path}.options", "an id-mapped mount needs mappings, its own or a user namespace's")


def _check_hooks(hooks: Hooks) -> None:
    for name, programs in (("prestart", hooks.prestart), ("createRuntime", hooks.create_runtime),
                           ("createContainer", hooks.create_container), ("startContainer", hooks.start_container),
                           ("poststart", hooks.poststart), ("poststop", hooks.poststop)):
        for i, hook in enumerate(programs):
            check_absolute(hook.path, f"$.hooks.{name}[{i}].path")


def _check_linux(linux: Linux) -> None:
    if linux.devices:
        _check_devices(linux.devices)
    if linux.resources is not None:
        check_resources(linux.resources, "$.linux.resources")
    if linux.intel_rdt is not None:
        check_intel_rdt(linux.intel_rdt)
    if linux.memory_policy is not None:
        _check_memory_policy(linux.memory_policy)
    if linux.seccomp is not None:
        check_seccomp(linux.seccomp, "$.linux.seccomp")
    for i, path in enumerate(linux.masked_paths):
        check_absolute(path, f"$.linux.maskedPaths[{i}]")
    for i, path in enumerate(linux.readonly_paths):
        check_absolute(path, f"$.linux.readonlyPaths[{i}]")
    if linux.personality is not None and linux.personality.flags:
        raise Refused("$.linux.personality.flags[0]", f"{quote(linux.personality.flags[0])} is not a known flag")


def _check_devices(devices: tuple[Device, ...]) -> None:
    seen = set()
    for i, device in enumerate(devices):
        check_absolute(device.path, f"$.linux.devices[{i}].path")
        if device.path in seen:
            raise Refused(f"$.linux.devices[{i}].path", f"{quote(device.path)} is given twice")
        seen.add(device.path)
        if device.type is not DeviceType.FIFO:
            for name, number in (("major", device.major), ("minor", device.minor)):
                if number is None:
                    raise Refused(f"$.linux.devices[{i}].{name}", f"is required with type '{device.type}', but missing")
        else:
            # engines write 0
            for name, number in (("major", device.major), ("minor", device.minor)):
                if number:
                    raise Refused(f"$.linux.devices[{i}].{name}", f"is {number}, but a FIFO has no number")
        if device.file_mode is not None and device.file_mode > _LARGEST_FILE_MODE:
            raise Refused(f"$.linux.devices[{i}].fileMode",
                          f"is {device.file_mode}, but must be at most {_LARGEST_FILE_MODE} (octal 7777)")


def check_intel_rdt(rdt: IntelRdt) -> None:
    """Raises Refused."""
    name = rdt.clos_id
    if name is not None and (name in (".", "..") or name != "/" and "/" in name):
        raise Refused("$.linux.intelRdt.closID", f"{quote(name)} is not the name of a directory")
    # that l3CacheSchema has one line, and which, is a SHOULD only: with CDP there are L3CODE and L3DATA
    lines = [(f"schemata[{i}]", line, "") for i, line in enumerate(rdt.schemata)]
    lines.append(("memBwSchema", rdt.mem_bw_schema or "MB:", "MB:"))
    for field, line, start in lines:
        if "\n" in line:
            raise Refused(f"$.linux.intelRdt.{field}", f"{quote(line)} is more than one line")
        if not line.startswith(start):
            raise Refused(f"$.linux.intelRdt.{field}", f"{quote(line)} does not start with '{start}'")


def _check_memory_policy(policy: MemoryPolicy) -> None:
    check_mask(policy.nodes, "$.linux.memoryPolicy.nodes")
    if policy.mode in _WITHOUT_NODES and policy.nodes is not None:
        count = len(numbers_in(policy.nodes))
        raise Refused("$.linux.memoryPolicy.nodes", f"is {quote(policy.nodes)}: {policy.mode} mode requires 0 nodes but got {count}")
    if policy.mode not in (*_WITHOUT_NODES, MemoryPolicyMode.PREFERRED) and policy.nodes is None:
        raise Refused("$.linux.memoryPolicy.nodes", f"is required with {policy.mode}, but missing or empty")
    # sanitize_mpol_flags() and mpol_new() of the kernel
    seen: set[MemoryPolicyFlag] = set()
    for i, flag in enumerate(policy.flags):
        seen.add(flag)
        json_path = f"$.linux.memoryPolicy.flags[{i}]"
        if seen >= _OF_NODES:
            raise Refused(json_path, f"is {flag}, which excludes {min(_OF_NODES - {flag})}")
        if flag in _OF_NODES and policy.nodes is None and policy.mode is not MemoryPolicyMode.DEFAULT:
            raise Refused(json_path, f"is {flag}, but there are no nodes")
        if flag is MemoryPolicyFlag.NUMA_BALANCING and policy.mode not in _BALANCED:
            raise Refused(json_path, f"is {flag}, which {policy.mode} does not take")
