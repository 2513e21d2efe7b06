"""Taking secrets out of texts that leave this computer. What may be one goes: a log that says less is better than one that says too much.

Two ways together: values that are known to be secrets (of variables, of docker's configuration, of the machine's keys) go wherever
they stand, also in base64 and percent-encoded; and what looks like one goes by its form.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

GONE = "[removed]"
SHORT = 5
"""Known secrets of fewer characters are taken out by form only: they would take out much else."""

# Texts are hostile too, for programs in the machine have written some: what repeats is bounded, so that no text takes long.
_KEYWORD = (
    r"(?:passw(?:or)?d|pwd|passphrase|secret|token|credentials?|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"auth(?:orization)?(?![a-z])|signature|cookie|session[_-]?id)"
)
_WORD = rf"(?:{_KEYWORD}[\w.-]{{0,64}}|(?<![\w.-])(?:key|sig))"
_OPTION = r"(?:-e[ =]?|(?:--env|--build-arg)[ =])"
_VARIABLE = r"[A-Za-z_]\w{0,200}"
_SECRET_NAME = re.compile(rf"(?i){_KEYWORD}|^(?:key|sig)$")
_NAMES = re.compile(
    r"(?i)(?:^|_)(?:pass(?:word|wd|phrase)?|pwd|secrets?|tokens?|keys?|credentials?|auth|cookie|pat)(?:$|_)"
    r"|password|secret|token"
)
_FOLDERS = ("PWD", "OLDPWD")
"""Variables of shells that are named like passwords; to take their values out would take out the home folder."""
_QUOTED = r"\"(?:[^\"\\]|\\.){0,4096}\"|'[^']{0,4096}'"
_VALUE = rf"({_QUOTED}|\[[^\]]{{0,4096}}\]|[^\s,;&\"'}}\]]+)"
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?(.*)@", re.DOTALL)
"""Of a proxy's address that need be no proper one: all before the last @, for a password may have others."""
_BEGIN = "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----"
_END = "-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----"
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    # PEM, also one that a log has cut off (RFC 7468); and in JSON, where the ends of lines are \n.
    (re.compile(rf"{_BEGIN}(?:.{{0,16384}}?{_END}|.{{0,16384}})", re.DOTALL), GONE),
    # The name and the password of an address (RFC 3986, section 3.2.1).
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/?#\"]*@"), rf"\1{GONE}@"),
    # A password with / ? or # in it, which people type though no address may have it; after a port stands a path.
    (
        re.compile(
            r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/?#\"@:]{0,256}:(?![0-9]{1,5}[/?#])[^\s\"]{0,1024}@(?!sha256:)"
        ),
        rf"\1{GONE}@",
    ),
    # Of a proxy also what is no address at all: http_proxy = "joe:pass word@proxy:3128".
    (re.compile(r"(?i)(proxy\w{0,32}[\"']?\s{0,8}[=:]\s{0,8}[\"']?)[^\r\n]{0,1024}@"), rf"\1{GONE}@"),
    # What follows a name in headers: "Authorization: Bearer abc", "X-Registry-Auth: abc".
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|x-registry-(?:auth|config)|(?:set-)?cookie)"
            r"(\"?'?\s{0,8}[:=]\s{0,8})[^\r\n]+"
        ),
        rf"\1\2{GONE}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,8}[\w.~+/=-]{8,}"), rf"\1 {GONE}"),
    # NAME=value of environments, in lists of JSON ("Env": ["A=b"]) and as options (-e A=b, --env A=b, --build-arg A=b).
    # What is quoted may have brackets of its own, and ends with its line where a log has cut it off.
    (re.compile(r"(?i)(\"Env\"\s{0,8}:\s{0,8}\[)(?:\"(?:[^\"\\\r\n]|\\.)*+\"?|[^\]\"])*+"), rf"\1{GONE}"),
    (re.compile(rf"(?<!\S)({_OPTION}\"{_VARIABLE}=)(?:[^\"\\\r\n]|\\.)*+"), rf"\1{GONE}"),
    (re.compile(rf"(?<!\S)({_OPTION}'{_VARIABLE}=)[^'\r\n]*+"), rf"\1{GONE}"),
    (re.compile(rf"(?<!\S)({_OPTION}{_VARIABLE}=)({_QUOTED}|\S*)"), rf"\1{GONE}"),
    # password = "x", token: x, "secret":"x", ?key=x&
    (re.compile(rf"(?i)({_WORD}[\"']?\s{{0,8}}(?:=|:|%3D)\s{{0,8}}){_VALUE}"), rf"\1{GONE}"),
    # --password x, --registry-token x, -u name:x
    (re.compile(rf"(?i)(?<!\S)(--?[\w-]{{0,32}}{_WORD}[ \t]{{1,8}})({_QUOTED}|[^\s-]\S*)"), rf"\1{GONE}"),
    (re.compile(r"(?<!\S)(-u\s{1,8}[^\s:]{1,200}:)\S+"), rf"\1{GONE}"),
    # Tokens that say themselves what they are: JWT, GitHub, GitLab, Docker, Slack, AWS, npm, PyPI, OpenAI-like, Google.
    (re.compile(r"\beyJ[\w-]{4,512}\.[\w-]{4,}(?:\.[\w-]*)?"), GONE),
    (
        re.compile(
            r"\b(?:gh[pousr]_|github_pat_|glpat-|dckr_(?:pat|oat)_|xox[abeoprs]-|npm_|pypi-|sk-|AIza|ya29\.)[\w.-]{8,}"
        ),
        GONE,
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), GONE),
)


