"""A two-arm robot on this machine: MuJoCo world, tasks, scripted experts, controller."""
