"""The SQL of the database's functions; `schema.texts` reads it."""
