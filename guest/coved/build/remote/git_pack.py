"""Git's packs, read from a hostile server: objects are looked at where they lie, and those that are large never come into
memory as a whole. gitformat-pack(5).
"""

from __future__ import annotations

import hashlib
import io
import mmap
import struct
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from coved.build.errors import BuildError
from coved.build.remote.git_budget import Budget

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
_BY_OFFSET, _BY_NAME = 6, 7
_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
_HEADER = struct.Struct(">4sII")
_CHUNK = 64 * 1024
_STEPS = 4096
_SHA = 20
_OBJECTS_MAX = 2_000_000
IN_MEMORY_MAX = 256 << 20
"""Bytes of an object that has to be in memory: one that others are differences of, and such a difference."""
_CACHE_MAX = 64 << 20
_VISIT = 1024
"""What it costs to look at an object, in bytes; there may be many times to look at one whose base is unknown."""
_CHAIN_MAX = 4095
"""Differences of differences; git makes 50 at most."""


class BadPack(BuildError):
    """The server has sent what is no pack, or means harm."""


class Pack:
    """A whole pack, of which every object is in it. Blocking; ``wanted`` is asked from time to time. Close it."""

    def __init__(self, path: Path, wanted: Callable[[], bool] = lambda: True, budget: Budget | None = None) -> None:
        """Raises BadPack, and what ``budget`` raises, as all that reads objects does."""
        self._wanted = wanted
        self._budget = budget or Budget()
        self._offsets = array("Q")
        self._kinds = bytearray()
        self._sizes = array("Q")
        self._data = array("Q")
        self._bases: dict[int, int | bytes] = {}
        self._index: dict[bytes, int] = {}
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        with path.open("rb") as file:
            if path.stat().st_size < _HEADER.size + _SHA:
                raise BadPack("the pack is too short")
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._end = len(self._map) - _SHA
        try:
            self._scan()
            self._resolve()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._map.close()

    # -- looking

    def __contains__(self, name: bytes) -> bool:
        return name in self._index

    def __len__(self) -> int:
        return len(self._index)

    def kind(self, name: bytes) -> int:
        return self._kinds[self._chain(self._at(name))[-1]]

    def small(self, name: bytes, kind: int) -> bytes:
        """The content of an object of that kind. Raises BadPack."""
        place = self._at(name)
        if self._kinds[self._chain(place)[-1]] != kind:
            raise BadPack(f"object {name.hex()} is not a {_NAMES[kind].decode()}")
        return self._content(place)

    def blob(self, name: bytes) -> Iterator[bytes]:
        """A file's content in pieces. Raises BadPack."""
        place = self._at(name)
        if self._kinds[place] == BLOB:
            yield from self._pieces(self._data[place], self._sizes[place])
        else:
            yield self.small(name, BLOB)

    def index(self) -> bytes:
        """What git keeps beside the pack (gitformat-pack(5), "Version 2 pack-*.idx files")."""
        names = sorted(self._index)
        counts = [0] * 256
        for name in names:
            counts[name[0]] += 1
        fan, total = [], 0
        for count in counts:
            total += count
            fan.append(total)
        ends = dict(zip(self._offsets, [*self._offsets[1:], self._end], strict=True))
        offsets = [self._offsets[self._index[name]] for name in names]
        checks = [self._crc(offset, ends[offset]) for offset in offsets]
        large = [offset for offset in offsets if offset >= 1 << 31]
        places = {offset: (1 << 31) | number for number, offset in enumerate(large)}
        parts = [
            b"\xfftOc\0\0\0\2",
            struct.pack(">256I", *fan),
            b"".join(names),
            struct.pack(f">{len(names)}I", *checks),
            struct.pack(f">{len(names)}I", *(places.get(offset, offset) for offset in offsets)),
            struct.pack(f">{len(large)}Q", *large),
            self._map[self._end :],
        ]
        body = b"".join(parts)
        return body + hashlib.sha1(body, usedforsecurity=False).digest()

    def _crc(self, at: int, end: int) -> int:
        crc = 0
        for start in range(at, end, _CHUNK):
            self._spend(0)
            crc = zlib.crc32(self._map[start : min(start + _CHUNK, end)], crc)
        return crc

    @property
    def checksum(self) -> str:
        return self._map[self._end :].hex()

    # -- reading it all once

    def _scan(self) -> None:
        magic, version, count = _HEADER.unpack_from(self._map)
        if magic != b"PACK" or version not in (2, 3):
            raise BadPack("the server's answer is no pack")
        if count > _OBJECTS_MAX:
            raise BadPack(f"the repository has more than {_OBJECTS_MAX} objects")
        whole = hashlib.sha1(usedforsecurity=False)
        with memoryview(self._map) as view:
            for start in range(0, self._end, 1 << 20):
                self._spend(0)
                whole.update(view[start : min(start + (1 << 20), self._end)])
        if whole.digest() != self._map[self._end :]:
            raise BadPack("the pack is damaged")
        at = _HEADER.size
        for _ in range(count):
            self._spend(0)
            at = self._object(at)
        if at != self._end:
            raise BadPack("the pack has more than its objects")

    def _object(self, at: int) -> int:
        """Takes in the object there, and gives where it ends."""
        start, place = at, len(self._offsets)
        byte, at = self._byte(at)
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            byte, at = self._byte(at)
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 60:
                raise BadPack("an object's size is not possible")
        if kind == _BY_OFFSET:
            byte, at = self._byte(at)
            back = byte & 0x7F
            while byte & 0x80:
                byte, at = self._byte(at)
                back = (back + 1 << 7) | byte & 0x7F
                if back > start:
                    break
            if not 0 < back <= start - _HEADER.size:
                raise BadPack("an object's base is not in the pack")
            self._bases[place] = start - back
        elif kind == _BY_NAME:
            self._bases[place] = self._map[at : at + _SHA]
            at += _SHA
        elif kind not in _NAMES:
            raise BadPack(f"unknown type {kind} of an object")
        if kind != BLOB and size > IN_MEMORY_MAX:
            raise BadPack(f"an object is larger than {IN_MEMORY_MAX} bytes")
        self._offsets.append(start)
        self._kinds.append(kind)
        self._sizes.append(size)
        self._data.append(at)
        return self._skim(place, kind, at, size)

    def _skim(self, place: int, kind: int, at: int, size: int) -> int:
        reading = _Inflating(self._map, at, self._end, size, self._spend)
        if kind in _NAMES:
            named = hashlib.sha1(b"%s %d\0" % (_NAMES[kind], size), usedforsecurity=False)
            for piece in reading:
                named.update(piece)
            self._index[named.digest()] = place
        else:
            for _ in reading:
                pass
        return reading.end

    def _byte(self, at: int) -> tuple[int, int]:
        if at >= self._end:
            raise BadPack("the pack ends too early")
        return self._map[at], at + 1

    def _spend(self, size: int) -> None:
        if not self._wanted():
            raise BuildError("context canceled")
        self._budget.make(size)

    def _resolve(self) -> None:
        """Names the objects that are differences, of which some have bases that are to be named first."""
        by_offset = {offset: place for place, offset in enumerate(self._offsets)}
        for place, base in self._bases.items():
            if isinstance(base, int):
                if base not in by_offset:
                    raise BadPack("an object's base is not in the pack")
                self._bases[place] = by_offset[base]
        waiting = list(self._bases)
        while waiting:
            later = []
            for place in waiting:
                self._spend(_VISIT)
                if not self._is_known(place):
                    later.append(place)
                    continue
                kind = self._kinds[self._chain(place)[-1]]
                content = self._content(place)
                named = hashlib.sha1(b"%s %d\0" % (_NAMES[kind], len(content)), usedforsecurity=False)
                named.update(content)
                self._index[named.digest()] = place
            if len(later) == len(waiting):
                raise BadPack("an object's base is not in the pack")
            waiting = later

    def _is_known(self, place: int) -> bool:
        """Whether the bases that it needs are; names become places on the way."""
        for _ in range(_CHAIN_MAX):
            base = self._bases.get(place)
            if base is None:
                return True
            if isinstance(base, bytes):
                if base not in self._index:
                    return False
                base = self._bases[place] = self._index[base]
            place = base
        raise BadPack("objects are differences of differences without end")

    def _chain(self, place: int) -> list[int]:
        """It, what it is a difference of, and so on, to what is none."""
        chain = [place]
        while (base := self._bases.get(chain[-1])) is not None:
            if not isinstance(base, int) or len(chain) > _CHAIN_MAX:
                raise BadPack("objects are differences of differences without end")
            chain.append(base)
        return chain

    def _at(self, name: bytes) -> int:
        if name not in self._index:
            raise BadPack(f"object {name.hex()} is not in the pack")
        return self._index[name]

    # -- contents

    def _content(self, place: int) -> bytes:
        chain = []
        for one in self._chain(place):
            if one in self._cache:
                self._cache.move_to_end(one)
                content = self._cache[one]
                break
            chain.append(one)
        else:
            content = self._plain(chain.pop())
        for one in reversed(chain):
            content = _applied(content, self._plain(one), self._spend)
            self._remember(one, content)
        return content

    def _plain(self, place: int) -> bytes:
        if self._sizes[place] > IN_MEMORY_MAX:
            raise BadPack(f"an object is larger than {IN_MEMORY_MAX} bytes")
        content = b"".join(self._pieces(self._data[place], self._sizes[place]))
        if self._kinds[place] in _NAMES:
            self._remember(place, content)
        return content

    def _remember(self, place: int, content: bytes) -> None:
        if len(content) > _CACHE_MAX // 4 or place in self._cache:
            return
        self._cache[place] = content
        self._cached += len(content)
        while self._cached > _CACHE_MAX:
            _, gone = self._cache.popitem(last=False)
            self._cached -= len(gone)

    def _pieces(self, at: int, size: int) -> Iterator[bytes]:
        return iter(_Inflating(self._map, at, self._end, size, self._spend))


