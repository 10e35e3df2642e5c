"""Layers by name, also inside wrappers, and what Captum finds in them with channels first, whatever their layout."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from captum.attr import Attribution, LayerAttribution, LayerIntegratedGradients, LayerLRP
from torch import Tensor, nn

from captum_canonical.attributions.layouts import Layout, LayoutLike, layout_of
from captum_canonical.attributions.outputs import attribute_with
from captum_canonical.attributions.spatial_layers import last_spatial_layer, tensors_in
from captum_canonical.checks import check_callable
from captum_canonical.errors import CanonicalError
from captum_canonical.modules import as_written

WHOLE_TENSOR = (LayerIntegratedGradients, LayerLRP)
"""They replace the layer's tensor, or need the layer itself; each value of their maps is that of one of the tensor."""


# ------------------------------------------------------------------------------------------------------------ by name
def find_layer(forward_func: Callable[..., Any], layer: Any, option: str = "layer") -> nn.Module:
    """The layer itself, or the module of the model that has this name; wrappers need not be named.

    A wrapper is a module with one child and no parameters of its own: a confidence, ``as_network``, DataParallel.

    Args:
        forward_func: the network.
        layer: a module of it, or its name.
        option: what messages call it.

    Raises:
        CanonicalError: it is neither, or ``forward_func`` is no module that has names.

    Example::

        >>> net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
        >>> find_layer(nn.Sequential(net), "0.1")
        ReLU()
    """
    check_callable("forward_func", forward_func)
    if isinstance(layer, nn.Module):
        return layer
    if not isinstance(layer, str):
        raise CanonicalError(
            f"{option}: expected one module of the network, or its name, got {type(layer).__name__}; of several "
            "layers, make a method for each."
        )
    if not isinstance(forward_func, nn.Module):
        raise CanonicalError(
            f"{option}: the name {layer!r} needs a torch.nn.Module to look it up in, got "
            f"{type(forward_func).__name__} as forward_func; pass the module itself."
        )
    found = module_named(forward_func, layer) if layer else None
    if found is not None:
        return found
    modules = {name: module for name, module in [*_inside(forward_func)][-1].named_modules() if name}
    close = get_close_matches(layer, modules, n=5, cutoff=0.5) or list(modules)[-5:]
    known = f"it has {', '.join(close)}" if modules else "it is a single module"
    raise CanonicalError(f"{option}: the network has no module {layer!r}; {known}.")


def module_named(network: nn.Module, name: str) -> nn.Module | None:
    """The module of this name in the network, or in what its wrappers hold."""
    for inner in _inside(network):
        modules = dict(inner.named_modules(remove_duplicate=False))
        if name in modules:
            return modules[name]
    return None


def _inside(network: nn.Module) -> Iterator[nn.Module]:
    """The network, then what is inside its wrappers, one after the other."""
    yield network
    while len(children := list(network.children())) == 1 and not any(True for _ in network.parameters(recurse=False)):
        network = children[0]
        yield network


def with_layers(method: Any) -> Any:
    """The method, or a copy of it in which a layer that is given by its name is the module, also inside wrappers."""
    return _with_layer(method, lambda held: find_layer(held.forward_func, held.layer))


def _with_layer(method: Any, change: Callable[[Any], nn.Module], names_only: bool = True) -> Any:
    """The method, or a copy in which the layer that it, or a method inside it, looks into is another one."""
    for name in ("attribution_method", "grad_cam"):
        inner = getattr(method, name, None)
        if isinstance(inner, Attribution):
            changed = _with_layer(inner, change, names_only)
            return method if changed is inner else _copy(method, name, changed)
    layer = getattr(method, "layer", None)
    if not isinstance(method, Attribution) or not isinstance(layer, str if names_only else nn.Module):
        return method
    return _copy(method, "layer", change(method))


def _copy(method: Any, name: str, value: Any) -> Any:
    method = copy.copy(method)
    setattr(method, name, value)
    return method


# ---------------------------------------------------------------------------------------------------- channels first
class ChannelsFirst(nn.Identity):
    """Stands in the network behind (or before) a layer, where its tensors have their channels first."""

    def forward(self, *tensors: Tensor) -> Any:
        """The tensors as they are."""
        return tensors if len(tensors) > 1 else tensors[0]


