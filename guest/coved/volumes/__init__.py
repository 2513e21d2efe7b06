"""Volumes: directories that outlive containers."""

from coved.volumes.manager import Volume, Volumes, validate_name

__all__ = ["Volume", "Volumes", "validate_name"]
