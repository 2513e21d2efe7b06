"""Manifests from containers and compose files. Two readers make an `Application`, one writer makes Kubernetes' objects of it."""
