"""The images domain."""

from pathlib import Path

from coved.events import Events
from coved.images.model import Image, UsersOf
from coved.store.database import Database


class Images:
    """Loads, names, lists and removes images."""

    def __init__(self, database: Database, events: Events, root: Path) -> None:
        raise NotImplementedError

    async def start(self, starter: Path) -> None:
        """Cleans up and, once in an engine's life, loads the starter image in the background."""

    async def close(self) -> None:
        """Ends background work."""

    def set_users(self, users_of: UsersOf) -> None:
        """Registers who knows which containers need an image."""

    async def ready(self) -> None:
        """Waits for the starter image that is being loaded, if any; call before ``get`` on a create."""

    def get(self, reference: str) -> Image:
        """By name, name with digest, id or unambiguous prefix of an id; raises ``NotFound`` ("No such image: x")."""
        raise NotImplementedError

    def lower_dirs(self, image: Image) -> list[Path]:
        """Directories of the image's layers for overlayfs, topmost first; [] for an image without layers."""
        raise NotImplementedError
