"""What a contract test has at hand: a runtime on an empty root, bundles, and a look at what is left behind."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, ParamSpec, TypeVar

import pytest

from pyruntime.errors import ContainerNotFoundError, NotPausedError
from pyruntime.interface import ProcessExitState, Runtime, Status, StdioOptions
from pyruntime.testing.bundles import make_bundle, make_rootfs
from pyruntime.testing.snapshot import HostSnapshot

EVENT_TIMEOUT_S = 30.0
SLEEP = ("/bin/sleep", "1000")
T = TypeVar("T")
P = ParamSpec("P")


class Case:
    """A runtime, and the containers that a test makes with it."""

    def __init__(self, contract: ContractCase, directory: Path) -> None:
        self.contract = contract
        self.directory = directory
        self.root = directory / "root"
        self.runtime = contract.new_runtime(self.root)
        self.no_streams = StdioOptions()
        self.ids: list[str] = []
        self._rootfs: Path | None = None

    @property
    def rootfs(self) -> Path:
        """One for all bundles of the case."""
        if self._rootfs is None:
            self._rootfs = make_rootfs(self.directory / "rootfs")
        return self._rootfs

    def bundle(self, id: str, args: Sequence[str], **changes: Any) -> str:
        """A bundle that runs `args`, with members of config.json changed as by `make_bundle`."""
        path = self.contract.cgroups_path(id)
        if path is not None:
            changes["linux"] = {"cgroupsPath": path, **changes.get("linux", {})}
        return str(make_bundle(self.directory / "bundles" / f"bundle-{id}", args, rootfs=self.rootfs, **changes))

    @property
    def cgroup_names(self) -> list[str]:
        """What the cgroups of the case's containers are called."""
        return [os.path.basename(self.contract.cgroups_path(id) or id) for id in self.ids]

    def create(self, id: str, args: Sequence[str], stdio: StdioOptions = StdioOptions(), **changes: Any) -> int:
        """A created container; init's pid."""
        self.ids.append(id)
        return self.runtime.create_container(id, self.bundle(id, args, **changes), stdio)

    def run(self, id: str, args: Sequence[str], stdio: StdioOptions = StdioOptions(), **changes: Any) -> int:
        """A started container; init's pid."""
        pid = self.create(id, args, stdio, **changes)
        self.runtime.start_container(id)
        return pid

    def exec(self, id: str, args: Sequence[str], stdio: StdioOptions = StdioOptions(), **members: Any) -> int:
        """An exec process in it; its pid."""
        return self.runtime.exec_process(id, {"args": list(args), "cwd": "/", **members}, stdio)

    def stop(self, id: str) -> ProcessExitState:
        """SIGKILL, also for a paused one; wait for it."""
        self.runtime.kill_container(id, signal.SIGKILL)
        # cgroup v2 lets what is frozen die of it at any moment, v1 only when it is thawed
        with contextlib.suppress(NotPausedError):
            if self.runtime.get_container_state(id).status == Status.PAUSED:
                self.runtime.resume_container(id)
        return within_time(lambda: self.runtime.wait_on_container(id))

    def container_in(self, status: Status, id: str = "c1") -> int:
        """A container in that status; the pid that its init has or had."""
        pid = self.create(id, SLEEP)
        if status != Status.CREATED:
            self.runtime.start_container(id)
        if status == Status.PAUSED:
            self.runtime.pause_container(id)
        if status == Status.STOPPED:
            self.stop(id)
        assert self.runtime.get_container_state(id).status == status
        return pid

    def delete_all(self) -> None:
        """Delete what the test has left."""
        for id in self.ids:
            with contextlib.suppress(ContainerNotFoundError):
                self.runtime.delete_container(id, force=True)


