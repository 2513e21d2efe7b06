"""What a build fetches: files of the web and git repositories."""
