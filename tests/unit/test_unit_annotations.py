"""Properties of a container's unit that annotations state."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyruntime.cgroups import systemd
from pyruntime.cgroups.paths import Unit
from pyruntime.cgroups.systemd import Property, UnitError
from pyruntime.errors import InvalidBundleError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan.unit_annotations import stated_properties
from pyruntime.runtimes.bundle import OpenedBundle
from pyruntime.runtimes.compiled import CompiledBundle
from pyruntime.runtimes.filters import compile_filter
from pyruntime.spec import decode_resources
from pyruntime.testing.bundles import default_config, merge

V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
PREFIX = "org.systemd.property."


def stated(*pairs: tuple[str, str], resources: dict[str, Any] | None = None) -> tuple[list[Property], tuple[str, ...]]:
    found, left_out = stated_properties({PREFIX + name: text for name, text in pairs}, decode_resources(resources) if resources else None, True)
    assert [each.json_path for each in found] == [f'$.annotations["{PREFIX}{stated_name(each.property[0], pairs)}"]' for each in found]
    return [each.property for each in found], left_out


def stated_name(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    names = [name for name, _ in pairs]
    return name if name in names else name.replace("USec", "Sec")


def compiled(annotations: dict[str, str], units: str | None = "", **linux: Any) -> CompiledBundle:
    config = default_config()
    merge(config, {"annotations": annotations, "linux": linux})
    return CompiledBundle(OpenedBundle.decode("/b", json.dumps(config).encode()), V2, units, compile_filter)


@pytest.mark.parametrize(("name", "text", "expected"), [
    # what podman and CRI-O write
    ("KillSignal", "37", ("KillSignal", ("i", 37))), ("TimeoutStopUSec", "uint64 10000000", ("TimeoutStopUSec", ("t", 10_000_000))),
    ("DefaultDependencies", "true", ("DefaultDependencies", ("b", True))), ("After", "['crio.service']", ("After", ("as", ["crio.service"]))),
    ("CollectMode", "'inactive-or-failed'", ("CollectMode", ("s", "inactive-or-failed"))),
    # seconds are microseconds in D-Bus, always of one type
    ("TimeoutStopSec", "456", ("TimeoutStopUSec", ("t", 456_000_000))), ("TimeoutStopSec", "byte 234", ("TimeoutStopUSec", ("t", 234_000_000))),
    ("TimeoutStopSec", "234.789", ("TimeoutStopUSec", ("t", 234_789_000))), ("RuntimeMaxSec", "2.3", ("RuntimeMaxUSec", ("t", 2_300_000))),
    ("TimeoutStopSec", "uint64 18446744073709", ("TimeoutStopUSec", ("t", 18446744073709 * 10**6))), ("XSec", "0", ("XSec", ("i", 0))),
    ("FOOSec", "7", ("FOOSec", ("i", 7))), ("Sec", "7", ("Sec", ("i", 7))), ("TimeoutStopUSec", "7", ("TimeoutStopUSec", ("i", 7))),
    ("Delegate", "true", ("Delegate", ("b", True))), ("TasksMax", "'x'", ("TasksMax", ("s", "x"))),
])
def test_what_is_stated(name: str, text: str, expected: Property) -> None:
    assert stated((name, text)) == ([expected], ())


@pytest.mark.parametrize(("name", "text", "reason"), [
    ("ValidName", "invalid-value", "is 'invalid-value', which is no value in GVariant's text format: 'invalid' is no value"),
    ("TimeoutStopUSec", "uint64 1 s", "'s' follows the value, at character 10"), ("KillSignal", "", "is '', which is no value"),
    ("", "1", "names the property '', and systemd's have letters only"), ("A name", "1", "letters only"), ("Number1", "1", "letters only"),
    ("A.b", "1", "letters only"), ("K\u0456ll", "1", "letters only"), ("KillSignal\n", "1", "letters only"),
    ("TimeoutStopSec", "false", "seconds are a number"), ("TimeoutStopSec", "'5'", "seconds are a number"),
    ("TimeoutStopSec", "[5]", "seconds are a number"),
    ("TimeoutStopSec", "-1", "is '-1', and seconds are a number from 0 to 18446744073709"),
    ("TimeoutStopSec", "uint64 18446744073710", "seconds are a number from"),
    ("TimeoutStopSec", "1e300", "seconds are a number from"), ("TimeoutStopSec", "-0.5", "seconds are a number from"),
    ("PIDs", "@au []", "cannot be stated: the processes"), ("PIDs", "[uint32 1]", "cannot be stated"),
    ("Slice", "'a.slice'", "says $.linux.cgroupsPath"),
    ("Delegate", "false", "cannot be false"),
])
def test_what_cannot_be_stated(name: str, text: str, reason: str) -> None:
    with pytest.raises(InvalidBundleError, match=re.escape(reason)) as caught:
        compiled({PREFIX + name: text})
    assert (caught.value.file, caught.value.json_path) == ("/b/config.json", f"$.annotations[{json.dumps(PREFIX + name, ensure_ascii=False)}]")
    # where systemd makes no unit it is an annotation as any other
    assert compiled({PREFIX + name: text}, None).warnings == compiled({}, None).warnings


def test_one_property_stated_twice() -> None:
    """The same is, whichever of the names it has; which of two would be set was never said."""
    assert stated(("TimeoutStopUSec", "uint64 5000000"), ("TimeoutStopSec", "5"))[0] == [("TimeoutStopUSec", ("t", 5_000_000))]
    with pytest.raises(InvalidBundleError) as caught:
        stated(("TimeoutStopUSec", "uint64 10000000"), ("TimeoutStopSec", "5"))
    assert caught.value.reason == f'states another TimeoutStopUSec than $.annotations["{PREFIX}TimeoutStopUSec"]'
    assert caught.value.json_path == f'$.annotations["{PREFIX}TimeoutStopSec"]'


@pytest.mark.parametrize(("name", "text", "resources", "is_left_out"), [
    ("MemoryMax", "uint64 8192", {"memory": {"limit": 4096}}, True), ("MemoryMax", "uint64 4096", {"memory": {"limit": 4096}}, False),
    ("MemoryHigh", "uint64 8192", {"memory": {"limit": 4096}}, False), ("TasksMax", "uint64 7", {"pids": {"limit": 8}}, True),
    ("TasksMax", "uint64 7", None, False), ("MemoryHigh", "uint64 1", {"unified": {"memory.high": "2"}}, True),
    ("DeviceAllow", "[('/dev/kmsg', 'r')]", None, True), ("DevicePolicy", "'auto'", None, True),
    ("Description", "'mine'", {"pids": {"limit": 8}}, False),
])
def test_limits_of_the_container_count(name: str, text: str, resources: dict[str, Any] | None, is_left_out: bool) -> None:
    properties, left_out = stated((name, text), resources=resources)
    assert [property[0] for property in properties] == ([] if is_left_out else [name])
    assert left_out == ((f'$.annotations["{PREFIX}{name}"] is left out: {name} is what $.linux.resources says',) if is_left_out else ())


def test_they_are_the_units() -> None:
    """Instead of the runtime's own, each once; what is left out is warned of."""
    annotations = {PREFIX + "Description": "'mine'", PREFIX + "DefaultDependencies": "true", PREFIX + "TimeoutStopSec": "7", "other": "x",
                   PREFIX + "DevicePolicy": "'auto'", PREFIX + "MemoryHigh": "uint64 4096"}
    plain, bundle = compiled({}), compiled(annotations)
    properties = bundle.unit_properties("c", (7,))
    assert len(properties) == len(dict(properties))
    assert dict(properties) == {**dict(plain.unit_properties("c", (7,))), "Description": ("s", "mine"), "DefaultDependencies": ("b", True),
                                "TimeoutStopUSec": ("t", 7_000_000), "MemoryHigh": ("t", 4096)}
    assert bundle.unit_json_paths() == {
        "Description": f'$.annotations["{PREFIX}Description"]', "DefaultDependencies": f'$.annotations["{PREFIX}DefaultDependencies"]',
        "TimeoutStopUSec": f'$.annotations["{PREFIX}TimeoutStopSec"]', "MemoryHigh": f'$.annotations["{PREFIX}MemoryHigh"]'}
    assert bundle.warnings == (
        *plain.warnings, f'$.annotations["{PREFIX}DevicePolicy"] is left out: DevicePolicy is what $.linux.resources says')
    assert plain.unit_json_paths() == {}


