import http from "node:http";
import { defineConfig, type Plugin } from "vite";

/** For work on the page without Cove's server: Docker's API by the socket that COVE_DEV_DOCKER names. */
function docker(): Plugin {
  return {
    name: "docker",
    configureServer(server) {
      server.middlewares.use("/docker", (request, response) => {
        const upstream = http.request(
          {
            socketPath: process.env.COVE_DEV_DOCKER ?? "/var/run/docker.sock",
            path: request.url,
            method: request.method,
            headers: request.headers,
          },
          (answer) => {
            response.writeHead(answer.statusCode ?? 502, answer.headers);
            answer.pipe(response);
          },
        );
        upstream.on("error", (error) => {
          response.writeHead(503, { "content-type": "application/json" });
          response.end(JSON.stringify({ message: error.message }));
        });
        response.on("close", () => upstream.destroy());
        request.pipe(upstream);
      });
    },
  };
}

export default defineConfig({
  base: "/",
  plugins: [docker()],
  build: {
    outDir: "../cove/dashboard/assets",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    // Nothing inline: the page's policy allows only what is a file of its own.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
