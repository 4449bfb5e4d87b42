"""Where keys and variables went, from an older form to a newer one: ``policy/obi/moves.json``.

Its ``origin`` says how that is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from obi_mcp.policy.shipped import shipped_policy

Table = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Moves:
    """``moves`` and ``copies``: a v1 key to its place, or places, in v2 (``~`` is extensions.obi).

    ``nowhere``: why a v1 key has none. ``renamed``: a key of an older OBI to today's. ``beyla``, ``beyla_variables``:
    Beyla's name to OBI's; ``beyla_nowhere``: why OBI has no such key.
    """

    moves: Table
    copies: Mapping[str, tuple[str, ...]]
    nowhere: Table
    renamed: Table
    beyla: Table
    beyla_variables: Table
    beyla_nowhere: Table


@lru_cache(maxsize=1)
def known_moves() -> Moves:
    """The tables, read once."""
    data = json.loads((shipped_policy() / "obi" / "moves.json").read_text("utf-8"))
    del data["origin"]
    copies = {key: tuple(targets) for key, targets in data.pop("copies").items()}
    return Moves(copies=copies, **data)
