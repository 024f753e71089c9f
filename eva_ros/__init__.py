"""EVA for ROS 2: drive a two-arm robot from dreamed video, safely."""
