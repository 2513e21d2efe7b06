"""`cove vm-image`: build the VM image and tell what is in it."""

from __future__ import annotations

import click


@click.group("vm-image")
def group() -> None:
    """The VM image: what Cove's machines boot."""
