"""What all learning shares: weights that can be trusted, and a watch over divergence."""
