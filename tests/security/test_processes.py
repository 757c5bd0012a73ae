"""What a container's processes try: leaked descriptors, the init's executable, devices, sysctls, sizes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator

import pytest
from attacks import ID, Attack

from pyruntime import StdioOptions
from pyruntime._native import lib
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
    reasons = set()
    with leaked_root(8) as fds:
        for number in sorted({*range(3, 12), *fds}):
            outcome = attack.try_run(attack.bundle(["/bin/true"], process={"cwd": f"/proc/self/fd/{number}"}))
            assert isinstance(outcome, SetupError), number
            assert (outcome.step, outcome.json_path) == ("change directory", "$.process.cwd")
            reasons.add(outcome.errno_name)
    assert reasons == {"ELOOP", "ENOENT"}, "the init's own, which are not followed, and those that it does not have"


def test_cwd_through_a_leaked_descriptor_on_exec(attack: Attack) -> None:
    attack.runtime.create_container(ID, attack.bundle(["/bin/sleep", "1000"]), StdioOptions())
    attack.runtime.start_container(ID)
    reasons = set()
    with leaked_root(8) as fds:
        for number in sorted({*range(3, 12), *fds}):
            with pytest.raises(SetupError) as caught:
                attack.runtime.exec_process(ID, {"args": ["/bin/true"], "cwd": f"/proc/self/fd/{number}"}, StdioOptions())
            assert (caught.value.step, caught.value.json_path) == ("change directory", "$.cwd")
            reasons.add(caught.value.errno_name)
    assert reasons == {"ENOENT"}, "it is not in the container's pid namespace yet, so that there is no /proc/self"


# what is executed, and how it ends: it is the static init again, which has no arguments (126) or no plan (127)
SELF = {
    "program": ("/proc/self/exe", None, 126),
    "link": ("/bin/self", None, 126),
    "interpreter": ("/bin/script", "#!/proc/self/exe\n", 127),
    "interpreter with an option": ("/bin/script", "#!/proc/self/exe -c\n", 126),
}


@pytest.mark.parametrize("how", ["create", "exec"])
@pytest.mark.parametrize("what", SELF)
def test_program_is_the_init_itself(attack: Attack, what: str, how: str) -> None:
    """CVE-2019-5736: what the runtime executes in a container is executed by the container, and is no file of the host."""
    program, script, code = SELF[what]
    attack.replace("bin/self", "/proc/self/exe")
    if script is not None:
        (attack.rootfs / program[1:]).write_text(script)
        (attack.rootfs / program[1:]).chmod(0o755)
    if how == "create":
        assert attack.try_run(attack.bundle([program])) == (code, "")
        return
    attack.runtime.create_container(ID, attack.bundle(["/bin/sleep", "1000"]), StdioOptions())
    attack.runtime.start_container(ID)
    process = attack.runtime.exec_process(ID, {"args": [program], "cwd": "/"}, StdioOptions(create_out=True, create_err=True))
    assert attack.runtime.wait_on_process(ID, process).exit_code == code
    pipes = attack.runtime.get_stdio_pipes(ID, process)
    assert pipes.out is not None and pipes.err is not None
    assert (pipes.out.read(), pipes.err.read()) == (b"", b"")


def test_interpreter_is_the_first_process(attack: Attack) -> None:
    """Of a container it is the container's own program by then."""
    (attack.rootfs / "bin" / "script").write_text("#!/proc/1/exe\n")
    (attack.rootfs / "bin" / "script").chmod(0o755)
    attack.runtime.create_container(ID, attack.bundle(["/bin/sleep", "1000"]), StdioOptions())
    attack.runtime.start_container(ID)
    process = attack.runtime.exec_process(ID, {"args": ["/bin/script"], "cwd": "/"}, StdioOptions(create_err=True))
    assert attack.runtime.wait_on_process(ID, process).exit_code == 127
    err = attack.runtime.get_stdio_pipes(ID, process).err
    assert err is not None and err.read() == b"exe: applet not found\n", "busybox, by that name"


def refusals(descriptor: int) -> list[int | None]:
    """The errno of each way to change a file."""
    def attempt(change: Callable[[], object]) -> int | None:
        try:
            change()
        except OSError as error:
            return error.errno
        return None

    size = os.fstat(descriptor).st_size
    return [attempt(change) for change in (
        lambda: os.pwrite(descriptor, b"x", 0), lambda: os.pwrite(descriptor, b"x", size), lambda: os.ftruncate(descriptor, 0),
        lambda: os.ftruncate(descriptor, size + 1), lambda: os.posix_fallocate(descriptor, size, 1),
        lambda: mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_WRITE),
        lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL))]


def test_the_inits_file_is_sealed(attack: Attack) -> None:
    """Neither while it is executed nor by a descriptor that is held until nobody executes it can it be changed."""
    pid = attack.runtime.create_container(ID, attack.bundle(["/bin/true"]), StdioOptions())
    held = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
    try:
        content = os.pread(held, 1 << 20, 0)
        assert content.startswith(b"\x7fELF") and os.readlink(f"/proc/{pid}/exe") == "/memfd:pyruntime-init (deleted)"
        assert fcntl.fcntl(held, fcntl.F_GET_SEALS) == fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        with pytest.raises(OSError, match=r"Text file busy"):
            os.open(f"/proc/{pid}/exe", os.O_WRONLY)
        attack.runtime.start_container(ID)
        attack.runtime.wait_on_container(ID)
        # nobody executes it now, and its mode lets root write
        writable = os.open(f"/proc/self/fd/{held}", os.O_RDWR)
        try:
            assert refusals(writable) == [errno.EPERM] * 7
        finally:
            os.close(writable)
        assert os.pread(held, 1 << 20, 0) == content
    finally:
        os.close(held)
    another = lib.open_init()
    try:
        assert os.pread(another, 1 << 20, 0) == content
    finally:
        os.close(another)
    attack.runtime.delete_container(ID)
    assert attack.try_run(attack.bundle(["/bin/echo", "fine"])) == (0, "fine\n")


@pytest.mark.conformance(49)
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
