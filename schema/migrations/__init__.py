"""Alembic's environment and the versions: first expand, then contract."""
