"""Values become PowerShell in one place, and nothing in a value is taken for anything else."""

from __future__ import annotations

import ast
import inspect
import itertools
import uuid
from pathlib import Path
from typing import Any

import pytest
from cove.drivers.hyperv import scripts
from cove.drivers.hyperv.powershell import _FRAME, Script, quoted
from hypothesis import given
from hypothesis import strategies as st

QUOTES = "'\u2018\u2019\u201a\u201b"
HOSTILE = [
    "",
    " ",
    "'",
    "''",
    "'; Remove-Item C:\\ -Recurse; '",
    "\u2019; calc; \u2018",
    "'\u2019",
    "\u201b'\u201a",
    "$(calc)",
    "$env:PATH",
    "`'; calc #",
    '"; calc; "',
    "\n'@\ncalc\n@'\n",
    "a\r\nb",
    "# comment",
    "<# #>",
    "<name>",
    "%PATH%",
    "{0}",
    "@(1,2)",
    "-Force",
    "--%",
    "C:\\Users\\D\u2019Arcy O'Neil\\cove",
    "\ud800",
    "\U0001f4a9",
    "\u00a0\u2028\u2029\x85\x1b",
    "\u201c\u201d\u201e",
    "\u2013Force",
]
texts = st.text(st.one_of(st.sampled_from(QUOTES + '`$"(){};\n\\<>#@%'), st.characters(exclude_characters="\0")))


def literal_of(text: str) -> tuple[str, str]:
    """What PowerShell's tokenizer makes of a text that begins with a literal in single quotation marks: its value, and what follows.

    As ScanStringLiteral of its tokenizer.cs: any of the marks ends it, but for two in a row, of which the second one counts.
    """
    assert text[0] in QUOTES
    value, place = "", 1
    while True:
        character = text[place]
        place += 1
        if character in QUOTES:
            if place == len(text) or text[place] not in QUOTES:
                return value, text[place:]
            character = text[place]
            place += 1
        value += character


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_text_stays_itself(value: str) -> None:
    assert literal_of(quoted(value) + "; calc") == (value, "; calc")


@given(texts)
def test_any_text_stays_itself(value: str) -> None:
    assert literal_of(quoted(value) + "; calc") == (value, "; calc")


@given(st.lists(texts, max_size=4))
def test_lists_are_lists_of_literals(values: list[str]) -> None:
    rest = quoted(values).removeprefix("@(")
    found = []
    while rest != ")":
        value, rest = literal_of(rest.removeprefix(", "))
        found.append(value)
    assert found == values


def test_what_is_no_text_is_no_literal_of_text() -> None:
    identifier = uuid.uuid4()
    values: tuple[Any, ...] = (None, True, False, 0, -1, 1 << 40, Path("a'b"), identifier)
    told = ["$null", "$true", "$false", "0", "-1", str(1 << 40), "'a''b'", f"'{identifier}'"]
    assert [quoted(value) for value in values] == told


def test_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="zero"):
        quoted("a\0b")


def test_a_value_is_not_looked_through_for_places() -> None:
    script = Script("Get-VM <name> <folder>")
    assert script(name="<folder>", folder="x") == "Get-VM '<folder>' 'x'"


@pytest.mark.parametrize("values", [{}, {"name": "a"}, {"name": "a", "folder": "b", "more": "c"}])
def test_a_script_gets_exactly_the_values_that_it_wants(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="wants"):
        Script("<name> <folder>")(**values)


def test_no_script_is_put_together_in_another_way() -> None:
    """No formatting of strings in the module of scripts."""
    formatted = [
        node.lineno
        for node in ast.walk(ast.parse(inspect.getsource(scripts)))
        if isinstance(node, ast.JoinedStr | ast.BinOp)
        or (isinstance(node, ast.Attribute) and node.attr in ("format", "join", "replace"))
    ]
    assert formatted == []


def all_scripts(value: str) -> dict[str, str]:
    """Each script with its values, of which texts are ``value``."""
    numbers = {"memory": 2 << 30, "size": 60 << 30, "cpus": 2, "pid": 4711}
    lists = {"paths": [value, value]}
    known: dict[str, Any] = {**numbers, **lists, "id": uuid.uuid4()}
    result = {}
    for name, script in vars(scripts).items():
        if isinstance(script, Script):
            places = {place: known.get(place, value) for place in script.places}
            result[name] = script(**places)
    return result


@pytest.mark.parametrize("value", ["default", *HOSTILE])
def test_a_powershell_grammar_finds_no_mistake_and_no_other_shape(value: str) -> None:
    """Each script has the shape that it has with harmless values: nothing in a value became a part of it."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_pwsh")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))

    def shape(script: str) -> str:
        # The grammar knows the quotation mark of ASCII alone.
        for mark in QUOTES:
            script = script.replace(mark, "'")
        root = parser.parse((_FRAME % script).encode("utf-8", "replace")).root_node
        assert not root.has_error, script
        return str(root)

    harmless, hostile = all_scripts("x"), all_scripts(value)
    for name in harmless:
        # An empty literal has no characters, which the grammar tells.
        expected = harmless[name] if value else harmless[name].replace("'x'", "''")
        assert shape(hostile[name]) == shape(expected), name


def test_cmdlets_of_hyper_v_are_called_with_their_module() -> None:
    """VMware's PowerCLI has cmdlets of the same names."""
    own = ("-VM", "-VHD", "Connect-VMNetworkAdapter")
    for name, script in all_scripts("x").items():
        words = [word.strip("(){};,") for word in script.split()]
        for before, word in itertools.pairwise(["", *words]):
            if word.partition("-")[0].isalpha() and word.partition("-")[1] and any(part in word for part in own):
                assert word.startswith("Hyper-V\\"), (name, before, word)
