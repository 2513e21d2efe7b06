"""The Docker Engine API over the engine's domains: one module for each resource, thin."""
