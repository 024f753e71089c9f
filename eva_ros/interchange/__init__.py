"""Data sets of LeRobot and RoboTwin, in and out."""
