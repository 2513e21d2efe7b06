"""This computer's file system: one set of operations on open files, and on names in open directories, for each kind of system.

Nothing else of the server knows which system's files it serves. A descriptor is a number that `close` closes: of a file, or of a directory
in which names are looked up. A name is one entry's, in bytes, and no operation follows a link, whatever is changed meanwhile. All of
them raise `OSError` with this system's numbers.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from cove.share.ninep import windows as host
else:
    from cove.share.ninep import posix as host

__all__ = ["host"]
