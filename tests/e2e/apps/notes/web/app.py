"""Notes in PostgreSQL; how often they were read is counted in Redis."""

import os
from pathlib import Path

import psycopg
import redis
from flask import Flask, request

app = Flask(__name__)
password = Path("/run/secrets/database-password").read_text()
cache = redis.Redis(os.environ["CACHE"])


def connect() -> psycopg.Connection:
    return psycopg.connect(os.environ["DATABASE"], password=password)


with connect() as database:
    database.execute("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL)")


@app.post("/notes")
def add():
    with connect() as database:
        (number,) = database.execute(
            "INSERT INTO notes (text) VALUES (%s) RETURNING id", (request.form["text"],)
        ).fetchone()
    return {"id": number}, 201


@app.get("/notes")
def show():
    with connect() as database:
        notes = [text for (text,) in database.execute("SELECT text FROM notes ORDER BY id")]
    return {"notes": notes, "read": cache.incr("read")}


@app.get("/health")
def health():
    with connect() as database:
        database.execute("SELECT 1")
    cache.ping()
    return "fine\n"
