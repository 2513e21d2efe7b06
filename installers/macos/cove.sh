#!/bin/sh
# Starts Cove with the newest Python that it is made for. macOS has none of its own that is new enough.
lib=@LIB@
for version in 3.14 3.13 3.12 3.11; do
    for python in /opt/homebrew/bin/python$version /usr/local/bin/python$version \
        /Library/Frameworks/Python.framework/Versions/$version/bin/python$version; do
        if [ -x "$python" ]; then
            # By variables, for the agent is started by the same Python. Compiled modules go where the user may write.
            export PYTHONPATH="$lib" PYTHONPYCACHEPREFIX="$HOME/Library/Caches/cove/python" PYTHONSAFEPATH=1
            exec "$python" -m cove "$@"
        fi
    done
done
echo "cove: there is no Python 3.11 to 3.14" >&2
echo "      install one, and QEMU: brew install python qemu" >&2
exit 125
