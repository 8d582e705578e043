"""Reference implementation of arXiv:1903.11791: hierarchical pooling for weakly labelled sound event detection."""