class Redactor:
    """`secrets` are known; `home` becomes ~ in paths, and its user's name goes with it."""

    def __init__(self, secrets: Iterable[str] = (), home: PurePath | None = None) -> None:
        forms: set[str] = set()
        for secret in secrets:
            for one in {secret, secret.strip(), *secret.split("\n")}:
                if len(one) >= SHORT:
                    forms |= _encoded(one)
        # Long ones first: a part of one must not leave the rest of it behind.
        self._known = (
            re.compile("|".join(re.escape(each) for each in sorted(forms, key=len, reverse=True))) if forms else None
        )
        self._home = _leading_to(str(home)) if home is not None and len(str(home)) > 1 else None

    def __call__(self, text: str) -> str:
        """`text` without secrets."""
        if self._known is not None:
            text = self._known.sub(GONE, text)
        for pattern, instead in _FORMS:
            text = pattern.sub(instead, text)
        return self._home.sub("~", text) if self._home is not None else text

    def document(self, value: Any) -> Any:
        """What JSON or TOML has, without secrets: values whose keys are secrets' names go whole."""
        if isinstance(value, Mapping):
            return {
                self(str(key)): GONE if _is_secret(str(key), each) else self.document(_without_login(str(key), each))
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.document(each) for each in value]
        return self(value) if isinstance(value, str) else value


def _leading_to(home: str) -> re.Pattern[str]:
    """All forms of a folder's path in texts. On Windows a backslash may be doubled (JSON), or be a slash, and case is no matter."""
    if "\\" not in home:
        return re.compile(rf"{re.escape(home)}(?![\w-])")
    names = map(re.escape, home.split("\\"))
    return re.compile(r"(?:\\{1,2}|/)".join(names) + r"(?![\w-])", re.IGNORECASE)


def _is_secret(key: str, value: Any) -> bool:
    return bool(value) and not isinstance(value, bool) and (key == "Env" or _SECRET_NAME.search(key) is not None)


def _without_login(key: str, value: Any) -> Any:
    """A proxy's address without who asks; other values as they are."""
    if not isinstance(value, str) or "proxy" not in key.lower():
        return value
    return _LOGIN.sub(rf"\1{GONE}@", value, count=1)


def _encoded(secret: str) -> set[str]:
    """A secret as it is written in the usual places; base64 by any of its three places in what is encoded."""
    found = {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
    data = secret.encode()
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * before + data).decode().rstrip("=")
            # Characters that also have bits of what stands before and after the secret.
            inner = text[(0, 2, 3)[before] : len(text) - (1 if (before + len(data)) % 3 else 0)]
            if len(inner) >= SHORT:
                found.add(inner)
    return found


def of_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Values that are secrets by their variables' names, and passwords of addresses in any."""
    for name, value in environment.items():
        if _NAMES.search(name) and name not in _FOLDERS:
            yield value
        yield from of_addresses(value)
        if name.lower().endswith("_proxy"):
            yield from of_proxy(value)


def of_proxy(address: str) -> Iterator[str]:
    """Who asks, and the password, of a proxy's address, also of one that is wrong or has no scheme."""
    if (match := _LOGIN.match(address)) is None:
        return
    user, colon, password = match[2].partition(":")
    for one in (match[2], password if colon else user):
        yield one
        yield unquote(one)


def of_settings(text: str) -> Iterator[str]:
    """Passwords in the addresses of a machine's settings or a policy, which may have mistakes."""
    import tomli

    yield from of_addresses(text)
    try:
        values = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError):
        for match in re.finditer(r"(?im)^[^=\r\n]*_proxy[\"']?\s*=[\s\"'\[]*([^\r\n]*@)", text):
            yield from of_proxy(match[1])
        return
    locked = values.get("locked")
    for table in (values, locked if isinstance(locked, dict) else {}):
        for name, value in table.items():
            if name.endswith("_proxy"):
                for one in value if isinstance(value, list) else [value]:
                    yield from of_proxy(str(one))


def of_addresses(text: str) -> Iterator[str]:
    for match in re.finditer(r"(?i)[a-z][a-z0-9+.-]*://[^\s/?#\"'<>]*@", text):
        with contextlib.suppress(ValueError):
            parts = urlsplit(match[0] + "x")
            for one in (parts.password, parts.username if parts.password is None else None):
                if one:
                    yield one
                    yield unquote(one)


def of_docker(text: str) -> Iterator[str]:
    """Credentials, headers and proxies' passwords of docker's config.json."""
    yield from of_addresses(text)
    try:
        value = json.loads(text)
    except ValueError:
        return
    if not isinstance(value, dict):
        return
    proxies = value.get("proxies")
    for entry in proxies.values() if isinstance(proxies, dict) else ():
        for one in entry.values() if isinstance(entry, dict) else ():
            yield from of_proxy(str(one))
    headers = value.get("HttpHeaders")
    yield from (str(each) for each in (headers.values() if isinstance(headers, dict) else ()))
    auths = value.get("auths")
    for entry in auths.values() if isinstance(auths, dict) else ():
        for key, one in entry.items() if isinstance(entry, dict) else ():
            if not isinstance(one, str):
                continue
            if key not in ("username", "email"):
                yield one
            if key == "auth":
                with contextlib.suppress(ValueError):
                    _, _, password = base64.b64decode(one).decode().partition(":")
                    yield password.rstrip("\0")
