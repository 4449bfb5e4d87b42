"""Changes of one live object: patch, set image|env|resources, label, annotate, scale.

What the text shows is decided here (an image, a variable, a label that makes an object OBI's); what the change amounts
to is shown by the API server's own dry run of the same command, which is the check that every one of them lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from obi_mcp.command.model import Flag, Operand
from obi_mcp.policy.confine import namespace_in_scope
from obi_mcp.policy.image import is_obi_image
from obi_mcp.policy.kubectl import targets_of
from obi_mcp.policy.model import Access, ChangeSpec, Check
from obi_mcp.policy.output import check_output
from obi_mcp.policy.selector import scope_selectors
from obi_mcp.policy.sidecar import about_sidecar, judge_sidecar_patch
from obi_mcp.policy.targets import read_targets

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft
    from obi_mcp.policy.targets import Target

_WHY = "the object has to be OBI's, and the API server's dry run of the same change has to pass the manifest check"
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_METADATA_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
# Bookkeeping of helm, kubectl and the API server, which no change may touch.
_BOOKKEEPING = re.compile(r"(.*\.)?(helm\.sh|kubernetes\.io|k8s\.io)/.*|app\.kubernetes\.io/.*")
_NEVER_PATCHED = frozenset({"ownerReferences", "finalizers", "managedFields", "selfLink", "uid", "resourceVersion"})
_OPERATIONS = frozenset({"add", "replace", "remove"})
_MAX_PATCH_BYTES = 65_536


def about_changes(draft: Draft) -> bool:
    """Whether the rule is about the kind of the object that is named. Raises: Denied for words that cannot be read."""
    if draft.targets is None:
        draft.targets = read_targets(draft, _split(draft)[0])
    allowed = draft.grounds.kinds_of(draft.rule)
    return all(kind in allowed for kind in draft.targets.kinds)


def judge_changes(draft: Draft) -> None:
    """``TYPE NAME`` or ``TYPE/NAME``, then what is to change. Raises: Denied where the text shows it is not OBI's."""
    targets = targets_of(draft)
    _, pairs = _split(draft)
    if not targets.named or len(targets.targets) != 1:
        raise draft.deny(f"{draft.rule.line} changes exactly one object, by name", hint=draft.rule.hint)
    target = targets.targets[0]
    if about_sidecar(draft, target):
        draft.operands = (*targets.operands, *pairs)
        _check_patch(draft)
        judge_sidecar_patch(draft, target, json.loads(draft.command.value("patch")))
        return
    check_output(draft, targets.resources)
    namespace = namespace_in_scope(draft) if target.resource.namespaced else ""
    _check_what(draft, pairs)
    draft.operands = (*targets.operands, *pairs)
    _list_check(draft, target, namespace)


def _split(draft: Draft) -> tuple[Sequence[Operand], Sequence[Operand]]:
    """Words that name the object, and words that say the change (``KEY=VALUE``, ``KEY-``), as kubectl parts them."""
    operands = draft.command.operands
    at = next((at for at, operand in enumerate(operands) if _is_pair(operand.text)), len(operands))
    words, pairs = operands[:at], operands[at:]
    for operand in pairs:
        if not _is_pair(operand.text):
            raise draft.deny(
                f"{operand.text!r} stands after the changes; the object is named before them",
                at=operand,
                hint=draft.rule.hint,
            )
    if len(pairs) < draft.rule.words.min:
        raise draft.deny(f"{draft.rule.line} needs what is to change", hint=draft.rule.hint)
    if len(pairs) > draft.rule.words.max:
        raise draft.deny(
            f"{draft.rule.line} takes at most {draft.rule.words.max} changes at once",
            at=pairs[draft.rule.words.max],
            hint=draft.rule.hint,
        )
    return words, pairs


def _is_pair(text: str) -> bool:
    return "=" in text or text.endswith("-")


def _check_what(draft: Draft, pairs: Sequence[Operand]) -> None:
    match draft.command.path:
        case ("set", "image"):
            for pair in pairs:
                _check_image(draft, pair)
        case ("set", "env"):
            for at, text in _env_pairs(draft, pairs):
                _check_env(draft, at, text)
        case ("label",) | ("annotate",):
            for pair in pairs:
                _check_metadata(draft, pair)
        case ("patch",):
            _check_patch(draft)
        case ("scale",):
            if int(draft.command.value("replicas", "0")) == 0:
                draft.raise_to(Access.FULL)


def _check_image(draft: Draft, pair: Operand) -> None:
    container, equals, image = pair.text.partition("=")
    if not equals or not container:
        raise draft.deny(f"{pair.text!r} is not CONTAINER=IMAGE", at=pair, hint=draft.rule.hint)
    if not is_obi_image(image, draft.grounds.scope):
        raise draft.deny(
            f"the image {image!r} is not one of OBI's ({', '.join(draft.grounds.scope.images)})",
            at=pair,
            hint=draft.rule.hint,
        )


