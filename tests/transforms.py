"""What Fourier transforms cost, without a clock; for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class CountedTransforms(TorchDispatchMode):
    """Counts, while it is entered, numbers times axes, and the lengths of axes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = 0
        self.sides: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        if "_fft_" in str(func):
            values, axes = args[:2]
            self.work += values.numel() * len(axes)
            self.sides |= {values.shape[axis] for axis in axes}
        return func(*args, **(kwargs or {}))
