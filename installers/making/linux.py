"""The Debian packages and the RPMs: one tree for each architecture, /usr/lib/cove, run by the system's own Python (docs/decisions/0057).

The tree is a virtual environment that finds its modules under every supported Python: all `lib/python3.X/site-packages` are one folder.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from making.plan import INSTALLERS, SUMMARY, Plan, fill, total_size
from making.publisher import PUBLISHER
from making.targets import LINUX, LINUX_ARM64, PYTHONS, Target

HERE = INSTALLERS / "linux"
_QT = ("PySide6", "shiboken6")
"""What the tray needs is not brought, but taken of Debian's packages where they are: the links lead nowhere without them (cove.tray.qt)."""
_PYVENV = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """What the distributions call an architecture, and the QEMU for it."""

    target: Target
    deb: str
    rpm: str
    deb_qemu: str
    rpm_qemu: str


AMD64 = Kind(LINUX, "amd64", "x86_64", "qemu-system-x86", "(qemu-system-x86-core or qemu-x86)")
ARM64 = Kind(LINUX_ARM64, "arm64", "aarch64", "qemu-system-arm", "(qemu-system-aarch64-core or qemu-arm)")
KINDS = (AMD64, ARM64)


def tree(plan: Plan, own: Path, kind: Kind) -> Path:
    """The files of both packages, as they lie on the system."""
    root = plan.fresh(f"{kind.target.name}-tree")
    cove = root / "usr/lib/cove"
    plan.lay_site(kind.target, own, cove / "site")
    (cove / "bin").mkdir()
    (cove / "bin/python3").symlink_to("/usr/bin/python3")
    (cove / "pyvenv.cfg").write_text(_PYVENV)
    for python in PYTHONS:
        (cove / f"lib/python{python}").mkdir(parents=True)
        (cove / f"lib/python{python}/site-packages").symlink_to("../../site")
    launcher = root / "usr/bin/cove"
    launcher.parent.mkdir()
    shutil.copy(HERE / "cove.py", launcher)
    launcher.chmod(0o755)
    shutil.copy(HERE / "compile.sh", cove / "compile")
    (cove / "compile").chmod(0o755)
    completions = root / "usr/share/bash-completion/completions/cove"
    completions.parent.mkdir(parents=True)
    completions.write_text("source <(cove completion bash)\n")
    fill(HERE / "copyright", root / "usr/share/doc/cove/copyright", PUBLISHER=PUBLISHER.name, LICENCE=PUBLISHER.licence)
    plan.settle(root)
    return root


def deb(plan: Plan, files: Path, kind: Kind) -> Path:
    root = plan.fresh(f"deb-{kind.deb}")
    shutil.copytree(files, root, symlinks=True, dirs_exist_ok=True)
    fill(
        HERE / "deb/control", root / "DEBIAN/control", VERSION=plan.version, SUMMARY=SUMMARY,
        PUBLISHER=f"{PUBLISHER.name} <{PUBLISHER.email}>", HOMEPAGE=PUBLISHER.homepage,
        ARCHITECTURE=kind.deb, QEMU=kind.deb_qemu, SIZE=str(total_size(root.rglob("*")) // 1024),
    )  # fmt: skip
    for script in ("postinst", "prerm", "triggers"):
        shutil.copy(HERE / "deb" / script, root / "DEBIAN" / script)
        (root / "DEBIAN" / script).chmod(0o644 if script == "triggers" else 0o755)
    for name in _QT:
        (root / "usr/lib/cove/site" / name).symlink_to(f"/usr/lib/python3/dist-packages/{name}")
    plan.settle(root)
    made = plan.out / f"cove_{plan.version}_{kind.deb}.deb"
    # One thread: how many there are changes what xz writes. Level 1: a tenth larger than 6, in a fifth of the time.
    plan.run(["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--threads-max=1", "--build", root, made])
    return made


def rpm(plan: Plan, files: Path, kind: Kind) -> Path:
    folder = plan.fresh(f"rpm-{kind.rpm}")
    fill(
        HERE / "cove.spec", folder / "cove.spec", VERSION=plan.version, SUMMARY=SUMMARY, PUBLISHER=PUBLISHER.name, TREE=str(files),
        LICENCE=PUBLISHER.licence, HOMEPAGE=PUBLISHER.homepage,
        QEMU=kind.rpm_qemu,
    )  # fmt: skip
    plan.run(
        [
            "rpmbuild", "-bb", "--target", f"{kind.rpm}-linux", "--define", f"_topdir {folder}",
            "--define", f"_rpmdir {folder}/made", "--define", "_buildhost localhost",
            "--define", "use_source_date_epoch_as_buildtime 1", "--define", "clamp_mtime_to_source_date_epoch 1",
            "--define", "_binary_payload w1.xzdio", folder / "cove.spec",
        ]
    )  # fmt: skip
    (made,) = folder.glob("made/*/*.rpm")
    return Path(shutil.copy(made, plan.out / made.name))
