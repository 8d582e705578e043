"""How long our ways take beside what one would otherwise use."""
