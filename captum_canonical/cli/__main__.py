"""``python -m captum_canonical.cli``, for ``torchrun --nproc-per-node N -m captum_canonical.cli explain ...``."""

from __future__ import annotations

import sys

from captum_canonical.cli.command import main

sys.exit(main())
