#!/bin/sh
# Make Temporal's two databases and bring their schema to the version of the tools. Safe to run again: what is there stays.
# Needs POSTGRES_HOST, POSTGRES_PORT, POSTGRES_USER and POSTGRES_PASSWORD_FILE.
set -eu

SQL_PASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
export SQL_PASSWORD

sql() {
    temporal-sql-tool --plugin postgres12 --endpoint "$POSTGRES_HOST" --port "$POSTGRES_PORT" --user "$POSTGRES_USER" "$@"
}

for store in temporal visibility; do
    database=temporal
    [ "$store" = temporal ] || database=temporal_visibility
    sql --database "$database" create
    sql --database "$database" setup-schema --version 0.0
    sql --database "$database" update-schema --schema-name "postgresql/v12/$store"
done
echo "Temporal's schema is ready"
