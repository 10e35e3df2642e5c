"""Figures: maps and meshes over faces and photographs, and what benchmarks and sanity checks have found.

Every function returns a :class:`matplotlib.figure.Figure`, made without pyplot: nothing is shown, no global state is
touched, and no display is needed. Save it with ``figure.savefig(path)``.
"""

from captum_canonical.visualization.benchmark import show_benchmark, show_curves
from captum_canonical.visualization.contact_sheet import contact_sheet
from captum_canonical.visualization.maps import montage, show_canonical, show_on_photo, show_strata
from captum_canonical.visualization.meshes import show_mesh
from captum_canonical.visualization.randomization import show_randomization

__all__ = [
    "contact_sheet",
    "montage",
    "show_benchmark",
    "show_canonical",
    "show_curves",
    "show_mesh",
    "show_on_photo",
    "show_randomization",
    "show_strata",
]
