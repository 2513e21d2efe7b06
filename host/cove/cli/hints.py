"""What a user can do about a registry that does not answer, told below the engine's own words, which stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cove.cli.client import EngineClient
from cove.cli.errors import CliError
from cove.cli.reference import Reference

PLAIN = "http: server gave HTTP response to HTTPS client"
UNREACHABLE = ("no such host", "dial tcp", "server misbehaving")
HUB = ("docker.io", "registry-1.docker.io", "auth.docker.io")


def hint(message: str, domain: str, machine: str | None = None) -> str:
    """Lines for what the engine of `machine` said of the registry at `domain` (host, with its port); empty when there is
    no advice.
    """
    cove = f"cove -m {machine} machine" if machine else "cove machine"
    if PLAIN in message:
        return (
            f"{domain} speaks plain HTTP; to allow that for it, beside those of {cove} config get insecure_registries:\n"
            f"{cove} config set insecure_registries {domain}, then: {cove} restart"
        )
    if domain in HUB and any(words in message for words in UNREACHABLE):
        return (
            f"Docker Hub cannot be reached; where there is a mirror of it: {cove} config set registry_mirrors https://HOST,\n"
            f"then: {cove} restart; without any registry, cove image bootstrap debian:13 makes an image"
        )
    return ""


def hint_of_build(message: str, engine: EngineClient) -> str:
    """The same for a build, of whose failure only the message says which registry it was about."""
    domain = next((domain for domain in HUB if domain in message), "")
    return hint(message, domain, _machine(engine))


@contextmanager
def hinted(reference: Reference, engine: EngineClient) -> Iterator[None]:
    """Add the advice to a `CliError` of the block, in which `engine` asks the registry of `reference`."""
    try:
        yield
    except CliError as error:
        if advice := hint(error.message, reference.domain, _machine(engine)):
            error.message += "".join(f"\n      {line}" for line in advice.splitlines())
        raise


def _machine(engine: EngineClient) -> str | None:
    from cove.machine.paths import DEFAULT_MACHINE

    return None if engine.machine == DEFAULT_MACHINE else engine.machine
