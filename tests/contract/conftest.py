"""The fixtures of this directory."""

from programs import contract_cgroups, hugetlb_hierarchy

__all__ = ["contract_cgroups", "hugetlb_hierarchy"]
