"""What the two arms are and can do: description, limits, kinematics, motion."""
