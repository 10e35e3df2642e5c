"""explain_dataset: one call from a network and photographs to a finished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical.attributions.base import CanonicalAttribution, on_face, with_wrapped
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.checks import check_callable, check_choice, check_device, check_dtype, check_integer, check_path
from captum_canonical.confidence.outputs import network_output_of
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.fingerprint import network_digest
from captum_canonical.modules import device_of, dtype_of, warn_if_training
from captum_canonical.restore import random_state_kept
from captum_canonical.run_folder.manifest import Manifest
from captum_canonical.runs.job import Job
from captum_canonical.runs.photo_maps import PhotoMaps
from captum_canonical.runs.processes import Processes, joined
from captum_canonical.runs.rotation import RotatingPoints
from captum_canonical.runs.sources import PhotoSource, RunData, source_of
from captum_canonical.runs.stopping import Rule, SplitHalf, StandardError
from captum_canonical.runs.targets import take_class_names, target_of_run
from captum_canonical.saliency.result import ModelSaliency


def method_for(
    forward_func: Callable[..., Any],
    method: Attribution | None,
    canonical_face: FaceLike | None,
    inference: Any,
) -> tuple[CanonicalAttribution, CanonicalFace]:
    """A method that writes canonical maps, and the face that they are on; the user's own stays as it is.

    Raises:
        CanonicalError: it is no method, or arguments contradict each other.
    """
    canonical_face = None if canonical_face is None else CanonicalFace.of(canonical_face)
    if method is None:
        face = canonical_face or CanonicalFace.default()
        if inference is not None:
            check_choice("inference", inference, ("auto", "incremental", "dense"))
        return CanonicalOcclusion(forward_func, None, face, inference or "auto"), face
    if inference is not None:
        raise CanonicalError("inference: expected only without method=; give it to that method's constructor.")
    if not isinstance(method, Attribution):
        raise CanonicalError(f"method: expected an attribution, such as CanonicalOcclusion(net), got {method!r}.")
    if not isinstance(method, CanonicalAttribution):
        inner = getattr(method, "attribution_method", None)
        if isinstance(inner, CanonicalAttribution):
            raise CanonicalError(
                f"method: {type(method).__name__} around {type(inner).__name__} gives no coverage; write it the other "
                "way round, CanonicalProjector(NoiseTunnel(Saliency(net)))."
            )
        face = canonical_face or CanonicalFace.default()
        return CanonicalProjector(method, canonical_face=face), face
    own = method.canonical_face
    if own is not None and canonical_face is not None and own is not canonical_face:
        raise CanonicalError("canonical_face: the method has one of its own; give it only once.")
    face = own or canonical_face or CanonicalFace.default()
    return on_face(method, face), face


OneTarget = str | int | tuple[int, ...]
Target = Literal["predicted", "given"] | OneTarget | Mapping[str, OneTarget] | Sequence[OneTarget] | Tensor | None


def explain_dataset(
    forward_func: Callable[..., Any],
    data: RunData,
    out: str | PathLike[str],
    *,
    target: Target = "predicted",
    method: Attribution | None = None,
    canonical_face: FaceLike | None = None,
    inference: Literal["auto", "incremental", "dense"] | None = None,
    points: Literal["fixed", "rotating"] = "fixed",
    symmetric: bool = False,
    until: Rule | None = None,
    batch_size: int = 8,
    seed: int = 0,
    network_key: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    num_workers: int = 0,
    timeout: float = 1800.0,
    show_progress: bool = True,
    **arguments: Any,
) -> ModelSaliency:
    r"""Explains every photograph of a data set on one canonical face, and averages the maps (Eq. 6).

    Maps are written into the folder ``out`` batch by batch. A run that was killed goes on where it was when the same
    call is made again, and ends with the same summary, in one process to the byte; with other settings, another
    network or other photographs it is refused. The memory needed does not grow with the number of photographs.

    A photograph that fails (it cannot be read any more, the network or the method raises, a value is not finite, no
    face is seen) is recorded with the reason, and the others go on; if all of the first batch fail, the call does.

    **Ctrl-C** raises KeyboardInterrupt, which names the folder: :meth:`ModelSaliency.open` reads what is there, and
    the same call goes on.

    **Many processes**: the same call under ``torchrun --nproc-per-node 4 script.py`` deals the batches out to the
    processes, all of which return the same result as one process does. The folder must be one that all of them see. A
    process that fails or dies ends the others with an error, and the run goes on with any number of processes. Give
    :class:`AlignedFaces` a ``cache``, so that each face is found by one of them and read by the others. On several
    computers, which share the folders, call on each, with the first one's name::

        torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint FIRST:29500 --rdzv-id 1 script.py

    and under Slurm, whose ``--requeue`` starts a job that was cut off again, which then goes on where it was::

        #SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 --requeue
        export FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 4 --rdzv-backend c10d \\
            --rdzv-endpoint "$FIRST:29500" --rdzv-id "$SLURM_JOB_ID" script.py

    With a GPU for each process, move the network to ``f"cuda:{os.environ['LOCAL_RANK']}"``; what processes tell each
    other goes through gloo whatever the script has begun itself (nccl included).

    Args:
        forward_func: the network, or any callable that returns one row of scores for each image. Its mode, hooks and
            the random state are afterwards as before; call ``.eval()`` on it first.
        data: :class:`AlignedFaces`; ``(images, faces)`` or ``(images, faces, targets)`` as tensors and a
            :class:`FaceMesh`, or an aligner of tensors; or an iterable of :class:`FaceBatch` that can be gone through
            again, whose batches are taken as they come. All but the last are taken in a random order that ``seed``
            fixes.
        out: folder of the run, made if it is not there.
        target: ``"predicted"``, for each photograph the class with the largest score; ``"given"``, the data's targets;
            or a class for all, its index or its name in ``AlignedFaces(classes=...)`` or
            ``ClassConfidence(classes=...)``; or a target for each photograph, ``{name or path: class}``, a list or
            tensor in the order of the data (of ``AlignedFaces.rows``), or the name of a column of groups with classes.
            Of a :class:`ZeroShotConfidence`, "predicted" is the nearest image of the gallery and "given" the nearest
            of the photograph's own identity, the photograph itself left out. A network with a single score for each
            photograph takes "predicted" or None.
        method: what makes the maps: :class:`CanonicalOcclusion`, :class:`CanonicalProjector`, or a method of Captum,
            which is projected. Default: :class:`CanonicalOcclusion`.
        canonical_face: that maps are written on. Default: the method's, else :meth:`CanonicalFace.default`.
        inference: of the default method. Default: ``"auto"``.
        points: ``"rotating"``: each photograph evaluates another set of ``num_points`` of the occlusion points, and
            nothing is interpolated (:class:`~captum_canonical.runs.rotation.RotatingPoints`). A map of the network
            needs a fraction of the forward passes then; maps of single photographs have holes and are approximate.
            ``"fixed"``: all photographs the same ones.
        symmetric: pool each map with its mirror image in the summary; single maps stay as they are.
        until: stop when there are enough photographs, :class:`StandardError` or :class:`SplitHalf`, judged after 32,
            48, 64, 96, 128, ... photographs, in whole batches. What the rule reads at the end is a little optimistic.
        batch_size: photographs that are explained at once.
        seed: of the order, and of methods that draw random numbers.
        network_key: a text that stands for the network, for one with parts that cannot be compared (a remote service,
            an object in C): change it whenever the outputs would. Default: weights, settings, hooks and the code of
            the user's classes and functions are compared.
        device: where photographs are moved to. Default: where the network's weights are.
        dtype: floating-point type in which the network is given photographs, such as ``torch.bfloat16``. Default: that
            of its weights. Half precision rounds drops; how much is recorded of each photograph (``rounding``).
        num_workers: processes that read photographs ahead, of :class:`AlignedFaces`.
        timeout: seconds after which a process that is silent counts as dead.
        show_progress: a bar on stderr with photographs per second and the time left.
        **arguments: of ``method.attribute``, the same for all photographs: ``patch_size``, ``num_points``,
            ``baselines`` and so on.

    Returns:
        The mean map and everything behind it; see :class:`ModelSaliency`.

    Raises:
        CanonicalError: an argument does not fit, the folder is another run's or in use, the disk is full, another
            process has died, or no photograph can be explained.

    Example::

        >>> import tempfile
        >>> from captum_canonical.faces.mesh import FaceMesh
        >>> face = CanonicalFace.default(32)
        >>> faces = FaceMesh(face.vertices.repeat(5, 1, 1), image_size=(32, 32), topology=face.topology)
        >>> network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 2)).eval()
        >>> folder = tempfile.TemporaryDirectory()
        >>> result = explain_dataset(network, (torch.rand(5, 3, 32, 32), faces), folder.name, canonical_face=face,
        ...                          num_points=16, show_progress=False)
        >>> result.n, result.mean.shape, result.photos.maps.shape
        (5, torch.Size([1, 32, 32]), (5, 1, 32, 32))
        >>> folder.cleanup()
    """
    _check(target, batch_size, seed, num_workers, until, arguments)
    check_choice("points", points, ("fixed", "rotating"))
    check_callable("forward_func", forward_func)
    root = check_path("out", out)
    chosen, face = method_for(forward_func, method, canonical_face, inference)
    warn_if_training(forward_func)
    with joined(timeout) as processes, random_state_kept():
        if isinstance(data, AlignedFaces):
            processes.together(lambda: _align(data, processes, show_progress))
        source: PhotoSource = processes.together(lambda: source_of(data, int(batch_size), int(seed)))
        take_class_names(source, forward_func)
        where = device_of(forward_func) if device is None else check_device("device", device)
        kind = dtype_of(forward_func) if dtype is None else check_dtype("dtype", dtype)
        target = target_of_run(target, source)
        rotation = None
        if points == "rotating":
            rotation = RotatingPoints.of(chosen, face, arguments.pop("num_points", None), int(seed))
        classes = source.declared_classes
        maps = PhotoMaps(forward_func, chosen, face, target, arguments, where, kind, int(seed), classes, rotation)
        if maps.classes is not None and root.is_dir():  # a finished run may get other names than at first
            maps.try_classes(next(iter(source.load([0], 0))))
        settings = maps.settings(complete=network_key is None) | {"batch_size": int(batch_size), "order": source.order}
        if dtype is not None:
            settings["dtype"] = str(kind).removeprefix("torch.")
        if (output := network_output_of(forward_func)) is not None and output.part:
            settings["output"] = output.part
        if source.preprocessing is not None:
            settings["input"] = dict(source.preprocessing)
        if isinstance(data, AlignedFaces) and data.limits:
            settings["quality"] = {name: list(limits) for name, limits in data.limits.items()}
        manifest = Manifest(
            count=source.batches[-1].stop,
            size=face.size,
            settings=settings,
            network=network_fingerprint(forward_func, network_key, chosen),
            data=source.fingerprint,
        )
        job = Job(root, source, maps, manifest, processes, until, symmetric)
        job.run(num_workers, show_progress)
    return ModelSaliency.open(out, symmetric)


def network_fingerprint(forward_func: Callable[..., Any], key: str | None, method: Attribution | None = None) -> str:
    """What tells a network from others: weights, settings and code, or the text that the user gives for it.

    Args:
        forward_func: the network.
        key: the text.
        method: whose own networks count too, where they are others.

    Raises:
        CanonicalError: without a key, there is a part of which only the class is known; the message names it.

    Example::

        >>> one, other = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> network_fingerprint(one, None) == network_fingerprint(other, None)
        False
        >>> network_fingerprint(abs, "my network, version 2")
        'key my network, version 2'
    """
    if key is not None:
        return f"key {key}"
    held = [each.forward_func for each in with_wrapped(method) if hasattr(each, "forward_func")]
    known = {id(each) for each in forward_func.modules()} if isinstance(forward_func, nn.Module) else {id(forward_func)}
    others = {id(each): each for each in held if id(each) not in known and each != forward_func}
    return " ".join(network_digest(each) for each in (forward_func, *others.values()))


def _align(data: AlignedFaces, processes: Processes, show_progress: bool) -> None:
    """Each process begins at a place of its own: with a cache, every face is found by one of them."""
    data.align(show_progress and processes.rank == 0, first=len(data.rows) * processes.rank // processes.count)


def _check(target: Any, batch_size: Any, seed: Any, num_workers: Any, until: Any, arguments: dict[str, Any]) -> None:
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("num_workers", num_workers, 0)):
        check_integer(name, value, least)
    known = (str, int, tuple, list, Mapping, Tensor, np.ndarray)
    if target is not None and (isinstance(target, bool) or not isinstance(target, known)):
        raise CanonicalError(
            f'target: expected "predicted", "given" (targets in the data), a class, one for each photograph or None, '
            f"got {target!r}."
        )
    if until is not None and not isinstance(until, (StandardError, SplitHalf)):
        raise CanonicalError(f"until: expected StandardError(...), SplitHalf(...) or None, got {until!r}.")
    _check_arguments(arguments)


def _check_arguments(arguments: dict[str, Any]) -> None:
    taken = sorted({"faces", "return_coverage", "space", "return_convergence_delta"} & arguments.keys())
    if taken:
        raise CanonicalError(f"explain_dataset sets {', '.join(taken)} itself; leave it out.")
    for name, value in arguments.items():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Tensor) and each.ndim and len(each) != 1:
                raise CanonicalError(
                    f"{name}: expected a value that is the same for all photographs (a number, or a tensor whose first "
                    f"dimension is 1), got a tensor of shape {tuple(each.shape)}."
                )
