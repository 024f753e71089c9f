"""RoboTwin 2.0 data sets."""
