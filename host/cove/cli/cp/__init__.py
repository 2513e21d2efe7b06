"""`cp`: the verb, the paths that it reads, the archives that it packs and unpacks."""
