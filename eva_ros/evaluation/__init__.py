"""Metrics, the closed loop, comparisons, and the report page."""
