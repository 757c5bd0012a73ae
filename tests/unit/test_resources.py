"""Resources as writes, device rules as text and as an eBPF program."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from pyruntime.cgroups.paths import cgroups_of
from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan.device_rules import DEFAULT_RULES, Rule, V1Devices, device_program, device_rules, v1_devices
from pyruntime.plan.resources import resource_writes
from pyruntime.plan.resources_v2 import cpu_weight
from pyruntime.spec import DeviceCgroupRule, decode_resources

V1 = cgroups_of(Host((6, 1), tuple(Hierarchy(f"/cg/{name}", False, tuple(name.split(",")))
                                   for name in ("cpu,cpuacct", "cpuset", "memory", "pids", "devices")), 0), "/pyruntime/c")
V2 = cgroups_of(Host((6, 1), (Hierarchy("/cg", True),), 0), "/pyruntime/c")
TYPES, ACCESS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}


def writes(cgroups: Any, resources: dict[str, Any]) -> dict[str, str]:
    """Of what is written in any case."""
    found: dict[str, str] = {}
    for write in resource_writes(cgroups, decode_resources(resources), 4096):
        (value,) = write.values
        assert found.setdefault(write.path.decode(), value.decode()) == value.decode()
    return found


@pytest.mark.parametrize(("shares", "weight"), [(0, 0), (1, 1), (2, 1), (1024, 100), (262144, 10000), (2**40, 10000)])
def test_cpu_weight(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_cpu_weight_grows() -> None:
    weights = [cpu_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights) and min(weights) >= 1 and max(weights) <= 10000


RESOURCES = {
    "memory": {"limit": 1000, "swap": 3000, "reservation": 500}, "pids": {"limit": 7},
    "cpu": {"shares": 1024, "quota": 5000, "period": 10000, "cpus": "0", "mems": "0"},
}


def test_v1_writes() -> None:
    assert writes(V1, RESOURCES) == {
        "/cg/memory/pyruntime/c/memory.limit_in_bytes": "1000",
        "/cg/memory/pyruntime/c/memory.memsw.limit_in_bytes": "3000",
        "/cg/memory/pyruntime/c/memory.soft_limit_in_bytes": "500",
        "/cg/cpu,cpuacct/pyruntime/c/cpu.shares": "1024",
        "/cg/cpu,cpuacct/pyruntime/c/cpu.cfs_period_us": "10000",
        "/cg/cpu,cpuacct/pyruntime/c/cpu.cfs_quota_us": "5000",
        "/cg/cpuset/pyruntime/c/cpuset.cpus": "0", "/cg/cpuset/pyruntime/c/cpuset.mems": "0",
        "/cg/pids/pyruntime/c/pids.max": "7",
    }


def test_v2_writes() -> None:
    base = "/cg/pyruntime/c"
    assert writes(V2, RESOURCES | {"unified": {"memory.high": "9"}}) == {
        f"{base}/memory.max": "1000", f"{base}/memory.swap.max": "2000", f"{base}/memory.low": "500",
        f"{base}/cpu.weight": "100", f"{base}/cpu.max": "5000 10000", f"{base}/cpuset.cpus": "0",
        f"{base}/cpuset.mems": "0", f"{base}/pids.max": "7", f"{base}/memory.high": "9",
    }


def test_no_limit_is_max_on_v2() -> None:
    found = writes(V2, {"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}})
    assert set(found.values()) == {"max"} and len(found) == 4


@pytest.mark.parametrize("cgroups", [V1, V2])
def test_zero_memory_is_not_set(cgroups: Any) -> None:
    assert writes(cgroups, {"memory": {"limit": 0, "swap": 0, "reservation": 0}}) == {}


@pytest.mark.parametrize("cgroups", [V1, V2])
@pytest.mark.parametrize("empty", [{"blockIO": {}}, {"blockIO": {"weight": 0, "leafWeight": 0}}, {"network": {}}, {"rdma": {}},
                                   {"network": {"classID": 0}}, {"memory": {"kernel": -1}}, {"memory": {"kernel": 0, "kernelTCP": 0}}])
def test_what_asks_for_nothing(cgroups: Any, empty: dict[str, Any]) -> None:
    """Docker writes a weight of 0 into every configuration."""
    assert writes(cgroups, empty) == {}


@pytest.mark.parametrize(("cgroups", "resources", "json_path"), [
    (V1, {"blockIO": {"weight": 10}}, "blockIO.weight"), (V1, {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "hugepageLimits[0]"),
    (V1, {"network": {"classID": 1}}, "network.classID"), (V1, {"rdma": {"m": {"hcaHandles": 3}}}, 'rdma["m"]'),
    (V1, {"network": {"priorities": [{"name": "eth0", "priority": 1}]}}, "network.priorities[0]"),
    (V1, {"blockIO": {"leafWeight": 10}}, "blockIO.leafWeight"), (V2, {"blockIO": {"leafWeight": 10}}, "blockIO.leafWeight"),
    (V1, {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 9}]}}, "blockIO.weightDevice[0].leafWeight"),
    (V2, {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 9}]}}, "blockIO.weightDevice[0].leafWeight"),
    (V2, {"network": {"classID": 1}}, "network"), (V2, {"network": {"priorities": [{"name": "eth0", "priority": 1}]}}, "network"),
    (V2, {"memory": {"kernel": 1}}, "memory.kernel"),
    (V1, {"unified": {"memory.high": "1"}}, 'unified["memory.high"]'),
    (V1[:1], {"pids": {"limit": 1}}, "pids.limit"), (V2, {"memory": {"swap": 5}}, "memory.swap"),
    (V2, {"memory": {"limit": -1, "swap": 5}}, "memory.swap"), (V2, {"memory": {"swappiness": 1}}, "memory.swappiness"),
    (V2, {"memory": {"kernelTCP": 1}}, "memory.kernelTCP"), (V2, {"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller"),
    (V2, {"cpu": {"realtimePeriod": 1}}, "cpu.realtimePeriod"),
    (V1, {"memory": {"useHierarchy": False}}, "memory.useHierarchy"), (V2, {"memory": {"useHierarchy": False}}, "memory.useHierarchy"),
    (V1, {"cpu": {"idle": 1, "shares": 1024}}, "cpu.shares"), (V2, {"cpu": {"idle": 1, "shares": 1024}}, "cpu.shares"),
])
def test_what_is_not_executed(cgroups: Any, resources: dict[str, Any], json_path: str) -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        writes(cgroups, resources)
    assert caught.value.json_path == f"$.linux.resources.{json_path}"


@pytest.mark.parametrize(("cgroups", "files"), [(V1, {"cpu.idle": "1"}), (V2, {"cpu.idle": "1"})])
def test_what_means_what_holds_already(cgroups: Any, files: dict[str, str]) -> None:
    found = writes(cgroups, {"memory": {"useHierarchy": True}, "cpu": {"idle": 1, "shares": 0}})
    assert {path.rpartition("/")[2]: value for path, value in found.items()} == files


def test_v1_memory_kernel_has_its_path_once() -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        writes(V1, {"memory": {"kernel": 1}})
    assert caught.value.json_path == "$.linux.resources.memory.kernel"


def test_device_rules() -> None:
    assert device_rules([DeviceCgroupRule(allow=False, access="rwm")]) == DEFAULT_RULES
    assert device_rules([DeviceCgroupRule(allow=False, access="r", major=3)]) == DEFAULT_RULES
    assert device_rules([DeviceCgroupRule(allow=True, major=1, minor=2**32 - 1)]) == DEFAULT_RULES
    assert device_rules([DeviceCgroupRule(allow=True, major=1)]) == (Rule(True, "a", 1, None, "rwm"), *DEFAULT_RULES)


@pytest.mark.parametrize(("rules", "allows", "lines"), [
    ([Rule(True, "c", 1, None, "rw")], False, ("c 1:* rw",)),
    # `a` with numbers or with less than all access would be everything to the kernel
    ([Rule(True, "a", 1, 3, "rwm")], False, ("c 1:3 rwm", "b 1:3 rwm")),
    ([Rule(True, "a", None, None, "r")], False, ("c *:* r", "b *:* r")),
    ([Rule(True, "a", None, None, "rwm")], True, ()),
    ([Rule(True, "a", None, None, "rwm"), Rule(False, "a", None, 5, "w")], True, ("c *:5 w", "b *:5 w")),
    ([Rule(True, "a", None, None, "rwm"), Rule(False, "a", None, None, "mwr")], False, ()),
    # a denial takes all that it covers, not only what has the same numbers
    ([Rule(True, "c", 1, 3, "rw"), Rule(True, "b", 1, 3, "r"), Rule(False, "c", 1, None, "w")], False, ("c 1:3 r", "b 1:3 r")),
    # holes in everything of one type
    ([Rule(True, "c", None, None, "rwm"), Rule(False, "c", 1, 3, "rwm")], True, ("c 1:3 rwm", "b *:* rwm")),
    ([Rule(True, "b", None, None, "m"), Rule(True, "c", None, None, "rwm"), Rule(False, "c", 1, 3, "w")], True,
     ("c 1:3 w", "b *:* rw")),
    # an open for reading and writing needs one line that allows both
    ([Rule(True, "c", 1, None, "r"), Rule(True, "c", 1, 3, "w")], False, ("c 1:* r", "c 1:3 rw")),
])
def test_device_rules_of_v1(rules: list[Rule], allows: bool, lines: tuple[str, ...]) -> None:
    assert v1_devices(rules) == V1Devices(allows, lines)


@pytest.mark.parametrize("rules", [
    [Rule(True, "c", 1, None, "rwm"), Rule(False, "c", 1, 3, "w")],
    [Rule(True, "c", 1, None, "rwm"), Rule(False, "a", None, 3, "w")],
    [Rule(True, "a", None, None, "rwm"), Rule(False, "b", 8, None, "rwm"), Rule(True, "b", 8, 1, "r")],
    [Rule(True, "c", None, None, "rwm"), Rule(False, "c", 1, 3, "w"), Rule(True, "b", 8, 0, "r")],
])
def test_what_v1_cannot_have(rules: list[Rule]) -> None:
    with pytest.raises(ValueError) as raised:
        v1_devices(rules)
    assert raised.value.args[0] in rules


def v1_kernel_allows(devices: V1Devices, type: str, access: set[str], numbers: tuple[int, int]) -> bool:
    """security/device_cgroup.c: by default denied, one exception must have all; by default allowed, none may have any."""
    for line in devices.exceptions:
        of, pair, letters = line.split()
        matches = of == type and all(own in ("*", str(number)) for own, number in zip(pair.split(":"), numbers, strict=True))
        if matches and (bool(access & set(letters)) if devices.allows else access <= set(letters)):
            return not devices.allows
    return devices.allows


def test_v1_devices_on_random_rules() -> None:
    generator = random.Random(20260102)
    possible = 0
    for _ in range(1500):
        rules = [Rule(generator.random() < 0.6, generator.choice("abc"), generator.choice([None, None, 1, 2]),
                      generator.choice([None, None, 1, 2]), "".join(generator.sample("rwm", generator.choice([1, 2, 3, 3]))))
                 for _ in range(generator.randint(0, 5))]
        try:
            devices = v1_devices(rules)
        except ValueError:
            continue
        possible += 1
        for _ in range(30):
            type, access = generator.choice("bc"), set(generator.sample("rwm", generator.randint(1, 3)))
            numbers = (generator.randint(0, 3), generator.randint(0, 3))
            found, expected = v1_kernel_allows(devices, type, access, numbers), is_allowed(rules, type, "".join(access), *numbers)
            # where rules like `2:* w` and `*:1 r` cross, v1 denies what needs both at once
            assert found == expected or (expected and len(access) > 1), (rules, devices, type, access, numbers)
    assert possible > 500


def run_program(program: bytes, context: bytes) -> int:
    """The instructions that device_program uses, as the kernel executes them."""
    code = [struct.unpack_from("=BBhi", program, at) for at in range(0, len(program), 8)]
    registers, at = [0] * 11, 0
    while True:
        opcode, both, offset, immediate = code[at]
        dst, src = both & 15, both >> 4
        at += 1
        if opcode == 0x61:
            registers[dst] = struct.unpack_from("=I", context, offset)[0]
        elif opcode == 0xBF:
            registers[dst] = registers[src]
        elif opcode == 0xB7:
            registers[dst] = immediate
        elif opcode == 0x57:
            registers[dst] &= immediate
        elif opcode == 0x77:
            registers[dst] >>= immediate
        elif opcode == 0x95:
            return registers[0]
        elif opcode in (0x55, 0x15):
            assert offset >= 0
            at += offset if (registers[dst] == immediate) == (opcode == 0x15) else 0
        else:
            raise AssertionError(f"opcode {opcode:#x}")


def is_allowed(rules: list[Rule], type: str, accesses: str, major: int, minor: int) -> bool:
    """Of each access the last rule that matches decides."""
    return all(next((rule.allow for rule in reversed(rules)
                     if rule.type in ("a", type) and rule.major in (None, major) and rule.minor in (None, minor)
                     and access in rule.access), False) for access in accesses)


def test_the_device_program_ends_with_a_rule_for_everything() -> None:
    """The kernel refuses a program with instructions that no path reaches."""
    everything = Rule(True, "a", None, None, "rwm")
    assert device_program([Rule(False, "c", 1, 3, "r"), everything]) == device_program([everything])
    assert len(device_program([everything])) == 8 * 8


def ask(rules: list[Rule], type: str, access: str, major: int, minor: int) -> bool:
    context = struct.pack("=III", sum(ACCESS[letter] for letter in access) << 16 | TYPES[type], major, minor)
    return run_program(device_program(rules), context) == 1


@pytest.mark.parametrize(("rules", "asked", "allowed"), [
    # nothing is allowed before the first rule
    ([], ("c", "r", 1, 3), False),
    ([(True, "a", None, None, "rwm")], ("b", "rwm", 8, 0), True),
    # a later rule overrides, in both directions
    ([(True, "c", 1, 3, "rwm"), (False, "c", 1, 3, "rwm")], ("c", "r", 1, 3), False),
    ([(False, "c", 1, 3, "rwm"), (True, "c", 1, 3, "rwm")], ("c", "r", 1, 3), True),
    ([(True, "c", 1, 3, "rwm"), (False, "a", None, None, "rwm")], ("c", "r", 1, 3), False),
    ([(False, "a", None, None, "rwm"), (True, "c", 1, 3, "r")], ("c", "r", 1, 3), True),
    # one that does not match leaves what was decided
    ([(True, "c", 1, 3, "rwm"), (False, "c", 1, 4, "rwm")], ("c", "r", 1, 3), True),
    ([(True, "c", 1, 3, "rwm"), (False, "b", 1, 3, "rwm")], ("c", "r", 1, 3), True),
    ([(True, "c", 1, 3, "rwm"), (False, "c", 2, None, "rwm")], ("c", "r", 1, 3), True),
    # a denial of a part denies what needs the part, and no more
    ([(True, "c", 1, 3, "rwm"), (False, "c", 1, 3, "w")], ("c", "rw", 1, 3), False),
    ([(True, "c", 1, 3, "rwm"), (False, "c", 1, 3, "w")], ("c", "r", 1, 3), True),
    # an allowance of a part is not one of more
    ([(True, "c", 1, 3, "r")], ("c", "rw", 1, 3), False),
    ([(True, "c", 1, None, "rw")], ("c", "rw", 1, 77), True), ([(True, "c", None, 3, "rw")], ("c", "rw", 9, 3), True),
    ([(True, "c", None, 3, "rw")], ("c", "rw", 9, 4), False), ([(True, "b", 1, 3, "rwm")], ("c", "r", 1, 3), False),
    ([(True, "c", 4095, 2**20 - 1, "r")], ("c", "r", 4095, 2**20 - 1), True),
])
def test_device_program(rules: list[tuple[bool, str, int | None, int | None, str]], asked: tuple[str, str, int, int],
                        allowed: bool) -> None:
    assert ask([Rule(*rule) for rule in rules], *asked) is allowed
    assert is_allowed([Rule(*rule) for rule in rules], *asked) is allowed


@pytest.mark.parametrize("allow", [True, False])
def test_no_instruction_of_the_device_program_is_unreachable(allow: bool) -> None:
    """The kernel's verifier refuses one that is; behind a rule about everything nothing is reached."""
    everything = Rule(allow, "a", None, None, "rwm")
    assert device_program([*DEFAULT_RULES, everything]) == device_program([everything])
    assert device_program([DEFAULT_RULES[2], everything, DEFAULT_RULES[3]]) == device_program([everything, DEFAULT_RULES[3]])
    assert len(device_program([])) == len(device_program([everything]))


