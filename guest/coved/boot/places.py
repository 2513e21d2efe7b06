"""Where things lie in the VM."""

DATA = "/var/lib/cove"
"""The data disk: what outlives the machine's boots."""
RUN = "/run/cove"
"""In memory: what ends with the boot."""
