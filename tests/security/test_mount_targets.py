"""Each mount target of a usual bundle, and each of its parents, is a link of the image."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from attacks import Attack
from links import MOUNTINFO, assert_refused, below, in_image, mounted, mounts_without

from pyruntime.errors import SetupError
from pyruntime.host import read_host
from pyruntime.testing.bundles import default_config

pytestmark = pytest.mark.privileged

TARGETS = [str(mount["destination"]) for mount in default_config()["mounts"]]
PLACES = sorted({"/".join(parts[:i]) for parts in (target.split("/") for target in TARGETS) for i in range(2, len(parts) + 1)})
# procfs and sysfs are what is written to and trusted, so nothing else may be in their place
REFUSING = ("/proc", "/sys")


@pytest.fixture(params=["mounted_after", "mounted_before"], autouse=True)
def change_of_root(request: pytest.FixtureRequest, attack: Attack) -> None:
    """Where hooks are to see the mounts, these are made before the change of root, while the host can still be reached by name."""
    if request.param == "mounted_before":
        attack.changes["hooks"] = {"createContainer": [{"path": "/bin/true"}]}


def _chain(attack: Attack, place: str) -> str:
    attack.replace("first", "/etc/second")
    attack.replace("etc/second", "../third")
    attack.replace("third", attack.canary)
    attack.replace(place, "/first")
    return str(attack.canary)


def _link(text: Callable[[Attack], str], lands: Callable[[Attack, str], str]) -> Callable[[Attack, str], str]:
    def put(attack: Attack, place: str) -> str:
        attack.replace(place, text(attack))
        return lands(attack, place)
    return put


# puts a link at a place of the image; returns where in the container it leads
KINDS: dict[str, Callable[[Attack, str], str]] = {
    "relative": _link(lambda attack: "aim", lambda attack, place: below("/" + os.path.dirname(place), "aim")),
    "absolute": _link(lambda attack: str(attack.canary), lambda attack, place: str(attack.canary)),
    "out_of_the_root": _link(lambda attack: "../" * 40 + str(attack.canary)[1:], lambda attack, place: str(attack.canary)),
    "chain": _chain,
    "file": _link(lambda attack: "/etc/passwd", lambda attack, place: "/etc/passwd"),
}


def _types(target: str) -> set[str]:
    """What is mounted there: with hierarchies of v1, cgroups are in a tmpfs."""
    kind = {"/dev": "tmpfs", "/dev/shm": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/proc": "proc", "/sys": "sysfs"}
    return {kind.get(target) or ("cgroup2" if read_host().is_unified else "tmpfs")}


def _run(attack: Attack, place: str) -> tuple[SetupError | tuple[int, str], list[str]]:
    """With the mounts at the place and below it, and without those that would cover it."""
    above = [target for target in TARGETS if place.startswith(target + "/")]
    mounts = mounts_without(*above)
    outcome = attack.try_run(attack.bundle(MOUNTINFO, mounts=mounts, linux={"maskedPaths": [], "readonlyPaths": []}))
    return outcome, [mount["destination"] for mount in mounts]


def test_places() -> None:
    assert set(PLACES) == {"/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys", "/sys/fs", "/sys/fs/cgroup"}


@pytest.mark.parametrize("exists", [True, False], ids=["exists", "dangling"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_link_in_the_place_of(attack: Attack, place: str, kind: str, exists: bool) -> None:
    lands = KINDS[kind](attack, place[1:])
    if kind == "file" and not exists:
        in_image(attack, lands).unlink()
    elif exists and kind != "file":
        in_image(attack, lands).mkdir(parents=True)
    outcome, destinations = _run(attack, place)
    at_or_below = [target for target in destinations if target == place or target.startswith(place + "/")]
    failing = f"$.mounts[{destinations.index(at_or_below[0])}].destination"
    if place in REFUSING:
        assert_refused(outcome, "attach mount", place, "ELOOP", failing)
    elif kind == "file" and exists:
        assert_refused(outcome, "attach mount", at_or_below[0], "ENOTDIR", failing)
    else:
        found = [(point, type_) for point, type_, _, _ in mounted(outcome)]
        for target in at_or_below:
            point = lands + target[len(place):]
            assert {type_ for where, type_ in found if where == point} == _types(target)
            assert target not in [where for where, _ in found]
        assert in_image(attack, lands).is_dir()


@pytest.mark.parametrize("place", ["/dev/pts", "/dev/shm", "/dev/mqueue"])
def test_link_onto_the_kernels_settings(attack: Attack, place: str) -> None:
    """What the image has put over its own settings is the container's to write to, and no way to the host's."""
    attack.replace(place[1:], "/proc/sys/kernel")
    script = "cut -d' ' -f5 /proc/self/mountinfo | grep /proc/sys/kernel$; " \
             "(echo lost >/proc/sys/kernel/core_pattern) 2>/dev/null && cat /proc/sys/kernel/core_pattern"
    (attack.rootfs / "bin" / "cut").symlink_to("busybox")
    outcome = attack.try_run(attack.bundle(["/bin/sh", "-c", f"{script}; true"], mounts=mounts_without("/dev")))
    # twice: making /proc/sys read-only bound it to itself with what is mounted below
    assert outcome == (0, "/proc/sys/kernel\n" * 2 + ("lost\n" if place == "/dev/shm" else ""))
