"""Command lines by grammar: what is valid, what nearly is, and what an attacker would write. Seeded, endless."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.fuzz import vocabulary as words_of
from tests.fuzz.spelling import respelled

from obi_mcp.command.grammar import CommandSpec, FlagSpec, Grammars

ROOT = Path(__file__).resolve().parents[2]
Stages = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One generated line. ``words`` is what it means by construction, None where the text was damaged afterwards."""

    text: str
    words: Stages | None


@dataclass(frozen=True, slots=True)
class Seeds:
    """Lines to start from: the shipped rules' examples and the corpus, as words."""

    allowed: tuple[Stages, ...]
    denied: tuple[Stages, ...]

    @classmethod
    def load(cls) -> Seeds:
        """From ``policy/rules`` and ``tests/corpus``."""
        allowed: list[Stages] = []
        denied: list[Stages] = []
        for file in sorted((ROOT / "policy/rules").glob("*.yaml")):
            for rule in yaml.safe_load(file.read_text(encoding="utf-8")):
                allowed.extend(_stages(_text(one)) for one in rule["examples"].get("allow", ()))
                denied.extend(_stages(_text(one)) for one in rule["examples"].get("deny", ()))
        for file in sorted((ROOT / "tests/corpus").glob("*.ndjson")):
            for row in file.read_text(encoding="utf-8").splitlines():
                entry = json.loads(row)
                try:
                    stages = _stages(entry["command"])
                except ValueError:
                    continue
                (denied if entry.get("expect") == "deny" else allowed).append(stages)
        return cls(tuple(filter(all, allowed)), tuple(filter(all, denied)))


def _text(example: str | Mapping[str, str]) -> str:
    return example if isinstance(example, str) else example["command"]


