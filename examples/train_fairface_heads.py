"""Train heads for race, gender and age on the example encoder, from photographs with FairFace's labels.

    python examples/train_fairface_heads.py --table photos.csv [--models DIR] [--cache DIR]

How, and how well they answer on photographs that they were not trained on: ``studies/face_nets/train_heads.py``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

from studies.face_nets.train_heads import main

if __name__ == "__main__":
    main()
