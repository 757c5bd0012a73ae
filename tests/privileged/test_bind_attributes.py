"""What a bind mount has of the attributes of its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts
from test_mount_options import prepare, words

from pyruntime.errors import SetupError

USER = {"linux": {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}}
# options of the source on the host, of the mount, and what the mount has then: of mountinfo, without a user namespace and in one, where it
# may be refused
ROWS: list[tuple[str, tuple[str, ...], str, str | None]] = [
    ("ro,noexec,nosymfollow,nodiratime", (), "ro,noexec,nosymfollow,nodiratime,relatime", "ro,noexec,nosymfollow,nodiratime,relatime"),
    ("ro,noexec,nosymfollow,nodiratime", ("rprivate", "sync"), "ro,noexec,nosymfollow,nodiratime,relatime",
     "ro,noexec,nosymfollow,nodiratime,relatime"),
    ("ro,noexec,nosymfollow,nodiratime", ("dev",), "rw,nodiratime,relatime", "ro,noexec,nodiratime,relatime"),
    ("ro", ("nosuid", "nodev"), "rw,nosuid,nodev,relatime", "ro,nosuid,nodev,relatime"),
    ("ro", ("rw", "nosuid"), "rw,nosuid,relatime", None),
    ("nosuid", ("suid",), "rw,relatime", None),
    ("nodev", ("dev",), "rw,relatime", None),
    ("noexec", ("exec",), "rw,relatime", None),
    ("nosuid,nodev,noexec,noatime", ("dev", "suid", "exec", "atime"), "rw,noatime", None),
    ("ro,noatime", ("atime",), "rw,noatime", "ro,noatime"),
    ("noatime", ("norelatime", "nosuid"), "rw,noatime,nosuid", "rw,noatime,nosuid"),
    ("noatime", ("relatime", "norelatime"), "rw,noatime", "rw,noatime"),
    ("noatime", ("relatime", "strictatime", "nostrictatime"), "rw,relatime", None),
    ("relatime", ("strictatime", "noatime", "atime"), "rw", None),
    ("relatime", ("noatime", "strictatime", "noatime"), "rw", None),
    ("strictatime", ("noatime", "relatime"), "rw,noatime", None),
    ("noatime", ("nodiratime", "norelatime"), "rw,relatime,nodiratime", None),
    ("strictatime", ("nostrictatime",), "rw", "rw"),
    ("nodiratime", ("diratime",), "rw,relatime,nodiratime", "rw,relatime,nodiratime"),
    ("nodiratime", ("diratime", "relatime"), "rw,relatime", None),
    ("nosuid,nodev,noexec,noatime", ("ro",), "ro,noatime", "ro,nosuid,nodev,noexec,noatime"),
    ("nodev,nosymfollow", ("ro", "symfollow"), "ro,relatime", "ro,nodev,relatime"),
    ("nodev,nosymfollow", ("rw",), "rw,relatime", "rw,nodev,relatime"),
    ("noatime", ("relatime",), "rw,relatime", None),
    ("noatime", ("noatime", "nosuid"), "rw,noatime,nosuid", "rw,noatime,nosuid"),
    ("noatime", ("nodiratime",), "rw,relatime,nodiratime", None),
    ("noatime", ("nodiratime", "strictatime"), "rw,nodiratime", None),
    ("nodiratime", ("strictatime",), "rw", None),
    ("nodiratime", ("nosuid",), "rw,relatime,nodiratime,nosuid", "rw,relatime,nodiratime,nosuid"),
    ("strictatime", ("nosuid",), "rw,nosuid", "rw,nosuid"),
]


@pytest.mark.conformance(5, 6)
@pytest.mark.parametrize(("before", "options", "expected", "in_user_namespace"), ROWS, ids=[f"{row[0]}-{','.join(row[1])}" for row in ROWS])
@pytest.mark.parametrize("kind", ["bind", "rbind"])
@pytest.mark.parametrize("user", [False, True], ids=["", "user"])
def test_attributes_of_the_source(reachable: Lab, volume: Path, user: bool, kind: str, before: str, options: tuple[str, ...], expected: str,
                                  in_user_namespace: str | None) -> None:
    """Those that are not named are kept only if none is; what the kernel locks in a user namespace is always."""
    lab = reachable
    had = prepare(volume, before)
    changes: dict[str, Any] = {"mounts": with_mounts(bind(volume, kind, *options)), **(USER if user else {})}
    wanted = in_user_namespace if user else expected
    if wanted is None:
        with pytest.raises(SetupError) as caught:
            lab.create("true", **changes)
        assert (caught.value.errno_name, caught.value.path, caught.value.json_path) == ("EPERM", "/tmp", "$.mounts[7].options")
        assert "locked in a user namespace: what its source has of ro, nosuid, nodev, noexec and access times" in str(caught.value)
        return
    found = words(lab.run("cat /proc/self/mountinfo", **changes))
    assert found["/tmp"] == set(wanted.split(","))
    assert found.get("/tmp/sub") == (had if kind == "rbind" else None), "what is mounted below stays as it is"
