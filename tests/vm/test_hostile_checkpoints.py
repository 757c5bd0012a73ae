"""Root file systems and images that would have a restore mount something else."""

from __future__ import annotations

import os
from typing import Any

import pytest
from counting import COUNTER, Counter, unchanged
from lab import MAPS, NAMESPACES, bind, namespaces, with_mounts

from pyruntime.checkpoint.manifest import FILE
from pyruntime.errors import CheckpointError, InvalidBundleError, SetupError, UnsupportedFieldError


def test_a_mount_point_that_looks_like_criu_s_own_words(counter: Counter) -> None:
    """`x]:/etc` in a list of mount points and keys could say that /x is the host's /etc."""
    data = counter.lab.directory / "data"
    data.mkdir()
    (counter.lab.rootfs / "link").symlink_to("/x]:/etc")
    counter.run(mounts=with_mounts(bind(data, "bind", to="/link")))
    counter.count()
    with pytest.raises(CheckpointError, match=r"mount '/x\]:/etc' has '\]:' in its name"):
        counter.checkpoint()
    assert not counter.image.exists()
    counter.count()


def test_brackets_that_mean_nothing(counter: Counter) -> None:
    data = counter.lab.directory / "data"
    data.mkdir()
    (data / "here").touch()
    counter.run(mounts=with_mounts(bind(data, "bind", to="/app/[id]"), bind(data, "bind", "ro", to="/app/[id")))
    counter.count()
    before = counter.mounts()
    counter.stop()
    counter.restore()
    assert counter.mounts() == before and counter.lab.exec("ls '/app/[id]'") == "here\n"
    counter.count()


@pytest.mark.parametrize("target", ["/etc", "/../../../../etc", "etc"])
def test_a_link_in_the_root_where_a_mount_was(counter: Counter, target: str) -> None:
    """Put there between the checkpoint and the restore: nothing is mounted anywhere else, and no container is left that has it."""
    data = counter.lab.directory / "data"
    data.mkdir()
    counter.run(mounts=with_mounts(bind(data, "bind", to="/data")))
    counter.stop()
    (counter.lab.rootfs / "data").rmdir()
    (counter.lab.rootfs / "data").symlink_to(target)
    with unchanged(counter), pytest.raises(SetupError):
        counter.restore()


def test_a_link_in_a_volume_that_leads_to_the_host(counter: Counter) -> None:
    """What was mounted from below a volume is a link to the host's /etc now."""
    volume = counter.lab.directory / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "sub" / "own").touch()
    counter.run(mounts=with_mounts(bind(volume, "rbind", to="/data"), bind(volume / "sub", "bind", to="/sub")),
                linux={"readonlyPaths": ["/data/sub"]})
    counter.count()
    counter.stop()
    os.rename(volume / "sub", volume / "was")
    (volume / "sub").symlink_to("/etc")
    with unchanged(counter), pytest.raises(SetupError):
        counter.restore()


def test_an_image_that_makes_a_mount_writable(counter: Counter) -> None:
    """What config.json has read-only is so before CRIU touches it, whatever the image says."""
    data = counter.lab.directory / "data"
    data.mkdir()
    changes: dict[str, Any] = {"mounts": with_mounts(bind(data, "bind", to="/data"))}
    counter.run(**changes)
    counter.stop()
    counter.bundle = counter.lab.bundle(COUNTER, mounts=with_mounts(bind(data, "bind", "ro", to="/data")))
    with unchanged(counter), pytest.raises(CheckpointError, match="'/data' is not ro"):
        counter.restore()


def test_an_image_that_asks_for_another_mount(counter: Counter) -> None:
    """Where a mount comes from is in config.json; what the checkpoint says of it is a place in that list, or a device of the container's."""
    data = counter.lab.directory / "data"
    data.mkdir()
    counter.run(mounts=with_mounts(bind(data, "bind", to="/data")))
    counter.stop()
    manifest = counter.image / FILE
    text = manifest.read_text()
    index = len(with_mounts())
    assert f'{{"mount":{index}}}' in text
    for origin, error in (('{"mount":99}', InvalidBundleError), ('{"mount":-1}', CheckpointError), ('{"device":[8,0,1]}', InvalidBundleError),
                          (f'{{"mount":{index},"below":"/../../etc"}}', CheckpointError), ('{"cgroup":"none"}', InvalidBundleError),
                          ("{}", CheckpointError), ('{"is_root":true,"below":"/../../../etc"}', CheckpointError)):
        manifest.write_text(text.replace(f'{{"mount":{index}}}', origin))
        with unchanged(counter), pytest.raises(error):
            counter.restore()
    manifest.write_text(text)
    counter.restore()
    counter.count()


def test_in_a_user_namespace(counter: Counter) -> None:
    counter.run(linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS})
    with pytest.raises(UnsupportedFieldError) as caught:
        counter.checkpoint()
    assert caught.value.json_path == f"$.linux.namespaces[{len(NAMESPACES)}]" and not counter.image.exists()
    counter.count()
