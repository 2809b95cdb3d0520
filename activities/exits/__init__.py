"""What watches an open trade and makes it sell: plans, prices, signals, protection at the exchange."""