def test_the_device_program_on_random_rules() -> None:
    """As many allowances as denials, questions about what the rules are about, and many that are decided twice."""
    generator = random.Random(20260101)
    verdicts: list[bool] = []
    overridden = {True: 0, False: 0}
    for _ in range(600):
        rules = [Rule(generator.random() < 0.5, generator.choice("abc"), generator.choice([None, 0, 1, 2]),
                      generator.choice([None, None, 0, 1]), "".join(generator.sample("rwm", generator.randint(1, 3))))
                 for _ in range(generator.randint(1, 10))]
        rules.insert(0, Rule(generator.random() < 0.7, "a", None, None, "rwm"))
        program = device_program(rules)
        for _ in range(30):
            near = generator.choice(rules)
            type = near.type if near.type != "a" else generator.choice("bc")
            access = "".join(generator.sample(near.access, generator.randint(1, len(near.access)))
                             if generator.random() < 0.7 else generator.sample("rwm", generator.randint(1, 3)))
            major = generator.randint(0, 3) if near.major is None else near.major
            minor = generator.randint(0, 3) if near.minor is None else near.minor
            context = struct.pack("=III", sum(ACCESS[a] for a in access) << 16 | TYPES[type], major, minor)
            expected = is_allowed(rules, type, access, major, minor)
            assert run_program(program, context) == expected, (rules, type, access, major, minor)
            verdicts.append(expected)
            before = [is_allowed(rules[:n], type, access, major, minor) for n in range(1, len(rules) + 1)]
            if (not expected) in before:
                overridden[expected] += 1
    assert 0.4 < sum(verdicts) / len(verdicts) < 0.6
    # decided the other way by an earlier rule
    assert min(overridden.values()) > 2000
