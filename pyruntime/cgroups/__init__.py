"""Where a container's cgroups are, what its resources mean there, and what is done with them while it runs."""

from pyruntime.cgroups.control import ContainerCgroups, remove_empty_parent
from pyruntime.cgroups.paths import DEFAULT_PARENT, Cgroup, Unit, cgroup_path_of, cgroups_below, cgroups_of, default_path_of

__all__ = ["DEFAULT_PARENT", "Cgroup", "ContainerCgroups", "Unit", "cgroup_path_of", "cgroups_below", "cgroups_of", "default_path_of",
           "remove_empty_parent"]
