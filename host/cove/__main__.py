"""`python -m cove`: the same as the `cove` command."""

import os
import sys
from pathlib import Path

# pythonw.exe, which starts a machine at a login on Windows, has nowhere to write, and no streams.
if sys.stdout is None:
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
if sys.stderr is None:
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end

from cove.cli.main import main

main()
