"""Folders of this computer in machines: which they are, what carries them, and what runs for that."""
