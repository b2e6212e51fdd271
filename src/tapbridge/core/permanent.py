"""Making a bridge permanent, and not: plans of files alone, and the record by which the second takes back the first.

The record is a file for each bridge, where our files live that outlive a boot. It is written last and
removed last, and has the bytes, the mode and the owner of every file that was changed. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapbridge.core.draft import Draft
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.journal import dump, load
from tapbridge.model.permanent import Permanent
from tapbridge.model.plan import Plan, Reason
from tapbridge.model.state import File, State
from tapbridge.model.step import Step, WriteFile
from tapbridge.model.verdict import Finding


def load_permanent(text: str | None, path: str) -> Permanent | None:
    """What the record says; None where there is none. Raises HostError if it is not what we write."""
    if text is None:
        return None
    try:
        found = load(text)
        if isinstance(found, Permanent):
            return found
    except (ValueError, AttributeError, RecursionError):
        pass
    raise HostError(
        f"the record {path} of a saved bridge is damaged",
        hint=f"put the configuration right by hand, then remove it: rm {path}",
    )


def save(
    state: State,
    permanent: Permanent,
    live: Sequence[WriteFile],
    record: str,
    risks: tuple[Finding, ...] = (),
    *,
    root: str = "",
) -> Plan:
    """The plan that makes a bridge permanent: its files below `root`, what must be told of them now (`live`),
    and the record."""
    draft = Draft(state)
    draft.stage(Reason.FILES)
    files = [written.after for written in permanent.files]
    draft.do(*(WriteFile(path=root + file.path, content=file.content, mode=file.mode) for file in files), *live)
    draft.do(WriteFile(path=record, content=dump(permanent) + "\n", mode=0o600))
    return draft.plan("save", (), risks)


def unsave(
    state: State,
    permanent: Permanent,
    there: Sequence[File],
    live: Sequence[Step],
    record: str,
    *,
    force: bool,
    root: str = "",
) -> Plan:
    """The plan that makes every file what it was. `there` are the files as they are now, `live` is what must be done
    below /run: so that the bridge can go on without them, or what held them back goes, when they are gone.

    Raises Refused where somebody has changed one since, unless forced.
    """
    edited = changed_since(permanent, there)
    if edited and not force:
        raise Refused(
            f"{', '.join(edited)} was changed since {permanent.bridge} was saved, and that would be lost",
            hint="see with --dry-run --force what would be put back; --force does it",
            code="changed-since",
            subject=permanent.bridge,
        )
    back = [
        WriteFile(path=root + was.path, content=was.content, mode=was.mode, owner=(was.uid, was.gid))
        for written, now in zip(permanent.files, there, strict=True)
        if (was := written.before).content != now.content
    ]
    draft = Draft(state)
    draft.stage(Reason.FILES)
    first = [step for step in live if isinstance(step, WriteFile) and step.content is not None]
    draft.do(*first, *back, *(step for step in live if step not in first), WriteFile(path=record, content=None))
    return draft.plan("unsave", ())


def changed_since(permanent: Permanent, there: Sequence[File]) -> tuple[str, ...]:
    """The files that are neither as they were written nor as they were before."""
    return tuple(
        now.path
        for written, now in zip(permanent.files, there, strict=True)
        if now.content not in (written.after.content, written.before.content)
    )


def is_there(permanent: Permanent, there: Sequence[File]) -> bool:
    """Whether every file is as it was written."""
    return all(now.content == written.after.content for written, now in zip(permanent.files, there, strict=True))
