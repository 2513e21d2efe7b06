"""The Debian packages and the RPMs: installed, used, updated and removed in containers that Cove runs; and what they say of themselves.

There is no distribution with RPM to be had here. RPMs are installed by Debian's rpm on Debian, where a package of the test's own
tells rpm that what Debian's packages have brought is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_support import shared_cache
from making import linux
from making.plan import Plan
from platforms_container import USER, Container, Containers, containers
from platforms_earlier import EARLIER, GIVEN_UP, NOW, files, plan

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500)]
BOUND_S = 280
SITE = "usr/lib/cove/site"
USE = """
cd /tmp
# A module of the folder that one happens to be in, or of PYTHONPATH, is not Cove's.
echo 'raise SystemExit("not ours")' | tee click.py cove.py >/dev/null
export PYTHONPATH=/tmp
cove --version
cove config --help >/dev/null
/usr/lib/cove/bin/python3 -Ic 'import os, cove, coved, paramiko, pysequoia
print("modules from", *(os.path.realpath(each.__path__[0]) for each in (cove, coved)))'
echo "compiled: $(find /usr/lib/cove/site/cove -name '*.pyc' | head -n 1 | wc -l)"
[ -s /usr/lib/cove/site/cove/image/recipe/lock-amd64.json ]
grep -q 'cove completion bash' /usr/share/bash-completion/completions/cove
grep -q Licence /usr/share/doc/cove/copyright
rm click.py cove.py
"""
USED = [
    f"Cove version {NOW}",
    "modules from /usr/lib/cove/site/cove /usr/lib/cove/site/coved",
    "compiled: 1",
]
PLACES = "/usr/lib/cove /usr/bin/cove /usr/share/bash-completion/completions/cove /usr/share/doc/cove"
MACHINE = ".local/share/cove/machines/kept/machine.toml"


@pytest.fixture(scope="module")
def ours() -> Iterator[Containers]:
    if os.geteuid() != 0:
        pytest.skip("Cove's engine runs containers on this computer as root")
    with containers() as made:
        yield made


@pytest.fixture(scope="module")
def earlier(installers: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """An earlier version's plan and files."""
    tree = installers / "work/linux-x86_64-tree"
    made = plan(tmp_path_factory.mktemp("earlier"), tree)
    return made, files(made, tree, SITE)


@pytest.mark.parametrize("image", ["debian:13-slim", "debian:12-slim"])
def test_the_debian_package(ours: Containers, installers: Path, earlier: tuple[Plan, Path], image: str) -> None:
    package, old = installers / f"cove_{NOW}_amd64.deb", linux.deb(*earlier, linux.AMD64)
    with ours.running(image, package, old) as system:
        system.install(f"/tmp/{old.name}")
        made_by_the_earlier(system)
        assert f"with Cove {EARLIER} until they are restarted" in system.install(f"/tmp/{package.name}")
        check_the_later(system)
        assert "--allow-downgrades" in system.install(f"/tmp/{old.name}", status=100)
        check_the_later(system)
        system.sh("apt-get purge -q -y cove")
        assert system.sh(f"ls -d {PLACES} /var/lib/dpkg/info/cove.* 2>/dev/null || echo gone") == "gone\n"
        assert system.sh(f"cat {MACHINE}", USER)


def test_the_debian_packages_tray_has_debians_qt(ours: Containers, installers: Path) -> None:
    package = installers / f"cove_{NOW}_amd64.deb"
    with ours.running("debian:13-slim", package) as system:
        system.install(f"/tmp/{package.name}")
        said = system.sh("cove tray", USER, status=1)
        assert "sudo apt install python3-pyside6.qtwidgets" in said
        system.install("python3-pyside6.qtwidgets")
        # A desktop without a tray, as far as Qt can tell: it was loaded.
        said = system.sh("DISPLAY=:9 QT_QPA_PLATFORM=offscreen cove tray --wait 0", USER, status=1)
        assert "this desktop has no tray" in said


def test_the_first_run_after_installation_leads_to_a_container(ours: Containers, installers: Path) -> None:
    """Without a question, as a user who has nothing yet."""
    package = installers / f"cove_{NOW}_amd64.deb"
    home = f"/home/{USER}"
    with ours.running("debian:13-slim", package) as system:
        system.install(f"/tmp/{package.name}")
        # What this computer has downloaded for the VM image is not downloaded again.
        if (downloaded := shared_cache() / "packages").is_dir():
            system.sh("mkdir -p .cache/cove", USER)
            system.docker("cp", str(downloaded), f"{system.name}:{home}/.cache/cove/packages")
            system.sh(f"chown -R {USER}: {home}/.cache")
        said = system.sh("timeout 540 cove hello", USER)
        assert "http://localhost:8080 answers from a container in the VM" in said
        assert "hello" in system.sh("cove ps --format '{{.Names}}'", USER)
        fetch = "import urllib.request as u; print(u.urlopen('http://localhost:8080').read().decode())"
        assert "Cove works" in system.sh(f'python3 -c "{fetch}"', USER)
        system.sh("cove uninstall --force", USER)
        system.sh("apt-get purge -q -y cove")
        assert system.sh(f"find {home} -path '*cove*' -not -path '*/.cache/*' | head", USER) == ""


