"""What builds leave for the next ones: steps' results, folders of cache mounts, clients' files, and the books of all that."""
