"""Stops commands, locks folders and writes files whole."""
