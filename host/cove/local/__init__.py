"""Streams between processes of this computer: unix sockets, and on Windows what is in their place (docs/decisions/0055)."""
