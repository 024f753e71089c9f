"""Recordings in, aligned samples out; the live observation is made by the same code."""
