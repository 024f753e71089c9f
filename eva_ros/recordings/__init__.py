"""Bags on disk: found, read, written; damaged ones as far as they go."""
