"""Properties of a container's unit that its annotations state."""

from __future__ import annotations

import logging
import signal

import pytest
from lab import Lab
from unit_lab import CGROUP, MIB, SCOPE, files, is_known, show, systemctl

from pyruntime.errors import InvalidBundleError, SetupError

PREFIX = "org.systemd.property."


@pytest.mark.conformance(64)
def test_stated_properties_are_the_units(units: Lab) -> None:
    """podman states the first two in these words, CRI-O the next three."""
    stated = {
        "KillSignal": "37", "TimeoutStopUSec": "uint64 12000000", "DefaultDependencies": "true", "After": "['dbus.service']",
        "CollectMode": "'inactive-or-failed'", "RuntimeMaxSec": "3600.5", "Description": '"a \\"container\\" \\u00e9"',
        "MemoryHigh": "uint64 0x4000000", "AllowedCPUs": "[byte 0x01]", "IPAddressDeny": "[(2, [byte 192, 0, 2, 0], uint32 24)]",
        "Documentation": "['man:true(1)', 'man:false(1)']"}
    units.sleeper(annotations={PREFIX + name: text for name, text in stated.items()})
    expected = {
        "KillSignal": "37", "TimeoutStopUSec": "12s", "DefaultDependencies": "yes", "CollectMode": "inactive-or-failed",
        "RuntimeMaxUSec": "1h 500ms", "Description": 'a "container" \u00e9', "MemoryHigh": str(64 * MIB), "AllowedCPUs": "0",
        "IPAddressDeny": "192.0.2.0/24", "Documentation": '"man:true(1)" "man:false(1)"', "Delegate": "yes", "Slice": "system.slice"}
    assert show(SCOPE, *expected) == expected
    assert "dbus.service" in show(SCOPE, "After")["After"].split()
    assert files(CGROUP, "memory.high", "cpuset.cpus") == [str(64 * MIB), "0"]


def test_a_property_that_ends_the_container(units: Lab) -> None:
    units.sleeper(annotations={PREFIX + "RuntimeMaxSec": "10", PREFIX + "TimeoutStopSec": "0.5"})
    assert units.runtime.wait_on_container("p1").exit_code == 128 + signal.SIGKILL


def test_stated_properties_beside_limits(units: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """The container's limits count, and one process is enough though another holds the unit at first."""
    with caplog.at_level(logging.WARNING, "pyruntime"):
        units.sleeper(linux={"resources": {"memory": {"limit": 100 * MIB}}}, annotations={
            PREFIX + "TasksMax": "uint64 1", PREFIX + "MemoryMax": "uint64 4096", PREFIX + "DeviceAllow": "[('/dev/kmsg', 'rw')]"})
    assert show(SCOPE, "TasksMax", "MemoryMax") == {"TasksMax": "1", "MemoryMax": str(100 * MIB)}
    assert files(CGROUP, "pids.max", "memory.max") == ["1", str(100 * MIB)]
    assert "kmsg" not in systemctl("show", SCOPE, "-pDeviceAllow")
    assert {record.message.rpartition("$")[0].rpartition("$")[2] for record in caplog.records} == {
        f'.annotations["{PREFIX}{name}"] is left out: {name} is what ' for name in ("MemoryMax", "DeviceAllow")}


@pytest.mark.parametrize(("name", "text", "detail"), [
    ("NoSuchThing", "true", "property NoSuchThing of type 'b': Cannot set property NoSuchThing, or unknown property."),
    ("ExecStartPre", "[('/bin/true', ['true'], false)]", "property ExecStartPre of type 'a(sasb)': Cannot set property ExecStartPre"),
    # of these systemd does not say which it is
    ("TimeoutStopUSec", "10000000", "property TimeoutStopUSec of type 'i': "), ("KillSignal", "700", "property KillSignal of type 'i': "),
    ("CollectMode", "'never'", "property CollectMode of type 's': "), ("After", "['no unit']", "property After of type 'as': "),
    ("TasksMax", "uint64 0", "property TasksMax of type 't': "), ("RuntimeMaxSec", "-1", None), ("Slice", "'x.slice'", None),
])
def test_a_property_that_is_refused(units: Lab, name: str, text: str, detail: str | None) -> None:
    """By systemd, or before it is asked; among others that are fine. No unit of a container runs programs (CVE-2024-3154)."""
    annotations = {PREFIX + "SendSIGHUP": "true", PREFIX + name: text, PREFIX + "SendSIGKILL": "true"}
    with pytest.raises(SetupError if detail is not None else InvalidBundleError) as caught:
        units.create("true", annotations=annotations)
    assert caught.value.json_path == f'$.annotations["{PREFIX}{name}"]'
    if detail is not None:
        assert isinstance(caught.value, SetupError) and caught.value.detail.startswith(detail)
        assert (caught.value.step, caught.value.path) == ("start transient unit", SCOPE)
    assert not is_known(SCOPE) and not CGROUP.exists() and not units.runtime.container_exists("p1")
    assert units.run("echo yes", annotations={PREFIX + "SendSIGHUP": "true"}) == "yes\n"


def test_properties_of_a_slice(units: Lab) -> None:
    path = "system.slice:unused:test-p1.slice"
    units.sleeper(linux={"cgroupsPath": path}, annotations={PREFIX + "TasksMax": "uint64 77", PREFIX + "Description": "'mine'"})
    assert show("test-p1.slice", "TasksMax", "Description") == {"TasksMax": "77", "Description": "mine"}
    units.runtime.delete_container("p1", force=True)
    with pytest.raises(SetupError) as caught:
        units.create("true", linux={"cgroupsPath": path}, annotations={PREFIX + "TimeoutStopSec": "7"})
    assert caught.value.json_path == f'$.annotations["{PREFIX}TimeoutStopSec"]'
