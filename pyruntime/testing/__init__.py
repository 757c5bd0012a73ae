"""The contract suite for implementations of Runtime, for pytest, and what it is made of.

    from pyruntime.testing import ContainerContract

    class TestMine(ContainerContract):
        def new_runtime(self, root):
            return MyRuntime(str(root))
"""

import pytest

pytest.register_assert_rewrite(*(f"pyruntime.testing.{name}" for name in (
    "case", "failures", "kernel", "life_cycle", "processes", "statuses", "stdio", "stress")))

from pyruntime.testing.bundles import default_config, find_busybox, make_bundle, make_rootfs  # noqa: E402 (see above)
from pyruntime.testing.case import KNOWN_DIFFERENCES, Case  # noqa: E402
from pyruntime.testing.contract import ContainerContract, RuntimeContract  # noqa: E402
from pyruntime.testing.snapshot import HostSnapshot  # noqa: E402

__all__ = ["KNOWN_DIFFERENCES", "Case", "ContainerContract", "HostSnapshot", "RuntimeContract", "default_config",
           "find_busybox", "make_bundle", "make_rootfs"]
