"""The part of a network's output that is explained: by key, place or columns, or a head of classes by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from itertools import accumulate
from numbers import Real
from typing import Any

from torch import Tensor

from captum_canonical._captum import as_output, members_of, output_in_words
from captum_canonical.checks import check_integer, check_several
from captum_canonical.confidence.base import Confidence
from captum_canonical.errors import CanonicalError

Step = str | int | slice
Output = Step | tuple[Step, ...] | None
Classes = Sequence[str] | Mapping[str, Sequence[str] | int] | None


class NetworkOutput(Confidence):
    """A network of which one part of the output counts, as a network that returns that part as (N, K).

    It is a module around the network: gradients and layers are the network's own, incremental inference looks through
    it, and a run is not taken for one of another part.

    Several heads may lie side by side in one vector, as FairFace's 18 logits do (7 races, 2 genders, 9 ages):
    ``classes`` names them in their order, and ``output`` the one that counts.

    Args:
        model: the network, or any other callable, such as a black box that returns NumPy's arrays.
        output: the key of a dictionary or the name of an attribute; the place in a tuple; a slice, of the columns of
            one matrix; the name of a head in ``classes``; or a tuple of these, for a part of a part. Default: what is
            called "logits" (Hugging Face's ModelOutput), else the only member.
        classes: the names of the classes of this part, in their order, or ``{head: names or number of its classes}``.

    Attributes:
        classes: names of the classes of this part, None where they have none.
        head: the name of the head, or None.

    Raises:
        CanonicalError: the network returns no such part (those that there are are listed), it is no matrix, or has
            another number of columns than there are classes.

    Example::

        >>> import torch
        >>> both = lambda x: {"vector": x, "features": x.mean(1)}
        >>> net = NetworkOutput(both, ("vector", "gender"), {"race": 3, "gender": ["female", "male"]})
        >>> net(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])), net.classes
        (tensor([[4., 5.]]), ('female', 'male'))
        >>> NetworkOutput(both, slice(1, 3))(torch.ones(1, 5))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: output: the network returns dict of 'vector' (1, 5), 'features' (1,)...
    """

    output_name = "scores"

    def __init__(self, model: Callable[..., Any], output: Output = None, classes: Classes = None) -> None:
        super().__init__(model)
        self.steps = _steps(output)
        self.heads = _heads(classes)
        self.head = _head(self.steps, self.heads)
        names: Any = classes[str(self.head)] if isinstance(classes, Mapping) else classes
        self.classes = None if names is None or (self.heads and isinstance(names, int)) else _names(names)

    def select(self, output: Any) -> Any:
        """The part of what one run of the network returns."""
        for step in self.steps:
            output = self._member(output, step)
        return as_output(output)

    def confidence(self, scores: Tensor) -> Tensor:
        """(N, K) the part itself."""
        count = None if self.classes is None else len(self.classes)
        if count not in (None, scores.shape[1]) and not (count == 2 and scores.shape[1] == 1):
            raise CanonicalError(
                f"classes: expected a name for each of the {scores.shape[1]} columns of the network's output, got "
                f"{count} ({', '.join(self.classes[:10])}); several heads in one vector are given as "  # type: ignore[index]
                "classes={'race': [...], 'gender': [...]}, in their order, and output='race' takes one."
            )
        return scores

    @property
    def part(self) -> str:
        """The part in words, for reports and the settings of runs."""
        return ", ".join(f"columns {step}" if isinstance(step, slice) else str(step) for step in self.steps)

    def _member(self, output: Any, step: Step) -> Any:
        members = members_of(output)
        if not isinstance(step, slice):
            if step in members:
                return members[step]
            if isinstance(step, int) and -len(members) <= step < len(members):  # ModelOutput counts its entries, too
                return list(members.values())[step]
            if isinstance(step, str) and not members and not _is_tensor(output) and hasattr(output, step):
                return getattr(output, step)
        matrix = as_output(output)  # which may be the only member
        if (isinstance(step, slice) or step == self.head) and _is_tensor(matrix):
            columns = step if isinstance(step, slice) else self._columns(matrix)
            if not isinstance(matrix, Tensor) or (matrix.ndim >= 2 and _lies_in(columns, matrix.shape[1])):
                return matrix[:, columns]
        raise CanonicalError(self._unknown(output, step))

    def _columns(self, matrix: Any) -> slice:
        """Those of the head."""
        sizes = self.heads or {}
        if isinstance(matrix, Tensor) and matrix.ndim >= 2 and sum(sizes.values()) != matrix.shape[1]:
            raise CanonicalError(
                f"classes: expected heads with as many classes as the network's output has columns, {matrix.shape[1]}, "
                f"got {sum(sizes.values())} ({', '.join(f'{name} {size}' for name, size in sizes.items())})."
            )
        end = dict(zip(sizes, accumulate(sizes.values()), strict=True))[str(self.head)]
        return slice(end - sizes[str(self.head)], end)

    def _unknown(self, output: Any, step: Step) -> str:
        known = [*map(str, members_of(output)), *(self.heads or ())]
        close = get_close_matches(str(step), known, n=1)
        hint = f"; {close[0]!r}?" if close else "."
        if not known:
            hint = ". Columns are taken by output=slice(start, stop), heads by their names in classes={...}."
        what = "matrix whose columns could be taken" if isinstance(step, slice) else repr(step)
        return f"output: the network returns {output_in_words(output)}, in which there is no {what}{hint}"


def as_network(model: Callable[..., Any], output: Output = None, classes: Classes = None) -> NetworkOutput:
    """A network, whatever it returns, as one that returns a matrix of scores: :class:`NetworkOutput`.

    Example::

        >>> import torch
        >>> as_network(lambda x: (x.mean(1), x), output=1)(torch.ones(1, 2))
        tensor([[1., 1.]])
    """
    return NetworkOutput(model, output, classes)


def network_output_of(forward_func: object) -> NetworkOutput | None:
    """The network output that a forward function is, or that confidences are around; else None.

    Example::

        >>> network_output_of(Confidence(as_network(abs, output="logits"))).part, network_output_of(abs)
        ('logits', None)
    """
    while isinstance(forward_func, Confidence) and not isinstance(forward_func, NetworkOutput):
        forward_func = forward_func.model
    return forward_func if isinstance(forward_func, NetworkOutput) else None


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor, or what stands for one while a network is traced."""
    return hasattr(type(value), "__torch_function__")


