"""Which mounts of a container are CRIU's to make again and which come from outside, and what tells a restored one from another."""

from __future__ import annotations

import msgspec
import pytest

from pyruntime.checkpoint.mounts import (
    MountEntry,
    Origin,
    SavedMount,
    Surroundings,
    UnsavableMountError,
    differences,
    expected_mounts,
    external_keys,
    is_sound,
    locate,
    parse_mountinfo,
    save_mounts,
)

HOSTS = frozenset({"8:1", "0:5", "0:27"})
MOUNTINFO = r"""
55 39 8:1 /srv/rootfs / ro,relatime - ext4 /dev/vda rw
43 55 0:33 / /proc rw,relatime - proc proc rw
44 55 0:34 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
45 43 0:5 /null /proc/kcore rw,relatime - devtmpfs dev rw
46 43 0:33 /sys /proc/sys ro,relatime - proc proc rw
47 55 8:1 /srv/data /data rw,nodev,relatime master:1 - ext4 /dev/vda rw
48 47 0:40 / /data/sub rw - tmpfs volume rw
49 55 8:1 /srv/rootfs/etc /etc ro - ext4 /dev/vda rw
50 55 0:27 /pyruntime/c/below /sys/fs/cgroup ro,noexec - cgroup2 cgroup2 rw
51 55 8:1 /srv/a\040b\134c /with\040space\134 rw - ext4 /dev/vda rw
""".strip()
ENTRIES = parse_mountinfo(MOUNTINFO)
NODES = {"/proc/kcore": (1, 3, 0)}


def around(**changes: object) -> Surroundings:
    made = Surroundings(HOSTS | {"0:40"}, {47: 8, 51: 9}, {43: 0, 44: 1}, {"0:27": ("", "/pyruntime/c")},
                        lambda path: (NODES.get(path), path not in NODES))
    return msgspec.structs.replace(made, **changes)


def entry(line: str) -> MountEntry:
    (found,) = parse_mountinfo(line)
    return found


def origins(saved: list[SavedMount]) -> dict[str, Origin | None]:
    return {mount.mount_point: mount.origin for mount in saved}


def test_mountinfo() -> None:
    assert ENTRIES[-1] == MountEntry(51, 55, "8:1", "/srv/a b\\c", "/with space\\", frozenset(), "ext4")
    assert ENTRIES[5].flags == {"nodev"} and ENTRIES[0].flags == {"ro"}
    assert entry("1 0 8:1 / /\udcff rw - ext4 x rw").mount_point == "/\udcff"


def test_where_mounts_come_from() -> None:
    saved = save_mounts(ENTRIES, around())
    assert origins(saved) == {
        "/": None, "/proc": None, "/dev": None, "/proc/sys": None, "/proc/kcore": Origin(device=(1, 3, 0)), "/data": Origin(mount=8),
        "/data/sub": Origin(mount=8, below="/sub"), "/etc": Origin(is_root=True, below="/etc"),
        "/sys/fs/cgroup": Origin(cgroup="", below="/below"), "/with space\\": Origin(mount=9)}
    assert [mount.mount_point for mount in saved if mount.in_root] == ["/proc", "/dev", "/data", "/etc", "/sys/fs/cgroup", "/with space\\"]
    assert [mount.mount_point for mount in saved if mount.is_file] == ["/proc/kcore"]


def test_keys_mean_nothing() -> None:
    keys = external_keys(save_mounts(ENTRIES, around()))
    assert [key["key"] for key in keys] == ["/proc/kcore", "/data", "/data/sub", "/etc", "/sys/fs/cgroup", "/with space\\"]
    assert [key["val"] for key in keys] == ["0", "1", "2", "3", "4", "5"]


def test_a_file_system_that_the_host_has_too() -> None:
    """As sysfs, in the host's network namespace: it is what `mounts` says."""
    line = "60 55 0:21 / /sys ro - sysfs sysfs rw"
    saved = save_mounts([*ENTRIES, entry(line)], around(host_devices=HOSTS | {"0:21", "0:40"}, made={60: 4}))
    assert origins(saved)["/sys"] == Origin(mount=4)
    with pytest.raises(UnsavableMountError, match="'/sys/x' is of the host"):
        lost = entry("60 61 0:21 / /sys/x ro - sysfs sysfs rw")
        save_mounts([*ENTRIES, lost], around(host_devices=HOSTS | {"0:21", "0:40"}))


def test_a_volume_that_the_host_has_unmounted() -> None:
    """Its file system is not among the host's any more, but it is no tmpfs of the container's."""
    saved = save_mounts([ENTRIES[0], entry("70 55 0:90 / /secret rw - tmpfs t rw")], around(bound={70: 3}))
    assert origins(saved)["/secret"] == Origin(mount=3)


@pytest.mark.parametrize("line", [
    "60 55 8:1 /srv/x /x]:/etc rw - ext4 /dev/vda rw", "60 55 8:1 /srv/x /a\\012b rw - ext4 /dev/vda rw",
    "60 55 8:1 /srv/x /\udcff rw - ext4 v rw"])
def test_mount_points_that_criu_cannot_be_told(line: str) -> None:
    with pytest.raises(UnsavableMountError):
        save_mounts([*ENTRIES, entry(line)], around(bound={60: 3, 47: 8, 51: 9}))


def test_brackets_that_criu_does_not_take_for_its_own() -> None:
    saved = save_mounts([ENTRIES[0], entry("60 55 8:1 /srv/x /app/[id] rw - ext4 v rw")], around(bound={60: 3}))
    assert external_keys(saved) == [{"key": "/app/[id]", "val": "0"}]


