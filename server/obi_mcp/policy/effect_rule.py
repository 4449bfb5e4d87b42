"""One rule of ``policy/effects/*.yaml``: at which level effects of a kind are allowed, and what their fields may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.policy.effects import Effect, default_of
from obi_mcp.policy.model import Access


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What one field may be. Exactly one word is set.

    ``any``: whatever the hard denials let through. ``one_of``: one of these values. ``subset_of``: every element is
    one of these. ``pattern``: the whole text matches; of a list every element, of pairs every first part.
    ``at_most``: a number, or how many elements or characters.
    """

    any: bool = False
    one_of: tuple[Any, ...] | None = None
    subset_of: tuple[Any, ...] | None = None
    pattern: str | None = None
    at_most: int | None = None

    def problem(self, value: Any) -> str | None:
        """Why the value may not stand there, as the end of a sentence; None when it may."""
        if self.one_of is not None and value not in self.one_of:
            return f"is {value!r}; it may be {', '.join(map(repr, self.one_of))}"
        if self.subset_of is not None and (further := [one for one in value if one not in self.subset_of]):
            return f"holds {', '.join(map(str, further))}; it may hold {', '.join(map(str, self.subset_of))}"
        if self.pattern is not None:
            return next((found for text in _texts(value) if (found := self._unmatched(text))), None)
        if self.at_most is not None and _size(value) > self.at_most:
            return f"is {_size(value):,}; at most {self.at_most:,} is taken"
        return None

    def _unmatched(self, text: str) -> str | None:
        return None if re.fullmatch(self.pattern or "", text) else f"is {text[:80]!r}, which is none that is taken"


@dataclass(frozen=True, slots=True)
class EffectExample:
    """An effect that the rule must allow or deny. ``by``: the id that denies it, where that matters."""

    fields: Mapping[str, Any]
    by: str | None = None
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class EffectRule:
    """One allowance of effects of one kind."""

    id: str
    effect: str
    access: Access
    because: str
    hint: str | None
    fields: Mapping[str, FieldRule]
    allow: tuple[EffectExample, ...] = ()
    deny: tuple[EffectExample, ...] = ()

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> EffectRule:
        """The rule from schema-valid data."""
        examples = data["examples"]
        first = examples["allow"][0]["fields"]
        return cls(
            data["id"],
            data["effect"],
            Access.parse(data["access"]),
            data["because"],
            data.get("hint"),
            {name: _field(entry) for name, entry in data.get("fields", {}).items()},
            tuple(_example(entry, first) for entry in examples["allow"]),
            tuple(_example(entry, first) for entry in examples["deny"]),
        )

    def problem(self, effect: Effect) -> str | None:
        """Why this rule does not allow the effect, as a sentence; None when it does."""
        for name, value in effect.values().items():
            entry = self.fields.get(name)
            if entry is None:
                if value != default_of(effect, name):
                    return f"{name} may not be set"
            elif (found := entry.problem(value)) is not None:
                return f"{name} {found}"
        return None


def _field(data: Mapping[str, Any]) -> FieldRule:
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return FieldRule(**plain)


def _example(data: Mapping[str, Any], first: Mapping[str, Any]) -> EffectExample:
    """``change`` stands for the first allowed example with those fields instead."""
    access = data.get("access")
    named = data["fields"] if "fields" in data else {**first, **data["change"]}
    return EffectExample(named, data.get("by"), Access.parse(access) if access else None)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return tuple(str(one[0]) if isinstance(one, tuple) else str(one) for one in value)
    return (str(value),)


def _size(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else len(value)
