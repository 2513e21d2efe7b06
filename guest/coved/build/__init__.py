"""The build domain: Dockerfiles become images."""
