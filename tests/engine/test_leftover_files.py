"""Files of containers that nobody knows: an engine that was killed had begun to remove them. None of them holds up the next."""

from __future__ import annotations

from typing import Any

import pytest

from life_support import eventually

pytestmark = pytest.mark.root


def test_files_that_cannot_be_removed_do_not_keep_the_engine_from_its_start(engine: Any) -> None:
    containers, removed = engine.root / "containers", engine.root / "removed"
    plain, deep, fixed = (digit * 64 for digit in "def")
    # The kernel neither removes a directory that something is mounted on, nor gives it another name.
    mounts = [containers / deep / "upper" / "x", containers / fixed]
    script = "; ".join(f"mkdir -p {one} && mount -t tmpfs none {one}" for one in mounts)
    engine.kill(meanwhile=f"mkdir -p {containers / plain}/upper && touch {containers / plain}/upper/file; {script}")
    try:
        engine.start()
        eventually(lambda: not engine.exists(containers / plain) and not engine.exists(removed / plain))
        eventually(lambda: f"removed/{deep} stay for now" in engine.log())
        assert engine.exists(removed / deep / "upper" / "x")
        assert f"the files of container {fixed[:12]} stay for now" in engine.log()
        assert engine.exists(containers / fixed)
    finally:
        engine.sh(f"umount {mounts[0]} || umount {removed / deep}/upper/x; umount {mounts[1]}")
    engine.kill()
    engine.start()
    eventually(lambda: not any(engine.exists(folder / id) for folder in (containers, removed) for id in (deep, fixed)))
