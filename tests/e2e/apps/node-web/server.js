"use strict";

const express = require("express");

const app = express();
app.get("/", (request, response) => {
  response.json({ hello: request.query.name ?? "world", node: process.version, uid: process.getuid() });
});

const server = app.listen(3000, () => console.log("listening on port 3000"));

// As process 1 it has no default for signals.
process.on("SIGTERM", () => server.close());
