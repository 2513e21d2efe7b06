"""Names and links of Windows, as containers have them; on any system."""

from __future__ import annotations

import stat
import struct

import pytest
from cove.share.ninep import ntfs
from hypothesis import given
from hypothesis import strategies as st

NOT_NAMES = [
    b"a:b", b"a::$DATA", b":stream", b"C:", b"back\\slash", b"..\\secret", b"\\\\?\\C:\\x", b"q?", b"st*r", b"<", b">", b'"', b"|",
    b"tab\t", b"\x01", b"dot.", b"space ", b"con", b"CON", b"Con.txt", b"nul", b"NUL.tar.gz", b"aux", b"prn", b"com1", b"LPT9.log",
    "com¹".encode(), b"conin$", b"CONOUT$", b"nul .txt", b"\xff", b"...",
    b"\xed\xa0\xbd\xed\xb8\x80",
]  # fmt: skip
NAMES = [
    b"a",
    b".git",
    b"node_modules",
    b"console",
    b"nullable.js",
    b"com10",
    b"com",
    b"a b",
    "é".encode(),
    "名".encode(),
    b"x.y.z",
]


@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_windows_would_take_for_something_else_is_no_name(name: bytes) -> None:
    with pytest.raises(ValueError):
        ntfs.text(name)


@pytest.mark.parametrize("name", NAMES)
def test_all_else_is_what_it_is(name: bytes) -> None:
    assert ntfs.text(name) == name.decode()
    assert ntfs.shown(name.decode()) == name


@given(st.binary(max_size=300))
def test_no_name_has_a_way_in_it(name: bytes) -> None:
    try:
        found = ntfs.text(name)
    except ValueError:
        return
    assert not set(found) & set('\\/:*?"<>|\0') and found not in (".", "..") and len(found) <= 255


@given(st.text(max_size=300))
def test_what_is_shown_can_be_asked_for(name: str) -> None:
    if (raw := ntfs.shown(name)) is not None:
        assert len(raw) <= 255
        assert ntfs.text(raw) == name


def test_names_that_linux_could_not_have_are_not_shown() -> None:
    assert ntfs.shown("名" * 100) is None
    assert ntfs.shown("dot.") is None


@pytest.mark.parametrize(
    ("name", "short"),
    [("PROGRA~1", True), ("A~1.TXT", True), ("LONG~BZZ.TXT", True), ("~$DOCU~1.DOC", True), ("~FOOLO~1.TXT", True),
     ("~", False), ("a~", False), ("backup~of.everything", False)],
)  # fmt: skip
def test_second_names_are_known_by_their_form(name: str, short: bool) -> None:
    assert ntfs.may_be_short(name) is short


def windows_link(tag: int, substitute: str, shown: str = "") -> bytes:
    names = substitute.encode("utf-16-le") + shown.encode("utf-16-le")
    first, second = len(substitute) * 2, len(shown) * 2
    body = (
        struct.pack("<HHHH", 0, first, first, second) + (struct.pack("<I", 0) if tag == ntfs.SYMLINK else b"") + names
    )
    return struct.pack("<IHH", tag, len(body), 0) + body


@pytest.mark.parametrize(
    ("data", "target"),
    [
        (windows_link(ntfs.SYMLINK, "..\\other\\file"), b"../other/file"),
        (windows_link(ntfs.SYMLINK, "\\??\\C:\\Users\\me", "C:\\Users\\me"), b"/c/Users/me"),
        (windows_link(ntfs.JUNCTION, "\\??\\D:\\"), b"/d/"),
        (windows_link(ntfs.SYMLINK, "\\??\\UNC\\server\\share"), b"//server/share"),
        (windows_link(ntfs.JUNCTION, "\\??\\Volume{12}\\"), b"Volume{12}/"),
        (ntfs.link_data(b"../\xc3\xa9"), b"../\xc3\xa9"),
        (ntfs.link_data(b"/etc/passwd"), b"/etc/passwd"),
    ],
)
def test_links_are_read_as_containers_name_paths(data: bytes, target: bytes) -> None:
    assert ntfs.target(data) == target


@given(
    st.binary(max_size=100),
    st.sampled_from([ntfs.SYMLINK, ntfs.JUNCTION, ntfs.LX_SYMLINK, 0x9000001A]),
    st.integers(0, 200),
)
def test_no_link_is_read_beyond_its_end(body: bytes, tag: int, length: int) -> None:
    try:
        found = ntfs.target(struct.pack("<IHH", tag, length, 0) + body)
    except OSError:
        return
    assert 0 < len(found) < 4096 and b"\0" not in found


def test_kinds() -> None:
    kinds = [
        ntfs.kind(tag, directory=False)
        for tag in (ntfs.SYMLINK, ntfs.JUNCTION, ntfs.LX_SYMLINK, ntfs.LX_FIFO, ntfs.AF_UNIX)
    ]
    assert kinds == [stat.S_IFLNK, stat.S_IFLNK, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK]
    assert ntfs.kind(ntfs.JUNCTION, directory=True) == stat.S_IFLNK
    assert ntfs.kind(0x9000701A, directory=True) == stat.S_IFDIR  # OneDrive's
    assert ntfs.is_read_as_it_is(0x9000701A) and not ntfs.is_read_as_it_is(0x80000013)
    assert ntfs.special_data(stat.S_IFIFO) == struct.pack("<IHH", ntfs.LX_FIFO, 0, 0)
    with pytest.raises(PermissionError):
        ntfs.special_data(stat.S_IFCHR)
