#!/bin/sh
# Installs what a Debian system lacks, and only that, from the package sources that the system already has.
#   prerequisites.sh venv    a virtual environment in .venv (PYTHON names the interpreter)
#   prerequisites.sh run     what Cove itself uses: QEMU
#   prerequisites.sh smoke   what the short tests of other platforms use: Wine, what makes programs for it, firmware, QEMU for arm64
#   prerequisites.sh page    a browser, and letters for it
#   prerequisites.sh dashboard  the browser that the dashboard is tested with, letters for its two languages, and a screen with a tray
#   prerequisites.sh platforms  what installers are made with, and what tests them and the clients of other systems
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
    DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq -y install --no-install-recommends $missing >/dev/null
}

# Cove speaks as docker's client of 28.x does, and the tests compare the two word for word. A system without one as new gets
# Debian's own from its next release, unpacked in build/docker-cli and not installed. (That release's index is short-lived,
# and a mirror may lag behind: its signature counts, its age does not.)
docker_client() {
    major=$(docker version --format '{{.Client.Version}}' 2>/dev/null | cut -d. -f1)
    [ "${major:-0}" -lt 28 ] 2>/dev/null || return 0
    [ ! -x build/docker-cli/usr/bin/docker ] || return 0
    echo "fetching docker's client"
    apt=$PWD/build/apt
    mkdir -p "$apt/etc/preferences.d" "$apt/etc/apt.conf.d" "$apt/state/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep 'debian/*$' | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?no Debian mirror in the sources of apt} testing main" \
        >"$apt/etc/sources.list"
    cat >"$apt/apt.conf" <<-EOF
	Dir::Etc "$apt/etc"; Dir::Etc::sourceparts "-"; Dir::State "$apt/state"; Dir::State::status "$apt/status";
	Dir::Cache "$apt/cache"; APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "2";
	Acquire::Check-Valid-Until "false";
	EOF
    APT_CONFIG=$apt/apt.conf apt-get -qq update
    (cd "$apt" && APT_CONFIG=$apt/apt.conf apt-get -qq download docker-cli)
    mkdir -p build/docker-cli
    dpkg-deb -x "$apt"/docker-cli_*.deb build/docker-cli
    rm -r "$apt"
}

# qemu-system-x86 is Debian's name for the emulator of both 32- and 64-bit PCs.
run_packages="qemu-system-x86 qemu-utils"
smoke_packages="nsis gcc-mingw-w64-x86-64-posix wine64 wine ovmf openssh-client qemu-system-arm"
platforms_packages="$smoke_packages dpkg-dev rpm wixl msitools libarchive-tools dosfstools mtools gdisk"
page_packages="chromium fonts-dejavu-core"
dashboard_packages="$page_packages fonts-noto-cjk xvfb trayer xdotool imagemagick psmisc libegl1 libgl1 libdbus-1-3 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-randr0 libxcb-shape0 libxcb-xfixes0 libxkbcommon-x11-0"
test_packages="procps iptables libnftables1 libseccomp2 erofs-utils openssh-client curl iproute2 tmux git skopeo dbus-daemon"

case ${1:?venv, run, test, smoke, page, dashboard or platforms} in
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
    docker_client
    ;;
smoke)
    # shellcheck disable=SC2086
    install $run_packages $smoke_packages
    ;;
page)
    # shellcheck disable=SC2086
    install $page_packages
    ;;
dashboard)
    # shellcheck disable=SC2086
    install $dashboard_packages
    ;;
platforms)
    # shellcheck disable=SC2086
    install $run_packages $platforms_packages
    ;;
*)
    echo "prerequisites.sh: venv, run, test, smoke, page, dashboard or platforms" >&2
    exit 2
    ;;
esac
