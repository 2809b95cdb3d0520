"""Notices: incidents and news sent to people."""
