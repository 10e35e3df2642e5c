"""Which inference a user gets: incremental where it is exact and worth it, else dense, and a sentence that says why."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from captum_canonical.checks import check_choice
from captum_canonical.errors import CanonicalError
from captum_canonical.inference.costs import LAYOUTS
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.graph import NotIncrementalError
from captum_canonical.inference.scorer import Scorer

logger = logging.getLogger("captum_canonical")
DENSE_ROWS = 16  # complete images fill a processor's caches sooner than windows do
DENSE_ROWS_GPU = 64
LEAST_GAIN = 1.2  # of expected time, which is right to some tenths
# Of multiply-adds: a GPU runs large maps nearer to its limits than many small windows, and has no table of costs
# (benchmarks/results/gpu.json: ratios of 2 to 3 gained nothing, 8 ran 3.5 times faster).
LEAST_RATIO_GPU = 4.0
FEWEST, FEWEST_TURNED = 30, 80  # patches that are worth a trace, and a comparison of two layouts in memory
SAVED_RUNS = 135  # that must be saved on a GPU: about 1.5 times what tracing, planning and checking cost
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
        inference: ``"auto"``: incremental where it is exact and, by the package's table of costs, faster (on a GPU:
            where it takes 4 times fewer multiply-adds), else dense, and the log (level INFO) says why;
            ``"incremental"``; ``"dense"``.
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
    as_it_is = isinstance(error, _NoGainError) and not error.turned
    return dense if as_it_is or _is_narrow(dense) else _channels_last(dense, patches)


class _NoGainError(NotIncrementalError):
    """The network could be run incrementally; ``turned``: it is expected to run faster channels last."""

    def __init__(self, message: str, turned: bool) -> None:
        super().__init__(message)
        self.turned = turned


def _channels_last(dense: DenseInference, patches: Patches) -> DenseInference:
    """The same with the channels of a pixel side by side in memory, which CPUs run faster, if the scores allow it."""
    network = dense.scorer.forward_func
    has_maps = isinstance(network, torch.nn.Module) and any(isinstance(m, torch.nn.Conv2d) for m in network.modules())
    if dense.inputs[0].is_cuda or len(patches) < FEWEST_TURNED or not has_maps:
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
        _check_worthwhile(dense, len(patches))
    hidden = tuple(box is not None for box in patches.boxes)
    engine = IncrementalInference(dense.scorer, dense.inputs, dense.fills, rows, hidden)
    if auto:
        _check_gain(engine, patches)
    _check_exact(engine, dense, patches)
    return engine


def _check_worthwhile(dense: DenseInference, patches: int) -> None:
    if patches < FEWEST:
        raise NotIncrementalError(f"{patches} patches are too few to gain anything")
    narrow = _is_narrow(dense)
    if narrow:
        raise NotIncrementalError(f"in {narrow.pop()} rounding is as large as the drops")


def _is_narrow(dense: DenseInference) -> set[torch.dtype]:
    """The half precisions among the types of inputs and parameters."""
    tensors = [x for x in dense.inputs if x.is_floating_point()]
    if isinstance(dense.scorer.forward_func, torch.nn.Module):
        tensors += dense.scorer.forward_func.parameters()
    return {x.dtype for x in tensors} & {torch.half, torch.bfloat16}


def _check_gain(engine: IncrementalInference, patches: Patches) -> None:
    """Raises :class:`_NoGainError` unless incremental inference is expected to be faster, by counted work alone."""
    plan, expected = engine.plan(patches), engine.expected
    if engine.inputs[0].is_cuda:
        if plan.ratio <= LEAST_RATIO_GPU or len(patches) * (1 - 1 / plan.ratio) < SAVED_RUNS:
            raise _NoGainError(f"{plan.ratio:.2f} times fewer multiply-adds gain nothing on a GPU", False)
        return
    plain, turned = (expected.dense(layout, DENSE_ROWS) for layout in LAYOUTS)
    dense = len(patches) * (min(plain, turned) if len(patches) >= FEWEST_TURNED else plain)
    fixed = expected.preparation + expected.check(CHECKED)
    if dense < LEAST_GAIN * plan.seconds:
        reason = f"windows soon cover the maps, {dense / plan.seconds:.2f} times less expected time gains nothing"
    elif dense < LEAST_GAIN * (plan.seconds + fixed):
        reason = f"{len(patches)} patches are too few to gain anything"
    else:
        return
    raise _NoGainError(reason, turned < plain / LEAST_GAIN)


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
