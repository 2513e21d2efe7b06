"""How the commands of a build are run."""
