"""Host folders in the guest."""
