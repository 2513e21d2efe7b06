"""``--name=value`` between an instruction and its arguments."""

from __future__ import annotations

from collections.abc import Sequence

from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.suggest import did_you_mean


class Flags:
    """The flags of an instruction that takes these; raises ``DockerfileError`` for others."""

    def __init__(
        self,
        flags: Sequence[str],
        *,
        texts: Sequence[str] = (),
        switches: Sequence[str] = (),
        lists: Sequence[str] = (),
    ) -> None:
        self._given: dict[str, list[str]] = {}
        for flag in flags:
            shown, equals, value = flag.partition("=")
            name = shown[2:]
            if name not in (*texts, *switches, *lists):
                raise DockerfileError(did_you_mean(f"unknown flag: {shown}", name, [*texts, *switches, *lists]))
            if name in self._given and name not in lists:
                raise DockerfileError(f"duplicate flag specified: {shown}")
            if (not equals and name not in switches) or (equals and not value and name in switches):
                raise DockerfileError(f"missing a value on flag: {shown}")
            if name in switches and value.lower() not in ("", "true", "false"):
                raise DockerfileError(f"expecting boolean value for flag {shown}, not: {value}")
            self._given.setdefault(name, []).append(value)

    def text(self, name: str, default: str = "") -> str:
        return self._given.get(name, [default])[0]

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(self._given.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """None when it is not there."""
        value = self._given.get(name)
        return None if value is None else value[0].lower() != "false"
