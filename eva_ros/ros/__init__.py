"""The edge to ROS: messages and dataclasses, QoS, the lifecycle base, diagnostics, names."""
