"""The MSI: the files of the other Windows installer for those who roll programs out by policy. wixl makes it, and knows no environment
variables, and no programs that are there already: those rows are added afterwards. Nor does it heed where actions are to come in the
sequence: it puts them last."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from xml.etree import ElementTree as xml

from making.plan import Plan
from making.publisher import PUBLISHER

_NAMESPACE = "http://schemas.microsoft.com/wix/2006/wi"
UPGRADE_CODE = "6C0F0D5E-2C5B-5B0C-9D3B-7F6B9E7A1C11"
"""Says of two versions that they are one product: never to be changed."""
_ENVIRONMENT = (
    "CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, "
    "`Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)",
    # "=-": set when it is installed and taken out when it is removed, of the user's; "[~]": behind what is there.
    "INSERT INTO `Environment` (`Environment`, `Name`, `Value`, `Component_`) VALUES ('path', '=-PATH', '[~];[{bin}]', '{component}')",
    "INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('RemoveEnvironmentStrings', '', 3300)",
    "INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('WriteEnvironmentStrings', '', 5200)",
)
_STOPPING = (
    # 34, a program by its path, with 64, whatever becomes of it. An update runs that of the earlier version, which has the same folder.
    "INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('StopMachines', 98, 'INSTALLDIR', "
    '\'"[INSTALLDIR]python\\python.exe" "[INSTALLDIR]setup\\stop_machines.py"\')',
    # Before InstallValidate, which looks for files that are in use.
    "INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('StopMachines', "
    "'WIX_UPGRADE_DETECTED OR REMOVE=\"ALL\"', 1390)",
)
_SEQUENCE = {
    # Before anything is installed: of a folder that both versions have, what the later one has no more would stay.
    "RemoveExistingProducts": 1450,
    # Within the transaction, as a deferred action must be (between InstallInitialize and InstallFinalize), and while there are files.
    "RemoveOwn": 1520,
}


def make(plan: Plan, files: Path) -> Path:
    work = plan.fresh("msi")
    source = work / "cove.wxs"
    source.write_bytes(xml.tostring(_document(plan, files), encoding="utf-8", xml_declaration=True))
    made = plan.out / f"cove-{plan.version}-windows-amd64.msi"
    plan.run(["wixl", "--arch", "x64", "--output", made, source], cwd=files)
    statements = [statement.format(bin=_id("D", "bin"), component=_id("C", "bin")) for statement in _ENVIRONMENT]
    statements += _STOPPING
    statements += [
        f"UPDATE `InstallExecuteSequence` SET `Sequence` = {at} WHERE `Action` = '{action}'"
        for action, at in _SEQUENCE.items()
    ]
    for statement in statements:
        plan.run(["msibuild", made, "-q", statement])  # one at a time: of several it carries out the first
    return made


def product_code(plan: Plan) -> str:
    """Says of two packages that they are one version, for winget."""
    return str(uuid.uuid5(uuid.UUID(UPGRADE_CODE), plan.version)).upper()


def _document(plan: Plan, files: Path) -> xml.Element:
    xml.register_namespace("", _NAMESPACE)
    root = _element(None, "Wix")
    product = _element(
        root, "Product", Id=product_code(plan), Name="Cove", Language="1033", Version=plan.version,
        Manufacturer=PUBLISHER.name, UpgradeCode=UPGRADE_CODE,
    )  # fmt: skip
    _element(product, "Package", InstallerVersion="500", Compressed="yes", InstallScope="perUser")
    _element(product, "MajorUpgrade", DowngradeErrorMessage="A newer version of Cove is installed.")
    _element(product, "Media", Id="1", Cabinet="cove.cab", EmbedCab="yes")
    target = _element(product, "Directory", Id="TARGETDIR", Name="SourceDir")
    local = _element(target, "Directory", Id="LocalAppDataFolder")
    programs = _element(local, "Directory", Id="Programs", Name="Programs")
    components: list[str] = []
    _shared(programs, components)
    _folder(_element(programs, "Directory", Id="INSTALLDIR", Name="Cove"), files, files, components)
    _start_menu(_element(target, "Directory", Id="ProgramMenuFolder"), components)
    _element(
        product, "CustomAction", Id="RemoveOwn", FileKey=_id("F", "bin/cove.exe"), ExeCommand="uninstall --force --keep-data",
        Return="ignore", Execute="deferred", Impersonate="yes",
    )  # fmt: skip
    action = _element(
        _element(product, "InstallExecuteSequence"), "Custom", Action="RemoveOwn", After="InstallInitialize"
    )
    action.text = 'REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE'
    feature = _element(product, "Feature", Id="Everything", Level="1")
    for component in components:
        _element(feature, "ComponentRef", Id=component)
    return root


def _folder(directory: xml.Element, folder: Path, files: Path, components: list[str]) -> None:
    """A component for each folder, which takes the folder along when it goes."""
    name = folder.relative_to(files).as_posix()
    entries = sorted(folder.iterdir())
    component = _element(directory, "Component", Id=_id("C", name), Guid=_guid(name), Win64="yes")
    _element(component, "RemoveFolder", Id=_id("R", name), On="uninstall")
    here = [path for path in entries if path.is_file()]
    for path in here:
        relative = path.relative_to(files).as_posix()
        attributes = {"KeyPath": "yes"} if path == here[0] else {}
        _element(component, "File", Id=_id("F", relative), Name=path.name, Source=relative, **attributes)
    if not here:
        _key(component, name, "Folder")
    components.append(_id("C", name))
    for path in entries:
        if path.is_dir():
            relative = path.relative_to(files).as_posix()
            _folder(_element(directory, "Directory", Id=_id("D", relative), Name=path.name), path, files, components)


def _shared(programs: xml.Element, components: list[str]) -> None:
    """The folder of all the user's programs, which Windows makes for the first: it goes with the last."""
    component = _element(programs, "Component", Id="Programs", Guid=_guid("programs"), Win64="yes")
    _element(component, "RemoveFolder", Id="Programs", On="uninstall")
    _key(component, "programs", "Programs")
    components.append("Programs")


def _start_menu(directory: xml.Element, components: list[str]) -> None:
    component = _element(directory, "Component", Id="StartMenu", Guid=_guid("start menu"), Win64="yes")
    _element(
        component, "Shortcut", Id="Cove", Name="Cove", Target="[SystemFolder]cmd.exe",
        Arguments=f'/k ""[{_id("D", "bin")}]cove.exe" hello"', WorkingDirectory=_id("D", "bin"),
    )  # fmt: skip
    _key(component, "start menu", "StartMenu")
    components.append("StartMenu")


def _key(component: xml.Element, what: str, name: str) -> None:
    """What says that a component without files is there."""
    _element(
        component, "RegistryValue", Root="HKCU", Key="Software\\Cove\\Installed", Name=f"{name} {what}", Type="string",
        Value="1", KeyPath="yes",
    )  # fmt: skip


def _element(parent: xml.Element | None, name: str, **attributes: str) -> xml.Element:
    tag = f"{{{_NAMESPACE}}}{name}"
    return xml.Element(tag, attributes) if parent is None else xml.SubElement(parent, tag, attributes)


def _id(kind: str, name: str) -> str:
    return f"{kind}{hashlib.sha256(name.encode()).hexdigest()[:24]}"


def _guid(name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(UPGRADE_CODE), name)).upper()
