"""Networks of containers, their sandboxes, and published ports."""

from coved.networks.manager import Networks
from coved.networks.model import (
    Endpoint,
    EndpointRequest,
    PortRequest,
    PublishedPort,
    Sandbox,
    SandboxRequest,
    Settings,
)

__all__ = [
    "Endpoint",
    "EndpointRequest",
    "Networks",
    "PortRequest",
    "PublishedPort",
    "Sandbox",
    "SandboxRequest",
    "Settings",
]
