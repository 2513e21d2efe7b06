"""Containers: what they were asked to be, their life, their execs and their logs."""

from coved.containers.container import Container
from coved.containers.manager import Containers

__all__ = ["Container", "Containers"]
