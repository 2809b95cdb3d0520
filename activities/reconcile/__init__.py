"""The journal held against the exchange and against the running workflows."""
