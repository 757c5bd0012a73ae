"""The contract: everything that an implementation of Runtime is held to."""

from __future__ import annotations

from pyruntime.testing.failures import Failures
from pyruntime.testing.hooks import Hooks
from pyruntime.testing.kernel import Inside, Memory, SharedPidNamespace, Terminals
from pyruntime.testing.life_cycle import LifeCycle
from pyruntime.testing.processes import Processes
from pyruntime.testing.statuses import Statuses
from pyruntime.testing.stdio import Stdio
from pyruntime.testing.stress import Stress


class RuntimeContract(Stress, Failures, Stdio, Processes, Statuses, LifeCycle):  # pytest begins with the last
    """For every implementation. Programs used: true, false, sleep, cat, echo, sh -c "exit N".

        class TestMine(RuntimeContract):
            def new_runtime(self, root):
                return MyRuntime(str(root))
    """


class ContainerContract(Hooks, Terminals, SharedPidNamespace, Memory, Inside, RuntimeContract):
    """For those that run real programs in real containers."""