class _Inflating:
    """A compressed piece of a pack that becomes ``size`` bytes; ``end`` is where it ends, once it has been read. ``spend`` is told
    of the bytes as they come, also when there are none for long."""

    def __init__(self, source: mmap.mmap, at: int, end: int, size: int, spend: Callable[[int], None]) -> None:
        self._source = source
        self._at = at
        self._limit = end
        self._size = size
        self._spend = spend
        self.end = at

    def __iter__(self) -> Iterator[bytes]:
        inflating = zlib.decompressobj()
        at, done = self._at, 0
        # What is compressed is seldom longer.
        step = min(_CHUNK, self._size + 64)
        data = b""
        while not inflating.eof:
            if not data:
                data = self._source[at : min(at + step, self._limit)]
                at += len(data)
                if not data:
                    raise BadPack("the pack ends too early")
            try:
                piece = inflating.decompress(data, _CHUNK)
            except zlib.error as error:
                raise BadPack(f"the pack is damaged: {error}") from None
            self._spend(len(piece))
            data = inflating.unconsumed_tail
            done += len(piece)
            if done > self._size:
                raise BadPack("an object is larger than it says")
            if piece:
                yield piece
        if done != self._size:
            raise BadPack("an object is smaller than it says")
        self.end = at - len(inflating.unused_data)


