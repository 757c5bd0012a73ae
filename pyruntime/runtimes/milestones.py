"""What has been reached when a process was made, told in debug messages. Whoever knows runc's debug log searches it for its words, so each
milestone begins with those that runc has for the same."""

from __future__ import annotations

from pyruntime.interface import ProcessLike
from pyruntime.notices import log
from pyruntime.runtimes.compiled import completed
from pyruntime.state import ContainerRecord

_CLONED = "nsexec container setup"
_APPLIES = "child process in init()"


def tell_created(id: str, pid: int) -> None:
    """A container's init waits for its start."""
    if not log.is_told("debug"):
        return
    log.debug("%s: init of container %s was cloned into its namespaces: pid %d", _CLONED, id, pid)
    log.debug("%s: it has applied what the configuration says", _APPLIES)
    log.debug("init: closing the pipe to signal completion: it waits for its start")
    log.debug("created container %s: pid %d", id, pid)


def tell_executed(record: ContainerRecord, process: ProcessLike, pid: int) -> None:
    """A further process of a container has executed its program; where it ran at first, and where it runs then."""
    if not log.is_told("debug"):
        return
    log.debug("%s: a process has joined the namespaces of container %s: pid %d", _CLONED, record.id, pid)
    affinity = completed(process, record).exec_cpu_affinity
    if affinity is not None:
        from pyruntime.plan.scheduling import mask_of  # few set one

        for kind, cpus in (("affinity", affinity.initial), ("final affinity", affinity.final)):
            if cpus is not None:
                log.debug("%s: %s: %#x", _CLONED, kind, int.from_bytes(mask_of(cpus), "little"))
    log.debug("%s: it has applied what config.json and the process say", _APPLIES)
    log.debug("setns_init: about to exec: done")
    log.debug("executed in container %s: pid %d", record.id, pid)