def _env_pairs(draft: Draft, pairs: Sequence[Operand]) -> Iterator[tuple[Operand | Flag, str]]:
    for pair in pairs:
        yield pair, pair.text
    for flag in draft.command.flags:
        if flag.name == "env":
            yield flag, flag.value


def _check_env(draft: Draft, at: Operand | Flag, text: str) -> None:
    name, equals, value = text.partition("=")
    if not equals:
        name = name.removesuffix("-")
    if not _ENV_NAME.fullmatch(name):
        # A single dash makes kubectl read variables from its standard input.
        raise draft.deny(f"{text!r} is not NAME=VALUE or NAME-", at=at, hint=draft.rule.hint)
    if not equals:
        return
    for violation in draft.grounds.judge_variable(name, value):
        raise draft.deny(violation.reason, at=at, hint=violation.hint or draft.rule.hint)


def _check_metadata(draft: Draft, pair: Operand) -> None:
    key, equals, value = pair.text.partition("=")
    key = key if equals else key.removesuffix("-")
    if not _METADATA_KEY.fullmatch(key):
        raise draft.deny(f"{pair.text!r} is not KEY=VALUE or KEY-", at=pair, hint=draft.rule.hint)
    if _BOOKKEEPING.fullmatch(key) or key in _scope_labels(draft):
        raise draft.deny(
            f"{key} says whose the object is, or is bookkeeping of helm, kubectl or a controller; it is not touched",
            at=pair,
            hint=draft.rule.hint,
        )
    if not equals:
        return
    field = "labels" if draft.command.path == ("label",) else "annotations"
    for violation in draft.grounds.judge_metadata(field, key, value):
        raise draft.deny(violation.reason, at=pair, hint=violation.hint)


def _scope_labels(draft: Draft) -> frozenset[str]:
    return frozenset(key for selector in scope_selectors(draft.grounds.scope.selectors) for key in selector.constraints)


def _check_patch(draft: Draft) -> None:
    given = draft.command.flag("patch")
    text = given.value if given else ""
    try:
        patch = _strict_json(text)
    except ValueError as error:
        raise draft.deny(f"the patch is not plain JSON: {error}", at=given, hint=draft.rule.hint) from None
    if isinstance(patch, list):
        _check_operations(draft, given, patch)
    if not isinstance(patch, dict if draft.command.value("type", "strategic") != "json" else list):
        raise draft.deny("the patch has not the form of its --type", at=given, hint=draft.rule.hint)
    for path, value in _leaves(patch, ""):
        _check_leaf(draft, given, path, value)
    draft.put("patch", json.dumps(patch, ensure_ascii=True, allow_nan=False, separators=(",", ":")))


def _check_operations(draft: Draft, at: Flag | None, patch: list[Any]) -> None:
    """A JSON patch may add, replace and remove: copy and move carry what is redacted to where it is not, and test asks
    about it. Raises: Denied."""
    for operation in patch:
        name = operation.get("op") if isinstance(operation, dict) else None
        if name not in _OPERATIONS or not isinstance(operation.get("path"), str) or "from" in operation:
            raise draft.deny(
                f"the patch operation {name!r} is not one of {', '.join(sorted(_OPERATIONS))} with a path",
                at=at,
                hint=draft.rule.hint,
            )


def _check_leaf(draft: Draft, at: Flag | None, path: str, value: object) -> None:
    keys = path.split("/")
    if not _NEVER_PATCHED.isdisjoint(keys):
        raise draft.deny(f"{path[1:]} is bookkeeping and is not touched", at=at, hint=draft.rule.hint)
    if keys[-1] == "image" and not is_obi_image(value, draft.grounds.scope):
        raise draft.deny(f"the image {value!r} is not one of OBI's", at=at, hint=draft.rule.hint)
    if keys[-1] == "replicas" and value == 0:
        draft.raise_to(Access.FULL)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, object]]:
    """Every path of the patch with its value; a JSON patch's operations are read as ``path`` and ``value``."""
    if isinstance(value, dict):
        if isinstance(value.get("op"), str) and isinstance(value.get("path"), str):
            yield value["path"], value.get("value")
            yield from _leaves(value.get("value"), value["path"])
            return
        for key, inner in value.items():
            yield f"{path}/{key}", inner
            yield from _leaves(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)


def _strict_json(text: str) -> Any:
    """JSON without duplicate keys, NaN or more than 64 KiB. Raises: ValueError."""
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_PATCH_BYTES:
        raise ValueError(f"it is longer than {_MAX_PATCH_BYTES} bytes")
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _list_check(draft: Draft, target: Target, namespace: str) -> None:
    full = None if draft.rule.access is Access.FULL else Access.FULL
    spec = ChangeSpec(target.resource, target.name or "", namespace)
    draft.checks.append(Check("dry-run", target.label, namespace or None, _WHY, spec, raises_to=full))
