"""Image documents that are wrong in every way are told so, and never anything but ``BadDocument``."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from coved.images import documents
from coved.images.documents import BadDocument, Descriptor, Index, Manifest, Platform
from hypothesis import given
from hypothesis import strategies as st

DIGEST = "sha256:" + "a" * 64
CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "variant": "v2",
    "created": "2024-05-06T07:08:09Z",
    "author": "me",
    "config": {
        "Cmd": ["sh"], "Entrypoint": ["/entry"], "Env": ["A=b"], "User": "1", "WorkingDir": "/", "Labels": {"a": "b"},
        "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGTERM", "Shell": ["/bin/sh"],
        "OnBuild": ["RUN x"], "Tty": False, "StopTimeout": 3,
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1, "Timeout": 2, "StartPeriod": 3, "Retries": 4},
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [{"created": "2024-05-06T07:08:09Z", "created_by": "x", "comment": "c", "empty_layer": False}],
}  # fmt: skip
POINTER: dict[str, Any] = {"mediaType": "x/y", "digest": DIGEST, "size": 3, "annotations": {"a": "b"}, "urls": ["u"]}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": documents.OCI_MANIFEST,
    "config": POINTER,
    "layers": [POINTER],
    "annotations": {"a": "b"},
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": documents.DOCKER_INDEX,
    "manifests": [{**POINTER, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}],
    "annotations": {},
}
SAVED = [{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l/layer.tar"]}]
READERS: list[tuple[Callable[[bytes], Any], Any]] = [
    (documents.config, CONFIG),
    (documents.manifest_or_index, MANIFEST),
    (documents.manifest_or_index, INDEX),
    (documents.saved_images, SAVED),
]


def data(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_what_is_read() -> None:
    config = documents.config(data(CONFIG))
    assert (config.platform, config.diff_ids) == (Platform("linux", "amd64", "v2"), (DIGEST,))
    assert config.document == CONFIG
    manifest = documents.manifest(data(MANIFEST))
    assert manifest.layers == (Descriptor("x/y", DIGEST, 3, {"a": "b"}, None, ("u",)),)
    index = documents.index(data(INDEX))
    assert [one.platform for one in index.manifests] == [Platform("linux", "arm", "v7")]
    (saved,) = documents.saved_images(data(SAVED))
    assert (saved.config, saved.layers, saved.names) == ("c.json", ("l/layer.tar",), ("a:b",))


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value in a document."""
    yield path
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*path, key))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from places(value, (*path, number))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("read", "path"), [(number, path) for number, (_, one) in enumerate(READERS) for path in places(one)]
)
def test_no_value_may_be_of_another_type(read: int, path: tuple[Any, ...]) -> None:
    reader, document = READERS[read]
    original = document
    for step in path:
        original = original[step]
    for other in (5, -1.5, True, "text", [1], {"x": 1}, [["a"]], [{"digest": 7, "created": 7}]):
        if type(other) is type(original) and not isinstance(original, list):
            continue
        with pytest.raises(BadDocument, match=r"invalid|not supported"):
            reader(data(replaced(document, path, other)))


