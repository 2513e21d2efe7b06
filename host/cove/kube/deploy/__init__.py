"""Manifests in a cluster: images pushed, objects applied, the rollout waited for, services on localhost, and all of it removed again."""
