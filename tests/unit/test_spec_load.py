"""Loading: bundles, text that is not JSON, and processes and resources on their own."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import types
from typing import Any

import pytest
from spec_examples import full, load, put, small

from pyruntime.errors import InvalidBundleError
from pyruntime.spec import (
    Memory,
    Pids,
    Process,
    Resources,
    RlimitType,
    User,
    decode_process,
    decode_resources,
    load_bundle,
    load_spec,
)


def bundle(directory: pathlib.Path, content: bytes) -> str:
    (directory / "config.json").write_bytes(content)
    return str(directory)


def file_refusal(path: str) -> InvalidBundleError:
    with pytest.raises(InvalidBundleError) as caught:
        load_bundle(path)
    return caught.value


def test_load_bundle(tmp_path: pathlib.Path) -> None:
    assert load_bundle(bundle(tmp_path, json.dumps(small()).encode())) == load(small())


def test_load_bundle_larger_than_one_read(tmp_path: pathlib.Path) -> None:
    config = put(small(), ("annotations",), {"long": "x" * 2**20})
    assert load_bundle(bundle(tmp_path, json.dumps(config).encode())) == load(config)


def test_errors_name_the_file(tmp_path: pathlib.Path) -> None:
    error = file_refusal(bundle(tmp_path, json.dumps(put(small(), ("process", "cwd"), "x")).encode()))
    assert (error.file, error.json_path) == (str(tmp_path / "config.json"), "$.process.cwd")
    assert str(error) == f"{tmp_path}/config.json: $.process.cwd: 'x' is not an absolute path"


def test_missing_bundle(tmp_path: pathlib.Path) -> None:
    error = file_refusal(str(tmp_path / "none"))
    assert (error.file, error.json_path) == (str(tmp_path / "none"), None)
    assert error.reason == "the bundle directory does not exist"
    (tmp_path / "file").touch()
    error = file_refusal(str(tmp_path / "file"))
    assert error.reason == "the bundle directory is not a directory"


def test_missing_config(tmp_path: pathlib.Path) -> None:
    error = file_refusal(str(tmp_path))
    assert (error.file, error.json_path) == (str(tmp_path / "config.json"), None)
    assert "ENOENT" in error.reason


def test_config_is_no_regular_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert "not a regular file" in file_refusal(str(tmp_path)).reason
    (tmp_path / "config.json").rmdir()
    os.mkfifo(tmp_path / "config.json")
    assert "not a regular file" in file_refusal(str(tmp_path)).reason


def test_unreadable_config(tmp_path: pathlib.Path) -> None:
    # a loop of links, since root may read everything
    (tmp_path / "config.json").symlink_to("config.json")
    error = file_refusal(str(tmp_path))
    assert error.json_path is None and "ELOOP" in error.reason


def test_nul_in_the_path() -> None:
    assert "NUL" in file_refusal("/bundle\0").reason


def test_too_large(tmp_path: pathlib.Path) -> None:
    bundle(tmp_path, b"{}")
    os.truncate(tmp_path / "config.json", 64 * 2**20 + 1)
    error = file_refusal(str(tmp_path))
    assert error.json_path is None and "larger than 67108864 bytes" in error.reason


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "is empty"),
    (b" \n\t", "is empty"),
    (b'{\n  "a": tru\n}', "line 2, column 8"),
    (b'{"a": "b"', "line 1, column 10"),
    (b'{}\n\n x', "extra data, at line 3, column 2"),
    (b'{"a": 1,}', "line 1, column"),
    (b'{"a": "\x00"}', "line 1, column 8"),
    (b'{"unknown": "\xff"}', "is not UTF-8: byte 13 is 0xff"),
    (b'{"ociVersion": "\xff"}', "is not UTF-8: byte 16 is 0xff"),
    (b"\xef\xbb\xbf{}", "byte order mark"),
    (b'{"ociVersion": "\\ud800"}', "surrogate"),
    (b'{"ociVersion": "\\ud800", "root": {}}', "surrogate"),
    (b'{"ociVersion": NaN}', "invalid character (byte 15)"),
    (b'{"ociVersion": ' + b"1" * 5000 + b"}", "out of range"),
    (b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    (b"\x80", "is not UTF-8: byte 0 is 0x80"),
], ids=lambda value: repr(value[:24]))
def test_not_json(tmp_path: pathlib.Path, content: bytes, reason: str) -> None:
    error = file_refusal(bundle(tmp_path, content))
    assert (error.file, error.json_path) == (str(tmp_path / "config.json"), None)
    assert reason in error.reason


@pytest.mark.parametrize("value", ["true", '"x"', "[]"])
def test_deep_nesting_at_a_known_field(value: str) -> None:
    data = b'{"ociVersion": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(InvalidBundleError):
        load_spec(data, None)


# processes and resources on their own


def test_process_of_plain_objects() -> None:
    process = decode_process({"args": ["sh"], "cwd": "/"})
    assert process == Process(args=("sh",), cwd="/")
    assert process.user == User(uid=0, gid=0)


def test_process_in_every_form() -> None:
    form = full()["process"]
    expected = load(full()).process
    assert expected is not None
    assert decode_process(form) == expected
    assert decode_process(types.MappingProxyType({**form, "args": tuple(form["args"])})) == expected
    assert decode_process(json.dumps(form).encode()) == expected
    assert decode_process(expected) == expected


def test_process_with_enumerations_and_structs() -> None:
    limit = {"type": RlimitType.CORE, "soft": 0, "hard": 0}
    process = decode_process({"args": ["sh"], "cwd": "/", "user": User(uid=7), "rlimits": [limit]})
    assert process.user.uid == 7 and process.rlimits[0].type is RlimitType.CORE


def test_process_keeps_bytes_that_are_not_utf8() -> None:
    argument = os.fsdecode(b"\xff")
    assert decode_process({"args": [argument], "cwd": "/"}).args == (argument,)


def test_process_does_not_change_the_callers_object() -> None:
    form = {"args": ["sh"], "cwd": "/", "env": None, "apparmorProfile": ""}
    before = copy.deepcopy(form)
    decode_process(form)
    assert form == before


@pytest.mark.parametrize(("process", "place"), [
    ({}, "$.cwd"),
    ({"args": ["sh"]}, "$.cwd"),
    ({"args": ["sh"], "cwd": ""}, "$.cwd"),
    ({"args": ["sh"], "cwd": "tmp"}, "$.cwd"),
    ({"cwd": "/"}, "$.args"),
    ({"args": [], "cwd": "/"}, "$.args"),
    ({"args": None, "cwd": "/"}, "$.args"),
    ({"args": "sh", "cwd": "/"}, "$.args"),
    ({"args": ["sh", 3], "cwd": "/"}, "$.args[1]"),
    ({"args": ["sh", "a\0b"], "cwd": "/"}, "$.args[1]"),
    ({"args": ["sh", "\ud800"], "cwd": "/"}, "$.args[1]"),
    ({"args": ["sh"], "cwd": "/", "user": {"uid": -1}}, "$.user.uid"),
    ({"args": ["sh"], "cwd": "/", "ioPriority": {"class": "\ud800", "priority": 1}}, "$.ioPriority.class"),
    ({"args": ["sh"], "cwd": "/", "ioPriority": {"class": "\udc80", "priority": 1}}, "$"),
    ({"args": ["sh"], "cwd": "/", "\ud800": 1}, "$"),
    ({"args": ["sh"], "cwd": "/", 3: 4}, '$["3"]'),
    (Process(args=["sh", 3], cwd="/"), "$.args[1]"),  # type: ignore[arg-type]
    (Process(args=("sh",), cwd=""), "$.cwd"),
    (Process(args=(), cwd="/"), "$.args"),
    (b'{"args": ["a\\u0000"], "cwd": "/"}', "$.args[0]"),
    (b"[]", "$"),
    (["sh"], "$"),
    (None, "$"),
    ("{}", "$"),
])
def test_refused_process(process: Any, place: str) -> None:
    with pytest.raises(InvalidBundleError) as caught:
        decode_process(process)
    assert (caught.value.file, caught.value.json_path) == (None, place)


def test_process_that_contains_itself() -> None:
    form: dict[str, Any] = {"args": None, "cwd": "/"}
    form["unknown"] = form
    with pytest.raises(InvalidBundleError, match="nested too deeply"):
        decode_process(form)


def test_process_that_is_not_json() -> None:
    with pytest.raises(InvalidBundleError, match="line 1") as caught:
        decode_process(b"{")
    assert caught.value.json_path is None


@pytest.mark.conformance(44)
@pytest.mark.parametrize(("version", "limit", "loaded"), [
    ("1.0.0", 0, None), ("1.0.2-dev", 0, None), ("1.2.1", 0, None), ("1.3.0-rc.1", 0, Pids(limit=0)), ("1.3.0", 0, Pids(limit=0)),
    ("1.10.0", 0, Pids(limit=0)), ("1.0.2", -1, Pids(limit=-1)), ("1.0.2", 1, Pids(limit=1))])
def test_limit_of_processes_that_could_not_be_left_out(version: str, limit: int, loaded: Pids | None) -> None:
    """0 was none before runtime-spec 1.3; all else stays."""
    config = put(small() | {"ociVersion": version}, ("linux", "resources"), {"pids": {"limit": limit}, "memory": {"limit": 4096}})
    assert load(config).linux.resources == Resources(pids=loaded, memory=Memory(limit=4096))


def test_resources_on_their_own() -> None:
    expected = Resources(pids=Pids(limit=7))
    assert decode_resources({"pids": {"limit": 7}}) == expected
    assert decode_resources(b'{"pids": {"limit": 7}}') == expected
    assert decode_resources(expected) == expected
    with pytest.raises(InvalidBundleError) as caught:
        decode_resources({"cpu": {"quota": 1}})
    assert (caught.value.file, caught.value.json_path) == (None, "$.cpu.quota")


