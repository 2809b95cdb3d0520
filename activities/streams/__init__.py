"""How the exchange's events are received: feeds, their facts, and the workflow each one is routed to."""
