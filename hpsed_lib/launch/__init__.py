"""Running an experiment's notebooks: here, on GPUs, or on a Slurm cluster."""
