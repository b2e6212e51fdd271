"""What is known of a lab: one JSON file per lab, written before anything is made and unlinked after all is gone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from tapbridge.lab.spec import Spec, load_spec, parse_lab_name
from tapbridge.model.errors import Forbidden, HostError, TapbridgeError
from tapbridge.model.noun import dataclass, field, replace

_MOST_BYTES: Final = 1 << 20
_TURNS: Final = 1000


class Phase(StrEnum):
    """How far a lab has come."""

    MAKING = "making"
    UP = "up"
    GOING = "going"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The keeper of a place: `start` in clock ticks since boot, `netns` the inode of its network namespace."""

    pid: int
    start: int
    netns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A lab on record. `named` tells that its namespaces have names in /run/netns."""

    spec: Spec
    phase: Phase = Phase.MAKING
    named: bool = True
    keeps: Mapping[str, Keep] = field(default_factory=dict)

    def with_keep(self, place: str, keep: Keep) -> Self:
        """The same record with one place more."""
        return replace(self, keeps={**self.keeps, place: keep})


class Shelf:
    """The folder of the records, `run/tapbridge/labs`."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "labs"

    @property
    def ident(self) -> str:
        """What tells the labs of this folder from all others of the machine. The folder must be there.

        A path alone would not do: another mount namespace can have another /run.
        """
        import hashlib

        path = self.folder.parent.resolve()
        return hashlib.sha256(f"{path} {path.stat().st_dev}".encode()).hexdigest()[:12]

    def names(self) -> list[str]:
        """The labs on record, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def drafts(self) -> list[str]:
        """The labs of which a record was being written when its writer died."""
        return [path.stem for path in self.folder.glob("*.new")]

    def find(self, name: str) -> Record | None:
        """The record of a lab. Raises TapbridgeError if it cannot be read."""
        path = self._path(name)
        try:
            with open(path, encoding="utf-8") as file:
                return _load(json.loads(file.read(_MOST_BYTES)))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, TapbridgeError) as error:
            raise HostError(
                f"the record of the lab {name} cannot be understood: {error}",
                hint=f"remove what is left of it: tapbridge lab down {name}",
            ) from error

    def write(self, record: Record) -> None:
        """Replace the record of a lab as a whole, or leave the old one."""
        path = self._path(record.spec.name)
        draft = path.with_suffix(".new")
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(_dump(record), file, indent=1)
        os.replace(draft, path)

    def forget(self, name: str) -> None:
        """Unlink the record of a lab."""
        for path in (self._path(name), self._path(name).with_suffix(".new")):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: labs are made and removed one after another. Waits for the other. Raises Forbidden."""
        for _ in range(_TURNS):
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            except OSError as error:
                raise Forbidden(
                    f"{self.folder} cannot be made: {error.strerror}",
                    hint="set TAPBRIDGE_RUN_DIR to a folder of your own",
                    code="no-run-folder",
                ) from error
            try:
                fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.folder).st_ino == os.fstat(fd).st_ino:
                    break
            os.close(fd)  # the end of another lab has removed the folder while we waited
        else:
            raise HostError(f"{self.folder} goes as often as it is made")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            os.close(fd)

    def busy(self) -> bool:
        """Whether a lab is being made or removed now."""
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _path(self, name: str) -> Path:
        return self.folder / f"{parse_lab_name(name)}.json"


def _dump(record: Record) -> dict[str, Any]:
    return {
        "schema": 1,
        "spec": record.spec.dump(),
        "phase": record.phase.value,
        "named": record.named,
        "keeps": {place: {"pid": k.pid, "start": k.start, "netns": k.netns} for place, k in record.keeps.items()},
    }


def _load(document: dict[str, Any]) -> Record:
    return Record(
        spec=load_spec(document["spec"]),
        phase=Phase(document["phase"]),
        named=bool(document["named"]),
        keeps={place: Keep(**keep) for place, keep in document["keeps"].items()},
    )
