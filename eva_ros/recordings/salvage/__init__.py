"""What can still be read of bag files that are cut off or damaged."""
