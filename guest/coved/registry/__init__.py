"""Registries: images come from there, and go there (OCI distribution spec 1.1, Docker's registry HTTP API V2)."""

from coved.registry.manager import Registries
from coved.registry.settings import Settings

__all__ = ["Registries", "Settings"]
