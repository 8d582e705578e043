"""What can be said of the pooling structures, of the paper's tables and of their systems without training a network."""