def _stages(text: str) -> Stages:
    """Raises: ValueError where Python's shlex cannot read the text."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    stages: list[list[str]] = [[]]
    for word in lexer:
        if word == "|":
            stages.append([])
        else:
            stages[-1].append(word)
    return tuple(tuple(stage) for stage in stages)


class Generator:
    """Lines from one seed. INVARIANT: the same seed and the same sources give the same lines."""

    def __init__(self, seed: str, grammars: Grammars, seeds: Seeds) -> None:
        self.rng = random.Random(seed)
        self.grammars = grammars
        self.seeds = seeds

    def lines(self) -> Iterator[Line]:
        """Endless."""
        while True:
            yield self.line()

    def line(self) -> Line:
        """The next one."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.45:
            stages = self._varied(rng.choice(self.seeds.allowed))
        elif kind < 0.55:
            stages = self._varied(rng.choice(self.seeds.denied))
        elif kind < 0.9:
            stages = (self._walked(),)
        else:
            stages = (self._thrown(),)
        if len(stages) == 1 and rng.random() < 0.15:
            stages = (*stages, *self._filters())
        text = respelled(rng, stages)
        if rng.random() < 0.05:
            return Line(self._damaged(text), None)
        return Line(text, tuple(tuple(stage) for stage in stages))

    # --- from examples ---

    def _varied(self, stages: Stages) -> Stages:
        head = self._respell(list(stages[0]))
        rng = self.rng
        while rng.random() < 0.45:
            self._mutate(head)
        filters = tuple(self._varied_filter(stage) for stage in stages[1:])
        return (tuple(head), *filters)

    def _respell(self, words: list[str]) -> list[str]:
        """The same command with its flags spelled otherwise and moved about."""
        program = self.grammars.heads.get(words[0])
        if program is None:
            return words
        spec, verbs, rest = self._command(program.root, words[1:])
        flags: list[list[str]] = []
        operands: list[str] = []
        at = 0
        while at < len(rest):
            word = rest[at]
            at += 1
            if word == "--":
                operands.extend(rest[at - 1 :])
                break
            if not word.startswith("-") or word == "-":
                operands.append(word)
                continue
            name, equals, value = word.lstrip("-").partition("=")
            flag = spec.flags.get(name) if word.startswith("--") else spec.shorts.get(word[1])
            if flag is None or (not word.startswith("--") and len(word) > 2):
                flags.append([word])
                continue
            if not equals and flag.optional:
                flags.append(self._switch(flag))
                continue
            if not equals:
                value, at = (rest[at] if at < len(rest) else ""), at + 1
            flags.append(self._spell(flag, value))
        return self._arranged(words[0], verbs, operands, flags, spec)

    def _command(self, spec: CommandSpec, words: Sequence[str]) -> tuple[CommandSpec, list[str], list[str]]:
        """The command that leading bare words name, those words, and what follows."""
        verbs: list[str] = []
        rest = list(words)
        while rest:
            child = spec.child(rest[0])
            if child is None:
                break
            spec = child
            verbs.append(rest.pop(0))
        return spec, verbs, rest

    def _arranged(
        self, program: str, verbs: list[str], operands: list[str], flags: list[list[str]], spec: CommandSpec
    ) -> list[str]:
        rng = self.rng
        before: list[str] = []
        after: list[list[str]] = [[operand] for operand in operands]
        for flag in flags:
            if rng.random() < 0.12 and verbs:
                before.extend(flag)
            else:
                after.insert(rng.randrange(len(after) + 1) if "--" not in operands else 0, flag)
        place = rng.randrange(len(verbs)) if before and len(verbs) > 1 and rng.random() < 0.3 else 0
        tail = [word for group in after for word in group]
        return [program, *verbs[:place], *before, *verbs[place:], *tail]

    def _mutate(self, words: list[str]) -> None:
        rng = self.rng
        at = rng.randrange(1, len(words) + 1)
        chance = rng.random()
        if chance < 0.35:
            program = self.grammars.heads.get(words[0])
            if program is None:
                return
            spec = self._command(program.root, words[1:])[0]
            if spec.flags:
                words[at:at] = self._flag(rng.choice(list(spec.flags.values())))
        elif chance < 0.5:
            words.insert(at, rng.choice(words_of.TRAPS))
        elif chance < 0.62:
            words.insert(at, rng.choice(words_of.OPERANDS))
        elif chance < 0.72 and len(words) > 2:
            del words[min(at, len(words) - 1)]
        elif chance < 0.82:
            words.insert(at, rng.choice(words))
        elif at < len(words):
            words[at] = self._disguised(words[at])

    def _disguised(self, word: str) -> str:
        """The word with one character changed: a look-alike, another case, one more or one less."""
        if not word:
            return "-"
        rng = self.rng
        at = rng.randrange(len(word))
        alike = words_of.LOOK_ALIKES.get(word[at])
        chance = rng.random()
        if alike and chance < 0.5:
            return word[:at] + rng.choice(alike) + word[at + 1 :]
        if chance < 0.65:
            return word[:at] + word[at].swapcase() + word[at + 1 :]
        if chance < 0.75:
            return word[:at] + word[at + 1 :]
        if chance < 0.9:
            return word[:at] + rng.choice("-=_,Anfo'\"\\ |.") + word[at:]
        return word.replace("-", "_") if "-" in word[2:] else word + "="

    # --- from the grammar ---

    def _walked(self) -> tuple[str, ...]:
        rng = self.rng
        name = rng.choice(("kubectl", "kubectl", "kubectl", "helm", "helm", "obi"))
        spec = self.grammars.heads[name].root
        verbs: list[str] = []
        while True:
            names = spec.child_names()
            if not names or (verbs and rng.random() < 0.05):
                break
            verb = rng.choice(names)
            verbs.append(verb)
            child = spec.child(verb)
            assert child is not None
            spec = child
        flags = [self._flag(rng.choice(list(spec.flags.values()))) for _ in range(_few(rng, 5)) if spec.flags]
        operands = [rng.choice(words_of.OPERANDS) for _ in range(_few(rng, 3))]
        if rng.random() < 0.08:
            operands.insert(rng.randrange(len(operands) + 1), "--")
        words = self._arranged(name, verbs, operands, flags, spec)
        while rng.random() < 0.2:
            self._mutate(words)
        return tuple(words)

    def _flag(self, flag: FlagSpec) -> list[str]:
        rng = self.rng
        if flag.optional and rng.random() < 0.5:
            return self._switch(flag)
        known = words_of.FLAG_VALUES.get(flag.name) or words_of.TYPE_VALUES.get(flag.type) or words_of.PLAIN
        # The first values of each table are good ones.
        value = rng.choice(known[:3]) if rng.random() < 0.5 else rng.choice(known)
        if rng.random() < 0.05:
            value = rng.choice((*words_of.PLAIN, *words_of.TRAPS))
        return self._spell(flag, value)

    def _spell(self, flag: FlagSpec, value: str) -> list[str]:
        rng = self.rng
        name = self._long_name(flag)
        chance = rng.random()
        if flag.short and chance < 0.45:
            form = rng.random()
            group = self._group() if rng.random() < 0.1 else ""
            if flag.optional or form < 0.35:
                return [f"-{group}{flag.short}={value}"]
            return [f"-{group}{flag.short}{value}"] if form < 0.65 else [f"-{group}{flag.short}", value]
        if flag.optional and chance < 0.97:
            return [f"--{name}={value}"]
        return [f"--{name}={value}"] if chance < 0.75 else [f"--{name}", value]

    def _switch(self, flag: FlagSpec) -> list[str]:
        if flag.short and self.rng.random() < 0.5:
            return [f"-{self._group() if self.rng.random() < 0.2 else ''}{flag.short}"]
        return [f"--{self._long_name(flag)}"]

    def _group(self) -> str:
        return "".join(self.rng.choice("AwRqhxitpn") for _ in range(self.rng.randrange(1, 3)))

    def _long_name(self, flag: FlagSpec) -> str:
        rng = self.rng
        chance = rng.random()
        if chance < 0.93:
            return flag.name
        if chance < 0.97:
            return flag.name.replace("-", "_", rng.randrange(1, 3))
        return flag.name[: max(1, len(flag.name) - rng.randrange(1, 4))]

    # --- anything at all ---

    def _thrown(self) -> tuple[str, ...]:
        rng = self.rng
        program = self.grammars.heads[rng.choice(("kubectl", "kubectl", "helm", "obi"))]
        pools: tuple[Sequence[str], ...] = (
            words_of.TRAPS,
            words_of.OPERANDS,
            words_of.PLAIN,
            program.root.child_names(),
            [f"-{short}" for short in program.root.shorts] or words_of.TRAPS,
        )
        count = rng.randrange(9)
        return (program.program, *(rng.choice(rng.choice(pools)) for _ in range(count)))

    def _filters(self) -> Stages:
        count = 1 + _few(self.rng, 2)
        return tuple(self._varied_filter(_stages(self.rng.choice(words_of.FILTERS))[0]) for _ in range(count))

    def _varied_filter(self, stage: Sequence[str]) -> tuple[str, ...]:
        rng = self.rng
        words = list(stage)
        while rng.random() < 0.3:
            at = rng.randrange(1, len(words) + 1)
            if rng.random() < 0.6:
                words.insert(at, rng.choice(words_of.FILTER_WORDS))
            elif at < len(words):
                words[at] = self._disguised(words[at])
        return tuple(words)

    def _damaged(self, text: str) -> str:
        rng = self.rng
        for _ in range(1 + _few(rng, 2)):
            at = rng.randrange(len(text) + 1)
            if rng.random() < 0.5:  # where a word begins, some mean more
                at = 1 + max(text.rfind(" ", 0, at), text.rfind("|", 0, at))
            piece = rng.choice(words_of.RAW if rng.random() < 0.3 else words_of.SHELL)
            text = text[:at] + piece + text[at:]
        return text


def _few(rng: random.Random, most: int) -> int:
    """Small numbers more often than large ones."""
    return min(rng.randrange(most + 1), rng.randrange(most + 1))
