"""Attacks that change words of texts."""
