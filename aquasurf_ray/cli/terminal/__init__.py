"""Shared by the commands: options, tables, progress, and opening the store."""
