"""Makes everything that Cove is installed from, on one Linux computer: `make installers` (docs/decisions/0057)."""
