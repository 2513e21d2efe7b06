"""Folders of the user's computer in the VM: which there are, where they are mounted, and what of them a container asks for."""

from coved.shares.table import Share, Table

__all__ = ["Share", "Table"]
