"""What can be said of the pooling structures and of the paper's tables without training a network."""
