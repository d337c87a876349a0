"""Statistics files: opened, compared, imported, exported."""
