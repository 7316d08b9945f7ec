"""What the commands share: options, tables, progress, the store that is opened."""
