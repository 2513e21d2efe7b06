"""Known vulnerabilities of an image's packages, by a database of OSV's that lies on this computer (docs/images-contents.md)."""
