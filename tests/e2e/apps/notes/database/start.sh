#!/bin/sh
# Gives the cluster its password the first time, and becomes the server.
set -eu

if [ ! -e "$PGDATA/password-is-set" ]; then
    printf "ALTER ROLE notes PASSWORD '%s'\n" "$(sed "s/'/''/g" /run/secrets/database-password)" | postgres --single postgres
    touch "$PGDATA/password-is-set"
fi
exec postgres -c "listen_addresses=*" -c jit=off
