"""The maps of photographs, batch by batch, with what is recorded about each: target, score, pose of the head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical._captum import TargetType, format_forward_args, output_in_words, run_forward
from captum_canonical.attributions.base import networks_of, run_attribution
from captum_canonical.confidence.recognition import ZeroShotConfidence
from captum_canonical.data.records import FaceBatch, in_dtype
from captum_canonical.data.targets import ClassNamesError, check_classes
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.quality import head_pose
from captum_canonical.fingerprint import describe
from captum_canonical.inference.rounding import rounding_collected, shares_of_images
from captum_canonical.inference.scorer import Scorer
from captum_canonical.restore import network_kept, seed_generators
from captum_canonical.runs.rotation import RotatingPoints
from captum_canonical.runs.sources import LoadedBatch, rows_of
from captum_canonical.runs.targets import TargetPerPhoto, targets_of_gallery

NOTHING = {"target": None, "predicted": None, "score": None, "yaw": None, "pitch": None, "rounding": None}


@dataclass(frozen=True, eq=False)
class BatchMaps:
    """B photographs: maps (B, 1, H, W) and coverage (B, 1, H, W), 0 for those that failed, and a record of each.

    Attributes:
        first: row of the first of them in the run.
    """

    maps: np.ndarray
    coverage: np.ndarray
    records: list[dict[str, Any]]
    first: int

    @property
    def all_failed(self) -> bool:
        """Whether none has a map."""
        return all(record["status"] == "failed" for record in self.records)


@dataclass(frozen=True, eq=False)
class PhotoMaps:
    """Makes the maps of photographs.

    Attributes:
        forward_func: the network.
        method: writes canonical maps.
        face: that they are on.
        target: ``"predicted"``, ``"given"``, one for each photograph, or what Captum takes for all alike.
        arguments: of ``method.attribute``.
        device: where the network is, or None to leave photographs where they are.
        dtype: floating-point type of the photographs, or None to leave them as they are.
        seed: of methods that draw random numbers.
        classes: names or number of the network's outputs, or None.
        rotation: the points of each photograph, or None where all have the same.
    """

    forward_func: Callable[..., Any]
    method: Any
    face: CanonicalFace
    target: Any
    arguments: Mapping[str, Any]
    device: torch.device | None
    dtype: torch.dtype | None
    seed: int
    classes: int | Sequence[str] | None = None
    rotation: RotatingPoints | None = None

    def settings(self, complete: bool = True) -> dict[str, Any]:
        """What decides the maps, beside the network and the photographs, as JSON can hold it.

        Args:
            complete: raise an error for what can be compared by its class only, instead of naming it.
        """
        network = self.forward_func
        arguments = describe(self.arguments, network=network, complete=complete, place="arguments")
        return {
            "method": describe(self.method, network=network, complete=complete, place="method"),
            "arguments": arguments if self.rotation is None else {**arguments, **self.rotation.settings},
            "target": describe(self.target),
            "seed": self.seed,
        }

    def of(self, loaded: LoadedBatch, number: int, first: int) -> BatchMaps:
        """The photographs of a batch, at once if that goes well, else one by one.

        Args:
            loaded: the batch.
            number: of the batch, which decides random numbers.
            first: row of its first photograph in the run, which decides rotating points.
        """
        count = len(loaded.kept) + len(loaded.unread)
        maps, coverage = (np.zeros((count, 1, *self.face.size)) for _ in range(2))
        result = BatchMaps(maps, coverage, [{}] * count, first)
        for place, unread in loaded.unread.items():
            result.records[place] = _failed(unread.place, unread.reason)
        if loaded.batch is not None:
            batch, kept = loaded.batch, loaded.kept
            for row in batch.faces.missing:
                result.records[kept[row]] = _failed(int(batch.places[row]), "no face was found")
            rows = [row for row in range(len(batch)) if row not in batch.faces.missing]
            if rows:
                self._fill_in(result, batch, rows, kept, number)
        return result

    def try_classes(self, loaded: LoadedBatch) -> None:
        """Runs the network on a photograph of a batch, to see whether it has as many outputs as classes were given.

        Raises:
            ClassNamesError: it has not.
        """
        if loaded.batch is None:
            return
        image = in_dtype(loaded.batch.images[:1], self.dtype)
        try:
            with network_kept(self.forward_func):
                output = self._output(image if self.device is None else image.to(self.device))
        except Exception:  # which stands in the record of the photograph
            return
        if output.ndim == 2:
            check_classes(self.classes, output.shape[1])

    def _fill_in(self, result: BatchMaps, batch: FaceBatch, rows: list[int], kept: list[int], number: int) -> None:
        try:
            self._together(result, batch, rows, kept, number)
        except (MemoryError, torch.cuda.OutOfMemoryError, ClassNamesError):
            raise  # no fault of a photograph
        except Exception as error:
            if len(rows) > 1:
                for row in rows:
                    self._fill_in(result, batch, [row], kept, number)
            else:
                reason = str(error) if isinstance(error, CanonicalError) else f"{type(error).__name__}: {error}"
                result.records[kept[rows[0]]] = _failed(int(batch.places[rows[0]]), reason)

    def _together(self, result: BatchMaps, batch: FaceBatch, rows: list[int], kept: list[int], number: int) -> None:
        chosen = rows_of(batch, rows) if len(rows) < len(batch) else batch
        chosen = chosen.to(self.device, self.dtype)
        seed_generators((self.seed * 1_000_003 + number) % 2**62)
        with network_kept(self.forward_func, *networks_of(self.method)):
            output = self._output(chosen.images)
            target, predicted = self._targets(chosen, output)
            every = torch.arange(len(chosen))
            scores = Scorer(lambda *_: output, target, (), len(chosen))((chosen.images,), every).tolist()
            for score in scores:
                if not math.isfinite(score):
                    raise CanonicalError(f"the network's score is {score}")
            with rounding_collected() as rounding:
                maps, coverage = self._attribute(chosen, target, [result.first + kept[row] for row in rows])
        shares = shares_of_images(rounding, len(chosen))
        poses = [[_rounded(angle) for angle in pose] for pose in head_pose(chosen.faces, self.face).tolist()]
        for place, row in enumerate(rows):
            own, hits, (yaw, pitch) = maps[place], coverage[place], poses[place]
            record = {"place": int(batch.places[row]), "predicted": predicted[place], "yaw": yaw, "pitch": pitch}
            reason = _fault(own, hits)
            if reason is not None:
                result.records[kept[row]] = _failed(int(batch.places[row]), reason) | record
                continue
            result.maps[kept[row]], result.coverage[kept[row]] = own, hits
            record |= {"target": _of_row(target, place), "score": scores[place], "rounding": shares[place]}
            result.records[kept[row]] = record | {"status": "done", "reason": None}

    def _output(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            args = format_forward_args(self.arguments.get("additional_forward_args"))
            output = run_forward(self.forward_func, (images,), args)
        if not isinstance(output, Tensor) or len(output.reshape(-1)) % len(images):
            raise CanonicalError(
                f"forward_func must return a row of scores for each of {len(images)} images, got "
                f"{output_in_words(output)}."
            )
        return output.detach().reshape(1) if output.ndim == 0 else output.detach().clone()

    def _targets(self, batch: FaceBatch, output: Tensor) -> tuple[TargetType, list[int | None]]:
        """What to explain, and the class with the largest output of each photograph."""
        if isinstance(self.forward_func, ZeroShotConfidence) and self.target in ("predicted", "given"):
            return targets_of_gallery(self.forward_func, output, self.target, batch)
        if output.ndim == 2:
            check_classes(self.classes, output.shape[1])
        classes = output.argmax(1) if output.ndim == 2 and output.shape[1] > 1 else None
        predicted: list[int | None] = [None] * len(batch) if classes is None else classes.tolist()
        if self.target == "predicted":
            return classes, predicted
        if isinstance(self.target, TargetPerPhoto):
            return self.target.of(batch.places.tolist()), predicted
        if self.target != "given":
            return self.target, predicted
        if batch.targets is None or (isinstance(batch.targets, Tensor) and batch.targets.is_floating_point()):
            raise CanonicalError(
                'target: "given" expects a class for each photograph, but the data have '
                f"{'no targets' if batch.targets is None else 'numbers to be predicted'}; give target=None or a class."
            )
        return batch.targets, predicted

    def _attribute(self, batch: FaceBatch, target: TargetType, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        arguments = {**self.arguments, "target": target}
        if self.rotation is not None:
            arguments["points"] = self.rotation.of_rows(torch.tensor(rows))
        found = run_attribution(self.method, batch.images, arguments, batch.faces)
        maps, coverage = (part.detach().cpu().double().numpy() for part in found if part is not None)
        expected = (len(batch), 1, *self.face.size)
        if maps.shape != expected or coverage.shape != expected:
            raise CanonicalError(f"{type(self.method).__name__}: expected maps of shape {expected}, got {maps.shape}.")
        return maps, coverage


def _fault(values: np.ndarray, hits: np.ndarray) -> str | None:
    if not np.isfinite(values[hits > 0]).all():
        return "the map holds values that are not finite"
    return None if (hits > 0).any() else "nothing of the face is seen in the photograph"


def _rounded(degrees: float) -> float | None:
    return round(degrees, 2) if math.isfinite(degrees) else None


def _failed(place: int, reason: str) -> dict[str, Any]:
    return {**NOTHING, "place": place, "status": "failed", "reason": reason}


def _of_row(target: Any, row: int) -> Any:
    if isinstance(target, Tensor):
        return int(target.reshape(-1)[row if target.numel() > 1 else 0])
    return target[row] if isinstance(target, list) else target