class LayerView:
    """While it is open, a layer's tensors pass through :attr:`module` with their channels first, and back.

    Methods that look at that module instead of the layer do what they would do in a network with channels first:
    nothing of them is computed anew here. Of several tensors only those with positions pass, if there are any.

    Args:
        layer: of the network.
        images: the inputs of the network.
        layout: of the layer's tensors, where it is known.
        forward_func: that the layer belongs to.
        before: look at the layer's inputs, not at its outputs.

    Attributes:
        module: for methods to look at; the layer itself if that is a :class:`ChannelsFirst` already.
        error: why the layer's tensors, when it ran last, hold no maps; or None.
        runs: of the layer so far.
    """

    def __init__(
        self,
        layer: nn.Module,
        images: Sequence[Tensor],
        layout: LayoutLike | None = None,
        forward_func: object = None,
        before: bool = False,
    ) -> None:
        self.module = layer if isinstance(layer, ChannelsFirst) else ChannelsFirst()
        self.error: CanonicalError | None = None
        self.runs = 0
        self.flat = True
        self._layer, self._before = layer, before
        self._given = None if layout is None else Layout.of(layout)
        self._sizes = [(x.shape[2], x.shape[3]) for x in images if x.ndim == 4]
        self._modules = [layer, *(forward_func.modules() if isinstance(forward_func, nn.Module) else ())]

    def __enter__(self) -> LayerView:
        if self.module is self._layer:
            return self
        if self._before:
            self._handle = self._layer.register_forward_pre_hook(lambda _, inputs: self._through(inputs))
        else:
            self._handle = self._layer.register_forward_hook(lambda _, inputs, output: self._through(output))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self.module is not self._layer:
            self._handle.remove()
            if self.error is not None and (error is None or isinstance(error, Exception)):
                raise self.error from error

    def layout(self, shape: Sequence[int]) -> Layout | None:
        """Of a tensor of the layer.

        Raises:
            CanonicalError: as :func:`layout_of`.
        """
        return layout_of(shape, self._sizes, self._given, self._modules)

    def _through(self, held: Any) -> Any:
        """What a layer gets or returns, with its tensors seen by the module on the way."""
        self.runs, self.error = self.runs + 1, None
        tensors = tensors_in(held)
        spatial = {place: x for place, x in tensors.items() if x.ndim > 2}
        tensors, self.flat = spatial or tensors, not spatial
        if not tensors:
            return held
        layouts = {}
        for place, x in tensors.items():
            try:
                layouts[place] = self.layout(x.shape) or Layout("channels_first")
            except CanonicalError as error:  # which counts unless the layer runs again, with other tensors
                self.error, layouts[place] = error, Layout("channels_first")
        seen = self.module(*(layouts[place].channels_first(x) for place, x in tensors.items()))
        seen = seen if isinstance(seen, tuple) else (seen,)
        parts = zip(tensors.items(), seen, strict=True)
        return _replaced(held, {place: layouts[place].restored(maps, x) for (place, x), maps in parts})


def _replaced(held: Any, tensors: dict[Any, Tensor]) -> Any:
    if isinstance(held, Tensor):
        return tensors[None]
    if isinstance(held, Mapping):
        held = copy.copy(held)
        for place, x in tensors.items():
            held[place] = x
        return held
    parts = [tensors.get(place, part) for place, part in enumerate(held)]
    return type(held)(*parts) if hasattr(held, "_fields") else type(held)(parts)


def attribute_channels_first(
    method: Attribution, inputs: Any, args: Sequence[Any], kwargs: Mapping[str, Any], caller: object = None
) -> Any:
    """``method.attribute(inputs, *args, **kwargs)``; the maps of a layer come with their channels first.

    Args:
        method: a method; if it, or one that it wraps, looks into a layer, ``layout`` among the arguments may say how
            that holds its maps.
        inputs: as the method takes them.
        args: as the method takes them.
        kwargs: likewise.
        caller: a method that does with (N, C) tensors, too; messages name it.

    Raises:
        CanonicalError: the layer has no maps that could lie on the images.
    """
    given = dict(kwargs)
    layout = given.pop("layout", None)
    inner = _looking_into_a_layer(method)
    if inner is None:
        if layout is not None:
            raise CanonicalError(f"layout: {type(method).__name__} looks into no single layer; leave it out.")
        return attribute_with(method, inputs, *args, **given)
    photos = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    view = LayerView(inner.layer, photos, layout, inner.forward_func, _before(method, inputs, args, given))
    try:
        if isinstance(inner, WHOLE_TENSOR):
            with as_written(inner.forward_func):
                return _converted(attribute_with(method, inputs, *args, **given), view, given)
        with as_written(inner.forward_func), view:
            seen = _with_layer(method, lambda _: view.module, names_only=False)
            result = attribute_with(seen, inputs, *args, **given)
        if caller is None and view.runs and view.flat and any(x.ndim == 4 for x in photos):
            raise CanonicalError(
                "the layer's tensors have no positions: a layer that is not convolutional, nor of tokens, cannot be "
                "projected onto a face."
            )
        return result
    except (CanonicalError, RuntimeError) as error:
        reason = _about_the_layer(error, view)
        if reason is None or (caller and isinstance(error, RuntimeError)):
            raise
        offer = _offer(inner.forward_func, photos, given.get("additional_forward_args"))
        raise CanonicalError(f"{type(caller or inner).__name__}: {reason}{offer}") from error


def _about_the_layer(error: Exception, view: LayerView) -> str | None:
    if "not have been used in the graph" in str(error):
        return "the score does not depend on what the layer returns; choose another layer."
    mine = isinstance(error, CanonicalError) and (view.error is not None or (view.runs > 0 and view.flat))
    return str(error) if mine else None


def _looking_into_a_layer(method: Any) -> Any:
    """The method, or the one inside it, that makes maps of a single layer; None if there is none."""
    while (inner := getattr(method, "grad_cam", getattr(method, "attribution_method", None))) is not None:
        method = inner
    single = isinstance(method, LayerAttribution) and isinstance(method.layer, nn.Module)
    return method if single else None


def _before(method: Attribution, inputs: Any, args: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Whether the method is to look at the layer's input; wrappers hand that on by its name."""
    named = inspect.signature(method.attribute).bind_partial(inputs, *args).arguments
    return bool({**named, **given}.get("attribute_to_layer_input"))


def _converted(result: Any, view: LayerView, given: Mapping[str, Any]) -> Any:
    """The maps of a layer, which have its own layout."""
    if given.get("return_convergence_delta"):
        return _converted(result[0], view, {}), result[1]
    if isinstance(result, tuple):
        return tuple(_converted(each, view, {}) for each in result)
    layout = view.layout(result.shape)
    return result if layout is None else layout.channels_first(result)


def _offer(forward_func: object, photos: tuple[Tensor, ...], args: object) -> str:
    if not isinstance(forward_func, nn.Module):
        return ""
    try:
        return f" The last layer with positions is {last_spatial_layer(forward_func, photos, args)!r}."
    except Exception:  # this is about another error
        return ""
