"""Keeps what goes wrong as rows, one open per fingerprint, and tells GitHub of each by one issue.

GitHub has no unique keys, so nothing that is sent to it twice by accident is found out there. Here the row decides: who
holds its lease tells, everybody else only counts. A creation whose outcome nobody knows (the process died, GitHub
answered 502) leaves the lease to run out; whoever comes next looks before it creates. GitHub's lists may lag behind
longer than a lease, so `reconcile` closes what slipped through: in the end one issue is open, whatever happened.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from lib.data.circuit import Rpc
from lib.errors import DataFailed
from lib.incidents import texts
from lib.incidents.fingerprint import fingerprint, label_of, marked, marker_of
from lib.incidents.github import Issue, Tracker, TrackerFailed
from lib.incidents.safe_text import Redactor, visible
from lib.incidents.steps import Close, Comment, Create, Find, Incident, Reopen, Step, incident_of, next_step

LOOK_BACK = timedelta(days=2)
"""What changed on GitHub since then is compared with the rows: more than a day, which is how often a cron may run."""
FORGOTTEN = timedelta(minutes=15)
"""After that an issue that was not found is taken not to exist: lists lag by ten minutes at worst."""
SETTLING = timedelta(minutes=1)
"""So young an issue is somebody's work just now."""
MAX_FACT = 200
NOT_NOW = ("not_planned", "duplicate")
"""The reasons of closing by which people say that they do not want to hear of it."""

log = logging.getLogger("incidents")


@dataclass(frozen=True, slots=True)
class Recovers:
    """When an incident is over by itself: not seen for `quiet_s`, and so many calls that went well since.

    Of this provider and model, where they are named (rows of inference_events).
    """

    quiet_s: int
    successes: int = 0
    provider: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that is wrong.

    `kind`, `subject` and `cause` together are what makes it the same thing again (fingerprint.py). `subject` is who is
    concerned, and who recovers: `resolve(subject)` ends all its incidents. `title` is our own sentence. `facts` are
    single words, `text` is what somebody else wrote, `hint` is our own Markdown. It is told of once it has lasted for
    `lasting_s`; `recovers` says when it is over by itself, None that somebody resolves it.
    """

    kind: str
    subject: str
    title: str
    cause: tuple[str, ...]
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str = ""
    hint: str = ""
    lasting_s: int = 0
    recovers: Recovers | None = None

    @property
    def fingerprint(self) -> str:
        """The same for what is the same."""
        return fingerprint(self.kind, self.subject, self.cause)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The webhook's delivery that an occurrence came by: it counts once."""

    source: str
    id: str


