"""The flags of `run` and `create`, docker's own set with docker's own help."""

from __future__ import annotations

from cove.cli import values
from cove.cli.flags import Flag, integer, parse_int, parse_uint16, platform_flag, several, switch, text
from cove.cli.mounts import parse_mount


def _bytes(name: str, short: str, help: str, *, swap: bool = False) -> Flag:
    return Flag(name, short, kind="bytes", parse=values.swap_size if swap else values.size, default=0, help=help)


def _duration(name: str, help: str) -> Flag:
    return Flag(name, kind="duration", parse=values.duration, default=0, help=help)


_FLAGS = (
    several("add-host", "", "Add a custom host-to-IP mapping (host:ip)", values.extra_host),
    several("annotation", "", "Add an annotation to the container (passed through to the OCI runtime)", kind="map"),
    several("attach", "a", "Attach to STDIN, STDOUT or STDERR", values.stream),
    Flag(
        "blkio-weight",
        kind="uint16",
        parse=parse_uint16,
        default=0,
        help="Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    several("blkio-weight-device", "", "Block IO weight (relative device weight) (default [])", values.weight_device),
    several("cap-add", "", "Add Linux capabilities"),
    several("cap-drop", "", "Drop Linux capabilities"),
    text("cgroup-parent", "", "Optional parent cgroup for the container"),
    text(
        "cgroupns",
        "",
        "Cgroup namespace to use (host|private)\n"
        "'host':    Run the container in the Docker host's cgroup namespace\n"
        "'private': Run the container in its own private cgroup namespace\n"
        "'':        Use the cgroup namespace as configured by the\n"
        "           default-cgroupns-mode option on the daemon (default)",
    ),
    text("cidfile", "", "Write the container ID to the file"),
    Flag("cpu-count", kind="int", parse=parse_int, default=0, help="CPU count (Windows only)", hidden=True),
    Flag("cpu-percent", kind="int", parse=parse_int, default=0, help="CPU percent (Windows only)", hidden=True),
    integer("cpu-period", "", "Limit CPU CFS (Completely Fair Scheduler) period"),
    integer("cpu-quota", "", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    integer("cpu-rt-period", "", "Limit CPU real-time period in microseconds"),
    integer("cpu-rt-runtime", "", "Limit CPU real-time runtime in microseconds"),
    integer("cpu-shares", "c", "CPU shares (relative weight)"),
    Flag("cpus", kind="decimal", parse=values.nano_cpus, default=0, help="Number of CPUs"),
    text("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
    several("device", "", "Add a host device to the container"),
    several("device-cgroup-rule", "", "Add a rule to the cgroup allowed devices list", values.device_cgroup_rule),
    several("device-read-bps", "", "Limit read rate (bytes per second) from a device (default [])", values.rate_device),
    several("device-read-iops", "", "Limit read rate (IO per second) from a device (default [])", values.iops_device),
    several("device-write-bps", "", "Limit write rate (bytes per second) to a device (default [])", values.rate_device),
    several("device-write-iops", "", "Limit write rate (IO per second) to a device (default [])", values.iops_device),
    switch("disable-content-trust", "", "Skip image verification", True),
    several("dns", "", "Set custom DNS servers", values.address),
    several("dns-option", "", "Set DNS options"),
    several("dns-opt", "", "Set DNS options", hidden=True),
    several("dns-search", "", "Set custom DNS search domains", values.dns_search),
    text("domainname", "", "Container NIS domain name"),
    text("entrypoint", "", "Overwrite the default ENTRYPOINT of the image"),
    several("env", "e", "Set environment variables", values.environment),
    several("env-file", "", "Read in a file of environment variables"),
    several("expose", "", "Expose a port or a range of ports"),
    several("gpus", "", "GPU devices to add to the container ('all' to pass all GPUs)", values.gpus, "gpu-request"),
    several("group-add", "", "Add additional groups to join"),
    text("health-cmd", "", "Command to run to check health"),
    _duration("health-interval", "Time between running the check (ms|s|m|h)"),
    integer("health-retries", "", "Consecutive failures needed to report unhealthy"),
    _duration("health-start-interval", "Time between running the check during the start period (ms|s|m|h)"),
    _duration(
        "health-start-period",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
    ),
    _duration("health-timeout", "Maximum time to allow one check to run (ms|s|m|h)"),
    switch("help", "", "Print usage"),
    text("hostname", "h", "Container host name"),
    switch("init", "", "Run an init inside the container that forwards signals and reaps processes"),
    switch("interactive", "i", "Keep STDIN open even if not attached"),
    text("ip", "", "IPv4 address (e.g., 172.30.100.104)"),
    text("ip6", "", "IPv6 address (e.g., 2001:db8::33)"),
    text("ipc", "", "IPC mode to use"),
    text("isolation", "", "Container isolation technology"),
    _bytes("kernel-memory", "", "Kernel memory limit"),
    several("label", "l", "Set meta data on a container", values.label),
    several("label-file", "", "Read in a line delimited file of labels"),
    several("link", "", "Add link to another container", values.link),
    several("link-local-ip", "", "Container IPv4/IPv6 link-local addresses"),
    text("log-driver", "", "Logging driver for the container"),
    several("log-opt", "", "Log driver options"),
    text("mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    _bytes("memory", "m", "Memory limit"),
    _bytes("memory-reservation", "", "Memory soft limit"),
    _bytes("memory-swap", "", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap", swap=True),
    integer("memory-swappiness", "", "Tune container memory swappiness (0 to 100)", -1),
    several("mount", "", "Attach a filesystem mount to the container", parse_mount, "mount"),
    text("name", "", "Assign a name to the container"),
    several("network", "", "Connect a container to a network", values.network, "network"),
    several("net", "", "Connect a container to a network", values.network, "network", hidden=True),
    several("network-alias", "", "Add network-scoped alias for the container"),
    several("net-alias", "", "Add network-scoped alias for the container", hidden=True),
    switch("no-healthcheck", "", "Disable any container-specified HEALTHCHECK"),
    switch("oom-kill-disable", "", "Disable OOM Killer"),
    integer("oom-score-adj", "", "Tune host's OOM preferences (-1000 to 1000)"),
    text("pid", "", "PID namespace to use"),
    integer("pids-limit", "", "Tune container pids limit (set -1 for unlimited)"),
    platform_flag(),
    switch("privileged", "", "Give extended privileges to this container"),
    several("publish", "p", "Publish a container's port(s) to the host"),
    switch("publish-all", "P", "Publish all exposed ports to random ports"),
    switch("quiet", "q", "Suppress the pull output"),
    switch("read-only", "", "Mount the container's root filesystem as read only"),
    text("restart", "", "Restart policy to apply when a container exits", "no"),
    switch("rm", "", "Automatically remove the container and its associated anonymous volumes when it exits"),
    text("runtime", "", "Runtime to use for this container"),
    several("security-opt", "", "Security Options"),
    _bytes("shm-size", "", "Size of /dev/shm"),
    text("stop-signal", "", "Signal to stop the container"),
    Flag("stop-timeout", kind="int", parse=parse_int, default=None, help="Timeout (in seconds) to stop a container"),
    several("storage-opt", "", "Storage driver options for the container"),
    several("sysctl", "", "Sysctl options", values.sysctl, "map"),
    several("tmpfs", "", "Mount a tmpfs directory"),
    switch("tty", "t", "Allocate a pseudo-TTY"),
    several("ulimit", "", "Ulimit options", values.ulimit, "ulimit"),
    text("user", "u", "Username or UID (format: <name|uid>[:<group|gid>])"),
    text("userns", "", "User namespace to use"),
    text("uts", "", "UTS namespace to use"),
    several("volume", "v", "Bind mount a volume"),
    text("volume-driver", "", "Optional volume driver for the container"),
    several("volumes-from", "", "Mount volumes from the specified container(s)"),
    text("workdir", "w", "Working directory inside the container"),
)

CREATE_FLAGS = (
    *_FLAGS,
    text("pull", "", 'Pull image before creating ("always", "|missing", "never")', "missing"),  # docker's own slip
)

RUN_FLAGS = (
    *_FLAGS,
    text("pull", "", 'Pull image before running ("always", "missing", "never")', "missing"),
    switch("detach", "d", "Run container in background and print container ID"),
    text("detach-keys", "", "Override the key sequence for detaching a container"),
    switch("sig-proxy", "", "Proxy received signals to the process", True),
)
