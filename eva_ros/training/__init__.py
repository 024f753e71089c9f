"""What all learning shares: the loop and its state, manifests, weights that can be trusted."""