def specifies(*rows: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Of a test: the rows of this project's docs/conformance.md that it proves of an engine of this project, and no mark, which pytest
    would have to be told of by every project that uses the contract."""
    def mark(test: Callable[P, T]) -> Callable[P, T]:
        vars(test)["specification_rows"] = frozenset(rows)
        return test
    return mark


class ContractCase:
    """What an implementation tells of itself. Subclass `RuntimeContract` or `ContainerContract`, not this.

    differences   where the implementation is known to do otherwise than the interface says: name and reason. Tests
                  then hold it to what it does instead. The names are in `KNOWN_DIFFERENCES`.
    """

    differences: ClassVar[Mapping[str, str]] = {}

    def new_runtime(self, root: Path) -> Runtime:
        """A runtime on that root, which need not exist; a second one on the same root sees the same containers."""
        raise NotImplementedError

    def cgroups_path(self, id: str) -> str | None:
        """`linux.cgroupsPath` for a container, None to have none: for runtimes that use the caller's cgroup by default."""
        return None

    def state_file(self, root: Path, id: str) -> Path | None:
        """The file that a test may damage; None only with the difference `no-state-file`."""
        return root / id / "state.json"

    def differs(self, name: str) -> bool:
        """Whether the implementation has that difference."""
        assert name in KNOWN_DIFFERENCES, name
        return name in self.differences

    @pytest.fixture
    def case(self) -> Iterator[Case]:
        """The case; nothing may be left of it."""
        self._warm_up()
        before = HostSnapshot.take()
        with _case_directory() as directory:
            case = Case(self, directory)
            try:
                yield case
            finally:
                case.delete_all()
            # what begins with a dot is no container's, but may be kept for the next one
            assert [str(path) for path in case.root.glob("[!.]*")] == []
        assert HostSnapshot.take().differences(before, case.cgroup_names) == []

    def _warm_up(self) -> None:
        """One container before the first snapshot: what stays with the process (a reaper's epoll) is there then."""
        if type(self) in _warm:
            return
        with _case_directory() as directory:
            case = Case(self, directory)
            try:
                case.run("warm-up", ["/bin/true"])
                case.runtime.wait_on_container("warm-up")
            finally:
                case.delete_all()
        _warm.add(type(self))


_warm: set[type[ContractCase]] = set()

KNOWN_DIFFERENCES = {
    "fails-at-create": "what keeps the program from being run (a missing file, cwd, user) is reported by create, not start",
    "changes-directory-at-create": "create makes `process.cwd` the working directory, and reports what prevents it",
    "fails-after-exec": "a file of unknown format is not reported: the process ends with an error status",
    "fails-without-path": "the message about a program that may not be executed does not name it",
    "no-state-file": "the state of a container is in no file that could be damaged",
    "poststart-at-create": "poststart hooks run when the container is created",
    "other-states-for-hooks": "hooks are told another status, or another pid, than runtime.md says",
    "no-poststop-after-failed-create": "poststop hooks do not run when another hook has kept the container from being created",
    "own-exec-only": "a second runtime object on the same root does not know the first's exec processes",
}


@contextlib.contextmanager
def _case_directory() -> Iterator[Path]:
    # not pytest's tmp_path, which only the owner may pass: a user namespace's root is nobody there
    directory = tempfile.mkdtemp(prefix="contract-")
    try:
        os.chmod(directory, 0o755)
        yield Path(directory)
    finally:
        shutil.rmtree(directory)


def within_time(action: Callable[[], T]) -> T:
    """Its result, or a failure instead of waiting for ever."""
    return in_thread(action)()


def in_thread(action: Callable[[], T], timeout_s: float = EVENT_TIMEOUT_S) -> Callable[[], T]:
    """Start it in a thread; the callable waits for the result, or raises what was raised."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> T:
        thread.join(timeout_s)
        assert not thread.is_alive(), f"not done after {timeout_s} s"
        if errors:
            raise errors[0]
        return results[0]

    return result


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended, without being its parent or collecting it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # EINVAL: larger than any pid
        return
    try:
        assert is_readable(pidfd, EVENT_TIMEOUT_S), f"process {pid} did not end"
    finally:
        os.close(pidfd)


def is_readable(file: BinaryIO | int, timeout_s: float) -> bool:
    """Whether there is something to read, or an end of file, within that time."""
    poller = select.poll()
    poller.register(file, select.POLLIN)
    return bool(poller.poll(int(timeout_s * 1000)))


def read_line(file: BinaryIO | None) -> bytes:
    """One line of an unbuffered file, or what there is before its end."""
    assert file is not None
    line = b""
    while not line.endswith(b"\n") and (byte := read_some(file, 1)):
        line += byte
    return line


def read_all(file: BinaryIO | None) -> bytes:
    """Until its end."""
    assert file is not None
    data = b""
    while more := read_some(file, 65536):
        data += more
    return data


def read_some(file: BinaryIO, size: int) -> bytes:
    """What there is; b'' at the end, which is an error on a terminal's master."""
    assert is_readable(file, EVENT_TIMEOUT_S), "nothing to read"
    try:
        return os.read(file.fileno(), size)
    except OSError:
        return b""
