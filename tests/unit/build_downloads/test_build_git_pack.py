"""Packs and trees of a server that means harm."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import pytest
from coved.build.errors import BuildError
from coved.build.remote import git_budget, git_pack, git_tree
from coved.build.remote.git_pack import BLOB, COMMIT, TAG, TREE, Pack
from coved.build.remote.git_tree import Checkout
from open_descriptors import open_descriptors

NAMES = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}


def name_of(kind: int, data: bytes) -> bytes:
    return hashlib.sha1(f"{NAMES[kind]} {len(data)}\0".encode() + data).digest()


def entry(kind: int, data: bytes, *, size: int | None = None, base: bytes = b"", packed: bytes | None = None) -> bytes:
    size = len(data) if size is None else size
    first, rest = size & 15, size >> 4
    head = bytes([kind << 4 | first | (0x80 if rest else 0)])
    while rest:
        head += bytes([rest & 0x7F | (0x80 if rest >> 7 else 0)])
        rest >>= 7
    return head + base + (zlib.compress(data) if packed is None else packed)


def pack_of(place: Path, *entries: bytes, count: int | None = None) -> Path:
    body = b"PACK" + struct.pack(">II", 2, len(entries) if count is None else count) + b"".join(entries)
    path = place / f"pack-{len([*place.iterdir()])}"
    path.write_bytes(body + hashlib.sha1(body).digest())
    return path


def length(number: int) -> bytes:
    out = b""
    while True:
        out += bytes([number & 0x7F | (0x80 if number >> 7 else 0)])
        number >>= 7
        if not number:
            return out


def delta(before: int, after: int, *instructions: bytes) -> bytes:
    return length(before) + length(after) + b"".join(instructions)


def take(start: int, size: int) -> bytes:
    return bytes([0x80 | 1 | 0x10 | 0x20, start, size & 0xFF, size >> 8])


BASE = b"0123456789" * 10


def by_name(content: bytes, instructions: bytes) -> bytes:
    return entry(7, instructions, base=name_of(BLOB, content))


def test_objects_in_every_form(tmp_path: Path) -> None:
    """A difference of what comes later, differences of differences, and one by its base's place."""
    first = BASE[:50] + b"new"
    second = first + first[:10]
    two = entry(7, delta(53, 63, take(0, 53), take(0, 10)), base=name_of(BLOB, first))
    one = by_name(BASE, delta(100, 53, take(0, 50), b"\x03new"))
    plain = entry(BLOB, BASE)
    third = entry(6, delta(100, 1, take(99, 1)), base=bytes([len(plain)]))
    pack = Pack(pack_of(tmp_path, two, one, plain, third))
    for content in (BASE, first, second, BASE[99:]):
        assert pack.small(name_of(BLOB, content), BLOB) == content
        assert b"".join(pack.blob(name_of(BLOB, content))) == content
    assert len(pack) == 4
    with pytest.raises(BuildError, match="is not a tree"):
        pack.small(name_of(BLOB, first), TREE)
    with pytest.raises(BuildError, match="is not in the pack"):
        pack.small(bytes(20), BLOB)
    pack.close()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry(BLOB, BASE, size=99)], "larger than it says"),
        ([entry(BLOB, BASE, size=101)], "smaller than it says"),
        ([entry(BLOB, bytes(50 << 20), size=10)], "larger than it says"),
        ([entry(TREE, b"", size=1 << 40)], "larger than 268435456 bytes"),
        ([entry(7, b"", size=1 << 40, base=bytes(20))], "larger than 268435456 bytes"),
        ([entry(BLOB, b"", size=1 << 62)], "size is not possible"),
        ([entry(0, b"")], "unknown type 0"),
        ([entry(5, b"")], "unknown type 5"),
        ([entry(BLOB, BASE, packed=zlib.compress(BASE)[:-6])], "ends too early|damaged"),
        ([entry(BLOB, BASE, packed=b"nonsense")], "damaged"),
        ([by_name(b"not there", delta(9, 9, take(0, 9)))], "base is not in the pack"),
        ([entry(BLOB, BASE), entry(6, delta(100, 1, take(0, 1)), base=b"\x05")], "base is not in the pack"),
        ([entry(BLOB, BASE), entry(6, b"", base=b"\x7f")], "base is not in the pack"),
        ([entry(BLOB, BASE), by_name(BASE, delta(99, 1, take(0, 1)))], "not of its base"),
        ([entry(BLOB, BASE), by_name(BASE, delta(100, 50, take(90, 50)))], "not of its base"),
        ([entry(BLOB, BASE), by_name(BASE, delta(100, 1 << 40, take(0, 1)))], "not of its base"),
        ([entry(BLOB, BASE), by_name(BASE, delta(100, 1, take(0, 9)))], "makes more than it says"),
        ([entry(BLOB, BASE), by_name(BASE, delta(100, 9, take(0, 1)))], "makes less than it says"),
        ([entry(BLOB, BASE), by_name(BASE, delta(100, 9, b"\0"))], "unknown instruction"),
        ([entry(BLOB, BASE), by_name(BASE, delta(100, 9, b"\x81"))], "ends too early"),
        ([entry(BLOB, BASE), by_name(BASE, b"\xff")], "ends too early"),
    ],
)
def test_damaged_packs(entries: list[bytes], words: str, tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(BuildError, match=words):
        Pack(pack_of(tmp_path, *entries))
    assert open_descriptors() == before


def test_no_packs(tmp_path: Path) -> None:
    for data, words in {
        b"": "too short",
        b"x" * 100: "no pack",
        b"PACK" + struct.pack(">II", 2, 1 << 31) + bytes(20): "more than 2000000 objects",
        b"PACK" + struct.pack(">II", 2, 0) + bytes(20): "damaged",
    }.items():
        path = tmp_path / "pack"
        path.write_bytes(data)
        with pytest.raises(BuildError, match=words):
            Pack(path)
    with pytest.raises(BuildError, match="more than its objects"):
        Pack(pack_of(tmp_path, entry(BLOB, b"a"), entry(BLOB, b"b"), count=1))
    with pytest.raises(BuildError, match="ends too early"):
        Pack(pack_of(tmp_path, entry(BLOB, b"a"), count=2))


def test_a_chain_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_pack, "_CHAIN_MAX", 50)
    plain = entry(BLOB, BASE)
    entries = [plain]
    for _ in range(100):
        entries.append(entry(6, delta(100, 100, take(0, 100)), base=bytes([len(entries[-1])])))
    with pytest.raises(BuildError, match="without end"):
        Pack(pack_of(tmp_path, *entries))


