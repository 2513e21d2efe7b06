"""docs/settings.md, made from the schema: `python -m cove.machine.settings_page`."""

from __future__ import annotations

from cove.machine.settings import SCHEMA

BEFORE = """\
# Settings of a machine

Each machine has one file of settings, `machine.toml` in its folder ([on-disk-layout.md](on-disk-layout.md)). `cove config`
(also `cove machine config`) reads and changes it; so does any editor. A mistake in it is reported with file, line, column and key,
and nothing starts until it is mended. Each says below when a change of it takes effect: at once, or at the machine's next start
(`cove machine restart`).

| command | does |
| --- | --- |
| `cove config list [--origin]` | what is in force; with `--origin` where it is from, and the variable that overrides it |
| `cove config get KEY` | one setting, as it is in force |
| `cove config set KEY VALUE` | changes the file, in which comments and order stay as they are, and says when it counts |
| `cove config unset KEY` | takes it out of the file, also what is no setting: the default counts |
| `cove config edit` | opens the file in `VISUAL` or `EDITOR`; what has a mistake is not taken |
| `cove config validate [FILE]` | checks the settings, environment and policy included, or a file; status 1 for a mistake |
| `cove config path` | where the file is |

Each takes `-m NAME` for another machine, and `--json`.

The file of a new machine says most defaults, which `list --origin` calls `file (the default)`: a later Cove, with other
defaults, leaves them as they are. `default` is what the file does not say.

When what was edited has a mistake, `edit` asks whether to go on editing or to discard it. Where nobody answers (Ctrl-C, no
terminal), it is kept in `machine.toml.draft` beside the file.

What this computer cannot hold is refused: more `memory` than it has, an `accelerator` of another system, a `qemu` that is no
such program, a `disk` smaller than the machine's is, files of certificates that are none. What is unwise, or can change, is
taken with a warning: nearly all the memory, more `cpus` or `disk` than there are, a `bind_address` that is none of this
computer's now, a folder that is not there, a driver or accelerator that does not work yet. `machine init`, `set`, `edit` and
`validate` look at that, whether file or environment says it, and a start tells of the same; with too much memory it is
tried all the same.

What counts, first to last: an administrator's [policy](#policy), the [environment](#environment), the file, the default.

This page is made from the schema in `cove.machine.settings` (`python -m cove.machine.settings_page`), and a test keeps the
two equal.

"""

AFTER = """\
## Example

```toml
cpus = 4
memory = "4GiB"
shared_folders = ["/data", "/usr/share/datasets:ro"]
```

Sizes are written as docker takes them: a number, which may have a fraction, and a unit, in any case: `4GiB`, `4GB`, `4gb`
and `4g` are the same, for units are powers of 1024; `1.5GiB` is `1536MiB`; a number without a unit counts bytes. `config
set` writes the largest unit that keeps the number whole. In the file sizes are in quotes, as all text is.

A list is `["a:5000", "b:5000"]` in the file, and `config get` prints it so. `config set` takes that form, in quotes for the
shell, and a shorter one, whose parts are separated by commas; an empty one empties the list:

```sh
cove config set insecure_registries '["a:5000", "b:5000"]'
cove config set insecure_registries a:5000,b:5000
cove config set insecure_registries ''
```

## Changing a machine that runs, or is suspended

`config set` says whether a restart is needed. It is not when the machine's VM has the value already, such as when a setting
has been set back. A suspended machine wakes with what it had, but for its folders. Changing settings leaves its state as it is; one that
wakes while `qemu` or `accelerator` name others boots anew. `cove machine restart` wakes it first, to stop it in order. A machine
that was stopped starts at once from a saved VM of its processors, memory and folders' driver; those of the last two such
sets are kept, and with others it boots once.

## Environment

`COVE_` and the key in capitals overrides the file, in the form that `config set` takes: `COVE_CPUS=4 cove machine start`. A
machine has what the environment of the command says that starts it; those that only use it change nothing, and so do those for
which it is woken, or booted again after its VM has died, as long as its agent lives. A variable with a mistake in it is named,
and nothing starts.

Other variables: `COVE_MACHINE` the machine that is meant without `-m`; `COVE_HOST` an engine that is used instead of a
machine's; `COVE_HOME` a folder for all of Cove's files ([on-disk-layout.md](on-disk-layout.md)); `COVE_DEBIAN_MIRROR` and
`COVE_DEBIAN_SECURITY_MIRROR` where Debian's packages come from; `COVE_DEBUG=1` tracebacks where Cove itself fails.

## Policy

An administrator's file, for all machines of all users of a computer:

| system | file |
| --- | --- |
| Linux | `/etc/cove/policy.toml` |
| macOS | `/Library/Application Support/Cove/policy.toml` |
| Windows | `%ProgramData%\\Cove\\policy.toml` |

```toml
allowed_registries = ["docker.io", "registry.example.com:5000", "*.corp.example"]

[locked]
cpus = 2
bind_address = "127.0.0.1"
registry_mirrors = []
```

`[locked]` has settings as above: their values are in force whatever file and environment say, and `config` and `machine init` refuse to
change them. `allowed_registries` are hosts, with their ports where they have one; `*.corp.example` is all that is below it.
The engine refuses to pull from, push to, log in to and search others, for `build`'s `FROM` as for `run`: `pulling from
quay.io is not allowed by your administrator's policy (/etc/cove/policy.toml)`. Mirrors that are not in the list are not
asked. An empty list allows none; without the key all are allowed. It takes effect when the
machine starts next; one that was suspended, and wakes after a change of the policy, is stopped in order and starts anew.

The file and its folder must belong to root (on Windows to the administrators) and be writable by nobody else: a policy that
is not so, or has a mistake, is reported, and no machine starts until that is mended. Nothing in the environment names
another file.

It is a guard rail, not a wall. A machine belongs to its user, who is root in it (`cove machine ssh`), can load images from
archives (`docker load`), and fetch what they like in a container; whoever must be kept from that needs a computer that does
so.
"""


def reference() -> str:
    """The page."""
    lines = []
    for key in SCHEMA.values():
        default = key.show(key.default)
        lines += [f"## `{key.name}`", "", key.doc, "", f"* value: {key.kind}", f"* default: `{default}`"]
        lines += [f"* variable: `COVE_{key.name.upper()}`", f"* takes effect: {key.counts}", ""]
    return BEFORE + "\n".join(lines) + "\n" + AFTER


if __name__ == "__main__":
    print(reference(), end="")
