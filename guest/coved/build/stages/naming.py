"""Names of images as builds take them from Dockerfiles and clients, and as they tell them."""

from __future__ import annotations

from coved.build.errors import BuildError
from coved.errors import EngineError
from coved.images import reference
from coved.images.reference import Reference


def canonical(text: str, failure: str) -> Reference:
    """The whole name. Raises BuildError that begins with ``failure``."""
    try:
        return reference.parse(text).tagged()
    except EngineError as error:
        raise BuildError(f"{failure}: {error}") from None


def shown(text: str) -> str:
    """The whole name, or what there is where a context stands for what is no name."""
    try:
        return str(reference.parse(text).tagged())
    except EngineError:
        return text
