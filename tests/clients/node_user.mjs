// What a user of testcontainers writes for Node. Prints what it saw as JSON, and then dies with a container and a network left behind.

import { DockerComposeEnvironment, GenericContainer, Network, Wait } from "testcontainers";

const [folder] = process.argv.slice(2);
const told = {};
const page = async (container, port = 80) =>
  (await fetch(`http://${container.getHost()}:${container.getMappedPort(port)}/`)).text();

const site = await new GenericContainer("site:1").withExposedPorts(80).withWaitStrategy(Wait.forHttp("/", 80)).start();
told.page = await page(site);
told.exec = (await site.exec(["cat", "/www/index.html"])).output;
await site.copyContentToContainer([{ content: "copied\n", target: "/www/copied" }]);
told.copied = (await site.exec(["cat", "/www/copied"])).output;
await site.restart();
told.again = await page(site);
await site.stop();

const network = await new Network().start();
const web = await new GenericContainer("site:1")
  .withNetwork(network)
  .withNetworkAliases("web")
  .withHealthCheck({ test: ["CMD", "wget", "-q", "-O", "/dev/null", "localhost"], interval: 500, retries: 60 })
  .withWaitStrategy(Wait.forHealthCheck())
  .start();
let consumed = "";
let haveSeen;
const seen = new Promise((resolve) => (haveSeen = resolve));
const visitor = await new GenericContainer("site:1")
  .withNetwork(network)
  .withCommand(["sh", "-c", "wget -q -O - http://web; echo seen; sleep 600"])
  .withLogConsumer((stream) =>
    stream.on("data", (text) => {
      consumed += text;
      if (consumed.includes("seen")) haveSeen();
    }),
  )
  .withWaitStrategy(Wait.forLogMessage("seen"))
  .start();
await seen; // what waits for the line has a stream of its own
told.logs = consumed;
await visitor.stop();
await web.stop();
await network.stop();

const image = await GenericContainer.fromDockerfile(folder).build("of-node:1");
const built = await image.withExposedPorts(80).start();
told.built = await page(built);
await built.stop();

const compose = await new DockerComposeEnvironment(folder, "compose.yaml").withWaitStrategy("web-1", Wait.forHttp("/", 80)).up();
told.compose = await page(compose.getContainer("web-1"));
await compose.down();

const leftNetwork = await new Network().start();
const left = await new GenericContainer("site:1").withNetwork(leftNetwork).start();
told.left = { container: left.getId(), network: leftNetwork.getId() };
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.kill(process.pid, "SIGKILL"));
