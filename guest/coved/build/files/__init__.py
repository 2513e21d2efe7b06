"""Files that come into a build: contexts, copies of them, and the digests that say whether they are the same."""
