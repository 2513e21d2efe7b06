"""The guest's seed as a disk: Hyper-V has no port by which the guest could be told it (docs/decisions/0060)."""

from __future__ import annotations

import io
from pathlib import Path

from coved.boot import seedform

from cove.errors import DriverError
from cove.image import vhdx
from cove.machine.files import write_whole


def write(path: Path, seed: bytes) -> None:
    """Whole, and for this user alone: all that is secret in the machine is in it, until the guest has taken it. Raises `DriverError`."""
    try:
        disk, output = seedform.of(seed), io.BytesIO()
        blocks = (disk[begin : begin + vhdx.BLOCK] for begin in range(0, len(disk), vhdx.BLOCK))
        vhdx.write(blocks, len(disk), output)
        write_whole(path, output.getvalue())
    except ValueError as error:
        raise DriverError(
            f"the machine cannot be told all that it is to know: {error}", "fewer certificates may help"
        ) from error
    except OSError as error:
        raise DriverError(f"{path} cannot be written: {error.strerror}") from error
