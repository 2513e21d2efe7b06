"""The Debian package and the RPM on this system, over a copy of it that is thrown away: installed, used, removed without a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="packages are installed by root"),
]

BOUND_S = 280
OVER = """
set -eu
mount --make-rprivate /
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" none "$1/root"
mount --bind /dev "$1/root/dev"
mount -t proc none "$1/root/proc"
mount -t tmpfs none "$1/root/tmp"
cp "$2" "$1/root/tmp/package"
cp "$3" "$1/root/tmp/steps"
chroot "$1/root" sh -eu /tmp/steps
"""
USE = """
export HOME=/tmp COVE_HOME=/tmp/home
cd /tmp
# A module of the folder that one happens to be in, or of PYTHONPATH, is not Cove's.
echo 'raise SystemExit("not ours")' | tee click.py cove.py >/dev/null
export PYTHONPATH=/tmp
as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups env PATH=/usr/bin:/bin "$@"; }
as_user cove --version
as_user cove config --help >/dev/null
/usr/lib/cove/bin/python3 -Ic 'import os, cove, coved, paramiko, pysequoia
print("modules from", *(os.path.realpath(each.__path__[0]) for each in (cove, coved)))'
echo "compiled: $(find /usr/lib/cove/site/cove -name '*.pyc' | head -n 1 | wc -l)"
[ -s /usr/lib/cove/site/cove/image/recipe/lock-amd64.json ]
grep -q 'cove completion bash' /usr/share/bash-completion/completions/cove
"""
DEB = f"""
dpkg --install /tmp/package >/dev/null
{USE}
dpkg --purge cove >/dev/null
ls -d /usr/lib/cove /usr/bin/cove /usr/share/bash-completion/completions/cove /var/lib/dpkg/info/cove.* 2>/dev/null || echo gone
"""
RPM = f"""
mv /tmp/package /tmp/package.rpm
rpm --dbpath /var/lib/rpm --initdb
# Debian's own packages are not in rpm's database, nor are Cove's needs.
rpm --dbpath /var/lib/rpm --install --nodeps /tmp/package.rpm
{USE}
rpm --dbpath /var/lib/rpm --erase cove
ls -d /usr/lib/cove /usr/bin/cove /usr/share/bash-completion/completions/cove 2>/dev/null || echo gone
"""


@pytest.mark.parametrize(("pattern", "steps"), [("*.deb", DEB), ("*.rpm", RPM)], ids=["deb", "rpm"])
def test_a_package_is_installed_used_and_removed(installers: Path, tmp_path: Path, pattern: str, steps: str) -> None:
    (package,) = installers.glob(pattern)
    script = tmp_path / "steps"
    script.write_text(steps)
    (tmp_path / "over").mkdir()
    said = run(["unshare", "--mount", "sh", "-c", OVER, "sh", str(tmp_path / "over"), str(package), str(script)])
    assert said.splitlines() == [
        "Cove version 0.1.0",
        "modules from /usr/lib/cove/site/cove /usr/lib/cove/site/coved",
        "compiled: 1",
        "gone",
    ]


def test_the_debian_package_says_what_it_needs(installers: Path) -> None:
    (package,) = installers.glob("*.deb")
    said = run(["dpkg-deb", "--field", str(package), "Depends"])
    assert "python3 (>= 3.11), python3 (<< 3.15)" in said
    assert "qemu-system-x86" in said


def test_the_rpm_says_what_it_needs(installers: Path) -> None:
    (package,) = installers.glob("*.rpm")
    said = run(["rpm", "--query", "--requires", "--package", str(package)])
    assert "python3 >= 3.11" in said
    assert "(qemu-system-x86-core or qemu-x86)" in said


def test_the_wheel_is_all_that_pip_needs(installers: Path, tmp_path: Path) -> None:
    """With the locked wheels as the only source: the engine and the recipe of the VM image are in it."""
    (wheel,) = installers.glob("*.whl")
    python = shutil.which("python3", path="/usr/bin") or "python3"
    run([python, "-m", "venv", str(tmp_path / "venv")])
    version = run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    wheels = installers / "work/wheels/linux-x86_64" / version
    run([tmp_path / "venv/bin/pip", "install", "--quiet", "--no-index", "--find-links", str(wheels), str(wheel)])
    assert run([tmp_path / "venv/bin/cove", "--version"]) == "Cove version 0.1.0\n"
    said = run(
        [
            tmp_path / "venv/bin/python",
            "-Ic",
            "from cove.image import inputs; from cove.machine.architecture import AMD64; print(inputs.recipe_dir(), inputs.key(AMD64))",
        ]
    )
    assert str(tmp_path / "venv") in said


def run(words: list[str | Path]) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=BOUND_S, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
