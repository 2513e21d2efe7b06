"""Makes base images of Debian from its signed archive: what debootstrap does, on any host and without root (decisions/0028)."""
