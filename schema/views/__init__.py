"""The SQL of the database's views, `<schema>.<name>`; `schema.texts` reads it."""