class Commit:
    """A pack of one commit with these files: mode, name, object's kind and content, or the name of what is there."""

    def __init__(
        self, place: Path, *files: tuple[int, bytes, bytes], objects: tuple[tuple[int, bytes], ...] = ()
    ) -> None:
        entries = [entry(BLOB, data) for mode, _, data in files if mode not in (0o040000, 0o160000)]
        tree = b"".join(
            b"%o %s\0" % (mode, name) + (data if mode in (0o040000, 0o160000) else name_of(BLOB, data))
            for mode, name, data in files
        )
        self.tree = name_of(TREE, tree)
        text = b"tree %s\ncommitter a <a@b> 77 +0100\n\nx" % self.tree.hex().encode()
        entries += [entry(kind, data) for kind, data in objects]
        self.pack = Pack(pack_of(place, *entries, entry(TREE, tree), entry(COMMIT, text)))
        self.checkout = Checkout(self.pack, name_of(COMMIT, text))

    def write(self, place: Path) -> Path:
        place.mkdir()
        self.checkout.write(self.checkout.tree, place)
        return place


def test_modes(tmp_path: Path) -> None:
    """Those of old repositories as well."""
    files = ((0o100644, b"a", b"a"), (0o100755, b"b", b"b"), (0o100664, b"c", b"c"), (0o120000, b"l", b"a"))
    made = Commit(tmp_path, *files)
    target = made.write(tmp_path / "t")
    assert {path.name: oct(path.lstat().st_mode) for path in target.iterdir()} == {
        "a": "0o100644", "b": "0o100755", "c": "0o100644", "l": "0o120777"
    }  # fmt: skip
    assert made.checkout.time == 77


