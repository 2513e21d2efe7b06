#!/bin/sh
# Installs what a Debian system lacks, and only that, from the package sources that the system already has.
#   prerequisites.sh venv    a virtual environment in .venv (PYTHON names the interpreter)
#   prerequisites.sh run     what Cove itself uses: QEMU
#   prerequisites.sh test    also what the tests use: a docker CLI, and the native engine's libraries
set -eu

install() { # PACKAGE...: those of them that are missing
    missing=
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "Cove needs these packages:$missing" >&2
        echo "Install them (sudo apt-get install$missing) and run this again." >&2
        exit 1
    fi
    echo "installing$missing"
    # Package lists of a fresh machine are empty or old. A source that is out of reach must not stop the ones that answer.
    apt-get -qq -o Acquire::Retries=2 update || echo "some package lists could not be refreshed; going on with those at hand" >&2
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing >/dev/null
}

# qemu-system-x86 is Debian's name for the emulator of both 32- and 64-bit PCs.
run_packages="qemu-system-x86 qemu-utils"
test_packages="libnftables1 libseccomp2 erofs-utils openssh-client curl iproute2 tmux git"

case ${1:?venv, run or test} in
venv)
    "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    ;;
run)
    # shellcheck disable=SC2086
    install $run_packages
    ;;
test)
    # shellcheck disable=SC2086
    install $run_packages $test_packages
    # The docker client alone has a package of its own from Debian 13 on; before, docker.io brings it.
    command -v docker >/dev/null || install docker-cli || install docker.io
    ;;
*)
    echo "prerequisites.sh: venv, run or test" >&2
    exit 2
    ;;
esac