class Incidents:
    """The incidents of one deployment. Every method may be called from any instance at any time."""

    def __init__(
        self,
        rpc: Rpc,
        tracker: Tracker | None,
        redact: Redactor,
        *,
        missing: Sequence[str] = (),
        now: Callable[[], datetime],
    ) -> None:
        """Without a `tracker` incidents are kept and shown; `missing` names the variables that would make one."""
        self._rpc = rpc
        self._tracker = tracker
        self._redact = redact
        self._missing = missing
        self._now = now
        self._told: set[str] = set()

    async def open(self, failure: Failure, *, at: datetime | None = None, count: int = 1) -> str | None:
        """Say that something is wrong, once or `count` times, and tell GitHub what there is to tell.

        Returns `opened`, `reopened`, `counted` or `stale` (it was well since `at`). Never raises: None, with a line in
        the log, where it can't be kept.
        """
        try:
            outcome, incident = await self.observe(failure, at=at, count=count)
        except DataFailed as error:
            log.warning("an incident is not kept (%s): %s", error.reason, texts.title(failure.title))
            return None
        if incident is not None:
            await self.settle(incident)
        return outcome

    async def resolve(self, subject: str, *, at: datetime | None = None) -> int:
        """Say that all is well with this subject; how many incidents that ended. Never raises."""
        try:
            ids = await self.recovered(subject, at=at)
            await self.settle_all(ids)
        except DataFailed as error:
            log.warning("the recovery of %s is not kept (%s)", subject, error.reason)
            return 0
        return len(ids)

    async def observe(
        self, failure: Failure, *, at: datetime | None = None, count: int = 1, delivery: Delivery | None = None
    ) -> tuple[str, Incident | None]:
        """Count it; what became of it, and the incident, which `settle` then tells of. Raises DataFailed.

        None for one that somebody is telling GitHub of just now: they see this when they give the lease back.
        """
        answer = await self._rpc(
            "observe_incident",
            {
                "p_fingerprint": failure.fingerprint,
                "p_kind": failure.kind,
                "p_subject": failure.subject,
                "p_title": texts.title(self._redact(failure.title)),
                "p_evidence": self._evidence(failure),
                "p_at": None if at is None else at.isoformat(),
                "p_count": count,
                "p_lasting_s": failure.lasting_s,
                "p_recovers": None if failure.recovers is None else asdict(failure.recovers),
                **_delivery(delivery),
            },
        )
        row: Mapping[str, Any] | None = None if answer.get("leased") else answer.get("incident")
        return answer["outcome"], None if row is None else incident_of(row)

    async def recovered(
        self, subject: str, *, at: datetime | None = None, delivery: Delivery | None = None
    ) -> Sequence[int]:
        """Write down that a subject was well at this time; the incidents that ended. Raises DataFailed."""
        given = {"p_subject": subject, "p_at": None if at is None else at.isoformat(), **_delivery(delivery)}
        return (await self._rpc("resolve_incidents", given))["ids"]

    async def recover(self) -> int:
        """End what is over by itself; how many that were. GitHub hears of it by `reconcile`. Raises DataFailed."""
        return len(await self._rpc("recover_incidents", {}))

    async def open_subjects(self, prefix: str) -> list[str]:
        """The subjects of this kind that have an open incident. Raises DataFailed."""
        found = await self._unsettled()
        return sorted({each.subject for each in found if each.state == "open" and each.subject.startswith(prefix)})

    async def preview(self, failure: Failure) -> dict[str, Any]:
        """What `observe` and `settle` would do now, without doing it. Raises DataFailed."""
        row = await self._rpc("incident_of", {"p_fingerprint": failure.fingerprint})
        found = None if row is None else incident_of(row)
        action = "open"
        if found is not None:
            action = "count" if found.state == "open" or found.muted else "reopen"
        now = self._now()
        would = Incident(
            resolution=None,
            resolved_at=None,
            attempted_at=None,
            lease_until=None,
            trouble=None,
            told=None,
            id=0,
            fingerprint=failure.fingerprint,
            kind=failure.kind,
            subject=failure.subject,
            title=texts.title(self._redact(failure.title)),
            evidence=self._evidence(failure),
            state="open",
            muted=False,
            flapping=False,
            occurrences=1 if found is None else found.occurrences + 1,
            first_seen=now if found is None else found.first_seen,
            last_seen=now,
            opened_at=now,
            lasting_s=0,
            issue_number=None,
            previous_issue=None,
            told_occurrences=0,
        )
        return {
            "action": action,
            "issue": None if found is None else found.issue_number,
            "title": would.title,
            "body": texts.body(would),
            "labels": texts.labels(would),
            "fingerprint": would.fingerprint,
        }

    async def settle_all(self, ids: Sequence[int]) -> None:
        """Tell GitHub of these incidents. Raises DataFailed."""
        if ids:
            for incident in await self._unsettled():
                if incident.id in ids:
                    await self.settle(incident)

    async def settle(self, incident: Incident) -> None:
        """Tell GitHub all that there is to tell of an incident, unless somebody else is at it.

        Failures of GitHub are kept with the row and tried again by `reconcile`; those of the database are logged.
        """
        try:
            while next_step(incident) is not None:
                if self._tracker is None:
                    self._once("no tracker", f"incidents are kept, not sent: set {' and '.join(self._missing)}")
                    return
                after = await self._tell_next(incident, self._tracker)
                if after is None:
                    return
                incident = after
        except DataFailed as error:
            log.warning("incident %d is not told of now (%s)", incident.id, error.reason)

    async def reconcile(self, *, thorough: bool = False) -> dict[str, int]:
        """Make GitHub and the rows agree: people's changes, issues made twice, what was not told yet.

        `thorough`: look at GitHub also where no issue is older than a minute. Returns how many of each. Raises
        DataFailed; what GitHub does not do is left for the next time.
        """
        incidents = await self._unsettled()
        report = {"looked_at": len(incidents), "duplicates": 0, "by_hand": 0, "unsettled": 0}
        settled_at = self._now() - SETTLING
        has_issues = any(each.attempted_at is not None and each.attempted_at < settled_at for each in incidents)
        if self._tracker is not None and (has_issues or thorough):
            try:
                changed = await self._tracker.labelled(texts.LABEL, self._now() - LOOK_BACK)
                report |= await self._compare(changed, {incident.fingerprint: incident for incident in incidents})
            except TrackerFailed as error:
                self._complain(error)
        for incident in await self._unsettled():
            await self.settle(incident)
        report["unsettled"] = sum(next_step(incident) is not None for incident in await self._unsettled())
        return report

    async def _unsettled(self) -> list[Incident]:
        return [incident_of(row) for row in await self._rpc("incidents_to_settle", {})]

    async def _tell_next(self, incident: Incident, tracker: Tracker) -> Incident | None:
        """Do the next step under the lease; the row after it, or None where nothing more is to be done now."""
        owner = str(uuid4())
        creates = isinstance(next_step(incident), Create)
        claim = await self._rpc("claim_incident", {"p_id": incident.id, "p_owner": owner, "p_creates": creates})
        if claim["outcome"] == "capped" and claim["first"]:
            await self._roll_up()
        if claim["outcome"] != "claimed":
            return None
        incident, look_first = incident_of(claim["incident"]), bool(claim["look_first"])
        step = next_step(incident)
        if step is None or isinstance(step, Create) is not creates:
            # It has changed meanwhile. Nothing was sent, so nothing was attempted.
            undo: dict[str, Any] = {"attempted_at": None} if creates and not look_first else {}
            return await self._record(incident, owner, undo)
        try:
            changes = await self._tell(incident, Create(look_first) if creates else step, tracker)
        except TrackerFailed as error:
            self._complain(error)
            undo = {"attempted_at": None} if creates and error.is_sure and not look_first else {}
            changes = {"trouble": error.code, "retry_after_s": error.retry_after_s, **undo}
            await self._record(incident, owner, changes, release=error.is_sure)
            return None
        return await self._record(incident, owner, {"trouble": None, **changes})

    async def _tell(self, incident: Incident, step: Step, tracker: Tracker) -> dict[str, Any]:
        """Do it; what then is new about the row. Raises TrackerFailed."""
        if isinstance(step, Create | Find):
            return await self._tell_of_new(incident, step, tracker)
        number = incident.issue_number or 0
        issue = await self._seen(number, tracker)
        # Open already: whoever wanted to reopen it got no further, or a human was faster.
        is_back = isinstance(step, Reopen) and issue is not None and issue.state == "open" and not _is_muted(issue)
        if issue is None or (_by_hand(issue, incident) and not is_back):
            await self._take_over(incident, issue)
            return {}
        if isinstance(step, Reopen):
            if not is_back:
                await tracker.reopen(number)
            if incident.flapping:
                await tracker.label(number, texts.FLAPPING)
            await tracker.comment(number, texts.reopened(incident))
            return {"told": "open", "told_occurrences": incident.occurrences}
        if isinstance(step, Comment):
            await tracker.comment(number, texts.repeated(incident))
            return {"told_occurrences": incident.occurrences}
        assert isinstance(step, Close)  # noqa: S101 - for the type checker
        await tracker.close(number, "completed")
        await tracker.comment(number, texts.recovered(incident))
        return {"told": "closed"}

    async def _tell_of_new(self, incident: Incident, step: Create | Find, tracker: Tracker) -> dict[str, Any]:
        """The issue of an incident that has none, as far as we know. Raises TrackerFailed."""
        if isinstance(step, Find) or step.look_first:
            found = await self._ours(incident, tracker)
            if found:
                return {"issue_number": found[0].number, "told": found[0].state, "told_occurrences": 1}
        if isinstance(step, Find):
            is_gone = incident.attempted_at is not None and self._now() - incident.attempted_at > FORGOTTEN
            return {"attempted_at": None} if is_gone else {"retry_after_s": 60}
        number = await tracker.create(incident.title, texts.body(incident), texts.labels(incident))
        return {"issue_number": number, "told": "open", "told_occurrences": incident.occurrences}

    async def _ours(self, incident: Incident, tracker: Tracker) -> list[Issue]:
        """The issues of this incident that GitHub lists, open ones first, then by number."""
        marker = marker_of(incident.fingerprint)
        found = await tracker.labelled(label_of(incident.fingerprint))
        mine = [issue for issue in found if marker in issue.body and issue.number > (incident.previous_issue or 0)]
        return sorted(mine, key=lambda issue: (issue.state != "open", issue.number))

    async def _seen(self, number: int, tracker: Tracker) -> Issue | None:
        """The issue as it stands; None where it is gone although the repository is there. Raises TrackerFailed."""
        try:
            return await tracker.get(number)
        except TrackerFailed as error:
            if error.code not in {"not_found", "issues_off"} or await tracker.check() is not None:
                raise
            return None

    async def _take_over(self, incident: Incident, issue: Issue | None) -> None:
        """What people did to the issue; who deleted it does not want another."""
        state = "closed" if issue is None else issue.state
        muted = issue is None or _is_muted(issue)
        await self._rpc("human_on_incident", {"p_id": incident.id, "p_state": state, "p_muted": muted})

    async def _compare(self, changed: Sequence[Issue], incidents: Mapping[str, Incident]) -> dict[str, int]:
        """Close duplicates; take over what people did. Lists may be old, so each issue is looked at by itself first."""
        assert self._tracker is not None  # noqa: S101 - for the type checker
        by_print: dict[str, list[Issue]] = defaultdict(list)
        for issue in changed:
            print_ = marked(issue.body)
            if print_ is not None and label_of(print_) in issue.labels:
                by_print[print_].append(issue)
        duplicates = by_hand = 0
        for print_, issues in by_print.items():
            incident = incidents.get(print_) or await self._known(print_)
            if incident is None:
                continue
            listed = [
                issue for issue in issues if issue.state == "open" and issue.number > (incident.previous_issue or 0)
            ]
            strays = [issue for issue in listed if incident.issue_number not in {None, issue.number}]
            differs = any(issue.number == incident.issue_number and _by_hand(issue, incident) for issue in issues)
            if len(listed) > 1 or strays or differs:
                closed, changed_by_hand = await self._mend(incident, listed, self._tracker)
                duplicates, by_hand = duplicates + closed, by_hand + changed_by_hand
        return {"duplicates": duplicates, "by_hand": by_hand}

    async def _known(self, print_: str) -> Incident | None:
        row = await self._rpc("incident_of", {"p_fingerprint": print_})
        return None if row is None else incident_of(row)

    async def _mend(self, incident: Incident, listed: Sequence[Issue], tracker: Tracker) -> tuple[int, int]:
        """Under the lease, by the issues themselves: how many were closed as duplicates, how many changed by hand."""
        owner = str(uuid4())
        claim = await self._rpc("claim_incident", {"p_id": incident.id, "p_owner": owner, "p_creates": False})
        if claim["outcome"] != "claimed":
            return 0, 0
        incident, changes, closed, by_hand = incident_of(claim["incident"]), dict[str, Any](), 0, 0
        try:
            seen = [await tracker.get(issue.number) for issue in listed]
            numbers = [issue.number for issue in seen if issue.state == "open"]
            is_over = incident.state == "resolved" and incident.told == "closed"
            kept = incident.issue_number if is_over else min(numbers, default=incident.issue_number)
            for number in numbers:
                if kept is not None and number != kept:
                    await tracker.close(number, "duplicate")
                    await tracker.comment(number, texts.duplicate_of(kept))
                    closed += 1
            if kept is not None and kept in numbers and closed:
                changes = {"issue_number": kept, "told": "open", "told_occurrences": 1}
            elif incident.issue_number is not None:
                issue = await self._seen(incident.issue_number, tracker)
                if issue is None or _by_hand(issue, incident):
                    await self._take_over(incident, issue)
                    by_hand = 1
        except TrackerFailed as error:
            self._complain(error)
        await self._record(incident, owner, changes)
        return closed, by_hand

    async def _record(
        self, incident: Incident, owner: str, changes: Mapping[str, Any], *, release: bool = True
    ) -> Incident | None:
        given = {"p_id": incident.id, "p_owner": owner, "p_changes": changes, "p_release": release}
        row = await self._rpc("record_incident", given)
        return None if row is None else incident_of(row)

    async def _roll_up(self) -> None:
        """Say in one issue that there are more than are told of now."""
        waiting = [each for each in await self._unsettled() if each.issue_number is None and each.state == "open"]
        await self.open(
            Failure(
                kind="rollup",
                subject="rollup",
                title="More incidents than are told of one by one",
                cause=("hourly cap",),
                text="\n".join(each.title for each in waiting if each.kind != "rollup"),
                hint="Their own issues follow, as many per hour as the cap allows, while they last.",
                recovers=Recovers(quiet_s=3600),
            )
        )

    def _evidence(self, failure: Failure) -> dict[str, Any]:
        facts = {name: self._redact(visible(value))[:MAX_FACT] for name, value in failure.facts.items() if value}
        return {"facts": facts, "text": self._redact.clean(failure.text), "hint": failure.hint}

    def _complain(self, error: TrackerFailed) -> None:
        self._once(error.code, f"GitHub takes no issues now ({error.code}){f': {error.fix}' if error.fix else ''}")

    def _once(self, what: str, line: str) -> None:
        """A line in the log for each process, and no more: what it says is with the row too."""
        if what not in self._told:
            self._told.add(what)
            log.warning(line)


def _is_muted(issue: Issue) -> bool:
    return texts.MUTED in issue.labels or (issue.state == "closed" and issue.reason in NOT_NOW)


def _by_hand(issue: Issue, incident: Incident) -> bool:
    """Whether the issue is otherwise than we left it."""
    return issue.state != incident.told or _is_muted(issue) is not incident.muted


def _delivery(delivery: Delivery | None) -> dict[str, str]:
    return {} if delivery is None else {"p_source": delivery.source, "p_delivery_id": delivery.id}
