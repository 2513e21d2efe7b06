"""A page that greets, and one for the health check."""

import getpass

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def greet() -> dict[str, str]:
    return {"hello": request.args.get("name", "world"), "user": getpass.getuser()}


@app.get("/health")
def health() -> str:
    return "fine\n"
