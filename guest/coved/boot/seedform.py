"""The form of a disk with a seed on it, which the host writes and PID 1 reads (`coved.boot.seeddisk`): in its first sector what it is,
further on the seed, one line. Bytes that are zero are nothing.
"""

MARK = b"cove-seed 1\n"
BEGIN = 4096
"""Where the line begins."""
SIZE = 2 << 20
"""Of the whole disk."""


def of(seed: bytes) -> bytes:
    """The disk. Raises ``ValueError`` when there is no room for the seed."""
    line = seed + b"\n"
    if len(line) > SIZE - BEGIN:
        raise ValueError(f"a seed has {len(seed)} bytes")
    return (MARK.ljust(BEGIN, b"\0") + line).ljust(SIZE, b"\0")
