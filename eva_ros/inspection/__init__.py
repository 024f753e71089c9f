"""Whether a recording can be used: checks, findings and their page."""
