"""Agreement across estimators of the same thing."""

from icestream.consensus.ctf import agreement_angst, average_ctf, closest_group

__all__ = ["agreement_angst", "average_ctf", "closest_group"]
