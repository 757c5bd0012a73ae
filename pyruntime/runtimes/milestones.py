"""What has been reached when a process was made, told in debug messages. Whoever knows runc's debug log searches it for its words, so each
milestone begins with those that runc has for the same."""

from __future__ import annotations

from pyruntime.notices import log
from pyruntime.plan.scheduling import mask_of
from pyruntime.spec import CPUAffinity

_CLONED = "nsexec container setup"
_APPLIES = "child process in init()"


def tell_created(id: str, pid: int) -> None:
    """A container's init waits for its start."""
    log.debug("%s: init of container %s was cloned into its namespaces: pid %d", _CLONED, id, pid)
    log.debug("%s: it has applied what the configuration says", _APPLIES)
    log.debug("init: closing the pipe to signal completion: it waits for its start")
    log.debug("created container %s: pid %d", id, pid)


def tell_executed(id: str, pid: int, affinity: CPUAffinity | None) -> None:
    """A further process has executed its program; where it ran at first, and where it runs then."""
    log.debug("%s: a process has joined the namespaces of container %s: pid %d", _CLONED, id, pid)
    if affinity is not None:
        for kind, cpus in (("affinity", affinity.initial), ("final affinity", affinity.final)):
            if cpus is not None:
                log.debug("%s: %s: %#x", _CLONED, kind, int.from_bytes(mask_of(cpus), "little"))
    log.debug("%s: it has applied what config.json and the process say", _APPLIES)
    log.debug("setns_init: about to exec: done")
    log.debug("executed in container %s: pid %d", id, pid)
