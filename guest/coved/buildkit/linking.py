"""Builds that begin with what another one has made (``contexts = {a = "target:a"}`` of buildx bake).

The client hands the graph of the one to the other. Ours has one node, which says what image was made; the client looks at no more of it
than that every node is one and that the last one names what the result is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from coved.buildkit.messages import Definition, Input, Op, OpMetadata, SourceOp
from coved.errors import InvalidParameter
from coved.grpc.codec import WireError

_IMAGE = "docker-image://"


def definition(image_id: str) -> Definition:
    """The graph of a build that has made an image; without one, of a build without files."""
    if not image_id:
        return Definition()
    source = Op(source=SourceOp(_IMAGE + image_id)).encode()
    digest = f"sha256:{hashlib.sha256(source).hexdigest()}"
    last = Op(inputs=[Input(digest)]).encode()
    return Definition([source, last], {digest: OpMetadata()})


def resolve(contexts: Mapping[str, str], inputs: Mapping[str, Definition]) -> dict[str, str]:
    """Named contexts, in which ``input:NAME`` is replaced by what was made. Raises InvalidParameter."""
    return {name: _resolve(name, value, inputs) for name, value in contexts.items()}


def _resolve(name: str, value: str, inputs: Mapping[str, Definition]) -> str:
    if not value.startswith("input:"):
        return value
    given = inputs.get(value.removeprefix("input:"))
    if given is None:
        raise InvalidParameter(f"invalid input {value.removeprefix('input:')} for {name}")
    for data in given.def_:
        try:
            op = Op.decode(data)
        except WireError as error:
            raise InvalidParameter(f"failed to parse llb proto op: {error}") from None
        if op.source is not None and op.source.identifier.startswith(f"{_IMAGE}sha256:"):
            return op.source.identifier
    raise InvalidParameter(f"the context {name} comes from a build that has made no image")
