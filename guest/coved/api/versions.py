"""The versions of the Docker Engine API that Cove speaks, and the one that a path asks for."""

from coved.errors import InvalidParameter

ApiVersion = tuple[int, int]

NEWEST: ApiVersion = (1, 51)
OLDEST: ApiVersion = (1, 24)


def text(version: ApiVersion) -> str:
    return f"{version[0]}.{version[1]}"


def split_path(path: str) -> tuple[ApiVersion, str]:
    """Takes the optional ``/vN.NN`` off a path; no prefix means the newest version.

    Raises ``InvalidParameter`` with dockerd's words when Cove does not speak that version.
    """
    if not path.startswith("/v"):
        return NEWEST, path
    prefix, slash, rest = path[2:].partition("/")
    major, dot, minor = prefix.partition(".")
    if not (slash and dot and _is_number(major) and _is_number(minor)):
        return NEWEST, path
    version = (int(major), int(minor))
    if version < OLDEST:
        raise InvalidParameter(
            f"client version {prefix} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version"
        )
    if version > NEWEST:
        raise InvalidParameter(f"client version {prefix} is too new. Maximum supported API version is {text(NEWEST)}")
    return version, "/" + rest


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 4