def test_mounts_on_one_another() -> None:
    same, other = entry("60 49 8:1 /srv/data /data rw - ext4 v rw"), entry("60 55 8:1 /srv/other /data rw - ext4 v rw")
    saved = save_mounts([*ENTRIES, same], around())
    assert [(mount.key, mount.origin) for mount in saved if mount.mount_point == "/data"] == [("1", Origin(mount=8))] * 2
    with pytest.raises(UnsavableMountError, match="'/data' has several mounts"):
        save_mounts([*ENTRIES, other], around())


def test_without_a_root() -> None:
    with pytest.raises(UnsavableMountError, match="/ is no mount"):
        save_mounts(ENTRIES[1:], around())


PREPARED = parse_mountinfo("""
1 0 8:1 / / rw - ext4 v rw
2 1 0:50 / /run/c rw - tmpfs pyruntime rw
3 2 8:1 /srv/copy /run/c/root ro - ext4 v rw
4 2 8:2 /vol /run/c/mounts/8 ro,nodev - xfs w rw
5 4 0:40 / /run/c/mounts/8/sub rw - tmpfs volume rw
""".strip())


@pytest.mark.parametrize(("path", "device", "root"), [
    ("/run/c/root", "8:1", "/srv/copy"), ("/run/c/root/etc", "8:1", "/srv/copy/etc"), ("/run/c/mounts/8", "8:2", "/vol"),
    ("/run/c/mounts/8/sub", "0:40", "/"), ("/run/c/mounts/8/sub/x", "0:40", "/x"), ("/run/c/mounts/88", "0:50", "/mounts/88"),
    ("/x", "8:1", "/x")])
def test_what_has_been_prepared(path: str, device: str, root: str) -> None:
    found = locate(PREPARED, path)
    assert (found.device, found.root) == (device, root)


def restored(*changes: tuple[str, str]) -> list[MountEntry]:
    """As it has to be, in another order, with some text changed."""
    text = """
9 8 8:1 /srv/copy / ro - ext4 v rw
12 9 0:72 / /dev rw,nosuid - tmpfs tmpfs rw
11 10 0:71 /sys /proc/sys ro - proc proc rw
10 9 0:71 / /proc rw - proc proc rw
13 9 8:2 /vol /data ro,nodev - xfs w rw
""".strip()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_mountinfo(text)


def expected() -> list[SavedMount]:
    saved = [mount for mount in save_mounts(ENTRIES, around()) if mount.mount_point in ("/", "/proc", "/dev", "/proc/sys", "/data")]
    return expected_mounts(saved, {"": PREPARED[2], "1": PREPARED[3]})


def test_a_mount_in_another_place() -> None:
    assert differences(expected(), restored(("/data ro,nodev", "/etc ro,nodev")), HOSTS) == [
        "'/data' is not mounted", "'/etc' is mounted, and was not"]


def test_a_restored_container_is_as_it_has_to_be() -> None:
    assert differences(expected(), restored(), HOSTS) == []


@pytest.mark.parametrize(("old", "new", "said"), [
    ("/srv/copy / ro", "/srv/copy / rw", "'/' is not ro"),
    ("/srv/copy / ro", "/ / ro", "'/' is '/' of ext4, not '/srv/copy' of ext4"),
    ("8:2 /vol /data", "8:1 /vol /data", "'/data' is of device 8:1, not 8:2"),
    ("/data ro,nodev", "/data rw,nodev", "'/data' is not ro"),
    ("0:71 /sys /proc/sys", "8:1 /etc /proc/sys", "'/proc/sys' is '/etc' of proc, not '/sys' of proc"),
    ("0:71 /sys /proc/sys", "0:27 /sys /proc/sys", "'/proc/sys' is the host's '/sys' of proc"),
    ("0:71 /sys /proc/sys", "0:99 /sys /proc/sys", "'/proc/sys' is another proc than before"),
    ("0:72 / /dev rw,nosuid", "0:72 / /dev rw", "'/dev' is not nosuid"),
    ("0:72 / /dev", "8:1 / /dev", "'/dev' is the host's '/' of tmpfs"),
    ("\n13 9 8:2 /vol /data ro,nodev - xfs w rw", "", "'/data' is not mounted"),
    ("\n13 9", "\n14 9 8:1 /etc /more rw - ext4 v rw\n13 9", "'/more' is mounted, and was not")])
def test_what_is_wrong_with_a_restored_one(old: str, new: str, said: str) -> None:
    assert differences(expected(), restored((old, new)), HOSTS) == [said]


@pytest.mark.parametrize(("origin", "key", "sound"), [
    (None, None, True), (Origin(mount=3), "0", True), (Origin(mount=3, below="/a/b"), "0", True), (Origin(is_root=True, below="/m"), "0", True),
    (Origin(cgroup=""), "0", True), (Origin(device=(1, 3, 0)), "0", True), (Origin(mount=3), None, False), (None, "0", False),
    (Origin(), "0", False), (Origin(mount=3, cgroup=""), "0", False), (Origin(mount=-1), "0", False),
    (Origin(mount=3, below="/../x"), "0", False), (Origin(mount=3, below="x"), "0", False), (Origin(mount=3, below="//x"), "0", False),
    (Origin(mount=3, below="/x/"), "0", False), (Origin(mount=3, below="/./x"), "0", False), (Origin(is_root=True), "0", False),
    (Origin(is_root=True, below="/etc"), "0", False)])
def test_what_a_checkpoint_says_of_an_external_mount(origin: Origin | None, key: str | None, sound: bool) -> None:
    assert is_sound(SavedMount("/m", "/", "tmpfs", (), "0:1", key, origin)) is sound
