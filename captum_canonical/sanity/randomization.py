"""Does a map depend on what the network has learned? Its layers are randomised, the maps compared (the paper's Fig. 8).

References:
    Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv 1810.03292 (cascading, independent).
    Hedstrom et al.: A Fresh Look at Sanity Checks for Saliency Maps, arXiv 2405.02383 (what biases the check).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_canonical.attributions.base import AttributionMaps, as_tuple, run_attribution
from captum_canonical.checks import check_choice, check_integer, check_several
from captum_canonical.errors import CanonicalError
from captum_canonical.inference.rounding import rounding_collected, warn_of_rounding
from captum_canonical.restore import network_kept, random_state_kept
from captum_canonical.sanity.result import RandomizationTest
from captum_canonical.sanity.similarity import MEASURES, MapComparison
from captum_canonical.sanity.weights import (
    Order,
    Reinitialisation,
    cascade,
    first_calls,
    plan_of,
    seed_all,
)

logger = logging.getLogger("captum_canonical")
NOTHING_CHANGED = (
    "model_randomization: no map has changed at all; is `model` the network that the method uses, and does the method "
    "use its weights?"
)


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
    if isinstance(method, Attribution):
        as_tuple(inputs)  # type: ignore[arg-type]  # raises where it is none
    numbers = _checked(order, seeds, reinitialise, attribute_arguments)
    run = partial(run_attribution, method, inputs, attribute_arguments)
    with random_state_kept(), rounding_collected() as rounding, network_kept(network, parameters=True) as state:
        seed_all(numbers[0], "order")
        plan, shared = plan_of(network, layers, order, first_calls(network, method, inputs, attribute_arguments))
        with tqdm(total=len(numbers) * len(plan) + 2, desc="Model randomization", disable=not show_progress) as bar:
            seed_all(numbers[0], "original")
            comparison = MapComparison.of(*_maps_and_area(run(), area))
            examples = _examples(keep_maps, len(comparison.original))
            bar.update()
            seed_all(numbers[0], "again")
            control = comparison.measure(_on_cpu(run().maps))
            bar.update()
            cells: list[Tensor] = []
            kept: list[Tensor] = []
            reinitialised, changed = dict.fromkeys(shared, "shared"), False
            for name, how in cascade(plan, order, numbers, reinitialise, state.restore_tensors):
                reinitialised[name] = how
                maps = _on_cpu(run().maps)
                cells.append(comparison.measure(maps))
                kept.append(maps[list(examples)].float())
                changed = changed or not torch.equal(maps, comparison.original)
                bar.update()
    if rounding:  # of the network as it is
        warn_of_rounding(rounding[0], "the scores are computed in half precision")
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
        reinitialised=reinitialised,
        ssim_range=comparison.ranges,
        ssim_window=comparison.window,
        examples=examples,
        original=original,
        maps=torch.stack(kept).view(len(numbers), len(plan), *original.shape).transpose(0, 1),
    )


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
    check_choice("order", order, ("top_down", "bottom_up", "independent"))
    check_choice("reinitialise", reinitialise, ("own", "normal", "permutation"))
    several = [name for name in ("return_coverage", "return_convergence_delta") if attribute_arguments.get(name)]
    if several:
        raise CanonicalError(f"model_randomization: expected a method that returns maps only; leave out {several}.")
    given = check_several("seeds", seeds, "different integers")
    numbers = tuple(check_integer("seeds", seed, 0) for seed in given)
    if not numbers or len(set(numbers)) < len(numbers):
        raise CanonicalError(f"seeds: expected one or more different integers, got {list(numbers)}.")
    return numbers


def _on_cpu(maps: Tensor) -> Tensor:
    return maps.detach().to("cpu", torch.float64, copy=True)  # some methods return one tensor again and again


def _maps_and_area(found: AttributionMaps, area: Tensor | None) -> tuple[Tensor, Tensor]:
    """The unrandomised maps and which of their values are compared, both (N, C, H, W)."""
    maps = _on_cpu(found.maps)
    if area is None and found.coverage is not None:
        area = found.coverage > 0
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
