"""What the events mean: projects, PRDs, runs and stories."""
