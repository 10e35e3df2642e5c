"""Is a planted bias found? A mark decides in one group only; CMS, image-space means and Grad-CAM look for its place.

    python examples/planted_bias.py [--quick] [--trials N] [--images DIR] [--out planted_bias_output]

The study is ``studies/planted``, its options are described in ``studies/planted/command.py``. ``--quick`` shows in two
minutes that everything works.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

from studies.planted.command import main

if __name__ == "__main__":
    main()
