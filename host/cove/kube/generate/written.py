"""Objects as YAML, in as many documents. Only to be imported when `yaml` is there (`cove.kube.installed`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

_READ_ALIKE = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null|nan|inf)\Z)[A-Za-z/][^\n]*", re.IGNORECASE)
"""A text that every reader of YAML takes for one without quotes. kubectl's reads more as numbers and truths (`1e3`, `N`) than PyYAML's."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc,unused-ignore]
    """Without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else None if _READ_ALIKE.fullmatch(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def documents(objects: Iterable[dict[str, Any]]) -> str:
    made: str = yaml.dump_all(
        objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True, explicit_start=True, width=120
    )
    return made
