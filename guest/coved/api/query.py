"""Query strings, read the way Docker's daemon reads them."""

import builtins
import re
from urllib.parse import unquote_plus

from coved.errors import InvalidParameter
from coved.filters import Filters

_NUMBER = re.compile(r"[+-]?[0-9]+")
_FALSE = frozenset({"", "0", "no", "false", "none"})


class Query:
    """The arguments after the ``?``, with getters named after the type that they give."""

    __slots__ = ("_values",)

    def __init__(self, raw: builtins.str = "") -> None:
        self._values: dict[builtins.str, builtins.list[builtins.str]] = {}
        for pair in raw.split("&"):
            if pair:
                name, _, value = pair.partition("=")
                self._values.setdefault(unquote_plus(name), []).append(unquote_plus(value))

    def __contains__(self, name: builtins.str) -> builtins.bool:
        return name in self._values

    def str(self, name: builtins.str, default: builtins.str = "") -> builtins.str:
        """The first value of an argument."""
        values = self._values.get(name)
        return values[0] if values else default

    def list(self, name: builtins.str) -> builtins.list[builtins.str]:
        """Every value of an argument that may be repeated."""
        return [*self._values.get(name, ())]

    def bool(self, name: builtins.str, default: builtins.bool = False) -> builtins.bool:
        """Anything but "", 0, no, false and none is true; an absent argument is ``default``."""
        values = self._values.get(name)
        return values[0].strip().lower() not in _FALSE if values else default

    def int(self, name: builtins.str, default: builtins.int = 0) -> builtins.int:
        """A decimal number of 64 bits; raises ``InvalidParameter`` in the words of Go's Atoi for anything else."""
        text = self.str(name)
        if not text:
            return default
        if not _NUMBER.fullmatch(text):
            raise InvalidParameter(f'strconv.Atoi: parsing "{text[:64]}": invalid syntax')
        if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
            raise InvalidParameter(f'strconv.Atoi: parsing "{text[:64]}": value out of range')
        return int(text)

    def filters(self, name: builtins.str = "filters") -> Filters:
        """The JSON filters; raises ``InvalidParameter`` when they are malformed."""
        return Filters.parse(self.str(name))