def _lies_in(columns: slice, count: int) -> bool:
    """Whether there are such columns: a slice that reaches beyond the last one would silently be a shorter one."""
    return bool(range(*columns.indices(count))) and all(abs(end or 0) <= count for end in (columns.start, columns.stop))


def _steps(output: Output) -> tuple[Step, ...]:
    steps = () if output is None else output if isinstance(output, tuple) else (output,)
    for step in steps:
        if isinstance(step, bool) or not isinstance(step, (str, int, slice)):
            raise CanonicalError(
                f"output: expected a key, the place in a tuple, a slice of columns, the name of a head, or a tuple of "
                f"these, got {step!r}."
            )
    return steps


def _heads(classes: Classes) -> dict[str, int] | None:
    """The number of classes of each head, in their order."""
    if not isinstance(classes, Mapping):
        return None
    return {
        str(head): check_integer(f"classes[{head!r}]", each, 1) if isinstance(each, (int, Real)) else len(_names(each))
        for head, each in classes.items()
    }


def _head(steps: tuple[Step, ...], heads: Mapping[str, int] | None) -> str | None:
    if heads is None:
        return None
    named = steps[-1] if steps else None
    if not isinstance(named, str) or named not in heads:
        raise CanonicalError(
            f"output: expected the name of one of the heads in classes, {', '.join(heads)}, got {named!r}; a map "
            "explains one of them."
        )
    return named


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(map(str, check_several("classes", classes, "names")))
    if not names or len(set(names)) < len(names):
        raise CanonicalError(f"classes: expected different names of the columns, in their order, got {classes!r}.")
    return names
