"""`search`: what a registry has."""

from __future__ import annotations

import sys
from typing import Any

from cove.cli import format as fmt
from cove.cli.client import filters
from cove.cli.command import Command, Context
from cove.cli.docker_config import Credentials
from cove.cli.flags import Values, filters_flag, integer, switch, text

HEADERS = {"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}
DESCRIPTION_WIDTH = 45
NO_LONGER = (
    'WARNING: the "is-automated" filter is deprecated, and searching for "is-automated=true" will not yield any results'
    " in future."
)


def search(context: Context, values: Values) -> int:
    """`cove search`"""
    from cove.cli.login import retried

    term, limit = values.args[0], values["limit"]
    if any(item.partition("=")[0].strip().lower() == "is-automated" for item in values["filter"]):
        print(NO_LONGER, file=sys.stderr)
    query = {"term": term, "limit": limit if limit > 0 else None, "filters": filters(values["filter"])}

    def send(known: Credentials) -> Any:
        return context.engine.json("GET", "/images/search", query, headers=[("X-Registry-Auth", known.header())])

    results = retried(_registry(term), "search", send) or ()
    form = values["format"]
    yes, no = ("true", "false") if form == "json" else ("[OK]", "")
    rows = []
    for item in results:
        description = str(item.get("description") or "").replace("\n", " ").replace("\r", " ")
        rows.append(
            {
                "Name": str(item.get("name") or ""),
                "Description": description if values["no-trunc"] else fmt.truncate(description, DESCRIPTION_WIDTH),
                "StarCount": str(item.get("star_count") or 0),
                "IsOfficial": yes if item.get("is_official") else no,
            }
        )
    sys.stdout.write(fmt.render(rows, form, HEADERS, tuple(HEADERS), "registry.searchContext"))
    return 0


def _registry(term: str) -> str:
    """The registry that a term names; Docker Hub unless its first word cannot be anything else."""
    first, slash, _ = term.partition("/")
    return first if slash and (set(first) & {".", ":"} or first == "localhost") else "docker.io"


COMMANDS = {
    "search": Command(
        search,
        "Search Docker Hub for images",
        "TERM",
        (
            filters_flag(),
            text("format", "", "Pretty-print search using a Go template"),
            integer("limit", "", "Max number of search results"),
            switch("no-trunc", "", "Don't truncate output"),
        ),
        least=1,
        most=1,
    )
}
