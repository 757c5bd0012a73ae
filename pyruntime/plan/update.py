"""Changed resources: what was not given but is needed with it, the order of the writes, and how they are taken back (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pyruntime.plan.device_rules import V1Devices
from pyruntime.plan.operations import WriteFile
from pyruntime.spec import Resources

# the content of a file of the container's cgroups, by controller and name on v1 or by name on v2; None where there is none
Read = Callable[[str, str], str | None]


def completed(resources: Resources, is_unified: bool, read: Read) -> Resources:
    """A quota or a period alone keeps the other one that the cgroup has; and on v2, which counts swap by itself, what is meant by
    memory and swap together depends on the limit of memory."""
    cpu, memory = resources.cpu, resources.memory
    if cpu is not None and bool(cpu.quota) != bool(cpu.period):
        if is_unified:
            words = (read("cpu", "cpu.max") or "").split()
        else:
            words = [(read("cpu", file) or "").strip() for file in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        if len(words) == 2 and all(words):
            quota, period = -1 if words[0] == "max" else int(words[0]), int(words[1])
            cpu = msgspec.structs.replace(cpu, quota=cpu.quota or quota, period=cpu.period or period)
    if is_unified and memory is not None and (memory.swap or 0) > 0 and not memory.limit:
        limit = (read("memory", "memory.max") or "").strip()
        if limit.isdecimal():
            memory = msgspec.structs.replace(memory, limit=int(limit))
    return msgspec.structs.replace(resources, cpu=cpu, memory=memory)


def in_order(writes: Sequence[WriteFile], read: Callable[[WriteFile], str | None]) -> list[WriteFile]:
    """Such that the kernel takes each: it compares a new value with what another file has by then."""
    ordered = list(writes)

    def put_first(first: bytes, other: bytes, is_so: Callable[[int, int, int], bool]) -> None:
        """If it is so of the other's new value, what the first has and what the other has."""
        at = {write.path.rpartition(b"/")[2]: i for i, write in enumerate(ordered)}
        i, j = at.get(first), at.get(other)
        if i is None or j is None or i < j:
            return
        if is_so(_number(ordered[j].values[0].decode()), _number(read(ordered[i])), _number(read(ordered[j]))):
            ordered.insert(j, ordered.pop(i))

    # on v1 the limit with swap may never be below the one without: when both grow, it is the first
    put_first(b"memory.memsw.limit_in_bytes", b"memory.limit_in_bytes", lambda limit, with_swap, _: limit < 0 or limit > with_swap)
    # in between no greater share of the time than before or after: that of the cgroup above may not allow more
    for time, period in ((b"cpu.cfs_quota_us", b"cpu.cfs_period_us"), (b"cpu.rt_runtime_us", b"cpu.rt_period_us")):
        put_first(time, period, lambda new, _, old: new < old)
    # a burst is never above the quota
    for quota, burst in ((b"cpu.cfs_quota_us", b"cpu.cfs_burst_us"), (b"cpu.max", b"cpu.max.burst")):
        put_first(burst, quota, lambda new, old_burst, _: 0 < new < old_burst)
    return ordered


def _number(text: str | None) -> int:
    """The first of a file; -1 for no limit."""
    word = (text or "").split()[:1]
    return int(word[0]) if word and word[0].lstrip("-").isdecimal() else -1


# what takes a line of a device away again, where the kernel keeps one for each that was given
_WITHOUT_DEVICE = {"io.max": "rbps=max wbps=max riops=max wiops=max", "io.weight": "default", "io.bfq.weight": "default",
                   "io.latency": "target=0", "blkio.bfq.weight_device": "default",
                   **{f"blkio.throttle.{kind}_{unit}_device": "0" for kind in ("read", "write") for unit in ("bps", "iops")}}


def taking_back(write: WriteFile, before: str) -> tuple[bytes, ...]:
    """What has to be written for the file to be as it was."""
    name = write.path.rpartition(b"/")[2].decode()
    lines = before.splitlines() or [""]
    if name == "memory.oom_control":
        lines = [lines[0].split()[1]]
    if name in _WITHOUT_DEVICE:
        known = {line.split()[0] for line in lines if line.strip()}
        added = {value.decode().split()[0] for value in write.values} - known - {"default"}
        lines = [f"{key} {_WITHOUT_DEVICE[name]}" for key in sorted(added)] + [line for line in lines if line.strip()]
    return tuple(f"{line}\n".encode() for line in lines)


def forgotten_with(file: str) -> tuple[str, ...]:
    """What the kernel forgets of other files of the cgroup where this one is written: their names on v1 and v2."""
    return ("cpu.shares", "cpu.weight") if file == "cpu.idle" else ()


def v1_device_changes(before: str, wanted: V1Devices) -> list[tuple[str, tuple[str, ...]]]:
    """Files with what is written to them, for a cgroup whose devices.list is `before`. Where nothing is allowed but exceptions, before
    and after, what is allowed in both cases stays allowed throughout."""
    lines = [line.split() for line in before.splitlines()]
    if wanted.allows or any(line[0] == "a" for line in lines):
        files = ("devices.allow", "devices.deny") if wanted.allows else ("devices.deny", "devices.allow")
        return [(files[0], ("a",)), *([(files[1], wanted.exceptions)] if wanted.exceptions else [])]
    old = {(type, numbers): set(access) for type, numbers, access in lines}
    new: dict[tuple[str, str], set[str]] = {}
    for type, numbers, access in map(str.split, wanted.exceptions):
        new.setdefault((type, numbers), set()).update(access)

    def more(one: dict[tuple[str, str], set[str]], other: dict[tuple[str, str], set[str]]) -> tuple[str, ...]:
        found = ((key, access - other.get(key, set())) for key, access in one.items())
        return tuple(f"{type} {numbers} {''.join(sorted(left))}" for (type, numbers), left in found if left)

    changes = (("devices.allow", more(new, old)), ("devices.deny", more(old, new)))
    return [(file, texts) for file, texts in changes if texts]
