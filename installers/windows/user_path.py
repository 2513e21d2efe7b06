"""`user_path.py add|remove FOLDER`: the user's PATH, with that folder or without it.

In Python since NSIS cuts strings at 1,024 characters, and a PATH that is cut is lost.
"""

from __future__ import annotations

import ctypes
import sys
import winreg

_KEY = "Environment"
_HWND_BROADCAST, _WM_SETTINGCHANGE, _SMTO_ABORTIFHUNG = 0xFFFF, 0x1A, 2


def main() -> None:
    action, folder = sys.argv[1:]
    with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, _KEY, 0, winreg.KEY_READ | winreg.KEY_WRITE) as key:
        try:
            old, kind = winreg.QueryValueEx(key, "Path")
        except FileNotFoundError:
            old, kind = "", winreg.REG_EXPAND_SZ
        entries = [each for each in old.split(";") if each and each.rstrip("\\").lower() != folder.rstrip("\\").lower()]
        new = ";".join([*entries, folder] if action == "add" else entries)
        if new:
            winreg.SetValueEx(key, "Path", 0, kind, new)
        elif old:
            winreg.DeleteValue(key, "Path")
    # For terminals that are opened from now on.
    ctypes.windll.user32.SendMessageTimeoutW(
        _HWND_BROADCAST, _WM_SETTINGCHANGE, 0, _KEY, _SMTO_ABORTIFHUNG, 2000, ctypes.byref(ctypes.c_size_t())
    )


main()
