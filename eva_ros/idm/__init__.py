"""Frames in, joint positions out: the inverse dynamics model (IDM)."""
