"""How the exchange's events come in: feeds, their facts, and the workflow that each one concerns."""
