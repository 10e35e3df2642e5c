"""Tables that several sections need."""

from __future__ import annotations

from captum_canonical.reporting.page import Cell, Row, Table
from captum_canonical.reporting.provenance import Facts


def facts_table(title: str, facts: Facts) -> Table:
    """Two columns: what, and its value."""
    rows = [Row([Cell(name), Cell(value)]) for name, value in facts]
    return Table(title, ("What", "Value"), rows, sortable=False)
