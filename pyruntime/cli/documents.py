"""spec and features: what there is to say without a container."""

from __future__ import annotations

import os

import msgspec

from pyruntime.cli.failures import CommandError
from pyruntime.cli.plain import Options
from pyruntime.cli.states import print_json
from pyruntime.features_document import features
from pyruntime.host import read_host
from pyruntime.spec.default_config import default_config, rootless_config


def write_spec(options: Options) -> int:
    """A new file; one that is there is left alone. With cgroup v1 the container has no cgroup namespace, as runc and crun write it: what
    looks for its own cgroup in such a one finds it by the host's paths."""
    path = os.path.join(options.bundle, "config.json")
    config = rootless_config(os.geteuid(), os.getegid()) if options.is_rootless else default_config()
    if not read_host().is_unified:
        config["linux"]["namespaces"].remove({"type": "cgroup"})
    try:
        with open(path, "x") as file:
            file.write(msgspec.json.format(msgspec.json.encode(config)).decode() + "\n")
    except FileExistsError as error:
        raise CommandError(f"{path!r} exists already") from error
    return 0


def print_features(options: Options) -> int:
    """See `pyruntime.features`."""
    print_json(features())
    return 0
