"""A plugin of pytest's for Windows' Python under Wine 8: what that Wine lacks, Python is to do without, as on an older Windows."""

import sys

if sys.platform == "win32":
    import _winapi

    del _winapi.CopyFile2  # type: ignore[attr-defined]
