"""BuildKit's protocol (moby.buildkit.v1), as docker's build clients speak it."""
