"""`bottrader demo`: trades on the paper exchange, and what they came to."""