@pytest.mark.parametrize(
    ("reader", "document", "words"),
    [
        (documents.manifest_or_index, {**MANIFEST, "layers": 5}, "layers must be a list of objects"),
        (documents.manifest_or_index, {**MANIFEST, "mediaType": ["x"]}, "mediaType must be a string"),
        (documents.manifest_or_index, {**MANIFEST, "mediaType": documents.OCI_INDEX}, "content another's"),
        (documents.manifest_or_index, {**MANIFEST, "manifests": []}, "at once"),
        (documents.manifest_or_index, {**MANIFEST, "schemaVersion": 1}, "schema 1"),
        (documents.manifest_or_index, {**MANIFEST, "config": {**POINTER, "size": -1}}, "config.size must be"),
        (documents.manifest_or_index, {**MANIFEST, "layers": [{**POINTER, "size": "3"}]}, r"layers\[0\].size must be"),
        (documents.manifest_or_index, {**MANIFEST, "layers": [{**POINTER, "size": 1 << 80}]}, "size must be"),
        (documents.manifest_or_index, {**MANIFEST, "layers": [{**POINTER, "digest": "sha256:../x"}]}, "digest must be"),
        (documents.manifest_or_index, {**MANIFEST, "layers": [POINTER] * 501}, "501 layers"),
        (documents.manifest_or_index, {**INDEX, "manifests": INDEX["manifests"] * 1001}, "more than 1000"),
        (documents.config, {**CONFIG, "history": {}}, "history must be a list of objects"),
        (documents.config, {**CONFIG, "os": "windows"}, "operating system 'windows'"),
        (documents.config, {**CONFIG, "config": {"StopSignal": 9}}, "config.StopSignal must be a string"),
        (documents.config, {**CONFIG, "config": {"Healthcheck": []}}, "config.Healthcheck must be an object"),
        (documents.config, {**CONFIG, "config": {"Healthcheck": {"Retries": -1}}}, "Healthcheck.Retries must be"),
        (documents.config, {**CONFIG, "config": {"Cmd": "sh"}}, "config.Cmd must be a list of strings"),
        (documents.config, {**CONFIG, "config": {"Env": ["A=\0"]}}, "without NUL"),
        (documents.config, {**CONFIG, "author": "\ud800"}, "no Unicode"),
        (documents.config, {**CONFIG, "rootfs": {"type": "layers", "diff_ids": ["sha512:aa"]}}, "sha256 digests"),
    ],
)
def test_what_is_wrong_is_said(reader: Callable[[bytes], Any], document: Any, words: str) -> None:
    with pytest.raises(BadDocument, match=words):
        reader(data(document))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe{}", b'{"a": NaN}', b"1" * 5000, b"null", "{}".encode("utf-16")])
@pytest.mark.parametrize("reader", [one for one, _ in READERS])
def test_what_is_no_json(reader: Callable[[bytes], Any], text: bytes) -> None:
    with pytest.raises(BadDocument):
        reader(text)


@pytest.mark.parametrize("reader", [one for one, _ in READERS])
def test_documents_cost_no_more_than_their_worth(reader: Callable[[bytes], Any]) -> None:
    with pytest.raises(BadDocument, match="larger than"):
        reader(b"[" + b" " * documents.DOCUMENT_LIMIT + b"]")
    with pytest.raises(BadDocument, match="values"):
        reader(b"[" + b"[]," * 1_000_000 + b"[]]")
    for depth in (100, 100_000):
        with pytest.raises(BadDocument, match="too deeply"):
            reader(b"[" * depth + b"]" * depth)
    with pytest.raises(BadDocument, match="too deeply"):
        reader(data(replaced(CONFIG, ("config",), json.loads('{"x":' * 80 + "1" + "}" * 80))))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(DIGEST),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(READERS), st.data())
def test_whatever_stands_anywhere_is_read_or_refused(
    reader: tuple[Callable[[bytes], Any], Any], drawn: st.DataObject
) -> None:
    read, document = reader
    for _ in range(drawn.draw(st.integers(1, 3))):
        path = drawn.draw(st.sampled_from([*places(document)]))
        document = replaced(document, path, drawn.draw(ANYTHING))
    try:
        found = read(data(document))
    except BadDocument:
        return
    if isinstance(found, Manifest):
        assert all(isinstance(one.size, int) and one.size >= 0 and len(one.digest) == 71 for one in found.layers)
    elif isinstance(found, Index):
        assert all(len(one.digest) == 71 for one in found.manifests)
    elif isinstance(found, documents.Config):
        assert all(len(one) == 71 for one in found.diff_ids)


@given(st.sampled_from(READERS), st.binary(max_size=200))
def test_whatever_bytes_come_are_read_or_refused(reader: tuple[Callable[[bytes], Any], Any], junk: bytes) -> None:
    for text in (junk, data(reader[1])[: len(junk)] + junk):
        try:
            reader[0](text)
        except BadDocument:
            continue
