"""Checkpoint and restore through CRIU (criu.org): what it is asked for, how it is talked to, and what it has to be told of mounts and
streams that are not the container's alone.

Nothing of this is imported before somebody makes or restores a checkpoint.
"""

from pyruntime.checkpoint.options import CgroupsMode, CheckpointOptions, RestoreOptions

__all__ = ["CgroupsMode", "CheckpointOptions", "RestoreOptions"]
