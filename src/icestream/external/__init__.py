"""Other people's programs, driven as processes of their own; never imported."""
