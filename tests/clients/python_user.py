"""What a user of testcontainers writes in Python. Prints what it saw as JSON, and then dies with a container of its own left behind."""

import json
import os
import signal
import sys
from pathlib import Path
from urllib.request import urlopen

from testcontainers.compose import DockerCompose
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

folder = Path(sys.argv[1])
told: dict[str, object] = {}


def page(container: DockerContainer) -> str:
    with urlopen(f"http://{container.get_container_host_ip()}:{container.get_exposed_port(80)}/", timeout=60) as answer:
        return str(answer.read().decode())


with DockerContainer("site:1").with_exposed_ports(80).waiting_for(HttpWaitStrategy(80)) as site:
    told["page"] = page(site)
    told["exec"] = site.exec(["cat", "/www/index.html"]).output.decode()

with Network() as network:
    with (
        DockerContainer("site:1").with_network(network).with_network_aliases("web"),
        DockerContainer("site:1")
        .with_network(network)
        .with_command("sh -c 'wget -q -O - http://web; echo seen; sleep 600'")
        .waiting_for(LogMessageWaitStrategy("seen")) as visitor,
    ):
        told["logs"] = visitor.get_logs()[0].decode()

with DockerImage(path=folder, tag="of-python:1") as image:
    with DockerContainer(str(image)).with_exposed_ports(80).waiting_for(HttpWaitStrategy(80)) as built:
        told["built"] = page(built)

with DockerCompose(folder, wait=True) as compose:
    host, port = compose.get_service_host_and_port("web", 80)
    with urlopen(f"http://{host}:{port}/", timeout=60) as answer:
        told["compose"] = answer.read().decode()

network = Network().create()
left = DockerContainer("site:1").with_network(network).start()
told["left"] = {"container": left.get_wrapped_container().id, "network": network.id}
print(json.dumps(told), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
