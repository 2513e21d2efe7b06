"""Events: what happened to containers, images, networks and volumes."""

from coved.events.bus import Event, Events

__all__ = ["Event", "Events"]
