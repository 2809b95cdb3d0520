"""The texts of the database's functions; `schema.texts` reads them."""
