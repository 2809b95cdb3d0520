"""Compares the journal with the exchange and with the running workflows."""
