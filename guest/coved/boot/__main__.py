"""PID 1 of the VM: ``python3 -m coved.boot``. docs/vm-image.md tells what it takes as orders."""

import os
import traceback

from coved.boot import system
from coved.boot.console import BootError, say
from coved.boot.places import DATA, RUN
from coved.boot.services import Service

SPAWNER_SOCKET = f"{RUN}/spawner.sock"
SPAWNER = Service(
    "spawner", "coved.runtime.spawner", "--socket", SPAWNER_SOCKET, "--shims", f"{RUN}/shims", "--foreground",
    "--listener-fd", "3",
)  # fmt: skip
ENGINE = Service("engine", "coved.vm")


def main() -> None:
    """Boot. Does not return."""
    held = -1
    try:
        system.protect_interpreter()
        if os.path.ismount(DATA):
            # The engine spends most of its start on importing its modules. It can do that while the system is set up.
            held = ENGINE.start_held()

        from coved.boot import foreign, init  # after the engine is on its way
        from coved.runtime.listening import listen

        one = init.Init(ENGINE, SPAWNER)
        init.set_up()
        one.take_signals()
        one.load_modules()
        # The engine waits for the spawner's socket by itself.
        listener = listen(SPAWNER_SOCKET)
        SPAWNER.listener = listener.fileno()
        if held >= 0:
            os.close(held)
        else:
            ENGINE.start()
        foreign.register()  # before anything can run in a container
        SPAWNER.start()
        system.hold_device_filter()
        one.run()
    except BaseException as error:
        say(f"cannot go on: {error}" if isinstance(error, BootError) else f"PID 1 failed: {error!r}")
        if not isinstance(error, BootError):
            traceback.print_exc()
        from coved.boot import power

        power.down(ENGINE.pid, power.RB_POWER_OFF)


if __name__ == "__main__":
    main()
