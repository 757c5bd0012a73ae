"""The specification's own JSON schemas, as Debian ships them: of a snapshot between its versions 1.0.2 and 1.1.

What is newer it does not know, and lets pass; nor does it have the schema of the features document. A checkout of the specification has
both, and examples; SPECIFICATION in the environment is where one is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

# package golang-github-opencontainers-specs-dev
DIRECTORY = Path("/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema")
CHECKOUT = Path(os.environ["SPECIFICATION"]) / "schema" if "SPECIFICATION" in os.environ else None
# members of config.json that came with versions 1.1 to 1.3: for the schema they may be anything
NEWER = {("process", "scheduler"), ("process", "ioPriority"), ("process", "execCPUAffinity"), ("linux", "netDevices"),
         ("linux", "memoryPolicy"), ("linux", "timeOffsets"), ("linux", "intelRdt", "schemata"), ("linux", "intelRdt", "enableMonitoring")}


def validator(name: str, directory: Path = DIRECTORY) -> Any:
    """A jsonschema validator for `config`, `state`, `features`; its references lead to the files beside it."""
    import jsonschema
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    def read(uri: str) -> Any:
        return Resource(json.loads((directory / uri.rpartition("/")[2]).read_text()), DRAFT4)

    return jsonschema.Draft4Validator(read(f"{name}-schema.json").contents, registry=Registry(retrieve=read))


def errors(name: str, document: object, directory: Path = DIRECTORY) -> list[str]:
    """What the schema refuses in it."""
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator(name, directory).iter_errors(document)]
