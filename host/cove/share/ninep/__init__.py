"""A file server: 9P2000.L, the protocol of Linux's 9p file system, for one folder of the host.

A process of its own (``python -m cove.share.ninep``), so that no call of the file system waits in the agent. Everything that
comes from the guest is hostile; nothing outside of the folder is reachable (decisions/0045).
"""
