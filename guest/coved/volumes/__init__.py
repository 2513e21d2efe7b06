"""Volumes: directories that outlive containers."""

from coved.volumes.manager import Volume, Volumes

__all__ = ["Volume", "Volumes"]
