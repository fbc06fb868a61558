"""Parts of the benchmark of motion correction: movies, programs, scores."""
