"""PID 1 of the VM: ``python3 -m coved.boot``. docs/vm-image.md tells what it takes as orders."""

import os
import traceback

from coved.boot import system
from coved.boot.console import BootError, say
from coved.boot.places import RUN, STREAMS_PORT
from coved.boot.services import Service

SPAWNER_SOCKET = f"{RUN}/spawner.sock"
_SPAWNING = ("--socket", SPAWNER_SOCKET, "--shims", f"{RUN}/shims", "--foreground", "--listener-fd", "3")
SPAWNER = Service("spawner", "coved.runtime.spawner", *_SPAWNING, held=("coved.boot.spawner", *_SPAWNING))
ENGINE = Service("engine", "coved.vm", held=("coved.vm", "held"))
STREAMS = Service("streams", "coved.streams", STREAMS_PORT, held=("coved.boot.streams", STREAMS_PORT))


def main() -> None:
    """Boot. Does not return."""
    try:
        system.protect_interpreter()
        # The engine spends most of its start on importing its modules. It can do that while the system is set up.
        engine_loaded, hold_engine = ENGINE.start_held()

        from coved.boot import foreign, init  # after the engine is on its way
        from coved.runtime.listening import listen

        init.set_up()
        one = init.Init(ENGINE, SPAWNER, STREAMS)
        listener = listen(SPAWNER_SOCKET)
        SPAWNER.listener = listener.fileno()
        spawner_loaded, hold_spawner = SPAWNER.start_held()
        streams_loaded, hold_streams = STREAMS.start_held()
        one.take_signals()
        one.load_modules()
        foreign.register()  # before anything can run in a container
        system.hold_device_filter()
        init.wait(engine_loaded, spawner_loaded, streams_loaded)
        one.modules_loaded()
        init.begin(hold_engine)
        # The engine waits for the spawner's socket by itself.
        os.close(hold_spawner)
        os.close(hold_engine)
        os.close(hold_streams)
        one.run()
    except BaseException as error:
        say(f"cannot go on: {error}" if isinstance(error, BootError) else f"PID 1 failed: {error!r}")
        if not isinstance(error, BootError):
            traceback.print_exc()
        from coved.boot import power

        power.down(ENGINE.pid, power.RB_POWER_OFF)


if __name__ == "__main__":
    main()
