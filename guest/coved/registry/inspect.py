"""What a name stands for at its registry, without pulling it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from coved.images import documents
from coved.images.documents import Index
from coved.images.reference import Reference
from coved.registry.calls import in_call
from coved.registry.credentials import Credentials
from coved.registry.errors import RegistryError
from coved.registry.repository import Repository

if TYPE_CHECKING:
    from coved.registry.manager import Registries

_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")


async def inspect(registries: Registries, name: Reference, credentials: Credentials) -> dict[str, Any]:
    """Of the first endpoint that knows it, mirrors first. Raises RegistryError with the registry's own status."""
    last: RegistryError | None = None
    repositories: list[Repository] = []
    for endpoint in await in_call(lambda: registries.settings.endpoints(name.domain)):
        try:
            repositories.append(await registries.repository(endpoint, name, credentials, "pull"))
        except RegistryError as error:
            last = error
    try:
        for repository in repositories:
            try:
                return await in_call(lambda repository=repository: _inspect(repository, name))  # type: ignore[misc]
            except RegistryError as error:
                last = error
    finally:
        for repository in repositories:
            repository.close()
    raise last or RegistryError(f"no endpoints found for {name.familiar}")


def _inspect(repository: Repository, name: Reference) -> dict[str, Any]:
    digest = name.digest or repository.head(name.tag).digest
    described = repository.manifest(digest)
    document = documents.manifest_or_index(described.data or b"")
    if isinstance(document, Index):
        raw = json.loads(described.data or b"")["manifests"]
        found = [one["platform"] for one in raw if isinstance(one.get("platform"), dict)]
    else:
        # Of a configuration that cannot be had, dockerd says nothing, and answers all the same.
        try:
            found = [json.loads(repository.document(document.config.digest, documents.DOCUMENT_LIMIT))]
        except (RegistryError, ValueError, RecursionError):
            found = []
    platforms = [{key: one[key] for key in _PLATFORM if one.get(key)} for one in found if isinstance(one, dict)]
    return {
        "Descriptor": {"mediaType": document.media_type, "digest": digest, "size": described.size},
        "Platforms": [one for one in platforms if one],
    }
