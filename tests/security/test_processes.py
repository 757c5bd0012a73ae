"""What a container's processes try: leaked descriptors, the init's executable, devices, sysctls, sizes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from attacks import ID, Attack

from pyruntime import StdioOptions
from pyruntime.errors import InvalidBundleError, SetupError

pytestmark = pytest.mark.privileged


@contextlib.contextmanager
def leaked_root(count: int) -> Iterator[list[int]]:
    """Inheritable descriptors of the host's root."""
    fds = []
    try:
        for _ in range(count):
            fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
            os.set_inheritable(fd, True)
            fds.append(fd)
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def test_cwd_through_a_leaked_descriptor_on_create(attack: Attack) -> None:
    with leaked_root(8) as fds:
        for number in sorted({*range(3, 12), *fds}):
            outcome = attack.try_run(attack.bundle(["/bin/true"], process={"cwd": f"/proc/self/fd/{number}"}))
            assert isinstance(outcome, SetupError), number


def test_cwd_through_a_leaked_descriptor_on_exec(attack: Attack) -> None:
    attack.runtime.create_container(ID, attack.bundle(["/bin/sleep", "1000"]), StdioOptions())
    attack.runtime.start_container(ID)
    with leaked_root(8) as fds:
        for number in sorted({*range(3, 12), *fds}):
            with pytest.raises(SetupError) as caught:
                attack.runtime.exec_process(ID, {"args": ["/bin/true"], "cwd": f"/proc/self/fd/{number}"}, StdioOptions())
            assert (caught.value.step, caught.value.json_path) == ("change directory", "$.cwd")


def test_program_is_the_init_itself(attack: Attack) -> None:
    """CVE-2019-5736: as program and as interpreter; the memfd is sealed, and no file of the host is behind it."""
    (attack.rootfs / "bin" / "again").write_text("#!/proc/self/exe\n")
    (attack.rootfs / "bin" / "again").chmod(0o755)
    for program in ("/proc/self/exe", "/bin/again"):
        outcome = attack.try_run(attack.bundle([program]))
        assert isinstance(outcome, SetupError) or outcome[0] != 0


@pytest.mark.parametrize("key", ["kernel.core_pattern", "kernel.hostname", "vm.overcommit_memory", "net/../kernel/sysrq"])
def test_sysctl_of_the_host(attack: Attack, key: str) -> None:
    with pytest.raises(InvalidBundleError):
        attack.run(attack.bundle(["true"], linux={"sysctl": {key: "1"}}))


def test_oversized_arguments(attack: Attack) -> None:
    for process in ({"args": ["/bin/true", "x" * 200_000]}, {"env": ["A=" + "x" * 200_000]}):
        outcome = attack.try_run(attack.bundle(["/bin/true"], process=process))
        assert isinstance(outcome, SetupError)
        assert outcome.errno_name == "E2BIG"


def test_preserved_descriptor_that_is_not_open(attack: Attack) -> None:
    """Otherwise one of the runtime's own would be in its place."""
    with pytest.raises(SetupError) as caught:
        attack.runtime.create_container(ID, attack.bundle(["true"]), StdioOptions(preserve_fds=500))
    assert caught.value.errno_name == "EBADF"
