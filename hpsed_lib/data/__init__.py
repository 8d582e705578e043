"""Sounds and labels: from files, from recordings, or drawn."""