@pytest.mark.parametrize(("text", "first", "late"), [
    ("uint64 1", ("t", 2), [("TasksMax", ("t", 1))]), ("uint64 2", ("t", 2), []), ("uint64 0", ("t", 0), []), ("1", ("i", 1), []),
    ("'x'", ("s", "x"), []),
])
def test_room_for_the_process_that_a_scope_begins_with(text: str, first: tuple[str, Any], late: list[Property]) -> None:
    bundle = compiled({PREFIX + "TasksMax": text})
    assert dict(bundle.unit_properties("c", (7,)))["TasksMax"] == first and bundle.late_unit_properties() == late


class Systemd:
    """Refuses some properties, as bus_unit_set_properties of systemd does: the first one, before it makes anything."""

    def __init__(self, refused: dict[str, str], job: str = "") -> None:
        self.refused = refused
        self.job = job
        self.asked: list[list[str]] = []

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, method: str, signature: str, body: tuple[Any, ...], *, subject: str) -> Any:
        self.asked.append([name for name, _ in body[2]])
        for name, _ in body[2]:
            if name == systemd._NO_PROPERTY:
                raise self.error(f"Cannot set property {name}, or unknown property.", "org.freedesktop.DBus.Error.PropertyReadOnly")
            if name in self.refused:
                raise self.error(self.refused[name], self.refused[name])

    def start(self, unit: str, properties: list[Property]) -> None:
        self.call("StartTransientUnit", "", (unit, "replace", properties, []), subject=unit)
        raise self.error(self.job, self.job)

    def reset_failed(self, unit: str) -> None:
        pass

    blame, refusal_of = systemd._Manager.blame, systemd._Manager.refusal_of

    @staticmethod
    def error(detail: str, name: str) -> UnitError:
        return UnitError("start transient unit", "c.scope", 0, "$.linux.cgroupsPath", detail, name)