@pytest.mark.parametrize("name", [b"..", b".", b"", b".git", b".GIT", b"a/b", b"../x", b"/etc/x"])
@pytest.mark.parametrize("mode", [0o100644, 0o120000, 0o160000])
def test_names_that_lead_elsewhere(name: bytes, mode: int, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"invalid path '"):
        Commit(tmp_path, (mode, name, b"x" * 20)).write(tmp_path / "t")
    assert [*(tmp_path / "t").iterdir()] == []


def test_a_link_and_what_is_behind_it(tmp_path: Path) -> None:
    """A folder of the name that a link has had, which leads out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    inner = b"100644 x\0" + name_of(BLOB, b"harm")
    files = ((0o120000, b"d", str(outside).encode()), (0o040000, b"d", name_of(TREE, inner)))
    made = Commit(tmp_path, *files, objects=((BLOB, b"harm"), (TREE, inner)))
    with pytest.raises(FileExistsError):
        made.write(tmp_path / "t")
    assert [*outside.iterdir()] == []


@pytest.mark.parametrize("files", [True, False])
def test_few_objects_that_are_many_files(files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or directories."""
    monkeypatch.setattr(git_budget, "FILES_MAX", 500)
    objects: list[tuple[int, bytes]] = [(BLOB, b"x")]
    tree = b"".join(b"100644 %d\0" % i + name_of(BLOB, b"x") for i in range(10)) if files else b""
    for _ in range(5):
        objects.append((TREE, tree))
        tree = b"".join(b"40000 %d\0" % i + name_of(TREE, tree) for i in range(10))
    objects.append((TREE, tree))
    made = Commit(tmp_path, (0o040000, b"d", name_of(TREE, tree)), objects=tuple(objects))
    with pytest.raises(BuildError, match="the commit has more than 500 files"):
        made.write(tmp_path / "t")
    assert len([*(tmp_path / "t").rglob("*")]) == 500


def test_few_objects_that_are_much_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_budget, "WRITTEN_MAX", 1000)
    files = [(0o100644, b"%d" % number, BASE) for number in range(11)]
    with pytest.raises(BuildError, match="the commit's files are larger than 1000 bytes"):
        Commit(tmp_path, *files).write(tmp_path / "t")
    assert sum(path.stat().st_size for path in (tmp_path / "t").iterdir()) == 1000


def test_long_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in memory as long as the commit is; and an error tells of no more of one than people would read."""
    with pytest.raises(BuildError, match=r"invalid path 'x{1000}'$"):
        Commit(tmp_path, (0o100644, b"x" * 10000, b"")).write(tmp_path / "t")
    monkeypatch.setattr(git_budget, "PATHS_MAX", 100)
    with pytest.raises(BuildError, match="the commit's paths are longer than 100 bytes"):
        Commit(tmp_path, (0o100644, b"a" * 60, b""), (0o100644, b"b" * 60, b"")).write(tmp_path / "u")


def test_large_trees_in_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one path are in memory together; those beside each other are not."""
    monkeypatch.setattr(git_tree, "_HELD_MAX", 3000)
    file = b"100644 f\0" + name_of(BLOB, BASE)
    large = file + b"".join(b"40000 %d\0" % number + name_of(TREE, b"") for number in range(40))
    beside = b"".join(b"40000 %c\0" % letter + name_of(TREE, large) for letter in b"abcdef")
    objects = ((BLOB, BASE), (TREE, b""), (TREE, large), (TREE, beside))
    assert 6 * len(large) > 3000 > 2 * len(large)
    Commit(tmp_path, (0o040000, b"d", name_of(TREE, beside)), objects=objects).write(tmp_path / "t")
    tree = large
    for _ in range(4):
        tree = large + b"40000 x\0" + name_of(TREE, tree)
        objects = (*objects, (TREE, tree))
    with pytest.raises(BuildError, match="the directories down to /d/x/x/ are larger than 3000 bytes"):
        Commit(tmp_path, (0o040000, b"d", name_of(TREE, tree)), objects=objects).write(tmp_path / "u")


