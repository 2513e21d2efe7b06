"""What a git repository may cost, all its submodules included: a few bytes of a hostile server can stand for any number."""

from __future__ import annotations

from coved.build.errors import BuildError

RECEIVED_MAX = 16 << 30
"""Bytes of packs, as they come from the servers."""
MADE_MAX = 256 << 30
"""Bytes that objects come to when they are read, each time that they are."""
WRITTEN_MAX = 64 << 30
"""Bytes of the files of a checkout."""
FILES_MAX = 1_000_000
"""Files, links and directories of a checkout."""
PATHS_MAX = 256 << 20
"""Bytes of all their paths, which are in memory together."""
REPOSITORIES_MAX = 1000


class Budget:
    """Of one checkout; one thread uses it at a time. All raise BuildError when there is no more."""

    def __init__(self) -> None:
        self._received = self._made = self._written = self._files = self._paths = self._repositories = 0

    def receive(self, size: int) -> None:
        self._received += size
        if self._received > RECEIVED_MAX:
            raise BuildError(f"the repository is larger than {RECEIVED_MAX} bytes")

    def make(self, size: int) -> None:
        self._made += size
        if self._made > MADE_MAX:
            raise BuildError(f"the repository's objects come to more than {MADE_MAX} bytes")

    def write(self, size: int) -> None:
        self._written += size
        if self._written > WRITTEN_MAX:
            raise BuildError(f"the commit's files are larger than {WRITTEN_MAX} bytes")

    def name(self, path: str) -> None:
        """Of what is put into the checkout."""
        self._files += 1
        self._paths += len(path)
        if self._files > FILES_MAX:
            raise BuildError(f"the commit has more than {FILES_MAX} files")
        if self._paths > PATHS_MAX:
            raise BuildError(f"the commit's paths are longer than {PATHS_MAX} bytes")

    def reach(self) -> None:
        """One more repository is asked."""
        self._repositories += 1
        if self._repositories > REPOSITORIES_MAX:
            raise BuildError(f"the repository has more than {REPOSITORIES_MAX} submodules")
