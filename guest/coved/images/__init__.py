"""Images: where containers get their files and defaults."""

from coved.images.manager import Images
from coved.images.model import Image, ImageUser, Pruned, Removed

__all__ = ["Image", "ImageUser", "Images", "Pruned", "Removed"]
