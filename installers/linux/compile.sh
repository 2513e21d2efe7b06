#!/bin/sh
# Compile Cove for the system's Python, without what is there for another: users cannot write here, and each command would compile anew.
set -eu
cd /usr/lib/cove
find site -name __pycache__ -prune -exec rm -r {} +
[ "${1:-}" = clean ] || bin/python3 -m compileall -q site
