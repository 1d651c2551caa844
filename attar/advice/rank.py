"""From candidates to a short list: what the limits allow first, then expected quality and what the rules add."""

from dataclasses import dataclass, replace
from typing import Any

from attar.advice.bands import Band, band_of
from attar.advice.candidates import Candidate
from attar.advice.estimates import Estimate
from attar.advice.rules import Rule
from attar.advice.situation import Limits, Situation
from attar.report.format import millis, seconds
from attar.sizes import show_size


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A candidate with everything that is said of it."""

    candidate: Candidate
    estimate: Estimate
    band: Band
    reasons: tuple[tuple[str, str], ...]
    """(rule id, the fact that triggered it) of the rules that speak for it or against it."""
    score: float
    misses: tuple[str, ...]
    """Limits that it is estimated to miss, in words."""
    excess: float
    """By which factor it misses them at worst; 1 or less where it keeps all."""
    changes: tuple[str, ...]
    """What would change the advice."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready table."""
        return {
            "method": self.candidate.name,
            "title": self.candidate.title,
            "fits": not self.misses,
            "misses": list(self.misses),
            "score": round(self.score, 2),
            "quality": {**vars(self.band)},
            "reasons": [{"rule": rule, "fact": fact} for rule, fact in self.reasons],
            "estimate": self.estimate.to_dict(),
            "changes": list(self.changes),
            "commands": self.candidate.commands,
            "recipes": list(self.candidate.recipes),
        }


def limits_of(situation: Situation) -> Limits:
    """Return what was asked for; without ``--max-memory`` training still has to fit into the machine."""
    hardware = situation.machine.hardware
    whole = None if hardware.get("gpu") else int(hardware["memory_gib"] * 2**30)
    return replace(situation.limits, memory=situation.limits.memory or whole)


def rank(pairs: list[tuple[Candidate, Estimate]], situation: Situation, rules: list[tuple[Rule, str]]) -> list[Ranked]:
    """Return all candidates, the best first; those that miss a limit come last, the nearest first."""
    ranked = [_judge(candidate, estimate, situation, rules) for candidate, estimate in pairs]
    fitting = [r for r in ranked if not r.misses]
    others = [r for r in ranked if r.misses]
    fitting.sort(key=lambda r: (-r.score, r.estimate.seconds.value))
    return fitting + sorted(others, key=lambda r: r.excess)


def verdict(ranked: list[Ranked], situation: Situation) -> str | None:
    """Say that the limits cannot be kept together, and what comes nearest; None where something keeps them."""
    if not ranked or not ranked[0].misses:
        return None
    nearest, limits = ranked[0], limits_of(situation)
    alone = [name for name in vars(limits) if all(_exceeds(r.estimate, limits, name) for r in ranked)]
    why = "no candidate is estimated to keep " + (
        f"{' or '.join(_LIMITS[name][0] for name in alone)}" if alone else "all limits at once, though each can be kept"
    )
    return f"{why}; nearest: {nearest.candidate.title}, which misses {'; '.join(nearest.misses)}"


_LIMITS = {
    "latency_ms": ("the latency limit", "latency_ms", millis),
    "memory": ("the memory limit", "memory", show_size),
    "size": ("the size limit", "all_tasks", show_size),
    "train_seconds": ("the training budget", "seconds", seconds),
}


def _judge(candidate: Candidate, estimate: Estimate, situation: Situation, rules: list[tuple[Rule, str]]) -> Ranked:
    band = band_of(candidate.name, few=situation.few)
    score, reasons = 100 * band.middle, []
    for rule, fact in rules:
        weight = rule.weights.get(candidate.name, rule.weights.get("*", 0.0) if candidate.distils else 0.0)
        score += weight
        if weight:
            reasons.append((rule.id, fact))
    limits = limits_of(situation)
    ratios = {name: _ratio(estimate, limits, name) for name in _LIMITS}
    return Ranked(
        candidate=candidate,
        estimate=estimate,
        band=band,
        reasons=tuple(reasons),
        score=score,
        misses=tuple(_miss(estimate, limits, name) for name, ratio in ratios.items() if ratio > 1),
        excess=max(ratios.values()),
        changes=_changes(candidate, ratios, situation),
    )


def _ratio(estimate: Estimate, limits: Limits, name: str) -> float:
    limit = getattr(limits, name)
    return getattr(estimate, _LIMITS[name][1]).value / limit if limit else 0.0


def _exceeds(estimate: Estimate, limits: Limits, name: str) -> bool:
    return _ratio(estimate, limits, name) > 1


def _miss(estimate: Estimate, limits: Limits, name: str) -> str:
    what, key, show = _LIMITS[name]
    return f"{what} ({show(getattr(limits, name))}) with {show(getattr(estimate, key).value)}"


def _changes(candidate: Candidate, ratios: dict[str, float], situation: Situation) -> tuple[str, ...]:
    found = [
        f"{_LIMITS[name][0]} is {'missed' if ratio > 1 else 'kept'} by less than the estimate's factor of 2: --probe"
        for name, ratio in ratios.items()
        if 0.5 < ratio < 2
    ]
    if candidate.distils and situation.teacher is None:
        found.append("a teacher at hand (--teacher) saves its training")
    if candidate.distils and not situation.facts.unlabelled:
        found.append("unlabelled texts of the same kind (--unlabelled) would speak for it more")
    if not candidate.distils and situation.tasks == 1 and candidate.name not in ("full", "head"):
        found.append("several tasks (--tasks) would speak for it more; " + ("more" if situation.few else "fewer")
                     + " than 300 labels change its band")  # fmt: skip
    if candidate.name == "full":
        found.append("several tasks, few labels or a tight --max-memory speak against it")
    return tuple(found)
