"""Does a map depend on what the network has learned? Its layers are randomised, the maps compared (the paper's Fig. 8).

References:
    Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv 1810.03292 (cascading, independent).
    Wang et al.: Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004 (SSIM).
    Hedstrom et al.: A Fresh Look at Sanity Checks for Saliency Maps, arXiv 2405.02383 (what biases the check).
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import Attribution
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_canonical._captum import format_forward_args, run_forward
from captum_canonical.attributions import CanonicalOcclusion, CanonicalProjector
from captum_canonical.errors import CanonicalError

logger = logging.getLogger("captum_canonical")
Order = Literal["top_down", "bottom_up", "independent"]
Reinitialisation = Literal["own", "normal", "permutation"]
MEASURES = ("spearman", "ssim", "top_share", "mass_overlap")
TOP = 0.1
SAME = 1e-6
"""A map whose values differ by no more than this share of the largest magnitude is constant: the rest is rounding."""
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang 2004, section III-C
NOTHING_CHANGED = (
    "model_randomization: no map has changed at all; is `model` the network that the method uses, and does the method "
    "use its weights?"
)


class Summary(NamedTuple):
    """One measure for each layer of a :class:`RandomizationTest`.

    Attributes:
        mean: (L,) float64 over the seeds and images where it is defined; NaN where it is nowhere.
        over_seeds: (L,) standard deviation (ddof 1) over the seeds, of the mean over images; NaN for one seed.
        over_images: (L,) standard deviation (ddof 1) over the images, of the mean over seeds; NaN for one image.
        undefined: (L,) int64, for how many of the S * N maps it is not defined; ``mean`` is without them.
    """

    mean: Tensor
    over_seeds: Tensor
    over_images: Tensor
    undefined: Tensor


@dataclass(frozen=True, eq=False)
class RandomizationTest:
    """How similar the maps of N images stay while L layers of the network are randomised, with S seeds.

    Concretely ``similarity["ssim"][i, s, n]`` compares the map of image n with ``layers[0]`` to ``layers[i]`` all
    randomised by ``seeds[s]`` (for ``order="independent"`` only ``layers[i]``) with that of the network as it was.
    All measures are 1 for equal maps.

    Attributes:
        layers: names of the layers, in the order of randomisation.
        order: ``"top_down"``, ``"bottom_up"`` or ``"independent"``.
        seeds: of the random weights.
        similarity: for each measure (L, S, N) float64, NaN where it is not defined. No map is clipped or scaled before.
            ``"spearman"``: rank correlation, -1..1; not defined if a map is constant. ``"ssim"``: mean structural
            similarity, -1..1; its constants are 0.01 and 0.03 of ``ssim_range``; not defined if the unrandomised map is
            constant. It falls with the size of the values too. ``"top_share"``: share of the highest 10 % of the
            values that stays among the highest 10 %, 0..1, about 0.1 by chance (ties at the threshold share what
            is left); not defined if a map is constant. ``"mass_overlap"``: each map's positive part as shares of its
            sum, and the sum of the smaller of both shares, 0..1; not defined if a map has no positive value.
        magnitude: (L, S, N) sum of the magnitudes of the map over that of the unrandomised map; no similarity.
        control: for each measure (N,), the same network run again: below 1 for methods that draw random numbers,
            which cannot be expected to stay more similar than that.
        flags: for each image ``""``, or why its unrandomised map cannot tell anything: ``"zero"``, ``"constant"``,
            ``"not finite"`` or ``"no area"``.
        reinitialised: how each layer was: ``"reset_parameters"`` (its module's own), ``"normal"`` or
            ``"permutation"``; with "unchanged" where that left all values as they were, and ``"shared"`` for layers
            that are not in ``layers`` because all they hold belongs to layers before them.
        ssim_range: (N,) largest minus smallest value of the unrandomised map.
        ssim_window: side of SSIM's Gaussian window: 11, or less for small maps.
        examples: indices of the images whose maps were kept.
        original: (K, C, H, W) float32, the unrandomised maps of the examples.
        maps: (L, S, K, C, H, W) float32, their maps with randomised layers.
    """

    layers: tuple[str, ...]
    order: str
    seeds: tuple[int, ...]
    similarity: Mapping[str, Tensor]
    magnitude: Tensor
    control: Mapping[str, Tensor]
    flags: tuple[str, ...]
    reinitialised: Mapping[str, str]
    ssim_range: Tensor
    ssim_window: int
    examples: tuple[int, ...]
    original: Tensor
    maps: Tensor

    def summary(self, measure: str = "spearman") -> Summary:
        """Mean and spread of a measure, or of ``"magnitude"``, for each layer."""
        values = self.magnitude if measure == "magnitude" else self.similarity[measure]
        return Summary(
            values.flatten(1).nanmean(1),
            _spread(values.nanmean(2)),
            _spread(values.nanmean(1)),
            values.isnan().flatten(1).sum(1),
        )

    def table(self) -> str:
        """One line for each layer: mean, spread over the seeds, spread over the images; then notes."""
        columns = (*MEASURES, "magnitude")
        summaries = [self.summary(measure) for measure in columns]
        rows = [["randomised", *columns, "undefined"]]
        rows.append(
            ["(none, run again)"]
            + [f"{float(self.control[measure].nanmean()):.3f}" for measure in columns]
            + [str(int(_any_undefined(self.control).sum()))]
        )
        undefined = _any_undefined(self.similarity).flatten(1).sum(1).tolist()
        for i, layer in enumerate(self.layers):
            cells = [f"{s.mean[i]:.3f} ±{s.over_seeds[i]:.3f} ±{s.over_images[i]:.3f}" for s in summaries]
            rows.append([layer, *cells, str(undefined[i])])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, *self._notes()])

    def _notes(self) -> list[str]:
        images = len(self.flags)
        notes = [
            f"{self.order}, {len(self.seeds)} seeds, {images} images: mean ± over seeds ± over images.",
            f"SSIM: Gaussian window {self.ssim_window}, data range that of each unrandomised map. top_share: "
            f"{TOP} by chance.",
            f"undefined: so many of the {len(self.seeds) * images} maps ({images} in the first line) lack at least one "
            "measure and do not count in its mean.",
        ]
        notes += [f"image {n}: its map is {flag}." for n, flag in enumerate(self.flags) if flag]
        others = {name: how for name, how in self.reinitialised.items() if how != "reset_parameters"}
        return notes + [f"{name}: {how}." for name, how in others.items()]

    __str__ = table


def model_randomization(
    method: Attribution | Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...] | None = None,
    *,
    model: nn.Module | None = None,
    order: Order = "top_down",
    seeds: Sequence[int] = (0, 1, 2),
    layers: Sequence[str] | None = None,
    reinitialise: Reinitialisation = "own",
    area: Tensor | None = None,
    keep_maps: bool | Sequence[int] = False,
    show_progress: bool = False,
    **attribute_arguments: Any,
) -> RandomizationTest:
    """Randomises the layers of a network one after the other and compares the maps with those of the network as it was.

    The weights are changed in place, so that whatever refers to the network sees it, and are exactly what they were
    afterwards: parameters and buffers, also after an error or an interruption. The global random state is left as it
    was. A layer's random weights depend on the seed and its name only, so the last maps of ``"top_down"`` and
    ``"bottom_up"`` are the same.

    Args:
        method: an attribution, whose maps ``method.attribute(inputs, **attribute_arguments)`` returns; or a callable
            that is called with the same (without inputs, if there are none), for example one that returns the mean
            map (1, 1, H, W) of a data set. Maps are (N, C, H, W); all channels are compared.
        inputs: (N, C, H, W) or a tuple, as the method takes them.
        model: the network. Default: the method's ``forward_func``, if it is a module. What a function computed from
            the network before, such as a gallery of features, is not computed again.
        order: ``"top_down"`` from the output on, ``"bottom_up"`` from the input on, each on top of those before; or
            ``"independent"``, one layer at a time.
        seeds: of the random weights.
        layers: names of submodules from the input to the output; everything inside one is randomised at once.
            Default: each module with parameters of its own or with running statistics, in the order in which a
            forward pass reaches them (for a callable as method, and for modules that the pass does not call, in the
            order in which they were registered). The method runs len(seeds) * len(layers) + 2 times.
        reinitialise: ``"own"``: by the module's own ``reset_parameters``, which resets running statistics too; modules
            without one as with ``"normal"``. ``"normal"``: each parameter from a normal distribution with its own mean
            and standard deviation (a constant one stays as it is). ``"permutation"``: the values of each parameter in
            random order. With both, running statistics are permuted, and other buffers stay as they are.
        area: bool, in the shape of the maps or with 1 for N or C: the values to compare. Default: for
            :class:`CanonicalOcclusion` and :class:`CanonicalProjector` the covered pixels, else all. The others are
            0 in every map, which would pass for similarity.
        keep_maps: keep the maps of all images, or of those with these indices.
        show_progress: a bar on stderr that counts runs of the method.
        **attribute_arguments: for the method, such as ``target``.

    Returns:
        The similarities for each layer, seed and image.

    Raises:
        CanonicalError: an argument does not fit, the network has no such layers, or the method returns no maps.

    Example::

        >>> from captum.attr import Saliency
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
        >>> test = model_randomization(Saliency(net), torch.rand(2, 1, 12, 12), target=1)
        >>> test.layers, test.similarity["spearman"].shape
        (('3', '0'), torch.Size([2, 3, 2]))
        >>> bool((test.summary("spearman").mean < 0.9).all())
        True
    """
    network = _network_of(method, model)
    numbers = _checked(order, seeds, reinitialise, attribute_arguments)
    run = partial(method.attribute if isinstance(method, Attribution) else method, **attribute_arguments)
    run = run if inputs is None else partial(run, inputs)
    with _random_state_kept(), _weights_kept(network) as restore:
        _seed(numbers[0], "order")
        plan, shared = _plan(network, layers, order, _first_calls(network, method, inputs, attribute_arguments))
        with tqdm(total=len(numbers) * len(plan) + 2, desc="Model randomization", disable=not show_progress) as bar:
            _seed(numbers[0], "original")
            comparison = _Comparison.of(*_maps_and_area(method, run, area))
            examples = _examples(keep_maps, len(comparison.original))
            bar.update()
            _seed(numbers[0], "again")
            control = comparison.measure(_maps(run()))
            bar.update()
            cells: list[Tensor] = []
            kept: list[Tensor] = []
            hows, changed = dict.fromkeys(shared, "shared"), False
            for name, how in _cascade(plan, order, numbers, reinitialise, restore):
                hows[name] = how
                maps = _maps(run())
                cells.append(comparison.measure(maps))
                kept.append(maps[list(examples)].float())
                changed = changed or not torch.equal(maps, comparison.original)
                bar.update()
    if not changed:
        logger.warning(NOTHING_CHANGED)
    values = torch.stack(cells).view(len(numbers), len(plan), *cells[0].shape).transpose(0, 1)
    original = comparison.original[list(examples)].float()
    return RandomizationTest(
        layers=tuple(name for name, _ in plan),
        order=order,
        seeds=numbers,
        similarity={measure: values[:, :, i] for i, measure in enumerate(MEASURES)},
        magnitude=values[:, :, -1],
        control={measure: control[i] for i, measure in enumerate((*MEASURES, "magnitude"))},
        flags=comparison.flags,
        reinitialised=hows,
        ssim_range=comparison.ranges,
        ssim_window=comparison.window,
        examples=examples,
        original=original,
        maps=torch.stack(kept).view(len(numbers), len(plan), *original.shape).transpose(0, 1),
    )


# ---------------------------------------------------------------------------------------------------------- measures
def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two vectors, ties with their mean rank; NaN if either is constant.

    Example::

        >>> round(spearman(torch.tensor([1.0, 2.0, 2.0, 9.0]), torch.tensor([0.0, 5.0, 4.0, 6.0])), 4)
        0.9487
    """
    if _is_constant(first) or _is_constant(second):
        return float("nan")
    ranks = torch.stack([_ranks(first), _ranks(second)])
    ranks = F.normalize(ranks - ranks.mean(1, keepdim=True), dim=1)
    return float((ranks[0] @ ranks[1]).clamp(-1, 1))


def top_share(first: Tensor, second: Tensor) -> float:
    """Share of the highest 10 % of one vector that belongs to the highest 10 % of the other; NaN if one is constant."""
    if _is_constant(first) or _is_constant(second):
        return float("nan")
    both = torch.minimum(_top(first), _top(second))
    return float(both.sum() / _top_count(first))


def mass_overlap(first: Tensor, second: Tensor) -> float:
    """What the positive parts of two vectors, as shares of their sums, have in common, 0..1; NaN if one has none."""
    first, second = first.double().clamp(min=0), second.double().clamp(min=0)
    if not first.any() or not second.any():
        return float("nan")
    return float(torch.minimum(first / first.sum(), second / second.sum()).sum())


def structural_similarity(first: Tensor, second: Tensor, data_range: float, area: Tensor | None = None) -> float:
    """Mean structural similarity (SSIM) of two maps over the windows that lie inside them.

    Weights and constants are those of Wang et al. 2004: a Gaussian window of 11 x 11 (the largest odd size that fits
    into smaller maps) and standard deviation 1.5, K1 = 0.01 and K2 = 0.03. Nothing is clipped or scaled. SSIM was made
    for values of 0 or more. Here a window in which both the mean and the structure are reversed counts as the negative
    of their product: the product itself would call a map and its negative alike.

    Args:
        first: (C, H, W).
        second: (C, H, W); channels are compared one by one.
        data_range: L, the difference of values that the constants are shares of.
        area: (C, H, W) bool, the centres of windows that count. Default: all.

    Returns:
        -1..1; NaN if ``data_range`` is not positive or no window counts.
    """
    size = _window(first)
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    x, y = first.double(), second.double()
    planes = torch.stack([x, y, x * x, y * y, x * y]).flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    mean_x, mean_y, square_x, square_y, product = planes.view(5, len(x), *planes.shape[-2:])
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    variances = (square_x - mean_x**2) + (square_y - mean_y**2)
    structure = (2 * (product - mean_x * mean_y) + c2) / (variances + c2)
    reversed_twice = (luminance < 0) & (structure < 0)
    local = torch.where(reversed_twice, -1, 1) * luminance * structure
    if area is not None:
        inside = slice(size // 2, -(size // 2) or None)
        local = local[area[:, inside, inside]]
    return float(local.mean()) if data_range > 0 and local.numel() else float("nan")


def _is_constant(values: Tensor) -> bool:
    return not len(values) or bool(values.amax() - values.amin() <= SAME * values.abs().amax())


def _ranks(values: Tensor) -> Tensor:
    _, level, count = torch.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum(0) - (count - 1) / 2).double()[level]


def _top_count(values: Tensor) -> int:
    return max(1, round(TOP * len(values)))


def _top(values: Tensor) -> Tensor:
    """(P,) float64, how much of each value belongs to the highest 10 %; those that tie at the threshold equally."""
    count = _top_count(values)
    threshold = values.topk(count).values[-1]
    above, at = (values > threshold).double(), (values == threshold).double()
    return above + at * (count - above.sum()) / at.sum()


def _window(maps: Tensor) -> int:
    side = min(WINDOW, *maps.shape[-2:])
    return side - (side + 1) % 2


@dataclass(frozen=True, eq=False)
class _Comparison:
    """The unrandomised maps, (N, C, H, W) float64, and what others are compared on."""

    original: Tensor
    area: Tensor
    ranges: Tensor
    flags: tuple[str, ...]
    window: int

    @classmethod
    def of(cls, maps: Tensor, area: Tensor) -> _Comparison:
        """From maps and (N, C, H, W) bool, the values to compare."""
        flags, ranges = [], []
        for values, inside in zip(maps, area, strict=True):
            flags.append(_flag(values[inside]))
            fine = flags[-1] in ("", "constant", "zero")
            ranges.append(float(values[inside].amax() - values[inside].amin()) if fine else float("nan"))
        return cls(maps, area, torch.tensor(ranges, dtype=torch.float64), tuple(flags), _window(maps))

    def measure(self, maps: Tensor) -> Tensor:
        """(5, N) float64: the measures, and the relative magnitude."""
        if maps.shape != self.original.shape:
            raise CanonicalError(
                f"model_randomization: expected maps of one shape from all runs, got {tuple(self.original.shape)} and "
                f"{tuple(maps.shape)}."
            )
        return torch.tensor([self._of_image(n, image) for n, image in enumerate(maps)], dtype=torch.float64).T

    def _of_image(self, n: int, image: Tensor) -> list[float]:
        inside = self.area[n]
        first, second = self.original[n][inside], image[inside]
        if self.flags[n] in ("no area", "not finite") or not torch.isfinite(second).all():
            return [float("nan")] * (len(MEASURES) + 1)
        data_range = 0.0 if self.flags[n] else float(self.ranges[n])
        # What lies outside does not count, but windows overlap it.
        masked = torch.where(inside, self.original[n], 0.0), torch.where(inside, image, 0.0)
        return [
            spearman(first, second),
            structural_similarity(*masked, data_range, inside),
            top_share(first, second),
            mass_overlap(first, second),
            float(second.abs().sum() / first.abs().sum()) if first.any() else float("nan"),
        ]


def _any_undefined(similarity: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([similarity[measure] for measure in MEASURES]).isnan().any(0)


def _flag(values: Tensor) -> str:
    if not len(values):
        return "no area"
    if not torch.isfinite(values).all():
        return "not finite"
    return ("constant" if values.any() else "zero") if _is_constant(values) else ""


def _spread(means: Tensor) -> Tensor:
    """(L,) standard deviation of the entries of (L, K) that are not NaN; NaN for fewer than two."""
    known = ~means.isnan()
    count = known.sum(1)
    deviations = torch.where(known, means - means.nanmean(1, keepdim=True), 0.0)
    return torch.where(count > 1, (deviations.square().sum(1) / (count - 1)).sqrt(), torch.nan)


# ------------------------------------------------------------------------------------------------------------ weights
def _own_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _is_expanded(tensor: Tensor) -> bool:
    return any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True))


