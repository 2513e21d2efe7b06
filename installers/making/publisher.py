"""Who publishes what is made, as installers/publisher.toml says, or placeholders that nobody can take for the truth."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

FILE = Path(__file__).parents[1] / "publisher.toml"


@dataclass(frozen=True, slots=True)
class Publisher:
    name: str = "The Cove maintainers"
    email: str = "maintainers@cove.invalid"
    homepage: str = "https://cove.invalid"
    releases: str = "https://cove.invalid/releases"
    """The folder above the versions' own."""
    licence: str = "LicenseRef-not-chosen"
    """Cove's own, as SPDX names it; those of its parts come with them."""
    macos_identifier: str = "invalid.cove"
    """In a domain that the publisher has, backwards; never to be changed, for it says which package is an update of which."""
    winget_identifier: str = "Cove.Cove"
    """As winget's repository will have it: publisher, then program."""


def read(file: Path = FILE) -> tuple[Publisher, list[str]]:
    """Who it is, and what of it are placeholders. Raises `RuntimeError` for what is no setting of it, or is empty."""
    given = tomllib.loads(file.read_text())
    known = [field.name for field in fields(Publisher)]
    if wrong := [name for name, value in given.items() if name not in known or not isinstance(value, str) or not value]:
        raise RuntimeError(
            f"{file}: {', '.join(wrong)}: a name that is not known, or no text; known are {', '.join(known)}"
        )
    return Publisher(**given), [name for name in known if name not in given]


PUBLISHER, PLACEHOLDERS = read()
