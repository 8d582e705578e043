"""The paper's own data set: DCASE 2017 Task 4."""
