"""Motion between the frames of a movie: its estimation."""

from icestream.engines.motion.track import Track, estimate_track

__all__ = ["Track", "estimate_track"]
