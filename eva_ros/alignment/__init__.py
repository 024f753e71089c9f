"""Executability as a reward: judge dreams by the motion they induce, and align the dreamer."""