def test_given_up_inside_an_object(tmp_path: Path) -> None:
    """Reading one, and applying a difference, can take minutes."""
    asked = 0
    enough = 0

    def wanted() -> bool:
        nonlocal asked
        asked += 1
        return asked <= enough

    inserts = delta(100, 100_000, *[b"\x01x"] * 100_000)
    for entries in ([entry(BLOB, bytes(20 << 20))], [entry(BLOB, BASE), by_name(BASE, inserts)]):
        path = pack_of(tmp_path, *entries)
        asked, enough = 0, 1 << 30
        Pack(path, wanted).close()
        assert asked > len(entries) * 10
        asked, enough = 0, asked - 2
        with pytest.raises(BuildError, match="context canceled"):
            Pack(path, wanted)
        assert asked == enough + 1


def test_differences_that_are_made_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a chain of large ones, which are not kept in memory, needs all those before it."""
    large = bytes(100_000)
    chain = [entry(BLOB, large)]
    before = [large]
    for number in range(20):
        after = before[-1][:-1] + bytes([number + 1])
        copied = bytes([0x80 | 0x10 | 0x20 | 0x40]) + (len(after) - 1).to_bytes(3, "little")
        chain.append(entry(7, delta(100_000, 100_000, copied, b"\x01" + after[-1:]), base=name_of(BLOB, before[-1])))
        before.append(after)
    path = pack_of(tmp_path, *chain)
    monkeypatch.setattr(git_budget, "MADE_MAX", 5_000_000)
    Pack(path).close()
    monkeypatch.setattr(git_pack, "_CACHE_MAX", 100_000)
    with pytest.raises(BuildError, match="the repository's objects come to more than 5000000 bytes"):
        Pack(path)


def test_folders_nested_too_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_tree, "DEPTH_MAX", 20)
    objects: list[tuple[int, bytes]] = []
    tree = b""
    for _ in range(30):
        objects.append((TREE, tree))
        tree = b"40000 d\0" + name_of(TREE, tree)
    objects.append((TREE, tree))
    made = Commit(tmp_path, (0o040000, b"d", name_of(TREE, tree)), objects=tuple(objects))
    with pytest.raises(BuildError, match="nested more than 20 deep"):
        made.write(tmp_path / "t")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (TREE, b"100644 x"),
        (TREE, b"100644 x\0short"),
        (TREE, b"x y\0" + bytes(20)),
        (TREE, b" x\0" + bytes(20)),
        (COMMIT, b"tree zz"),
        (COMMIT, b"tree " + b"g" * 40 + b"\n"),
        (TAG, b"nothing"),
        (TAG, b"object " + b"1" * 40),
        (BLOB, b"x"),
    ],
)
def test_damaged_objects(kind: int, data: bytes, tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.mkdir()
    commit = b"tree %s\n" % name_of(kind, data).hex().encode() if kind == TREE else data
    entries = [entry(kind, data), *([entry(COMMIT, commit)] if kind == TREE else [])]
    pack = Pack(pack_of(tmp_path, *entries))
    with pytest.raises(BuildError):
        checkout = Checkout(pack, name_of(COMMIT if kind == TREE else kind, commit))
        checkout.write(checkout.tree, target)
    assert [*target.iterdir()] == []


def test_a_tag_of_itself_and_others(tmp_path: Path) -> None:
    commit = b"tree %s\n" % name_of(TREE, b"").hex().encode()
    tag = b"object %s\ntype commit\n" % name_of(COMMIT, commit).hex().encode()
    outer = b"object %s\ntype tag\n" % name_of(TAG, tag).hex().encode()
    pack = Pack(pack_of(tmp_path, entry(TREE, b""), entry(COMMIT, commit), entry(TAG, tag), entry(TAG, outer)))
    assert Checkout(pack, name_of(TAG, outer)).commit == name_of(COMMIT, commit)
