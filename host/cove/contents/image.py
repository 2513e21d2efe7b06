"""An image's contents: its layers laid over each other, as the engine lays them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cove.contents import layers
from cove.contents.findings import Findings
from cove.contents.layers import Changes
from cove.contents.package import Contents, Distribution, Image, Installed, Package, Place, Unread, clean

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
"""The first of them that is a file; the first is mostly a symbolic link to the second."""
_OF_LANGUAGES = ("pypi", "npm")


def read(image: Image, archive: Iterable[bytes], report: Callable[[int], None]) -> Contents:
    """`archive` is what the engine gives of the image, `report` is told how many bytes of layers were read. Raises `CoveError`."""
    found = layers.read(archive, image.layers, report)
    return contents(image, found)


def contents(image: Image, changes: Mapping[str, Changes]) -> Contents:
    seen = _Seen()
    for diff_id in image.layers:
        seen.lay(diff_id, changes[diff_id])
    return Contents(image, _distribution(seen.told), _packages(seen), _unread(seen.told))


class _Seen:
    """What is seen from above after each layer: by path what a file tells, and which layer brought each package of it."""

    def __init__(self) -> None:
        self.told: dict[str, Findings] = {}
        self.origins: dict[str, dict[Package, str]] = {}
        self._known: set[int] = set()
        """Hashes of the paths of all files that tell of something, and of the folders they are in: as text, those of deep paths would be
        many times what there is of paths.
        """

    def lay(self, diff_id: str, changes: Changes) -> None:
        gone = self._known & {*changes.files, *map(hash, changes.removed)}
        if gone or changes.hidden or changes.folders:
            emptied = gone | {*map(hash, changes.hidden)}
            for path in [path for path in self.told if _vanishes(path, gone, emptied, changes)]:
                del self.told[path], self.origins[path]
        for path, told in changes.told.items():
            before = self.origins.get(path, {})
            self.told[path] = told
            # A database is written anew when one package comes: the others came with the layer that had them first.
            self.origins[path] = {package: before.get(package, diff_id) for package in told.packages}
            self._known.update(_folders(path), (hash(path),))


def _folders(path: str) -> Iterator[int]:
    """Hashes of the paths of the folders it is in, from the image's own ("") on."""
    yield hash("")
    for end, letter in enumerate(path):
        if letter == "/":
            yield hash(path[:end])


def _vanishes(path: str, gone: set[int], emptied: set[int], changes: Changes) -> bool:
    if not emptied.isdisjoint(_folders(path)):
        return True
    return (hash(path) in gone and path not in changes.told) or path in changes.folders


def _distribution(told: Mapping[str, Findings]) -> Distribution | None:
    for path in _OS_RELEASE:
        if path in told and (found := told[path].distribution):
            return found
    return None


def _packages(seen: _Seen) -> Sequence[Installed]:
    owned = {path for told in seen.told.values() for path in told.owned}
    places: dict[Package, set[Place]] = {}
    for path, origins in seen.origins.items():
        for package, layer in origins.items():
            # What a package of the distribution brings is that package: its version says what was mended.
            if not (package.kind in _OF_LANGUAGES and path in owned):
                places.setdefault(package, set()).add(Place(f"/{clean(path)}", layer))
    return sorted(Installed(package, tuple(sorted(found))) for package, found in places.items())


def _unread(told: Mapping[str, Findings]) -> Sequence[Unread]:
    found: dict[str, list[str]] = {}
    for path, each in told.items():
        if each.unread:
            found.setdefault(each.unread, []).append(path)
    return [Unread(what, len(paths), f"/{clean(min(paths))}") for what, paths in sorted(found.items())]
