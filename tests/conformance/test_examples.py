"""A checkout of the specification, of version 1.3 at least, whose place is SPECIFICATION in the environment: its newest schemas and its
examples. CI has none; what it has is tried in test_schemas.py.

    SPECIFICATION=DIRECTORY pytest tests/conformance/test_examples.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from spec_examples import of_other_platforms

import pyruntime
from conformance.schemas import CHECKOUT, errors
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.spec import load_spec, refuse_for_host
from pyruntime.spec.default_config import default_config


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
    assert refusal_of(example) is None


@pytest.mark.parametrize(("name", "json_path"), [("freebsd-minimal", "$.freebsd"), ("zos-example", "$.zos"),
                                                 ("linux-netdevice", "$.linux.netDevices")])
def test_good_configurations_that_are_no_containers_of_this_host(name: str, json_path: str) -> None:
    """Those for another platform, and the one that would move the host's devices nowhere."""
    assert CHECKOUT is not None
    spec = load_spec((CHECKOUT / f"test/config/good/{name}.json").read_bytes())
    with pytest.raises(InvalidBundleError) as refused:
        refuse_for_host(spec)
    assert refused.value.json_path == json_path


@pytest.mark.parametrize("platform", of_other_platforms())
def test_sections_of_other_platforms(platform: str) -> None:
    """What the loader's own tests take for all that they may hold."""
    section = of_other_platforms()[platform]
    if platform == "windows":
        del section["resources"]["cpu"]["affinity"]  # an object in the schema, an array in the text
    assert CHECKOUT is not None
    assert errors("config", {"ociVersion": "1.3.0", platform: section}, CHECKOUT) == []


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
