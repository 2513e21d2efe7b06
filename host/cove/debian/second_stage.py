"""The second stage: what runs in a container of the unpacked packages to configure them, as debootstrap does it in a chroot."""

from __future__ import annotations

from collections.abc import Mapping

# Preinst scripts would have run before their packages were unpacked; on a first installation they only add users and
# diversions to what is empty, and that can be done now as well. base-passwd comes before all others, which need root's name.
SCRIPT = r"""
set -e
exec </dev/null 2>&1
umask 022
cd /var/lib/dpkg/info

preinst() {
    [ -e "$1.preinst" ] || return 0
    DPKG_MAINTSCRIPT_PACKAGE="${1%%:*}" DPKG_MAINTSCRIPT_ARCH=$(dpkg --print-architecture) \
    DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 \
    DPKG_RUNNING_VERSION=$(dpkg-query -f '${Version}' -W dpkg) DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= \
    DEBCONF_PACKAGE="${1%%:*}" \
        "./$1.preinst" install
}

preinst base-passwd
dpkg --force-depends --configure base-passwd
for script in *.preinst; do
    [ "$script" = base-passwd.preinst ] || preinst "${script%.preinst}"
done
cd /
dpkg --configure -a

# What nobody asked for goes when nothing needs it any more.
apt-mark auto '.*' >/dev/null
[ $# = 0 ] || apt-mark manual "$@" >/dev/null

audit=$(dpkg --audit)
[ -z "$audit" ] || { echo "dpkg --audit: $audit"; exit 1; }
dpkg-query -f '${db:Status-Abbrev} ${Package}\n' -W | while read -r state name; do
    [ "$state" = ii ] || { echo "$name is not installed but $state"; exit 1; }
done
"""


def environment(newest: int) -> Mapping[str, str]:
    """What the scripts see: nobody to ask, one language, no chance, and a clock that stands at `newest` (seconds)."""
    return {
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
        "LC_ALL": "C",
        "HOME": "/root",
        "PERL_HASH_SEED": "0",
        "SOURCE_DATE_EPOCH": str(newest),
    }