@contextmanager
def _weights_kept(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Gives a function that puts all parameters and buffers back, and calls it at the end whatever happens."""
    slots = [(module, name, tensor) for module in model.modules() for name, tensor in _own_tensors(module)]
    slots = [slot for slot in slots if not _is_expanded(slot[2])]  # nobody can write into these, so nobody has
    values = {id(tensor): tensor.detach().clone() for *_, tensor in slots}

    @torch.no_grad()
    def restore() -> None:
        for module, name, tensor in slots:
            if getattr(module, name, None) is not tensor:  # some reset_parameters make new ones
                setattr(module, name, tensor)
            tensor.copy_(values[id(tensor)])

    try:
        yield restore
    finally:
        restore()


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Whatever is drawn inside, the generators of torch, numpy and Python go on as if nothing had been."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    states = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])


def _seed(*parts: object) -> None:
    """Seeds all generators with a hash: runs and layers are independent of each other and of their order."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
    torch.random.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # else it would be seeded later, when somebody uses it
        torch.cuda.manual_seed_all(number)
    np.random.seed(number % 2**32)
    random.seed(number)


Layer = tuple[str, list[nn.Module]]


def _cascade(
    plan: Sequence[Layer], order: Order, seeds: Sequence[int], how: Reinitialisation, restore: Callable[[], None]
) -> Iterator[tuple[str, str]]:
    """Randomises layer after layer for each seed; yields its name and how it was done each time."""
    for seed in seeds:
        restore()
        done: set[int] = set()
        for step, (name, modules) in enumerate(plan):
            if order == "independent":
                restore()
                done = set()
            _seed(seed, name)
            ways = {_randomise(module, how, done): None for module in modules}
            _seed(seed, "run", step)
            yield name, ", ".join(ways)


@torch.no_grad()
def _randomise(module: nn.Module, how: Reinitialisation, done: set[int]) -> str:
    """Draws what the module holds itself, but nothing whose id is in ``done``; adds the ids of the rest to it."""
    own = {name: tensor for name, tensor in _own_tensors(module) if id(tensor) not in done}
    before = {name: tensor.clone() for name, tensor in own.items()}
    done |= {id(tensor) for tensor in own.values()}
    way: str = "normal" if how == "own" else how
    names = list(own)
    if how == "own" and callable(getattr(module, "reset_parameters", None)):
        names = _reset(module, before)
        way = f"reset_parameters and normal for {', '.join(names)}" if names else "reset_parameters"
    now = dict(_own_tensors(module))
    for name in names:
        _redraw(now[name], how, isinstance(now[name], nn.Parameter), name.startswith("running_"))
    same = all(torch.equal(value, now[name]) for name, value in before.items())
    return f"{way}, unchanged" if same else way


def _reset(module: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    """Calls ``reset_parameters``; gives the names of the parameters that it forgot, such as those of weight_norm."""
    mine = {id(tensor) for name, tensor in _own_tensors(module) if name in before}
    # Tied tensors that were drawn already, and those of submodules, which some reset_parameters reset too.
    others = [(t, t.clone()) for t in (*module.parameters(), *module.buffers()) if id(t) not in mine]
    module.reset_parameters()  # type: ignore[operator]
    for tensor, value in others:
        tensor.copy_(value)
    parameters = {name: p for name, p in module.named_parameters(recurse=False) if name in before}
    # A constant is what many are initialised with; other values come back by chance only.
    return [n for n, p in parameters.items() if torch.equal(p, before[n]) and not _is_constant(p.flatten())]


def _redraw(tensor: Tensor, how: Reinitialisation, parameter: bool, statistic: bool) -> None:
    if _is_constant(tensor.flatten()):
        return  # not even by rounding
    if parameter and how != "permutation" and tensor.is_floating_point():
        tensor.copy_(tensor.mean() + tensor.std(correction=0) * torch.randn_like(tensor))
    elif parameter or statistic:
        order = torch.randperm(tensor.numel(), device=tensor.device)
        tensor.copy_(tensor.flatten()[order].view_as(tensor))


def _holds_weights(module: nn.Module) -> bool:
    """Whether there is something to randomise: parameters, or statistics that were learned without any."""
    names = [name for name, _ in module.named_buffers(recurse=False)]
    return any(True for _ in module.parameters(recurse=False)) or any(name.startswith("running_") for name in names)


def _plan(
    model: nn.Module, names: Sequence[str] | None, order: Order, calls: Mapping[int, int]
) -> tuple[list[Layer], list[str]]:
    """The layers in the order of randomisation, and the names of those that others hold all weights of."""
    layers = _called_layers(model, calls) if names is None else _named_layers(model, names)
    if not layers:
        raise CanonicalError("model_randomization: expected a network with parameters, got one without any.")
    if order == "top_down":
        layers.reverse()
    seen: set[int] = set()
    plan, shared = [], []
    for name, modules in layers:
        tensors = {id(tensor) for module in modules for _, tensor in _own_tensors(module)}
        (shared.append(name) if tensors <= seen else plan.append((name, modules)))
        if order != "independent":
            seen |= tensors
    return plan, shared


def _called_layers(model: nn.Module, calls: Mapping[int, int]) -> list[Layer]:
    """Each module with weights of its own, by its first call; one without a call stays with the one before it."""
    call, found = -1, []
    for name, module in model.named_modules():
        call = calls.get(id(module), call)
        if _holds_weights(module):
            found.append((call, (name or "(model)", [module])))
    return [layer for _, layer in sorted(found, key=lambda entry: entry[0])]


def _named_layers(model: nn.Module, names: Sequence[str]) -> list[Layer]:
    known = dict(model.named_modules(remove_duplicate=False))
    wrong = [name for name in names if name not in known] if not isinstance(names, str) else [names]
    if wrong:
        raise CanonicalError(
            f"layers: expected a sequence of names of submodules, got {wrong}; the network has {sorted(known)[1:13]}."
        )
    layers = [(name or "(model)", [m for m in known[name].modules() if _holds_weights(m)]) for name in names]
    empty = [name for name, modules in layers if not modules]
    members = [id(module) for _, modules in layers for module in modules]
    if empty or len(set(members)) < len(members):
        raise CanonicalError(
            f"layers: expected submodules with parameters that do not overlap, got {list(names)}; without parameters "
            f"are {empty}."
        )
    return layers


def _first_calls(
    model: nn.Module, method: Any, inputs: Tensor | tuple[Tensor, ...] | None, arguments: Mapping[str, Any]
) -> dict[int, int]:
    """When a forward pass first calls each module, by id. Attribution does not run inside hooks: some methods mind."""
    calls: dict[int, int] = {}
    if not isinstance(method, Attribution) or inputs is None:
        return calls

    def note(module: nn.Module, _: object) -> None:
        calls.setdefault(id(module), len(calls))

    photos = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            run_forward(method.forward_func, photos, format_forward_args(arguments.get("additional_forward_args")))
    finally:
        for handle in handles:
            handle.remove()
    return calls


# ---------------------------------------------------------------------------------------------------------- arguments
def _network_of(method: object, model: nn.Module | None) -> nn.Module:
    if model is None:
        forward = getattr(method, "forward_func", None)
        model = getattr(forward, "__self__", forward)  # net.forward is the network's as well
    if not callable(method) and not isinstance(method, Attribution):
        raise CanonicalError(f"method: expected an attribution or a callable, got {type(method).__name__}.")
    if not isinstance(model, nn.Module):
        raise CanonicalError(
            f"model: expected the network whose layers are randomised, a torch.nn.Module, got {type(model).__name__}; "
            "give it as model= where the method's forward_func is no module."
        )
    return model


def _checked(
    order: str, seeds: Sequence[int], reinitialise: str, attribute_arguments: Mapping[str, Any]
) -> tuple[int, ...]:
    if order not in ("top_down", "bottom_up", "independent"):
        raise CanonicalError(f"order: expected 'top_down', 'bottom_up' or 'independent', got {order!r}.")
    if reinitialise not in ("own", "normal", "permutation"):
        raise CanonicalError(f"reinitialise: expected 'own', 'normal' or 'permutation', got {reinitialise!r}.")
    several = [name for name in ("return_coverage", "return_convergence_delta") if attribute_arguments.get(name)]
    if several:
        raise CanonicalError(f"model_randomization: expected a method that returns maps only; leave out {several}.")
    numbers = tuple(int(seed) for seed in seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise CanonicalError(f"seeds: expected one or more different integers, got {list(seeds)}.")
    return numbers


def _maps(result: object) -> Tensor:
    """(N, C, H, W) float64 on the CPU."""
    if isinstance(result, tuple) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor) or result.ndim != 4 or result.is_complex() or not result.numel():
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise CanonicalError(
            f"model_randomization: expected maps of shape (N, C, H, W) from the method, got {got}; of several maps a "
            "callable can return one."
        )
    return result.detach().to("cpu", torch.float64, copy=True)  # some methods return one tensor again and again


def _maps_and_area(method: object, run: Callable[..., Any], area: Tensor | None) -> tuple[Tensor, Tensor]:
    """The unrandomised maps and which of their values are compared, both (N, C, H, W)."""
    if area is None and isinstance(method, (CanonicalOcclusion, CanonicalProjector)):
        result, coverage = run(return_coverage=True)
        maps, area = _maps(result), _maps(coverage) > 0
    else:
        maps = _maps(run())
    if area is None:
        return maps, torch.ones_like(maps, dtype=torch.bool)
    whole = tuple(maps.shape)
    fits = isinstance(area, Tensor) and area.dtype == torch.bool and area.ndim == 4 and area.shape[2:] == whole[2:]
    if not fits or not all(got in (1, want) for got, want in zip(area.shape[:2], whole[:2], strict=True)):
        raise CanonicalError(
            f"area: expected bool of the maps' shape {whole}, or with 1 for N or C, got "
            f"{getattr(area, 'dtype', type(area).__name__)} of shape {tuple(getattr(area, 'shape', ()))}."
        )
    return maps, area.cpu().expand(whole)


def _examples(keep: bool | Sequence[int], images: int) -> tuple[int, ...]:
    rows = tuple(range(images)) if keep is True else () if keep is False else tuple(int(row) for row in keep)
    if not all(0 <= row < images for row in rows):
        raise CanonicalError(f"keep_maps: expected True, False or indices 0..{images - 1}, got {keep!r}.")
    return rows
