"""Recordings as aligned samples: attempts, resampling, cache and data set."""
