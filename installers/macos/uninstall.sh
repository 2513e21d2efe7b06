#!/bin/sh
# Removes what the package has laid down. What Cove itself has made goes with `cove uninstall`, before this.
set -eu
[ "$(id -u)" -eq 0 ] || exec sudo "$0"
rm -rf /usr/local/lib/cove
rm -f /usr/local/bin/cove
pkgutil --forget @IDENTIFIER@
