"""The port (what any exchange must do) and one folder per venue behind it."""
