"""The probe tells what is so: its answers about itself, which it inherits from this process, against Python's own."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path

import pytest
from lab import namespaces
from probing import Answers, Mount, Probe, mounts_of


def ask(program: Path, *questions: str) -> Answers:
    return Answers(subprocess.run([program, *questions], capture_output=True, text=True, check=True, env={"A": "é\"\n"}, cwd="/tmp").stdout)


def test_what_is_inherited(probe_program: Path) -> None:
    answers = ask(probe_program, "ids", "rlimits", "affinity", "namespaces", "umask", "cwd", "environment", "uname", "cgroups", "nice",
                  "status:CapBnd", "caps", "mounts")
    assert (answers.ids.uid[:3], answers.ids.gid[:3]) == (os.getresuid(), os.getresgid())
    assert answers.ids.groups == os.getgroups()
    for name, limits in answers.rlimits.items():
        if hasattr(resource, name):
            assert limits == tuple(value % 2**64 for value in resource.getrlimit(getattr(resource, name))), name
    assert len(answers.rlimits) == 16
    assert answers.affinity == os.sched_getaffinity(0)
    assert answers.namespaces == {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in os.listdir("/proc/self/ns")}
    mask = os.umask(0o22)
    os.umask(mask)
    assert (answers.number("umask"), answers.text("cwd"), answers.number("nice")) == (mask, "/tmp", os.nice(0))
    assert [entry.encode("latin-1") for entry in answers.environment] == ["A=é\"\n".encode()]
    assert answers.uname.hostname == os.uname().nodename
    own = Path("/proc/self/cgroup").read_text().splitlines()
    assert answers.cgroups == {line.split(":", 2)[1]: line.split(":", 2)[2] for line in own}
    assert len(answers.caps.bounding) == int(answers.text("status:CapBnd"), 16).bit_count()
    assert answers.mount("/proc").type == "proc"


def test_a_call_that_fails_passes_or_kills(probe_program: Path) -> None:
    questions = ("syscall:read:99", "syscall:getppid", "syscall:exit:3", "syscall:openat:-100:1", "syscall:tgkill")
    answers = ask(probe_program, *questions)
    assert answers.call("read:99") == "EBADF"
    assert answers.call("openat:-100:1") == "EFAULT"
    assert isinstance(answers.call("getppid"), int)
    assert answers.raw["syscall:exit:3"] == {"ended": 3}
    assert answers.call("tgkill") == "EINVAL"


def test_a_question_that_there_is_not(probe_program: Path) -> None:
    for question, error in (("idz", "question: idz"), ("syscall:nonsense", "system call: nonsense"), ("syscall:", "system call: ")):
        result = subprocess.run([probe_program, "ids", question], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (2, f"probe: no such {error}\n")


def test_an_answer_that_there_is_not(probe_program: Path) -> None:
    answers = ask(probe_program, "file:/no/such", "terminal")
    assert answers.failure("file:/no/such") == "ENOENT"
    with pytest.raises(AssertionError, match="ENOENT"):
        answers.text("file:/no/such")
    with pytest.raises(KeyError):
        answers.number("nice")


def test_mounts_are_decoded() -> None:
    lines = ("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
             "37 36 0:5 / / ro shared:2 master:7 - tmpfs none rw\n"
             "38 36 0:6 / /x ro,nosuid unbindable - proc proc rw\n39 1 0:7 / /p rw - sysfs s rw")
    first, second, third, fourth = mounts_of(lines)
    assert first == Mount(36, 35, "98:0", "/mnt1", "/mnt 2", frozenset({"rw", "noatime"}), frozenset({"master:1"}), "ext3", "/dev/root",
                          frozenset({"rw", "errors=continue"}))
    assert [mount.propagation for mount in (first, second, third, fourth)] == [{"slave"}, {"shared", "slave"}, {"unbindable"}, {"private"}]


def test_in_a_container(probe: Probe) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    answers = probe.run("process", "descriptors", "clocks", "namespaces", "seccomp", process={"noNewPrivileges": True},
                        linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "namespaces": namespaces("mount", "pid", "uts")})
    assert answers.process.pid == 1
    assert set(answers.descriptors) == {0, 1, 2} and answers.descriptors[0].target == "/dev/null"
    assert before < answers.clocks.monotonic < time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert answers.namespaces["pid"] != os.stat("/proc/self/ns/pid").st_ino
    assert answers.number("seccomp") == 2
    probe.lab.sleeper()
    assert probe.exec("ids", user={"uid": 5, "gid": 6}).ids.uid == (5, 5, 5, 5)
