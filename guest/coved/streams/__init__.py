"""Many byte streams over one: the wire that host and guest share, and the guest's end of it (docs/decisions/0052)."""
