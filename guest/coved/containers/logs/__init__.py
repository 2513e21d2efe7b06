"""A container's log: HostConfig.LogConfig and what it adds, and reading what the runtime has written."""