@pytest.mark.parametrize(("refused", "job", "json_path", "detail"), [
    ({"KillSignal": "System.Error.ENXIO"}, "", "$.k", "property KillSignal of type 'i': System.Error.ENXIO"),
    ({"TimeoutStopUSec": "wrong", "KillSignal": "other"}, "", "$.t", "property TimeoutStopUSec of type 't': wrong"),
    # nothing is said
    ({"KillSignal": ""}, "", "$.linux.cgroupsPath", ""),
    # it is one of the runtime's own; a unit of that name; one that it wants; and what happens afterwards
    ({"Description": "wrong"}, "", "$.linux.cgroupsPath", "wrong"),
    ({"Description": systemd._UNIT_EXISTS}, "", "$.linux.cgroupsPath", systemd._UNIT_EXISTS),
    ({}, "org.freedesktop.systemd1.NoSuchUnit", "$.linux.cgroupsPath", "org.freedesktop.systemd1.NoSuchUnit"),
    ({}, "", "$.linux.cgroupsPath", ""),
])
def test_which_annotation_systemd_refuses(monkeypatch: pytest.MonkeyPatch, refused: dict[str, str], job: str, json_path: str,
                                          detail: str) -> None:
    """It says of few of its refusals what they are about, so it is asked again, in a way that starts nothing."""
    manager = Systemd(refused, job)
    monkeypatch.setattr(systemd, "_connected", lambda: manager)
    properties: list[Property] = [("Description", ("s", "d")), ("TimeoutStopUSec", ("t", 7)), ("KillSignal", ("i", 7))]
    with pytest.raises(UnitError) as caught:
        systemd.start_unit(Unit("c.scope", "a.slice"), properties, {"TimeoutStopUSec": "$.t", "KillSignal": "$.k"})
    assert (caught.value.json_path, caught.value.detail, caught.value.path) == (json_path, detail, "c.scope")
    assert all(asked[1:] == [systemd._NO_PROPERTY] for asked in manager.asked if len(asked) < 3)


def test_nothing_is_imported_without_such_an_annotation(tmp_path: Path) -> None:
    program = f"""if True:
        import sys
        sys.path[:0] = {[str(Path(__file__).parent)]!r}
        from test_unit_annotations import PREFIX, compiled
        for name in ("gvariant", "unit_annotations"):
            sys.modules.pop(f"pyruntime.plan.{{name}}", None)
        found = []
        stated = {{PREFIX + "KillSignal": "37"}}
        for annotations, units in (({{}}, ""), ({{"a": "b"}}, ""), (stated, None), (stated, "")):
            compiled(annotations, units)
            found.append("pyruntime.plan.gvariant" in sys.modules)
        print(found)
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ended.stdout == "[False, False, False, True]\n"
