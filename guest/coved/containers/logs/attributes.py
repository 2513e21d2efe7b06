"""What the options labels, labels-regex, env, env-regex and tag add to every line of a json-file log."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coved.containers import go_regexp

OPTIONS = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})

_MATCH_S = 2.0
# Python's engine may take exponential time where Go's is linear, so it runs where it can be killed.
_MATCHER = """
import json, re, sys
pattern, names = json.load(sys.stdin)
expression = re.compile(pattern, re.ASCII)
json.dump([name for name in names if expression.search(name)], sys.stdout)
"""


@dataclass(frozen=True)
class Subject:
    """The container that logs."""

    id: str
    name: str
    image_id: str
    image_name: str
    command: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """What a tag's template can name: the methods and the fields of Docker's logger.Info that are strings."""
        import os

        return {
            "ID": self.id[:12],
            "FullID": self.id,
            "Name": self.name,
            "Command": " ".join(self.command),
            "ImageID": self.image_id.removeprefix("sha256:")[:12],
            "ImageFullID": self.image_id,
            "ImageName": self.image_name,
            "Hostname": os.uname().nodename,
            "DaemonName": "docker",
            "ContainerID": self.id,
            "ContainerName": f"/{self.name}",
            "ContainerEntrypoint": self.command[0] if self.command else "",
            "ContainerImageID": self.image_id,
            "ContainerImageName": self.image_name,
        }


def check(options: Mapping[str, str]) -> None:
    """Raises ValueError in Go's words for expressions and templates that cannot be read."""
    for option in ("labels-regex", "env-regex"):
        if pattern := options.get(option):
            go_regexp.translate(pattern)
    if template := options.get("tag"):
        from coved.containers.logs import tag as tags

        tags.render(template, Subject("", "", "", "", ()).fields())


async def collect(options: Mapping[str, str], subject: Subject) -> dict[str, str]:
    """The attributes of ``subject``. Raises ValueError."""
    env = {name: value for name, equals, value in (entry.partition("=") for entry in subject.env) if equals}
    result: dict[str, str] = {}
    for kind, values in (("labels", subject.labels), ("env", env)):
        for name in options.get(kind, "").split(","):
            if name in values:
                result[name] = values[name]
        if (pattern := options.get(f"{kind}-regex")) and values:
            for name in await asyncio.to_thread(_matching, pattern, tuple(values)):
                result[name] = values[name]
    if template := options.get("tag"):
        from coved.containers.logs import tag as tags

        if tag := tags.render(template, subject.fields()):
            result["tag"] = tag
    return result


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCHER], input=json.dumps([go_regexp.translate(pattern), list(names)]),
            capture_output=True, text=True, timeout=_MATCH_S, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"the regular expression {pattern} takes too long") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"the regular expression {pattern} failed: {error.stderr.strip()[-200:]}") from None
    return [str(name) for name in json.loads(done.stdout)]