def _applied(base: bytes, delta: bytes, spend: Callable[[int], None]) -> bytes:
    """gitformat-pack(5), "Deltified representation"."""
    view = memoryview(base)
    try:
        before, at = _length(delta, 0)
        after, at = _length(delta, at)
        if before != len(base) or after > IN_MEMORY_MAX:
            raise BadPack("a difference is not of its base")
        spend(after)
        result = io.BytesIO()  # a list of pieces is many times as large when they are of a byte or two
        done = steps = 0
        while at < len(delta):
            steps += 1
            if steps % _STEPS == 0:
                spend(0)
            code = delta[at]
            at += 1
            if code & 0x80:
                start = size = 0
                for bit in range(4):
                    if code & 1 << bit:
                        start |= delta[at] << 8 * bit
                        at += 1
                for bit in range(3):
                    if code & 0x10 << bit:
                        size |= delta[at] << 8 * bit
                        at += 1
                piece: bytes | memoryview = view[start : start + (size or 0x10000)]
                if len(piece) != (size or 0x10000):
                    raise BadPack("a difference is not of its base")
            elif code:
                piece = delta[at : at + code]
                at += code
            else:
                raise BadPack("a difference has an unknown instruction")
            result.write(piece)
            done += len(piece)
            if done > after:
                raise BadPack("a difference makes more than it says")
    except IndexError:
        raise BadPack("a difference ends too early") from None
    if done != after:
        raise BadPack("a difference makes less than it says")
    return result.getvalue()


def _length(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise BadPack("a difference is not of its base")
