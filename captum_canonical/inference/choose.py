"""Which inference a user gets: incremental where it is exact and worth it, else dense, and a sentence that says why."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from captum_canonical.checks import check_choice
from captum_canonical.errors import CanonicalError
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.graph import NotIncrementalError
from captum_canonical.inference.plan import dense_work
from captum_canonical.inference.scorer import Scorer

logger = logging.getLogger("captum_canonical")
DENSE_ROWS = 16  # complete images fill a processor's caches sooner than windows do
DENSE_ROWS_GPU = 64
# Of multiply-adds, below which bookkeeping eats the gain. A GPU loses more: it runs large maps nearer to its limits
# than many small windows (benchmarks/results/gpu.json: ratios of 2 to 3 gained nothing, 8 ran 3.5 times faster).
LEAST_RATIO, LEAST_RATIO_GPU = 1.3, 4.0
FEWEST, FEWEST_TURNED = 30, 80  # patches that are worth a trace, and a comparison of two layouts in memory
# Dense runs that must be saved: about 1.5 times what tracing, planning and checking cost, as measured on the networks
# of benchmarks/incremental.py. Python takes most of it, in which a small network would have run more often.
SAVED_RUNS, SAVED_RUNS_OF_SMALL = 15, 120
CHECKED = 3  # patches


def choose_inference(
    inference: str,
    scorer: Scorer,
    inputs: tuple[Tensor, ...],
    fills: tuple[Tensor | float, ...],
    rows: int | None,
    patches: Patches,
) -> DenseInference | IncrementalInference:
    """The inference that a user asked for, or the one that is worth it.

    Args:
        inference: ``"auto"``: incremental where it is exact and at least 1.3 times less work (4 times on a GPU), else
            dense, and the log (level INFO) says why; ``"incremental"``; ``"dense"``.
        scorer: as for both, as are
        inputs: and
        fills: and
        rows: images per forward call. Default: what runs fast.
        patches: that will be run.

    Raises:
        CanonicalError: an unknown name; or ``"incremental"`` and the network does not allow it.
    """
    check_choice("inference", inference, ("auto", "incremental", "dense"))
    dense = DenseInference(scorer, inputs, fills, rows or (DENSE_ROWS_GPU if inputs[0].is_cuda else DENSE_ROWS))
    if inference == "dense":
        return dense
    auto = inference == "auto"
    try:
        return _incremental(dense, rows, patches, auto)
    except Exception as error:  # whatever a foreign network does: dense inference is right, or says what is wrong
        return _instead(dense, patches, auto, error)


def _instead(dense: DenseInference, patches: Patches, auto: bool, error: Exception) -> DenseInference:
    """Dense inference, because of an error; or the error, if the user asked for the other one."""
    if isinstance(error, CanonicalError) and not isinstance(
        error, NotIncrementalError
    ):  # the call's, not the network's
        if auto:
            return dense  # which raises it again
        raise error
    reason = error if isinstance(error, NotIncrementalError) else f"{type(error).__name__}: {error}"
    if not auto:
        raise CanonicalError(f'inference="incremental" is not possible: {reason}.') from error
    logger.info("inference is dense: %s.", reason)
    return _channels_last(dense, patches) if isinstance(error, _NoGainError) else dense


class _NoGainError(NotIncrementalError):
    """The network could be run incrementally."""


def _channels_last(dense: DenseInference, patches: Patches) -> DenseInference:
    """The same with the channels of a pixel side by side in memory, which CPUs run faster, if the scores allow it."""
    if dense.inputs[0].is_cuda or len(patches) < FEWEST_TURNED:
        return dense
    last = torch.channels_last
    inputs = tuple(x.contiguous(memory_format=last) if x.ndim == 4 else x for x in dense.inputs)
    turned = DenseInference(dense.scorer, inputs, dense.fills, dense.rows)
    some = _sample(patches)
    try:
        scores, expected = turned.occluded_scores(some), dense.occluded_scores(some)
    except Exception:  # .view() of a tensor that is no longer contiguous
        return dense
    same = bool((scores - expected).abs().max() <= _tolerance(dense.inputs[0]) * expected.abs().max())
    return turned if same else dense


def _incremental(dense: DenseInference, rows: int | None, patches: Patches, auto: bool) -> IncrementalInference:
    """What replaces dense inference; if it is for the package to choose, only where that is worth it."""
    if auto:
        _check_worthwhile(dense.scorer, dense.inputs, len(patches))
    hidden = tuple(box is not None for box in patches.boxes)
    engine = IncrementalInference(dense.scorer, dense.inputs, dense.fills, rows, hidden)
    if auto:
        _check_gain(engine, patches)
    _check_exact(engine, dense, patches)
    return engine


def _check_worthwhile(scorer: Scorer, inputs: tuple[Tensor, ...], patches: int) -> None:
    if patches < FEWEST:
        raise NotIncrementalError(f"{patches} patches are too few to gain anything")
    tensors = [x for x in inputs if x.is_floating_point()]
    if isinstance(scorer.forward_func, torch.nn.Module):
        tensors += scorer.forward_func.parameters()
    narrow = {x.dtype for x in tensors} & {torch.half, torch.bfloat16}
    if narrow:
        raise NotIncrementalError(f"in {narrow.pop()} rounding is as large as the drops")


def _check_gain(engine: IncrementalInference, patches: Patches) -> None:
    least = SAVED_RUNS + SAVED_RUNS_OF_SMALL / (1 + dense_work(engine.network) / 1e9)
    if len(patches) < least:  # whatever the plan
        raise _NoGainError(f"{len(patches)} patches are too few to gain anything")
    ratio = engine.plan(patches).ratio
    if ratio <= (LEAST_RATIO_GPU if engine.inputs[0].is_cuda else LEAST_RATIO):
        raise _NoGainError(f"windows soon cover the maps, {ratio:.2f} times fewer multiply-adds gain nothing")
    if len(patches) * (1 - 1 / ratio) < least:
        raise _NoGainError(f"{len(patches)} patches are too few to gain anything")


def _check_exact(engine: IncrementalInference, dense: DenseInference, patches: Patches) -> None:
    """Compares a few patches, one at a time and shuffled into a batch, with dense inference.

    This finds what a trace cannot show: scores that depend on the other rows, on chance, or on earlier calls.

    Raises:
        NotIncrementalError: they differ.
    """
    if not len(patches):
        return
    chosen = _sample(patches)
    # Each alone: in a batch a network that mixes its rows would agree with our head, which runs them together.
    expected = DenseInference(dense.scorer, dense.inputs, dense.fills, 1).occluded_scores(chosen)
    clean = dense.scorer(tuple(x[chosen.image[:1]].clone() for x in dense.inputs), chosen.image[:1])
    results = {
        "one at a time": engine.run(engine.plan(chosen, rows=1)),
        "in a batch": engine.run(engine.plan(chosen, rows=len(chosen))),
    }
    tolerance = _tolerance(dense.inputs[0]) * float(torch.cat([expected, clean]).abs().max())
    for how, scores in results.items():
        difference = float((scores - expected).abs().max())
        if not difference <= tolerance:
            raise NotIncrementalError(f"patches run {how} give scores that differ from dense ones by {difference:.2g}")
    difference = float((engine.clean_scores()[chosen.image[:1].to(clean.device)] - clean).abs().max())
    if not difference <= tolerance:
        raise NotIncrementalError(f"clean scores differ from dense ones by {difference:.2g}")


def _sample(patches: Patches) -> Patches:
    """A few random patches in random order; the one nearest to the upper left corner is among them."""
    generator = torch.Generator().manual_seed(len(patches))
    corner = sum(box[:, :2].sum(1).cpu() for box in patches.boxes if box is not None)
    first = int(torch.as_tensor(corner).argmin())
    others = torch.randperm(len(patches), generator=generator)[: CHECKED - 1].tolist()
    rows = torch.tensor([*others[:1], first, *others[1:]])
    return patches[rows]


def _tolerance(x: Tensor) -> float:
    """Of the largest score: float32 sums in another order; TF32 and half precision round to 10 or 7 bits."""
    if x.dtype == torch.float64:
        return 1e-8
    if x.dtype != torch.float32:
        return 5e-2
    tf32 = x.is_cuda and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    return 1e-2 if tf32 else 1e-4
