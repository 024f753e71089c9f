"""LeRobot data sets, read and written without lerobot."""
