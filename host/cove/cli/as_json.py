"""`--json` of Cove's own commands: one shape for all of them (docs/cli.md, "JSON")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cove.cli.clicked import switch

F = TypeVar("F", bound=Callable[..., Any])


def option(command: F) -> F:
    """The switch, as the parameter `as_json`."""
    return switch("--json", "as_json", help="Print JSON")(command)


def lines(command: F) -> F:
    """The switch of a command that prints lines as they come: an object on each."""
    return switch("--json", "as_json", help="Print a JSON object on each line")(command)


def show(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print the one document of a command: an object for what is one, an array of objects for what may be several."""
    import json

    print(json.dumps(document, indent=1, ensure_ascii=False, default=str))


def told(as_json: bool, words: str, **facts: Any) -> None:
    """What a command has done: `words` for people, `facts` for programs."""
    if as_json:
        show(facts)
    else:
        print(words)
