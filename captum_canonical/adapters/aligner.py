"""The interface of aligners, which find the face in images, and aligners made of functions, classes and names."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from captum_canonical.errors import CanonicalError, NoFaceError
from captum_canonical.faces.images import Images
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.fingerprint import describe, fingerprint
from captum_canonical.functions import attributes_of


class Aligner(ABC):
    """Base class of aligners: a callable from images to the mesh of the faces in them.

    Subclass :class:`DetectorAligner` where faces are looked for in one image after the other: it leaves only that to
    write. An aligner with a name (``ALIGNERS.register``, or an entry point in the group ``captum_canonical.aligners``)
    is known to the command line by that name.

    Attributes:
        topology: name of the vertex numbering, which the canonical face must share; None if it has no name.
        face: ``"largest"`` if each image gives one row of the mesh, ``"all"`` if it may give several. Data sets need
            ``"largest"``.
        packages: names of the installed packages whose releases decide the meshes, such as the one with the network.
            Those of base classes count too.

    Example::

        >>> import torch
        >>> from captum_canonical.faces.images import count_and_size
        >>> class WholeImage(Aligner):
        ...     def __call__(self, images, *, names=None):
        ...         count, (height, width) = count_and_size(images)
        ...         corners = torch.tensor([[0.0, 0, 0], [width, 0, 0], [0, height, 0], [width, height, 0]])
        ...         return FaceMesh(corners.expand(count, 4, 3), image_size=(height, width))
        >>> WholeImage()(torch.rand(2, 3, 10, 20)).boxes[1].tolist()
        [0.0, 0.0, 20.0, 10.0]
    """

    topology: str | None = None
    face: str = "largest"
    packages: tuple[str, ...] = ("captum-canonical",)

    @abstractmethod
    def __call__(self, images: Images, *, names: Sequence[str] | None = None) -> FaceMesh:
        """Finds the face, or faces, in every image.

        Args:
            images: HxWx3 uint8 RGB arrays of one size, or a (B, 3, H, W) tensor. A data set gives a list of one array.
            names: what to call the images in errors, such as their file names.

        Returns:
            A mesh of which each row belongs to one image, in pixels of that image; for an image without a face, a row
            with ``found=False``.

        Raises:
            NoFaceError: an image shows no face, where the aligner does not give a row with ``found=False``.
            AlignmentError: an image cannot be aligned; data sets leave it out.
        """

    def cache_key(self) -> str:
        """A text that changes whenever the meshes of the same photographs may change. Cached meshes are found by it.

        It holds the source code of the class (where there is some), the releases of :attr:`packages` and all attributes
        of the object: numbers and texts as they are, files (``pathlib.Path`` of one) and arrays by their contents,
        nested aligners by their own keys. Override it only if there are attributes that say nothing about the meshes,
        or that have no such description, such as a network.

        Raises:
            CanonicalError: an attribute has no description; the message names it.

        Example::

            >>> from captum_canonical.adapters import MediaPipeAligner
            >>> MediaPipeAligner().cache_key() == MediaPipeAligner(max_faces=3).cache_key()
            False
        """
        return _key_of(self, {name for base in type(self).__mro__ for name in vars(base).get("packages", ())})

    def try_out(self) -> str | None:
        """Looks for a face in a black image, to learn whether everything is there; ``captum-canonical info`` asks.

        Override it where the first use would download something.

        Returns:
            None if it ran, otherwise why it was not tried.

        Raises:
            Exception: what stands in the way of using it, such as :class:`MissingDependencyError`.

        Example::

            >>> from captum_canonical.adapters import FaceMeshAligner
            >>> FaceMeshAligner().try_out() is None
            True
        """
        try:
            self([np.zeros((64, 64, 3), np.uint8)])
        except NoFaceError:
            pass
        return None

    def __fingerprint__(self) -> object:
        try:
            return self.cache_key()
        except CanonicalError:  # attributes with no description: refused again where the fingerprint is a strict one
            return attributes_of(self) or type(self)


class CallableAligner(Aligner):
    """A function or any other callable from images to a :class:`FaceMesh` as an aligner.

    Args:
        function: is given ``names`` if it has a parameter of that name.
        key: see :meth:`Aligner.cache_key`. Default: the class and attributes of an object; a function has none.
    """

    def __init__(self, function: Callable[..., FaceMesh], key: str | None = None) -> None:
        self.function, self.key = function, key

    def __call__(self, images: Images, *, names: Sequence[str] | None = None) -> FaceMesh:
        """What the function returns."""
        return self.function(images, names=names) if names and _takes_names(self.function) else self.function(images)

    def cache_key(self) -> str:
        """The key, or the description of the object."""
        return f"key {self.key}" if self.key is not None else _key_of(self.function, set())


def as_aligner(aligner: Callable[..., FaceMesh]) -> Aligner:
    """An aligner as it is, any other callable as a :class:`CallableAligner`.

    Raises:
        CanonicalError: it is neither.
    """
    if isinstance(aligner, type) or not callable(aligner):
        got = f"the class {aligner.__name__}" if isinstance(aligner, type) else type(aligner).__name__
        raise CanonicalError(f"aligner: expected a callable from images to a FaceMesh, got {got}.")
    return aligner if isinstance(aligner, Aligner) else CallableAligner(aligner)


def make_aligner(source: Any, options: Mapping[str, Any]) -> Aligner:
    """An aligner from an instance, a class, a factory or a function of images.

    Args:
        source: an aligner, a callable that takes images, or a class or function that needs no arguments and returns one
            of these.
        options: keyword arguments for such a class or function; those that it has no parameters for are left out.

    Raises:
        CanonicalError: ``source`` is none of these.

    Example::

        >>> from captum_canonical.adapters import MediaPipeAligner
        >>> make_aligner(MediaPipeAligner, {"on_missing": "skip", "device": "cpu"}).on_missing
        'skip'
    """
    if isinstance(source, Aligner) or not callable(source):
        return as_aligner(source)
    parameters = _parameters(source)
    needed = [each.name for each in parameters or () if each.default is each.empty and each.kind != each.VAR_KEYWORD]
    if isinstance(source, type) and needed:
        raise CanonicalError(
            f"aligner: expected a class that needs no arguments, but {source.__name__} needs {', '.join(needed)}; name "
            "an instance of it, or a function that returns one."
        )
    if needed or parameters is None:  # the images
        return as_aligner(source)
    known = {each.name for each in parameters}
    return as_aligner(source(**{name: value for name, value in options.items() if name in known}))


def _takes_names(function: Callable[..., Any]) -> bool:
    return any(each.name == "names" or each.kind is each.VAR_KEYWORD for each in _parameters(function) or ())


def _parameters(source: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(source).parameters.values())
    except (TypeError, ValueError):  # some that are written in C
        return None


def _key_of(aligner: object, packages: set[str]) -> str:
    kind = type(aligner)
    name = f"{kind.__module__}.{kind.__qualname__}"
    attributes = attributes_of(aligner)
    if attributes is None:  # a function, a network
        raise CanonicalError(f"the aligner is {name}, which has no stable description")
    described = {
        key: describe(value, strict=True, place=f"{kind.__name__}.{key}") for key, value in sorted(attributes.items())
    }
    releases = {name: _release(name) for name in sorted(packages)}
    return repr({"class": name, "source": _source_digest(kind), "packages": releases, "attributes": described})


def _source_digest(kind: type) -> str:
    """Of the source code of a class and its bases, as far as there is some."""
    texts = []
    for base in kind.__mro__:
        if base.__module__ not in ("abc", "builtins", "typing"):
            try:
                texts.append(inspect.getsource(base))
            except (OSError, TypeError):  # written in C, or typed at a prompt
                texts.append(base.__qualname__)
    return fingerprint(texts)[:16]


def _release(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
