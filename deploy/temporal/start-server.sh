#!/bin/sh
# Start Temporal's server with the login from a secret file. Needs POSTGRES_PASSWORD_FILE, CONFIG_ROOT and DYNAMIC_CONFIG_FILE.
set -eu

POSTGRES_PASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
export POSTGRES_PASSWORD
# The HTTP API answers one Host, which the Web UI's gate makes from the same secret (workers/temporal_ui_container.py): no
# page in a browser can guess it, so none gets an answer.
api_host="$(printf 'temporal-ui %s' "$POSTGRES_PASSWORD" | sha256sum | cut -c 1-32).invalid"
dynamic="$(mktemp)"
{ cat "$DYNAMIC_CONFIG_FILE"; printf 'frontend.httpAllowedHosts:\n  - value: ["%s"]\n' "$api_host"; } > "$dynamic"
export DYNAMIC_CONFIG_FILE="$dynamic"
# Members of the cluster find each other at this address; in a container that is its own.
if [ -z "${BROADCAST_ADDRESS:-}" ]; then
    BROADCAST_ADDRESS="$(hostname -i | awk '{print $1}')"
fi
export BROADCAST_ADDRESS
exec temporal-server --root "$CONFIG_ROOT" --config . --env production --allow-no-auth start
