"""The versions of the Docker Engine API that Cove speaks, and the one that a path asks for."""

from coved.errors import InvalidParameter

ApiVersion = tuple[int, int]

NEWEST: ApiVersion = (1, 51)
OLDEST: ApiVersion = (1, 24)


def text(version: ApiVersion) -> str:
    return f"{version[0]}.{version[1]}"


def split_path(path: str) -> tuple[ApiVersion, str]:
    """Takes the optional ``/vN.NN`` off a path; no prefix means the newest version.

    Raises ``InvalidParameter`` with dockerd's words when Cove does not speak that version. Any digits and dots after
    the v are a version to dockerd, which compares them part by part; a missing part counts as 0.
    """
    if not path.startswith("/v"):
        return NEWEST, path
    prefix, slash, rest = path[2:].partition("/")
    if not (slash and prefix and all(character in "0123456789." for character in prefix)):
        return NEWEST, path
    # More digits than any version has are cut: numbers that long are far beyond all of them anyway.
    parts = tuple(int(part[:9] or 0) for part in prefix[:64].split("."))
    if parts < OLDEST:
        raise InvalidParameter(
            f"client version {prefix} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version"
        )
    if parts[:2] > NEWEST or any(parts[2:]):
        raise InvalidParameter(f"client version {prefix} is too new. Maximum supported API version is {text(NEWEST)}")
    return (parts[0], parts[1]), "/" + rest
