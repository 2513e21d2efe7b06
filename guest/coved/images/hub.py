"""Docker Hub, which images come from whose names say nothing else, by all its addresses."""

INDEX_HOST = "index.docker.io"
"""In the names of images the same as ``reference.DEFAULT_DOMAIN``."""
INDEX_SERVER = f"https://{INDEX_HOST}/v1/"
"""What accounts go by."""
REGISTRY_HOST = "registry-1.docker.io"
"""Who gives images away."""
