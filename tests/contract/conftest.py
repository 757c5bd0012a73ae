"""The fixtures of this directory."""

from programs import hugetlb_hierarchy

__all__ = ["hugetlb_hierarchy"]
