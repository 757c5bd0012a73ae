"""Bundles and processes that cannot work: the error says why, and nothing is left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pyruntime.errors import InvalidBundleError, SetupError
from pyruntime.interface import Status
from pyruntime.testing.bundles import default_config
from pyruntime.testing.case import SLEEP, Case, ContractCase, specifies, within_time
from pyruntime.testing.snapshot import HostSnapshot

# what is asked for, the step that fails, and why
PROGRAMS: dict[str, tuple[dict[str, Any], str, str, int]] = {
    "no such file": ({"args": ["/bin/no-such-program"]}, "execute program", "/bin/no-such-program", errno.ENOENT),
    "no such file in PATH": ({"args": ["no-such-program"]}, "execute program", "no-such-program", errno.ENOENT),
    "not executable": ({"args": ["/etc/not-executable"]}, "execute program", "/etc/not-executable", errno.EACCES),
    "cwd is a file": ({"args": ["/bin/true"], "cwd": "/etc/not-executable"}, "change directory", "/etc/not-executable",
                      errno.ENOTDIR),
}
MISSING_CWD: tuple[dict[str, Any], str, str, int] = (
    {"args": ["/bin/true"], "cwd": "/no/such/directory"}, "change directory", "/no/such/directory", errno.ENOENT)
# uid (uid_t) -1 would leave the caller's
USERS = [{"uid": 2**32 - 1, "gid": 0}, {"uid": 0, "gid": 2**32 - 1}, {"uid": -1, "gid": 0}, {"uid": 2**40, "gid": 0}]


def _user_namespace() -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    namespaces = [*default_config()["linux"]["namespaces"], {"type": "user"}]
    return {"namespaces": namespaces, "uidMappings": mapping, "gidMappings": mapping}


class Failures(ContractCase):
    """At create, start and exec."""

    @specifies(57, 58)
    @pytest.mark.parametrize("what", PROGRAMS)
    def test_start_fails(self, case: Case, what: str) -> None:
        process, step, path, number = PROGRAMS[what]
        args = process["args"]
        before = HostSnapshot.take(case.root)
        if self.differs("fails-at-create") or (step == "change directory" and self.differs("changes-directory-at-create")):
            with pytest.raises(SetupError) as raised:
                case.create("c1", args, process=process)
        else:
            case.create("c1", args, process=process)
            with pytest.raises(SetupError) as raised:
                case.runtime.start_container("c1")
        self._check(raised.value, step, path, number)
        assert not case.runtime.container_exists("c1")
        assert case.runtime.list_container_states() == []
        left = HostSnapshot.take(case.root).differences(before)
        assert [line for line in left if str(case.root) + "/" in line] == []

    @pytest.mark.parametrize("what", [*PROGRAMS, "cwd is missing"])
    def test_exec_fails(self, case: Case, what: str) -> None:
        process, step, path, number = PROGRAMS.get(what, MISSING_CWD)
        init = case.container_in(Status.RUNNING)
        with pytest.raises(SetupError) as raised:
            case.exec("c1", process["args"], cwd=process.get("cwd", "/"))
        self._check(raised.value, step, path, number)
        assert [found.pid for found in case.runtime.get_all_container_processes("c1")] == [init]
        # and the container goes on
        pid = case.exec("c1", ["/bin/true"])
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 0

    def _check(self, error: SetupError, step: str, path: str, number: int) -> None:
        assert (error.step, error.errno) == (step, number), str(error)
        assert error.path == path or (error.path is None and self.differs("fails-without-path")), str(error)
        assert os.strerror(number) in str(error)
        assert error.json_path is not None
        assert {"execute program": ".args", "change directory": ".cwd"}[step] in error.json_path, str(error)

    def test_user_that_is_not_mapped(self, case: Case) -> None:
        """Neither by exec nor, where config.json cannot tell, by the runtime itself."""
        case.run("c1", SLEEP, linux=_user_namespace())
        with pytest.raises(SetupError) as raised:
            case.exec("c1", ["/bin/true"], user={"uid": 5000, "gid": 0})
        assert (raised.value.step, raised.value.errno) == ("set identity", errno.EINVAL), str(raised.value)
        assert raised.value.json_path is not None and ".user" in raised.value.json_path
        with pytest.raises(InvalidBundleError) as refused:
            case.create("c2", SLEEP, linux=_user_namespace(), process={"user": {"uid": 5000, "gid": 0}})
        assert refused.value.json_path == "$.process.user.uid"
        assert case.runtime.get_container_state("c1").status == Status.RUNNING

    @specifies(14)
    @pytest.mark.parametrize("user", USERS, ids=str)
    def test_user_out_of_range(self, case: Case, user: dict[str, int]) -> None:
        with pytest.raises(InvalidBundleError) as raised:
            case.create("c1", ["/bin/true"], process={"user": user})
        assert raised.value.json_path in ("$.process.user.uid", "$.process.user.gid")
        case.container_in(Status.RUNNING, "c2")
        with pytest.raises(InvalidBundleError) as raised:
            case.exec("c2", ["/bin/true"], user=user)
        assert raised.value.file is None
        assert str(raised.value.json_path).endswith(("user.uid", "user.gid"))

    @specifies(13)
    @pytest.mark.parametrize("process", [{}, {"args": []}, {"args": "true"}, {"cwd": "tmp"}, {"env": [1]}], ids=str)
    def test_exec_of_no_process(self, case: Case, process: dict[str, Any]) -> None:
        case.container_in(Status.RUNNING)
        whole = {"args": ["/bin/true"], "cwd": "/", **process} if process else {}
        with pytest.raises(InvalidBundleError):
            case.runtime.exec_process("c1", whole, case.no_streams)

    @specifies(57)
    def test_missing_bundle(self, case: Case) -> None:
        self._create_fails(case, str(case.directory / "no-bundle"), "no-bundle")

    def test_bundle_without_config(self, case: Case) -> None:
        bundle = case.bundle("c1", SLEEP)
        os.unlink(f"{bundle}/config.json")
        self._create_fails(case, bundle, "config.json")

    def test_config_that_is_a_fifo(self, case: Case) -> None:
        bundle = case.bundle("c1", SLEEP)
        os.unlink(f"{bundle}/config.json")
        os.mkfifo(f"{bundle}/config.json")
        with pytest.raises(InvalidBundleError) as raised:
            within_time(lambda: case.runtime.create_container("c1", bundle, case.no_streams))
        assert raised.value.file == f"{bundle}/config.json"
        assert not case.runtime.container_exists("c1") and not (case.root / "c1").exists()

    @specifies(13)
    @pytest.mark.parametrize("process", [{"args": []}, {"args": ["a\0b"]}, {"env": ["A=\0"]}, {"cwd": "relative"}], ids=str)
    def test_process_that_cannot_be(self, case: Case, process: dict[str, Any]) -> None:
        error = self._create_fails(case, case.bundle("c1", SLEEP, process=process), "config.json")
        assert isinstance(error, InvalidBundleError) and error.json_path is not None
        assert error.json_path.startswith(f"$.process.{next(iter(process))}")

    def test_bundle_that_is_a_link(self, case: Case) -> None:
        bundle = case.bundle("c1", ["/bin/true"])
        os.symlink(bundle, f"{bundle}-link")
        case.ids.append("c1")
        case.runtime.create_container("c1", f"{bundle}-link", case.no_streams)
        case.runtime.start_container("c1")
        assert within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == 0

    @specifies(57)
    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ociVersion": 1}', "\xff", '{"a":' * 100_000, "[" * 100_000],
                             ids=lambda text: text[:20])
    def test_broken_json(self, case: Case, text: str) -> None:
        bundle = case.bundle("c1", SLEEP)
        Path(bundle, "config.json").write_text(text, encoding="latin-1")
        self._create_fails(case, bundle, "config.json")

    def test_wrong_type_is_told_by_its_path(self, case: Case) -> None:
        bundle = case.bundle("c1", SLEEP, process={"args": ["/bin/true", 1]})
        error = self._create_fails(case, bundle, "config.json")
        assert isinstance(error, InvalidBundleError) and error.json_path == "$.process.args[1]"

    @specifies(2)
    def test_rootfs_is_missing(self, case: Case) -> None:
        self._create_fails(case, case.bundle("c1", SLEEP, root={"path": "no-rootfs"}), "no-rootfs")

    @specifies(2)
    def test_rootfs_is_a_file(self, case: Case) -> None:
        self._create_fails(case, case.bundle("c1", SLEEP, root={"path": "config.json"}), "config.json")

    def _create_fails(self, case: Case, bundle: str, named: str) -> Exception:
        """The error names the file, and the id stays free."""
        with pytest.raises((InvalidBundleError, SetupError)) as raised:
            case.runtime.create_container("c1", bundle, case.no_streams)
        assert named in str(raised.value)
        assert not case.runtime.container_exists("c1")
        assert not (case.root / "c1").exists()
        case.container_in(Status.RUNNING)
        return raised.value
