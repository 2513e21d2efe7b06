#!/usr/lib/cove/bin/python3 -I
from cove.cli.main import main

main()
