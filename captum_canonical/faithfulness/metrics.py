"""The measures of faithfulness for images that come in batches or on several processes, as torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import (
    TOLERANCE,
    Direction,
    Explanation,
    FaithfulnessScore,
    RemovalCurves,
    average_drop,
    better_direction,
    check_explanation,
    increase_rate,
    mean_drop,
)
from captum_canonical.faithfulness.wins import Wins, count_wins, scores_of, wins_of


class FaithfulnessMetric(Metric):
    """Base class of the metrics below: sums stay in float64 under casts, and only equal settings are merged.

    Args:
        explanation: which explanation images are scored.
        **kwargs: for :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    better_for_negative: Direction = "higher"

    def __init__(self, explanation: Explanation = "negative", **kwargs: Any) -> None:
        # A cached result on some ranks only would leave the others waiting in the next, collective, compute().
        super().__init__(**{"compute_with_cache": False, **kwargs})
        check_explanation(explanation)
        self.explanation: Explanation = explanation

    @property
    def direction(self) -> Direction:
        """Which direction is better, ``"higher"`` or ``"lower"``."""
        return better_direction(self.explanation, self.better_for_negative)

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]  # depends on the explanation images
        """The same, in the words of torchmetrics."""
        return self.direction == "higher"

    def settings(self) -> tuple[Any, ...]:
        """The settings that must agree for two metrics to be merged."""
        return (self.explanation,)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Adds what another metric of the same settings, such as that of another shard, has seen."""
        if isinstance(incoming_state, FaithfulnessMetric) and incoming_state.settings() != self.settings():
            raise CanonicalError(
                f"{type(self).__name__}.merge_state: expected settings {self.settings()}, got "
                f"{incoming_state.settings()}."
            )
        super().merge_state(incoming_state)

    def _add_sum(self, name: str, shape: tuple[int, ...] = ()) -> None:
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum", persistent=True)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> FaithfulnessMetric:
        """Moves to another device, but never casts: Metric keeps its type under .float(), not under .to(float32)."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), *args, **kwargs)  # type: ignore[return-value]


class _MeanScore(FaithfulnessMetric):
    total: Tensor
    images: Tensor
    left_out: Tensor

    def __init__(self, explanation: Explanation = "negative", unbounded: bool = False, **kwargs: Any) -> None:
        super().__init__(explanation, **kwargs)
        self.unbounded = unbounded
        for name in ("total", "images", "left_out"):
            self._add_sum(name)

    def _score(self, clean: Tensor, explained: Tensor) -> FaithfulnessScore:
        raise NotImplementedError

    def update(self, clean: Tensor, explained: Tensor) -> None:
        """Adds (N,) clean scores and (N,) scores of the explanation images."""
        score = self._score(clean, explained)
        self.total = self.total + float(score.per_image.nansum())
        self.images, self.left_out = self.images + score.n, self.left_out + score.left_out

    def compute(self) -> Tensor:
        """Scalar float64: the mean over all images so far that count; NaN if none does."""
        return self.total / self.images


class AverageDrop(_MeanScore):
    """:func:`average_drop` of images that come in batches; ``images`` and ``left_out`` count them.

    Example::

        >>> metric = AverageDrop()
        >>> metric.update(torch.tensor([0.5]), torch.tensor([0.25]))
        >>> metric.update(torch.tensor([1.0]), torch.tensor([1.0]))
        >>> metric.compute(), metric.direction
        (tensor(25., dtype=torch.float64), 'higher')
    """

    def _score(self, clean: Tensor, explained: Tensor) -> FaithfulnessScore:
        return average_drop(clean, explained, explanation=self.explanation, unbounded=self.unbounded)


class IncreaseRate(_MeanScore):
    """:func:`increase_rate` of images that come in batches.

    Example::

        >>> metric = IncreaseRate()
        >>> metric.update(torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25]))
        >>> metric.compute(), metric.direction
        (tensor(50., dtype=torch.float64), 'lower')
    """

    better_for_negative = "lower"

    def _score(self, clean: Tensor, explained: Tensor) -> FaithfulnessScore:
        return increase_rate(clean, explained, explanation=self.explanation, unbounded=self.unbounded)


class MeanDrop(_MeanScore):
    """:func:`mean_drop` of images that come in batches.

    Example::

        >>> metric = MeanDrop()
        >>> metric.update(torch.tensor([3.0, -1.0]), torch.tensor([1.0, -1.5]))
        >>> metric.compute()
        tensor(1.2500, dtype=torch.float64)
    """

    def _score(self, clean: Tensor, explained: Tensor) -> FaithfulnessScore:
        return mean_drop(clean, explained, explanation=self.explanation)


