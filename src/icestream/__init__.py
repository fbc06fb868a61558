"""On-the-fly processing of single-particle cryo-EM data."""
