"""Resources as writes, device rules as text and as an eBPF program."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from pyruntime.cgroups.paths import cgroups_of
from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan.device_rules import DEFAULT_RULES, Rule, device_program, device_rules, v1_rule
from pyruntime.plan.resources import cpu_weight, resource_writes
from pyruntime.spec import DeviceCgroupRule, decode_resources

V1 = cgroups_of(Host((6, 1), tuple(Hierarchy(f"/cg/{name}", False, tuple(name.split(",")))
                                   for name in ("cpu,cpuacct", "cpuset", "memory", "pids", "devices")), 0), None, "c")
V2 = cgroups_of(Host((6, 1), (Hierarchy("/cg", True),), 0), None, "c")
TYPES, ACCESS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}


def writes(cgroups: Any, resources: dict[str, Any]) -> dict[str, str]:
    return {path: value for _, path, value in resource_writes(cgroups, decode_resources(resources))}


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
    assert set(found.values()) == {"max", "max 100000"}


@pytest.mark.parametrize(("cgroups", "resources", "json_path"), [
    (V1, {"blockIO": {"weight": 10}}, "blockIO"), (V1, {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "hugepageLimits"),
    (V1, {"network": {"classID": 1}}, "network"), (V1, {"rdma": {"m": {"hcaHandles": 3}}}, "rdma"),
    (V1, {"unified": {"memory.high": "1"}}, 'unified["memory.high"]'),
    (V1[:1], {"pids": {"limit": 1}}, "pids.limit"), (V2, {"memory": {"swappiness": 1}}, "memory.swappiness"),
    (V2, {"memory": {"kernelTCP": 1}}, "memory.kernelTCP"), (V2, {"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller"),
    (V2, {"cpu": {"realtimePeriod": 1}}, "cpu.realtimePeriod"),
])
def test_what_is_not_executed(cgroups: Any, resources: dict[str, Any], json_path: str) -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        writes(cgroups, resources)
    assert caught.value.json_path == f"$.linux.resources.{json_path}"


def test_v1_memory_kernel_has_its_path_once() -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        writes(V1, {"memory": {"kernel": 1}})
    assert caught.value.json_path == "$.linux.resources.memory.kernel"


def test_device_rules_of_v1() -> None:
    assert v1_rule(Rule(True, "a", None, None, "rwm")) == "a"
    assert v1_rule(Rule(True, "c", 1, None, "rw")) == "c 1:* rw"
    assert device_rules([DeviceCgroupRule(allow=False, access="rwm")]) == DEFAULT_RULES


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
        elif opcode in (0x55, 0x5D, 0x15):
            other = registers[src] if opcode == 0x5D else immediate
            assert offset >= 0
            at += offset if (registers[dst] == other) == (opcode == 0x15) else 0
        else:
            raise AssertionError(f"opcode {opcode:#x}")


def is_allowed(rules: list[Rule], type: str, access: str, major: int, minor: int) -> bool:
    """The last rule that matches decides."""
    verdict = False
    for rule in rules:
        covers = set(access) <= set(rule.access) if rule.allow else bool(set(access) & set(rule.access))
        if rule.type in ("a", type) and rule.major in (None, major) and rule.minor in (None, minor) and covers:
            verdict = rule.allow
    return verdict


def test_the_device_program_on_random_rules() -> None:
    generator = random.Random(20260101)
    verdicts = []
    for _ in range(400):
        rules = [Rule(generator.random() < 0.6, generator.choice("abc"), generator.choice([None, 0, 1, 2]),
                      generator.choice([None, 0, 1, 2]), "".join(generator.sample("rwm", generator.randint(1, 3))))
                 for _ in range(generator.randint(0, 8))]
        program = device_program(rules)
        for _ in range(40):
            type, access = generator.choice("bc"), generator.sample("rwm", generator.randint(1, 3))
            major, minor = generator.randint(0, 3), generator.randint(0, 3)
            context = struct.pack("=III", sum(ACCESS[a] for a in access) << 16 | TYPES[type], major, minor)
            expected = is_allowed(rules, type, "".join(access), major, minor)
            assert run_program(program, context) == expected, (rules, type, access, major, minor)
            verdicts.append(expected)
    assert 0.05 < sum(verdicts) / len(verdicts) < 0.8
