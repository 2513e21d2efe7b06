"""What is made, where, and from which source."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from making import dependencies, site
from making.publisher import PUBLISHER
from making.targets import WINDOWS_PYTHON, Target

ROOT = Path(__file__).parents[2]
INSTALLERS = ROOT / "installers"
SUMMARY = "A container desktop: docker commands on a laptop, run in a small VM"
STEP_S = 600
"""Seconds that any program may take."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`work` is for what is between; `out` has what is handed out. `epoch` is the time of the commit: all files are of that time."""

    version: str
    commit: str
    dirty: bool
    epoch: int
    work: Path
    out: Path

    @classmethod
    def of_checkout(cls, out: Path) -> Plan:
        commit, epoch = _git("log", "-1", "--format=%H %ct").split()
        return cls(
            dependencies.own_version(), commit, bool(_git("status", "--porcelain")),
            int(os.environ.get("SOURCE_DATE_EPOCH", epoch)), out / "work", out,
        )  # fmt: skip

    def fresh(self, name: str) -> Path:
        """An empty folder to work in."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def wheels(self, use: Target | str) -> list[Path]:
        """The locked wheels of all Pythons of a target, or those of a role."""
        found: dict[str, Path] = {}
        name, pythons = (use, (WINDOWS_PYTHON,)) if isinstance(use, str) else (use.name, use.pythons)
        for python in pythons:
            folder = self.work / "wheels" / name / python
            found |= {wheel.name: wheel for wheel in dependencies.fetch(use, python, folder)}
        return [found[name] for name in sorted(found)]

    def lay_site(self, target: Target, own: Path, into: Path) -> None:
        site.lay([own, *self.wheels(target)], into)

    def run(self, words: Sequence[str | Path], cwd: Path = ROOT, **environment: str) -> str:
        """Run a program as if now were the time of the commit; return what it prints. Raises `RuntimeError` with what it said."""
        env = {**os.environ, "SOURCE_DATE_EPOCH": str(self.epoch), "TZ": "UTC", "LC_ALL": "C.UTF-8", **environment}
        done = subprocess.run(
            [str(word) for word in words], cwd=cwd, env=env, timeout=STEP_S, stdin=subprocess.DEVNULL,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(
                f"{words[0]} ended with status {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done.stdout

    def url(self, file: Path) -> str:
        """Where what is made will be downloaded from."""
        return f"{PUBLISHER.releases.rstrip('/')}/{self.version}/{file.name}"

    def settle(self, folder: Path) -> None:
        """Give all in it the time of the commit, and modes that do not depend on the umask."""
        for path in sorted([folder, *folder.rglob("*")]):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)


def fill(template: Path, into: Path, **values: str) -> None:
    """Write `template` with each @NAME@ replaced. Raises `RuntimeError` when a value is lacking or not used."""
    text = template.read_text()
    for name, value in values.items():
        if f"@{name}@" not in text:
            raise RuntimeError(f"{template.name} has no @{name}@")
        text = text.replace(f"@{name}@", value)
    left = [word for word in text.split() if word.startswith("@") and word.endswith("@") and word[1:-1].isupper()]
    if left:
        raise RuntimeError(f"{template.name}: no value for {', '.join(left)}")
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text(text)


def total_size(paths: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for path in paths if path.is_file() and not path.is_symlink())


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout.strip()
