"""The engine on somebody's Linux host that is reached by SSH: in namespaces of its own for mounts, processes and cgroups, on the host's
network. Its root file system is the VM's, unpacked in a folder of the host (docs/decisions/0074)."""
