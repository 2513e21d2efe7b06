"""What changes in folders of the user's computer is done again in this kernel, so that containers see it happen."""
