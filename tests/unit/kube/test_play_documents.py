"""What is read of YAML, with its lines, and what is too much of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cove.kube.play import documents
from cove.kube.play.documents import Node
from cove.kube.play.problems import ManifestError


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(each) for key, each in node.value.items()}
    return [plain(each) for each in node.value] if isinstance(node.value, list) else node.value


def read(text: str) -> list[Any]:
    return [plain(each) for each in documents.read(text, "a.yaml")]


def test_values_are_those_of_kubernetes_yaml() -> None:
    assert read("a: 1\nb: 0644\nc: 1.5\nd: true\ne: ~\nf: text\ng: 2024-01-02\nh: [x, '1']\n") == [
        {"a": 1, "b": 0o644, "c": 1.5, "d": True, "e": None, "f": "text", "g": "2024-01-02", "h": ["x", "1"]}
    ]


@pytest.mark.parametrize("text", ["8080:80", "12:30:00", "190:20:30.15", "1" + ":00" * 100_000])
def test_what_has_colons_is_a_text(text: str) -> None:
    """PyYAML's numbers to the base of sixty, which take quadratic time, are none to Kubernetes."""
    assert read(f"a: {text}") == [{"a": text}]


def test_json_is_read_as_json_writes_it() -> None:
    value = {"a": "\N{GRINNING FACE}/\t\u00e9", "\N{GRINNING FACE}": [1, {}]}
    for indent in (None, "\t"):
        assert read(json.dumps(value, indent=indent).replace("/", r"\/")) == [value]
    (node,) = documents.read('{\n\t"a":\t[\n\t\t1]}', "a.json")
    assert isinstance(node.value, dict)
    assert isinstance(node.value["a"].value, list)
    assert str(node.value["a"].value[0].place) == "a.json:3"


def test_documents_are_parted_and_empty_ones_left_out() -> None:
    assert read("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_each_value_knows_its_line() -> None:
    (node,) = documents.read("a:\n- b\n- c: d\n", "a.yaml")
    assert isinstance(node.value, dict)
    inner = node.value["a"].value
    assert isinstance(inner, list)
    assert [str(each.place) for each in inner] == ["a.yaml:2", "a.yaml:3"]


def test_aliases_and_merges_stand_for_what_they_name() -> None:
    assert read("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x\nd: {<<: [{q: 4}, *x]}\n") == [
        {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 2}, "d": {"p": 1, "q": 4}}
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: [", "a.yaml:2: "),
        ("a: 1\na: 2\n", "a.yaml:2: a is there twice"),
        ("? [a]\n: 2\n", "a.yaml:1: a key must be a text"),
        ("a: !!python/object/apply:os.system [x]\n", "a.yaml:1: a value of type"),
        ("a: !!set {x}\n", "a.yaml:1: a value of type"),
        ("a: !thing x\n", "a.yaml:1: a value of type !thing is not for Kubernetes"),
        ("a: !!binary aGk=\n", "a.yaml:1: a value of type"),
        ("a: *nothing\n", "a.yaml:1: found undefined alias"),
        ("a: !!int x\n", "a.yaml:1: 'x' is no int"),
        ("a: " + "1" * 5000 + "\n", "a.yaml:1: a number of more than 64 characters"),
        ('a: "x\\0y"\n', "a.yaml:1: a text has a NUL"),
        ('"a\\0": y\n', "a.yaml:1: a text has a NUL"),
        (r'a: "\ud83d"', "a.yaml:1: a text has half of a character"),
        (r'"\ude00": a', "a.yaml:1: a text has half of a character"),
        ("a: &a [*a]\n", "nested more than"),
        ("a: &a {<<: *a}\n", "nested more than"),
        ("[" * 100 + "]" * 100, "nested more than"),
        ("[" * 100_000, "is nested too deeply"),
        ("a: \0\n", "a.yaml"),
        ("a" * (documents.MAX_BYTES + 1), "is larger than 4 MiB"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(text: str, problem: str) -> None:
    with pytest.raises(ManifestError) as raised:
        documents.read(text, "a.yaml")
    assert problem in raised.value.message


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_of_aliases_end_somewhere(form: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{each}: &a{each} " + form.format(", ".join([f"*a{each - 1}"] * 10)) for each in range(1, 12)]
    with pytest.raises(ManifestError, match="by aliases perhaps"):
        documents.read("\n".join(lines), "a.yaml")


def test_a_text_that_many_aliases_stand_for_is_too_much() -> None:
    text = "a: &a " + "x" * (1 << 20) + "\nb: [" + ", ".join(["*a"] * 40) + "]\n"
    with pytest.raises(ManifestError, match="more than 32 MiB of text"):
        documents.read(text, "a.yaml")
