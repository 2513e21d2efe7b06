"""Files of a dashboard's process. Not in the machine's folder: it serves a machine that is removed, or has yet to be made, too."""

from __future__ import annotations

from pathlib import Path

from cove.machine.paths import private_dir, runtime_dir, validate_name


class Places:
    """Of the dashboard of one machine. Raises `CoveError` for a name that no machine can have."""

    def __init__(self, name: str) -> None:
        self.name = validate_name(name)

    @property
    def folder(self) -> Path:
        return runtime_dir() / ".dashboard"  # no machine can have a name with a dot

    @property
    def lock(self) -> Path:
        """Locked by the process for as long as it lives."""
        return self.folder / f"{self.name}.lock"

    @property
    def launch_lock(self) -> Path:
        """Locked by a command while it starts the process."""
        return self.folder / f"{self.name}.launch.lock"

    @property
    def socket(self) -> Path:
        """Where commands ask the process for a way in."""
        return self.folder / f"{self.name}.sock"

    @property
    def port(self) -> Path:
        """Where the last process listened: to a browser, what it keeps for a page belongs to its port."""
        return self.folder / f"{self.name}.port"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def make(self) -> None:
        """Create the private folder. Raises `CoveError`."""
        private_dir(runtime_dir())
        private_dir(self.folder)


def served() -> list[str]:
    """The machines whose dashboards have left files: their processes may run."""
    folder = Places("default").folder
    found = folder.glob("*.lock") if folder.is_dir() else ()
    return sorted({path.name.removesuffix(".lock").removesuffix(".launch") for path in found})
