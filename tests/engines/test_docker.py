"""Docker, with this runtime and with runc."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker_daemon import Docker, running
from documented import documented
from engine import Engine
from journey import Journey

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """That has the runtime by its configuration file."""
    with running(configuration=documented("/etc/docker/daemon.json")) as docker:
        yield docker


@pytest.fixture(params=["pyruntime", "runc"])
def engine(request: pytest.FixtureRequest, docker: Docker) -> Engine:
    return docker.with_runtime(request.param)


class TestDocker(Journey):
    """Debian's."""

    def test_init(self, engine: Engine) -> None:
        ended = engine.run("--rm", "--init", "box", "sh", "-c", "head -c 17 /proc/1/cmdline")
        assert ended.out == "/sbin/docker-init", ended
