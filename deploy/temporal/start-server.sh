#!/bin/sh
# Start Temporal's server with the login from a secret file. Needs POSTGRES_PASSWORD_FILE and CONFIG_ROOT.
set -eu

POSTGRES_PASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
export POSTGRES_PASSWORD
# Members of the cluster find each other at this address; in a container that is its own.
if [ -z "${BROADCAST_ADDRESS:-}" ]; then
    BROADCAST_ADDRESS="$(hostname -i | awk '{print $1}')"
fi
export BROADCAST_ADDRESS
exec temporal-server --root "$CONFIG_ROOT" --config . --env production --allow-no-auth start
