"""Is a planted bias found? A mark decides in one group only; CMS, image-space means and Grad-CAM look for its place.

    python examples/planted_bias.py [--quick] [--trials N] [--images DIR] [--out planted_bias_output]

Networks are wired by hand or trained on the spot; what they use is first checked by intervention. Photographs are
drawn from the package's own face and scikit-image's astronaut, or from the faces in ``--images``. ``--out`` gets a
page with all numbers (``planted_bias.md``), two figures, and every trial (``planted_bias.json``); trials that are
there already are not run again. About 20 minutes of one core; ``--quick`` shows in two minutes that everything
works, and its numbers mean little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from studies.planted.figures import draw_curves, draw_maps
from studies.planted.page import CURVES, MAPS, write_page
from studies.planted.photographs import Photographs, Source, draw_photographs, sources
from studies.planted.study import TRAINED, WIRED, Outcome, photographs_of, trained_outcome, wired_outcome
from studies.planted.trained import explained, train
from studies.planted.trials import make_trial

# Effect -> trials.
FULL: dict[str, dict[float, int]] = {
    WIRED: {0.0: 40, 0.1: 40, 0.3: 40, 1.0: 40, 4.0: 40},
    TRAINED: {0.0: 10, 0.3: 15, 0.6: 15, 1.0: 40},
}
QUICK: dict[str, dict[float, int]] = {WIRED: {0.0: 4, 0.5: 4, 4.0: 4}, TRAINED: {0.0: 2, 1.0: 3}}
LEARNING = 600  # photographs that networks learn from
EXAMPLES = (3, 5, 13)  # trials whose maps are drawn
BUILT_IN = "the face that the package draws and scikit-image's astronaut (NASA, public domain)"


def outcomes_of(
    sizes: dict[str, dict[float, int]], faces: Sequence[Source], learning: Photographs, done: Sequence[Outcome]
) -> Iterator[Outcome]:
    """All trials, of the same photographs for every effect; those that are done come first."""
    yield from done
    known = {(each.network, each.effect, each.seed) for each in done}
    for seed in range(max(count for trials in sizes.values() for count in trials.values())):
        asked = [
            (network, effect)
            for network, trials in sizes.items()
            for effect, count in trials.items()
            if seed < count and (network, effect, seed) not in known
        ]
        pool = photographs_of(faces, seed) if asked else None
        for network, effect in asked:
            if network == WIRED:
                yield wired_outcome(pool, seed, effect)
            else:
                yield trained_outcome(learning, pool, seed, effect)


def examples_of(faces: Sequence[Source], learning: Photographs) -> Iterator[tuple]:
    """A few trials of trained networks with their maps."""
    for seed in EXAMPLES:
        trial = make_trial(photographs_of(faces, seed), seed)
        yield trial, explained(train(learning, trial, 1.0), trial)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of photographs (default: a drawn face and the astronaut)")
    parser.add_argument("--quick", action="store_true", help="few trials: two minutes")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="at most so many for each effect (40)")
    parser.add_argument("--out", type=Path, default=Path("planted_bias_output"), help="folder (planted_bias_output)")
    arguments = parser.parse_args()
    faces = sources(arguments.images)
    if not faces:
        raise SystemExit(f"{arguments.images}: expected photographs with a face, found none.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    learning = draw_photographs(faces, [*"AB" * (LEARNING // 2)], torch.Generator().manual_seed(0))
    full = QUICK if arguments.quick else FULL
    sizes = {
        network: {effect: min(count, arguments.trials) for effect, count in trials.items()}
        for network, trials in full.items()
    }
    settings = {"sizes": json.loads(json.dumps(sizes)), "images": str(arguments.images)}
    record = Record(arguments.out / "planted_bias.json", settings)
    for outcome in outcomes_of(sizes, faces, learning, record.outcomes):
        record.add(outcome)
    named = BUILT_IN if arguments.images is None else f"{len(faces)} faces of {arguments.images.name}"
    options = " --images DIR" * bool(arguments.images) + " --quick" * arguments.quick
    options += f" --trials {arguments.trials}" * (arguments.trials < 40)
    draw_curves(record.outcomes, arguments.out / CURVES)
    draw_maps(list(examples_of(faces, learning)), arguments.out / MAPS)
    command = f"python examples/planted_bias.py{options}"
    print(write_page(record.outcomes, arguments.out, command, named, record.seconds))


class Record:
    """The trials so far, in a file that is written again after each.

    Raises:
        SystemExit: the file holds trials of other settings.
    """

    def __init__(self, path: Path, settings: dict) -> None:
        self.path, self.settings = path, settings
        self.outcomes: list[Outcome] = []
        self.seconds, self._last = 0.0, time.process_time()
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["settings"] != settings:
                raise SystemExit(f"{path}: holds trials of other settings, {stored['settings']}; choose another --out.")
            self.outcomes = [Outcome.from_json(each) for each in stored["outcomes"]]
            self.seconds = stored["seconds"]

    def add(self, outcome: Outcome) -> None:
        """One more, unless it is there already."""
        now = time.process_time()
        if outcome in self.outcomes:
            self._last = now
            return
        self.seconds, self._last = self.seconds + now - self._last, now
        self.outcomes.append(outcome)
        stored = {"settings": self.settings, "seconds": self.seconds}
        stored["outcomes"] = [each.as_json() for each in self.outcomes]
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(stored), encoding="utf-8")
        part.replace(self.path)
        print(f"{len(self.outcomes)} ({self.seconds:.0f} s): {outcome.network} {outcome.effect:g}", flush=True)


if __name__ == "__main__":
    main()
