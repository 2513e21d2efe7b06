"""What helps when something does not work: checks, a bundle for reports, and removal of all that Cove has made."""
