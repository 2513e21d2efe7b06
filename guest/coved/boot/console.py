"""One line on the console for whoever looks at the machine's console log."""

import os


def say(text: str) -> None:
    """Print ``text``; a console that is not there is no reason to fail."""
    try:
        os.write(2, f"cove: {text}\n".encode())
    except OSError:
        return


class BootError(Exception):
    """The VM cannot be what it should be; the text says why, and the machine powers off."""
