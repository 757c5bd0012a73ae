"""An image of a static busybox, in the forms in which engines take one."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyruntime.testing import make_rootfs

APPLETS = ("awk", "dd", "ip", "ping", "sleep", "trap")
MEDIA = "application/vnd.oci.image"


def make_tree(directory: Path) -> Path:
    """The image's files: those of the bundles that the other tests run, with more names for busybox."""
    rootfs = make_rootfs(directory)
    for applet in APPLETS:
        with contextlib.suppress(FileExistsError):
            (rootfs / "bin" / applet).symlink_to("busybox")
    return rootfs


def write_layout(archive: Path, layer: bytes, images: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a tar archive of the layout of the OCI image specification, for `ctr images import`.

    layer    a tar archive of the files
    images   the `config` of each image, by name; all have the one layer
    """
    with tarfile.open(archive, "w") as output:
        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            output.addfile(entry, io.BytesIO(content))

        def add_blob(kind: str, content: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            add(f"blobs/sha256/{digest}", content)
            return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

        add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        layers = [add_blob("layer.v1.tar", layer)]
        manifests = []
        for name, config in images.items():
            made = {"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [layers[0]["digest"]]}}
            manifest = {"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json", "layers": layers,
                        "config": add_blob("config.v1+json", json.dumps(made).encode())}
            manifests.append({**add_blob("manifest.v1+json", json.dumps(manifest).encode()), "annotations": {"io.containerd.image.name": name}})
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())


def pack(rootfs: Path) -> bytes:
    """A tar archive of the files below a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(rootfs, ".")
    return buffer.getvalue()
