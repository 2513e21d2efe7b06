"""The client's end of a build: what BuildKit asks of a client, and its progress as docker's users know it."""
