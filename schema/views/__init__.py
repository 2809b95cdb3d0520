"""The texts of the database's views, `<schema>.<name>`; `schema.texts` reads them."""
