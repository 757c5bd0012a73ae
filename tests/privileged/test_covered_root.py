"""A root that is covered and not pivoted away (`no_pivot`): nothing of the host's below it helps a process in the container."""

from __future__ import annotations

import pytest
from lab import Lab, capabilities

from pyruntime import StdioOptions

ESCAPE = "unshare -mUrpfn mount -t {} none {} 2>&1; echo $?"


@pytest.mark.parametrize("no_pivot", [False, True], ids=["pivoted", "covered"])
@pytest.mark.parametrize(("kind", "at"), [("proc", "/proc"), ("sysfs", "/sys")])
def test_no_unmasked_file_system_in_a_user_namespace(lab: Lab, kind: str, at: str, no_pivot: bool) -> None:
    """The kernel allows another procfs and sysfs only where a whole one is in the mount namespace already."""
    (lab.rootfs / "bin" / "unshare").symlink_to("busybox")
    bundle = lab.bundle(ESCAPE.format(kind, at), process=capabilities("CAP_SETFCAP"))
    pid = lab.runtime.create_container("p1", bundle, StdioOptions(create_out=True), no_pivot=no_pivot)
    lab.runtime.start_container("p1")
    said = lab.read("p1", pid)
    lab.runtime.wait_on_container("p1")
    lab.runtime.delete_container("p1")
    assert "mount: " in said and said.splitlines()[-1] != "0", said
