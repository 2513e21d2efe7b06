#!/bin/sh
# Makes the cluster and its database the first time, and becomes the server.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=notes --pwfile=/run/secrets/database-password --auth=scram-sha-256 --locale=C.UTF-8 --no-instructions
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    echo 'CREATE DATABASE notes;' | postgres --single -j postgres
fi
exec postgres -c "listen_addresses=*" -c jit=off
