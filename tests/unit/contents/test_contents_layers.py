"""Layers laid over each other: what a later one removes, hides or replaces is not in the image."""

from __future__ import annotations

import bz2
import lzma
import sys
import tarfile
from collections.abc import Callable

import pytest
from image_layers import FOLDER, STATUS, Files, digest, gzipped, layer, link, manifest, names, read, stanza, wheel

SITE = "usr/lib/python3/site-packages"
LOWER: Files = {
    f"{SITE}/one-1.dist-info/METADATA": wheel("one", "1"),
    f"{SITE}/two-2.dist-info/METADATA": wheel("two", "2"),
    "app/node_modules/three/package.json": manifest("three", "3.0.0"),
}
ALL = ["three 3.0.0", "one 1", "two 2"]


def zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return bytes(module.compress(data))


@pytest.mark.parametrize("packed", [bytes, gzipped, bz2.compress, lzma.compress, zstd])
def test_a_layer_is_read_however_it_is_compressed(packed: Callable[[bytes], bytes]) -> None:
    assert names(read(layer(LOWER), packed=packed)) == ALL


@pytest.mark.parametrize("first", ["[slug].js", "{a}"])
def test_a_layer_may_begin_with_a_name_that_begins_as_json_does(first: str) -> None:
    assert names(read(layer({first: "", **LOWER}))) == ALL


def test_a_gzip_stream_may_have_several_members() -> None:
    def halves(data: bytes) -> bytes:
        return gzipped(data[:700]) + gzipped(data[700:])

    assert names(read(layer(LOWER), packed=halves)) == ALL


def test_an_xz_file_may_have_several_streams_and_zeros_between_and_after_them() -> None:
    def halves(data: bytes) -> bytes:
        return lzma.compress(data[:700]) + bytes(8) + lzma.compress(data[700:]) + bytes(400_000)

    assert names(read(layer(LOWER), packed=halves)) == ALL


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ({f"{SITE}/.wh.one-1.dist-info": ""}, ["three 3.0.0", "two 2"]),
        ({f"{SITE}/one-1.dist-info/.wh.METADATA": ""}, ["three 3.0.0", "two 2"]),
        ({"usr/.wh.lib": ""}, ["three 3.0.0"]),
        ({f"{SITE}/.wh..wh..opq": ""}, ["three 3.0.0"]),
        ({".wh..wh..opq": ""}, []),
        ({"./app/.wh..wh..opq": "", "./app/x": ""}, ["one 1", "two 2"]),
        ({".wh.app": "", "app/node_modules/four/package.json": manifest("four", "4.0.0")}, ["four 4.0.0", "one 1", "two 2"]),
        ({"app": link("app", "srv")}, ["one 1", "two 2"]),
        ({"app/node_modules": "a file"}, ["one 1", "two 2"]),
        ({f"{SITE}/one-1.dist-info/METADATA": link(f"{SITE}/one-1.dist-info/METADATA", "x")}, ["three 3.0.0", "two 2"]),
        ({f"{SITE}/one-1.dist-info/METADATA": wheel("one", "1.1")}, ["three 3.0.0", "one 1.1", "two 2"]),
        ({"app": FOLDER, "usr/lib": FOLDER}, ALL),
        ({".wh..wh.plnk": "", f"{SITE}/.wh.none": ""}, ALL),
    ],
)  # fmt: skip
def test_what_a_layer_does_to_those_below_it(upper: Files, left: list[str]) -> None:
    found = read(layer(LOWER), layer(upper))
    assert names(found) == left
    assert not found.unread


def test_a_whiteout_leaves_what_comes_in_the_same_layer_and_after() -> None:
    path = f"{SITE}/one-1.dist-info/METADATA"
    mixed = layer([(path, wheel("one", "2")), (f"{SITE}/.wh.one-1.dist-info", "")])
    assert names(read(layer(LOWER), mixed)) == ["three 3.0.0", "one 2", "two 2"]
    removed = layer({".wh.usr": ""})
    assert names(read(layer(LOWER), removed, layer({path: wheel("one", "3")}))) == ["three 3.0.0", "one 3"]


def test_a_folder_takes_the_place_of_a_file_that_told_of_a_package() -> None:
    old = f"{SITE}/one-1.egg-info"
    lower, upper = layer({old: wheel("one", "1")}), layer({old: FOLDER, f"{old}/PKG-INFO": wheel("one", "1.1")})
    assert names(read(lower)) == ["one 1"]
    assert names(read(lower, upper)) == ["one 1.1"]
    assert names(read(upper, lower)) == ["one 1"]


def test_the_last_of_two_members_of_one_name_counts() -> None:
    path = f"{SITE}/one-1.dist-info/METADATA"
    assert names(read(layer([(path, wheel("one", "1")), (path, wheel("one", "2"))]))) == ["one 2"]
    assert names(read(layer([(path, wheel("one", "1")), (path, link(path, "elsewhere"))]))) == []


def test_a_package_is_of_the_layer_that_brought_it_and_not_of_those_that_wrote_the_database_anew() -> None:
    one, two = stanza("one", "1"), stanza("two", "1")
    layers = [
        layer({STATUS: one}),
        layer({STATUS: one + two, "etc/hosts": ""}),
        layer({STATUS: stanza("one", "2") + two, "etc/passwd": ""}),
        layer({STATUS: stanza("one", "2") + two}),
    ]
    found = read(*layers)
    assert {each.package.name: [place.layer for place in each.places] for each in found.packages} == {
        "one": [digest(layers[2])],
        "two": [digest(layers[1])],
    }


def test_a_package_that_was_gone_in_between_is_of_the_layer_that_brought_it_back() -> None:
    lower, gone, back = (
        layer({STATUS: stanza("one", "1")}),
        layer({STATUS: ""}),
        layer({STATUS: stanza("one", "1"), "x": ""}),
    )
    [found] = read(lower, gone, back).packages
    assert [place.layer for place in found.places] == [digest(back)]


def test_a_package_in_many_places_is_told_once() -> None:
    paths = [f"{folder}/node_modules/three/package.json" for folder in ("a", "b", "a/node_modules/x")]
    [found] = read(layer({path: manifest("three", "3.0.0") for path in paths})).packages
    assert [place.path for place in found.places] == sorted(f"/{path}" for path in paths)


def test_two_layers_may_be_the_same() -> None:
    same = layer(LOWER)
    assert names(read(same, layer({".wh.app": ""}), same)) == ALL


def test_a_hard_link_tells_what_the_file_does_that_it_is_of() -> None:
    path, target = "app/node_modules/three/package.json", "store/node_modules/three/package.json"
    files = [(target, manifest("three", "3.0.0")), (path, link(path, target, tarfile.LNKTYPE))]
    [found] = read(layer(files)).packages
    assert [place.path for place in found.places] == [f"/{path}", f"/{target}"]
    lone = read(layer([("store/file", manifest("x", "1")), (path, link(path, "store/file", tarfile.LNKTYPE))]))
    assert names(lone) == []
    assert [(each.count, each.example) for each in lone.unread] == [(1, f"/{path}")]
