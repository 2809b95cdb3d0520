"""Telegram, both ways: notices to chats, and commands of people, by one process of an account at a time."""
