"""A checkout of the specification, of version 1.3 at least, whose place is SPECIFICATION in the environment: its newest schemas and its
examples. CI has none; what it has is tried in test_schemas.py.

    SPECIFICATION=DIRECTORY pytest tests/conformance/test_examples.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pyruntime
from conformance.schemas import CHECKOUT, errors
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.spec import load_spec
from pyruntime.spec.default_config import default_config

# the good examples that are refused: by their names, with the JSON path, and what says so
REFUSED = {
    "freebsd-example": "$.freebsd",  # another platform's
    "freebsd-minimal": "$.freebsd",
    "zos-example": "$.zos",
    "zos-minimal": "$.zos",
    "linux-netdevice": "$.linux.netDevices",  # devices to move, and no network namespace to move them to: they would be the host's
}


def examples(kind: str, quality: str) -> list[Path]:
    """Of a kind of document; none without a checkout."""
    return sorted(CHECKOUT.glob(f"test/{kind}/{quality}/*.json")) if CHECKOUT else []


def refusal_of(example: Path) -> InvalidBundleError | UnsupportedFieldError | None:
    try:
        load_spec(example.read_bytes())
    except (InvalidBundleError, UnsupportedFieldError) as error:
        return error
    return None


@pytest.mark.parametrize("example", examples("config", "good"), ids=lambda path: path.stem)
def test_good_configurations(example: Path) -> None:
    error = refusal_of(example)
    assert (error and error.json_path) == REFUSED.get(example.stem), error


@pytest.mark.parametrize("example", examples("config", "bad"), ids=lambda path: path.stem)
def test_bad_configurations(example: Path) -> None:
    assert refusal_of(example) is not None


def test_there_are_examples() -> None:
    assert len(examples("config", "good")) >= 7 and len(examples("config", "bad")) >= 4


def test_documents() -> None:
    assert CHECKOUT is not None
    features = json.loads(json.dumps(pyruntime.features()))
    assert errors("features", features, CHECKOUT) == []
    assert errors("features", {**features, "ociVersionMax": None}, CHECKOUT) != []
    assert errors("config", default_config(), CHECKOUT) == []
