"""The container runtime: takes a typed OCI spec and gives back a process. Imports nothing else of Cove.

``client`` is for the engine (asyncio); everything else runs in the spawner and in the shims that it forks.
"""
