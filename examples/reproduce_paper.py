"""The paper's figures and tables on any folder of photographs, as pictures and one Markdown page.

    python examples/reproduce_paper.py --images DIR --models DIR --out study [--identities DIR] [--quick]

The study is ``studies/paper``, its options are described in ``studies/paper/command.py``. ``--quick`` takes a few
photographs and two or three minutes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

from studies.paper.command import main

if __name__ == "__main__":
    main()
