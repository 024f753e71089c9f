"""View and instruction to rollout: a small Wan transformer that dreams, and how it is trained."""
