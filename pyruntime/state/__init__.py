"""What is remembered of containers: one directory each below the root."""

from pyruntime.state.record import ContainerRecord, ProcessRecord
from pyruntime.state.store import Store

__all__ = ["ContainerRecord", "ProcessRecord", "Store"]
