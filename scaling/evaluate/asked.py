"""Which evaluations `scaling.evaluate` is asked for: planned ones by name, kinds and suites, and files.

    --eval fewshot                    an evaluation that the runs plan, by its name
    --eval upstream --set test=b.json a kind, with its settings and data
    --eval laptop --root data         a suite of this package
    --eval evals.yaml                 a file: `evals:`, a list as in a sweep, or a suite of the user's own

Planned by the same code as a sweep's, so they are checked in the same words. No PyTorch here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scaling.errors import UserError, broken_rule, did_you_mean
from scaling.evals.settings import EVALUATIONS
from scaling.plan.check_classifier import Pretraining
from scaling.plan.plan_evals import plan_evaluations
from scaling.plan.sources import Sources
from scaling.plan.suite import SUITE, shipped_suites
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan, EvalPlan
from scaling.spec.document import Document, load_document
from scaling.spec.study import EvalSpec

_SPECS = TypeAdapter(list[EvalSpec])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The words of a command line that say what to evaluate."""

    words: tuple[str, ...] = ()
    """Of `--eval`."""
    options: tuple[str, ...] = ()
    """Of `--set`."""
    name: str | None = None
    """Of `--name`: what the records are to be called."""
    root: str = ""
    """Folder or url that manifests are relative to; empty: the current folder, or the file's."""
    access: AccessPlan = DEFAULT_ACCESS


def asked_evaluations(
    wish: Wish, planned: Sequence[str] = (), trained: Pretraining | None = None
) -> tuple[EvalPlan, ...]:
    """What is to be computed beside the evaluations of these names, which the runs, `trained` so, have planned already.

    UserError where a word means nothing, where `--set` would change what is planned under a name, and where runs that
    are trained so cannot be scored by it."""
    found: list[EvalPlan] = []
    for word in wish.words:
        if word in planned and wish.name is None:
            if wish.options:
                raise UserError(
                    f"--eval {word}: the runs plan it with settings of their own; add --name NAME to record it with "
                    "--set beside theirs, or leave out --set"
                )
            continue
        for plan in _plan(word, wish, planned, trained):
            if plan.name in (*planned, *(other.name for other in found)):
                raise UserError(f"--eval {word}: the name {plan.name!r} is taken; add --name with another")
            found.append(plan.model_copy(update={"added": True}))
    return tuple(found)


def _plan(word: str, wish: Wish, planned: Sequence[str], trained: Pretraining | None) -> tuple[EvalPlan, ...]:
    if word.endswith((".yaml", ".yml")):
        document = _file(Path(word), wish)
        root = wish.root or str(document.data.get("root", "."))
        if not wish.root and "://" not in root:
            root = str(Path(word).parent / root)
    else:
        document, root = _word(word, wish, planned), wish.root
    if wish.name is not None:
        if len(document.data["evals"]) > 1:
            raise UserError(f"--name {wish.name}: {word} holds several evaluations; give each its name in the file")
        document.data["evals"][0]["name"] = wish.name
    try:
        specs = _SPECS.validate_python(document.data["evals"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise document.error(("evals", *first["loc"]), broken_rule(first)) from error
    return plan_evaluations(specs, Sources(document, root, wish.access), trained)


def _word(word: str, wish: Wish, planned: Sequence[str]) -> Document:
    """A kind or a suite as a list of one evaluation."""
    entry: dict[str, Any] = {"kind": word}
    if word in shipped_suites():
        entry = {"kind": SUITE, "suite": word}
    elif word not in EVALUATIONS:
        known = sorted({*planned, *EVALUATIONS, *shipped_suites()})
        raise UserError(
            f"--eval {word}: there is no such evaluation; {did_you_mean(word, known)} (or name a .yaml file)"
        )
    document = Document(Path(f"--eval {word}"), {"evals": [entry]})
    for option in wish.options:
        document.apply_option(option, ("evals", 0))
    return document


def _file(path: Path, wish: Wish) -> Document:
    """A file of evaluations as it stands, or a suite as a list of one evaluation."""
    document = load_document(path)
    if "members" in document.data:
        document = Document(path, {"evals": [{"kind": SUITE, "suite": str(path.absolute())}]})
        for option in wish.options:
            document.apply_option(option, ("evals", 0))
        return document
    for option in wish.options:
        document.apply_option(option)
    strange = sorted(set(document.data) - {"evals", "root"})
    if strange:
        raise document.error((strange[0],), f"unknown key; {did_you_mean(strange[0], ['evals', 'root', 'members'])}")
    if not isinstance(document.data.get("evals"), list) or not document.data["evals"]:
        raise document.error((), "no evaluations; write 'evals:' with a list as in a sweep, or a suite with 'members:'")
    return document
