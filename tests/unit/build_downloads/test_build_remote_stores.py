"""What was fetched for builds, all stores together."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from build_git_servers import commit, git, http_server
from build_web import page, registries, serving
from coved.build.remote.git_url import parse
from coved.build.remote.sources import Stores


def test_together(tmp_path: Path) -> None:
    work = tmp_path / "r/x.git"
    work.mkdir(parents=True)
    git(work, "init", "-q")
    (work / "a").write_text("12345")
    commit(work)

    async def run(url: str, repository: str) -> None:
        stores = Stores(registries(), tmp_path / "build")
        assert await stores.entries() == []
        ref = parse(f"{repository}/x.git#main")
        assert ref is not None
        async with stores.repositories.tree(ref), stores.contexts.tree(f"{url}/f", named=True):
            assert [one.in_use for _, one in await stores.entries()] == [True] * 3
        await stores.close()
        # A later engine's, which has used nothing yet.
        stores = Stores(registries(), tmp_path / "build")
        entries = await stores.entries()
        assert sorted((kind, one.description, one.size, one.in_use) for kind, one in entries) == [
            ("regular", f"http context {url}/f", 3, False),
            ("regular", f"http url {url}/f", 3, False),
            ("source.git.checkout", f"git snapshot for {repository}/x.git#main", 45, False),
        ]
        await stores.remove([one.id for _, one in entries])
        await stores.close()
        assert await stores.entries() == []
        assert not [path for path in (tmp_path / "build").rglob("*") if path.is_file()]

    with serving() as web, http_server(tmp_path / "r") as (repository, _):
        web.pages["/f"] = page(b"123")
        asyncio.run(run(web.url, repository))


def test_nothing_is_imported_for_nothing(tmp_path: Path) -> None:
    """Most builds fetch nothing, but every one looks at how large the cache is."""
    for folder in ("downloads/files", "downloads/urls", "git"):
        (tmp_path / folder).mkdir(parents=True)
    code = f"""
import asyncio, sys
from pathlib import Path
from coved.build.remote.sources import Stores
stores = Stores(None, Path({str(tmp_path)!r}))
assert asyncio.run(stores.entries()) == []
asyncio.run(stores.remove(["a"]))
print(*(name for name in sys.modules if name.startswith("coved.build.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "coved.build.remote.sources" in done.stdout.split()
    assert not {"coved.build.remote.downloads", "coved.build.remote.git", "coved.build.remote.contexts"} & {
        *done.stdout.split()
    }
