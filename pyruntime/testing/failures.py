"""Bundles and processes that cannot work: the error says why, and nothing is left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pyruntime.errors import InvalidBundleError, SetupError
from pyruntime.interface import Status
from pyruntime.testing.case import SLEEP, Case, ContractCase, within_time
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


class Failures(ContractCase):
    """At create, start and exec."""

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
        assert error.path in (path, None), str(error)
        assert os.strerror(number) in str(error)

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

    @pytest.mark.parametrize("process", [{}, {"args": []}, {"args": "true"}, {"cwd": "tmp"}, {"env": [1]}], ids=str)
    def test_exec_of_no_process(self, case: Case, process: dict[str, Any]) -> None:
        case.container_in(Status.RUNNING)
        whole = {"args": ["/bin/true"], "cwd": "/", **process} if process else {}
        with pytest.raises(InvalidBundleError):
            case.runtime.exec_process("c1", whole, case.no_streams)

    def test_missing_bundle(self, case: Case) -> None:
        self._create_fails(case, str(case.directory / "no-bundle"), "no-bundle")

    def test_bundle_without_config(self, case: Case) -> None:
        bundle = case.bundle("c1", SLEEP)
        os.unlink(f"{bundle}/config.json")
        self._create_fails(case, bundle, "config.json")

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ociVersion": 1}', "\xff"])
    def test_broken_json(self, case: Case, text: str) -> None:
        bundle = case.bundle("c1", SLEEP)
        Path(bundle, "config.json").write_text(text, encoding="latin-1")
        self._create_fails(case, bundle, "config.json")

    def test_wrong_type_is_told_by_its_path(self, case: Case) -> None:
        bundle = case.bundle("c1", SLEEP, process={"args": ["/bin/true", 1]})
        error = self._create_fails(case, bundle, "config.json")
        assert isinstance(error, InvalidBundleError) and error.json_path == "$.process.args[1]"

    def test_rootfs_is_missing(self, case: Case) -> None:
        self._create_fails(case, case.bundle("c1", SLEEP, root={"path": "no-rootfs"}), "no-rootfs")

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
