"""What a shell does on a host, in POSIX words and with tools that every Linux has (busybox's are enough).

Each script is run as ``sh -c SCRIPT cove ARGUMENT...``: values are arguments and never part of a script, and what they may be is checked
here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from coved.remote.places import KEPT, OF_THE_BOOT

_HEAD = f"""
set -u
umask 022
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
kept={KEPT} boot={OF_THE_BOOT}
"""
_VALUE = re.compile(r"[0-9a-f]{1,64}")

LOOK = (
    _HEAD
    + """
say() { printf '%s=%s\\n' "$1" "$2"; }
say machine "$(uname -m)"
say kernel "$(uname -r)"
say system "$(uname -s)"
say login "$(id -un)"
say uid "$(id -u)"
say gid "$(id -g)"
if [ "$(id -u)" = 0 ]; then say root yes
elif sudo -k -n sh -c : 2>/dev/null </dev/null; then say root sudo
else say root no; fi
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then say cgroup v2
elif [ -d /sys/fs/cgroup/unified ]; then say cgroup hybrid
elif [ -d /sys/fs/cgroup ]; then say cgroup v1
else say cgroup none; fi
for tool in chroot gzip tar; do command -v $tool >/dev/null || say missing $tool; done
for path in /run/docker.sock /var/run/docker.sock; do [ -S $path ] && [ -w $path ] && say docker $path && break; done
for path in "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/podman/podman.sock" /run/podman/podman.sock; do
    [ -S "$path" ] && [ -w "$path" ] && say podman "$path" && break
done
for folder in "$kept"/*/; do
    name=${folder%/} name=${name##*/}
    [ -f "$folder/label" ] && say engine "$name $([ -f "$boot/$name/boot_id" ] && echo up || echo down) $(cat "$folder/label")"
done
exit 0
"""
)
"""Says lines of the form KEY=VALUE. Root is had where scripts can be run as root: sudo may allow other commands only, and what it remembers
of a password that was given somewhere else (-k) it forgets."""

HAS = _HEAD + '[ -f "$kept/$1/system-$2/usr/share/cove/payload" ] && printf "%s\\n" "$3" >"$kept/$1/label"'
"""NAME DIGEST LABEL: whether that system is there, whole; then it has that label."""

INSTALL = (
    _HEAD
    + """
folder=$kept/$1
mkdir -p "$folder" && chmod 711 "$folder" || exit 1
rm -rf "$folder"/.new-*
new=$folder/.new-$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
mkdir "$new" || exit 1
gzip -dc | tar -xpf - -C "$new" || exit 1
[ "$(cat "$new/usr/share/cove/payload" 2>/dev/null)" = "$2" ] || { echo "what came is not whole" >&2; exit 1; }
chroot "$new" /usr/bin/python3 -IBc "" || { echo "no program can be run from $kept" >&2; exit 1; }
rm -rf "$folder/system-$2"
mv "$new" "$folder/system-$2" && printf '%s\\n' "$3" >"$folder/label"
"""
)
"""NAME DIGEST LABEL, the archive on its standard input."""

TIDY = (
    _HEAD
    + """
running=$(cat "$boot/$1/system" 2>/dev/null)
for system in "$kept/$1"/system-*; do
    [ "$system" = "$kept/$1/system-$2" ] || [ "$system" = "$running" ] || rm -rf "$system"
done
"""
)
"""NAME DIGEST: other systems go, but for the one that runs."""

_PYTHON = """
there() {
    chroot "$system" /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root PYTHONPATH=/usr/lib/cove PYTHONPYCACHEPREFIX=/var/cache/cove \\
        /usr/bin/python3 -s -m coved.remote "$@" 3</
}
"""

_FIREWALL = """
# Others' rules that forward nothing (dockerd's, ufw's) hold for Cove's bridges as well, unless they say otherwise. A legacy iptables
# makes tables when it is asked: so only where there are some. Fails when such rules cannot be changed.
firewall() {
    failed=0
    for tool in iptables ip6tables; do
        command -v $tool >/dev/null || continue
        case $($tool -V 2>/dev/null) in
            *nf_tables*) ;;
            *) grep -qsx filter /proc/net/${tool%tables}_tables_names || continue ;;
        esac
        for way in -i -o; do
            rule="FORWARD $way cove+ -m comment --comment cove-$2 -j ACCEPT"
            if [ "$1" = off ]; then
                while $tool -w 5 -D $rule; do :; done
            elif $tool -w 5 -S FORWARD | grep -qx -e "-P FORWARD DROP" -e "-A FORWARD -j DROP" -e "-A FORWARD -j REJECT.*"; then
                $tool -w 5 -C $rule || $tool -w 5 -I $rule || failed=1
            fi
        done
    done >/dev/null 2>&1 </dev/null
    return $failed
}
"""

KEPT_OUT = "containers-kept-out"
"""The host's iptables forwards nothing, and could not be told otherwise."""
START = (
    _HEAD
    + _PYTHON
    + _FIREWALL
    + """
system=$kept/$1/system-$2
for module in overlay bridge veth nf_tables 9p 9pnet_fd; do modprobe -q $module 2>/dev/null </dev/null; done
there start "$1" "$system" "$3" "$4" || exit 1
firewall on "$1" || echo KEPT_OUT
exit 0
""".replace("KEPT_OUT", KEPT_OUT)
)
"""NAME DIGEST UID GID, JSON on its standard input; says JSON in one line, and `KEPT_OUT` in another."""

_STOP = (
    _HEAD
    + _PYTHON
    + _FIREWALL
    + """
system=$(cat "$boot/$1/system" 2>/dev/null)
if [ ! -f "$system/usr/share/cove/payload" ]; then
    system=
    for one in "$kept/$1"/system-*; do [ -f "$one/usr/share/cove/payload" ] && system=$one; done
fi
if [ -n "$system" ]; then there VERB "$1" "$system" || exit 1; elif [ -e "$boot/$1" ]; then
    echo "its system is gone from $kept/$1: start it again (this installs it), or restart that host" >&2; exit 1
fi
firewall off "$1"
exit 0
"""
)
STOP, END = (_STOP.replace("VERB", verb) for verb in ("stop", "end"))
"""NAME: it runs no more, the second without much patience for its containers; says JSON in one line, or nothing when there is no
such engine."""

LOG = _HEAD + 'tail -c 1048576 "$kept/$1/data/log/engine.log"'
"""NAME: the last of what its engine has written down."""

REMOVE = _HEAD + 'rm -rf "$kept/$1" && { rmdir "$kept" 2>/dev/null; rmdir "$boot" 2>/dev/null; [ ! -e "$kept/$1" ]; }'
"""NAME, of one that runs no more."""


def words(script: str, *values: str, label: str | None = None, root: str = "") -> list[str]:
    """The command that runs ``script`` with these arguments, the ``label`` (any text, made one line) last.

    Args:
        root: how to become root: "sudo", or "" for as who one is.

    Raises ValueError for a value that is none of Cove's: such are hexadecimal digits.
    """
    for value in values:
        if not _VALUE.fullmatch(value):
            raise ValueError(f"{value!r} is no value for a script")
    more = [" ".join("".join(one if one.isprintable() else " " for one in label).split())] if label is not None else []
    prefix: Sequence[str] = ("sudo", "-n", "--") if root == "sudo" else ()
    return [*prefix, "sh", "-c", script, "cove", *values, *more]
