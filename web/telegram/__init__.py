"""Answers to commands that people send to the Telegram bot, and what these have done (docs/telegram.md)."""