class WinRate(FaithfulnessMetric):
    """:func:`win_rates` of images that come in batches.

    Args:
        methods: the names of those that take part.
        explanation, unbounded, tolerance: as in :func:`win_rates`.

    Example::

        >>> metric = WinRate(["a", "b"])
        >>> metric.update({"a": torch.tensor([0.25, 0.5]), "b": torch.tensor([0.5, 0.5])})
        >>> metric.compute().percent.tolist()
        [75.0, 25.0]
    """

    higher_is_better = True  # a method is better the more it wins, whatever is scored
    direction: Direction = "higher"
    images: Tensor

    def __init__(
        self,
        methods: Sequence[str],
        explanation: Explanation = "negative",
        unbounded: bool = False,
        tolerance: float = TOLERANCE,
        **kwargs: Any,
    ) -> None:
        super().__init__(explanation, **kwargs)
        self.methods, self.unbounded, self.tolerance = tuple(methods), unbounded, tolerance
        count = len(self.methods)
        for name, shape in zip(_WIN_STATES, ((count,), (), (count, count), (count, count)), strict=True):
            self._add_sum(name, shape)
        self._add_sum("images")

    def settings(self) -> tuple[Any, ...]:
        """The settings that must agree for two metrics to be merged."""
        return self.explanation, self.methods, self.tolerance

    def update(self, explained: Mapping[str, Tensor]) -> None:
        """Adds (N,) scores of the explanation images of each method, in any order."""
        if sorted(explained) != sorted(self.methods):
            raise CanonicalError(f"WinRate.update: expected scores of {self.methods}, got {tuple(explained)}.")
        scores = scores_of({name: explained[name] for name in self.methods}, self.explanation, self.unbounded)
        for name, value in zip(_WIN_STATES, count_wins(scores, self.explanation, self.tolerance), strict=True):
            setattr(self, name, getattr(self, name) + value.to(self.device))
        self.images = self.images + scores.shape[1]

    def compute(self) -> Wins:
        """The wins of all images so far."""
        won, ties, beats, tied = (getattr(self, name) for name in _WIN_STATES)
        return wins_of(self.methods, self.explanation, int(self.images), won, ties, beats, tied.long())


_WIN_STATES = ("won", "ties", "beats", "tied")


class MeanCurves(FaithfulnessMetric):
    """The mean of the removal curves of images that come in batches.

    Args:
        like: curves of the same fractions, fill and space as those that will come; their scores do not count.

    Example::

        >>> from captum_canonical.faithfulness import removal_curves
        >>> curves = removal_curves(lambda x: x.mean((1, 2, 3)), torch.ones(2, 1, 4, 4), torch.rand(2, 1, 4, 4))
        >>> metric = MeanCurves(curves)
        >>> metric.update(curves)
        >>> metric.compute()["morf"].shape == curves.fractions.shape
        True
    """

    higher_is_better = None  # type: ignore[assignment]  # RemovalCurves.DIRECTIONS
    direction = None  # type: ignore[assignment]
    sums: Tensor
    images: Tensor

    def __init__(self, like: RemovalCurves, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._curve_settings = like.settings
        self._add_sum("sums", (2, len(like.fractions)))
        self._add_sum("images")

    def settings(self) -> tuple[Any, ...]:
        """The settings that must agree for two metrics to be merged."""
        return self._curve_settings

    def update(self, curves: RemovalCurves) -> None:
        """Adds the curves of N images."""
        if curves.settings != self._curve_settings:
            raise CanonicalError(
                f"MeanCurves.update: expected fractions, fill and space {self._curve_settings}, got {curves.settings}."
            )
        self.sums = self.sums + torch.stack([curves.morf, curves.lerf]).sum(1).to(self.device)
        self.images = self.images + len(curves.morf)

    def compute(self) -> dict[str, Tensor]:
        """Means over all images so far: ``morf``, ``lerf`` (S,), ``deletion_auc``, ``insertion_auc``, ``gain``."""
        fractions, fill, space = self._curve_settings
        means = (self.sums / self.images).unsqueeze(1)
        curves = RemovalCurves(torch.tensor(fractions, dtype=torch.float64), means[0], means[1], ("",), fill, space)
        return {name: getattr(curves, name)[0] for name in ("morf", "lerf", *RemovalCurves.DIRECTIONS)}
