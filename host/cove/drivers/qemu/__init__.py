"""The QEMU driver: Linux, macOS and Windows hosts."""