def test_the_rpm(ours: Containers, installers: Path, earlier: tuple[Plan, Path], tmp_path: Path) -> None:
    package, old = installers / f"cove-{NOW}-1.x86_64.rpm", linux.rpm(*earlier, linux.AMD64)
    debians = of_debian(tmp_path)
    # Debian 13's rpm runs a package's scripts in namespaces of their own, which a container without privileges may not make.
    with ours.running("debian:12-slim", package, old, debians) as system:
        system.install("rpm", "python3", "qemu-system-x86")
        assert "qemu" in system.sh(f"rpm --install /tmp/{package.name}", status=1)  # needs are looked at
        system.sh(f"rpm --install /tmp/{debians.name}")
        system.sh(f"rpm --install /tmp/{old.name}")
        made_by_the_earlier(system)
        assert "until they are restarted" in system.sh(f"rpm --upgrade /tmp/{package.name}")
        check_the_later(system)
        assert "newer" in system.sh(f"rpm --upgrade /tmp/{old.name}", status=2)
        check_the_later(system)
        system.sh("rpm --erase cove")
        assert system.sh(f"ls -d {PLACES} 2>/dev/null || echo gone") == "gone\n"
        assert system.sh(f"cat {MACHINE}", USER)


def made_by_the_earlier(system: Container) -> None:
    """By its user, who has one machine."""
    assert system.sh("cove --version", USER) == f"Cove version {EARLIER}\n"
    system.sh(f"[ -f /{SITE}/{GIVEN_UP} ]")
    system.sh("cove machine init --cpus 1 kept", USER)


def check_the_later(system: Container) -> None:
    """It is there and works, nothing of the earlier is left, and what the user has is."""
    assert system.sh(USE, USER).splitlines() == USED
    assert system.sh(f"ls -d /{SITE}/cove-*.dist-info /{SITE}/{GIVEN_UP} 2>/dev/null || true").split() == [
        f"/{SITE}/cove-{NOW}.dist-info"
    ]
    assert system.sh(f"find /{SITE} -name '*.pyc' -path '*given_up*'") == ""
    assert "cpus = 1" in system.sh(f"cat {MACHINE}", USER)
    assert "kept" in system.sh("cove machine ls", USER)


def of_debian(folder: Path) -> Path:
    """A package without files which says that what the RPM needs is there, as on this Debian it is."""
    spec = folder / "debians.spec"
    spec.write_text(
        "Name: debians\nVersion: 1\nRelease: 1\nSummary: what Debian's packages have brought\nLicense: none\nBuildArch: noarch\n"
        "Provides: python3 = 3.11\nProvides: qemu-x86\nProvides: /bin/sh\n%description\n%files\n"
    )
    run(["rpmbuild", "-bb", "--define", f"_topdir {folder}/rpm", "--define", f"_rpmdir {folder}/made", str(spec)])
    (made,) = folder.glob("made/*/*.rpm")
    return made


@pytest.mark.parametrize(
    ("architecture", "qemu"), [("amd64", "qemu-system-x86"), ("arm64", "qemu-system-arm")], ids=["amd64", "arm64"]
)
def test_the_debian_packages_say_what_they_need(installers: Path, architecture: str, qemu: str) -> None:
    package = str(installers / f"cove_{NOW}_{architecture}.deb")
    assert run(["dpkg-deb", "--field", package, "Architecture"]) == f"{architecture}\n"
    said = run(["dpkg-deb", "--field", package, "Depends"])
    assert "python3 (>= 3.11), python3 (<< 3.15)" in said
    assert said.rstrip().endswith(qemu)


@pytest.mark.parametrize(
    ("machine", "qemu"),
    [("x86_64", "(qemu-system-x86-core or qemu-x86)"), ("aarch64", "(qemu-system-aarch64-core or qemu-arm)")],
    ids=["x86_64", "aarch64"],
)
def test_the_rpms_say_what_they_need(installers: Path, machine: str, qemu: str) -> None:
    package = str(installers / f"cove-{NOW}-1.{machine}.rpm")
    assert run(["rpm", "--query", "--queryformat", "%{ARCH}", "--package", package]) == machine
    said = run(["rpm", "--query", "--requires", "--package", package])
    assert "python3 >= 3.11" in said
    assert qemu in said


def test_the_packages_for_arm64_have_its_modules_where_the_others_have_theirs(installers: Path, tmp_path: Path) -> None:
    """Compiled modules apart, it is the same package; those are all for its processor (ELF's e_machine)."""
    contents = {}
    for architecture, machine in (("amd64", 62), ("arm64", 183)):
        folder = tmp_path / architecture
        run(["dpkg-deb", "--extract", str(installers / f"cove_{NOW}_{architecture}.deb"), str(folder)])
        compiled = [path for path in folder.rglob("*.so*") if not path.is_symlink()]
        assert compiled
        assert {int.from_bytes(path.read_bytes()[18:20], "little") for path in compiled} == {machine}
        contents[architecture] = {
            path.relative_to(folder).as_posix().replace("aarch64", "x86_64")
            for path in folder.rglob("*")
            if ".libs" not in path.as_posix()
        }
    assert contents["arm64"] == contents["amd64"]


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
