"""The steps: each binds an engine to the stream with parameters and kinds."""
