"""What this host can do for containers of the caller, and what to change."""

from __future__ import annotations

from pyruntime.doctor.finding import Finding, Sight, can_run
from pyruntime.doctor.finding import Verdict as Verdict
from pyruntime.doctor.probes import Probes
from pyruntime.host import Host, parse_hierarchies

__all__ = ["Finding", "Probes", "Sight", "Verdict", "can_run", "diagnose"]


def diagnose(root: str = "/run/pyruntime", *, sight: Sight | None = None, probes: Probes | None = None,
             host: Host | None = None) -> tuple[Finding, ...]:
    """The findings, by topic, for whoever calls it; nothing is changed. `can_run` says whether they allow a container.

    root                  of the state, as NativeRuntime is given it
    sight, probes, host   another host than this one, for tests
    """
    from pyruntime.doctor import callers, cgroups, kernel, programs
    from pyruntime.errors import UnsupportedHostError
    from pyruntime.host import read_host

    sight = Sight() if sight is None else sight
    probes = Probes() if probes is None else probes
    try:
        host = read_host() if host is None else host
    except UnsupportedHostError:
        return tuple(kernel.kernel(sight, probes, False))
    hierarchies = parse_hierarchies(sight.read("/proc/self/mountinfo") or "")
    return (*kernel.kernel(sight, probes, host.caller is None), *cgroups.cgroups(sight, host, hierarchies),
            *callers.privileges(host, sight, probes, root), *callers.namespaces(host, sight, probes), *callers.mapped_ids(host, sight),
            *programs.programs(host, probes), *programs.security(host, sight))
