"""What is known of each spool file: how far it has been read, which life of its name it is, and where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from claude_loop.eventlog.base import SpoolOffset
from claude_loop.intake.spool_files import Place
from claude_loop.intake.spool_names import SUFFIX, author, derived_prefix, is_readable_name, split_generation


@dataclass(slots=True, eq=False)
class SpoolFile:
    """One life of one name.

    ``offset`` is where everything before is committed (or blank). ``generation`` numbers the lives of a name: it is
    in the offset row and, once the file leaves, in its name, so a name used again is never taken for the old file.
    """

    name: str
    generation: int
    inode: int
    offset: int
    place: Place = "spool"
    # The largest n of our ids `<stem>.<n>` that is committed; 0 when that is not known.
    line: int = 0
    size: int = 0
    # Monotonic time of the last growth, and since when its process is known to be gone.
    changed: float = 0.0
    dead_since: float | None = None
    # When the next step of leaving may be tried, and how often somebody had the file open.
    due: float = 0.0
    refusals: int = 0
    # Nobody has it open for writing and nobody can open it: what is there now is all there will ever be.
    sealed: bool = False
    # An unterminated rest was seen at this size: only sealing the file tells whether it is a line.
    rest_at: int = -1
    # Of what was read last only the times have been looked at; to go on takes little time.
    plain: bool = False
    # The file is gone, and so is its row or will be.
    forgotten: bool = False
    stem: str = field(init=False)
    pid: int | None = field(init=False)
    derived: str = field(init=False)

    def __post_init__(self) -> None:
        self.stem = self.name.removesuffix(SUFFIX)
        found = author(self.stem)
        self.pid = None if found is None else found.pid
        self.derived = derived_prefix(self.name, self.generation)

    @property
    def row(self) -> str:
        """The name of its offset row, and of the file in ``leaving``."""
        return f"{self.name}.{self.generation}"

    @property
    def entry(self) -> str:
        """Its name in the directory where it lies."""
        return self.row if self.place == "leaving" else self.name

    @property
    def is_read(self) -> bool:
        """Whether every complete line that was there at the last look is committed."""
        return self.offset >= self.size or self.rest_at == self.size


class SpoolTable:
    """The files there are, by place and name, and the offset rows whose files have not been seen yet."""

    def __init__(self, rows: Iterable[SpoolOffset] = ()) -> None:
        self.spool: dict[str, SpoolFile] = {}
        self.leaving: dict[str, SpoolFile] = {}
        self._by_name: dict[str, list[SpoolFile]] = {}
        self._rows: dict[tuple[str, int], tuple[int, int]] = {}
        self._last_generation = 0
        # Rows to be written with the next commit, besides those of the events in it.
        self.row_changes: list[SpoolOffset] = []
        for row in rows:
            found = split_generation(row.name)
            if found is None or row.offset is None:
                self.row_changes.append(SpoolOffset(row.name, row.inode, None))
            else:
                self._rows[found[0], row.inode] = (found[1], row.offset)

    def __iter__(self) -> Iterator[SpoolFile]:
        return iter([*self.leaving.values(), *self.spool.values()])

    def __len__(self) -> int:
        return len(self.leaving) + len(self.spool)

    def lives(self, name: str) -> list[SpoolFile]:
        """The files of this name, oldest first."""
        return self._by_name.get(name, [])

    def meet(self, name: str, inode: int, now_us: int) -> SpoolFile:
        """The file seen as ``spool/NAME``: the known one, or one that takes up its row, or a new one."""
        known = self.spool.get(name)
        if known is not None and known.inode == inode:
            return known
        if known is not None:  # somebody else removed it and made another
            self.forget(known)
        generation, offset = self._rows.pop((name, inode), (0, 0))
        if not generation or any(life.generation >= generation for life in self.lives(name)):
            generation, offset = self._next_generation(name, now_us), 0
        return self._add(SpoolFile(name, generation, inode, offset))

    def meet_leaving(self, entry: str, inode: int) -> SpoolFile | None:
        """The file seen in ``leaving``; None if its name is none we gave."""
        if entry in self.leaving:
            return self.leaving[entry]
        found = split_generation(entry)
        if found is None or not is_readable_name(found[0]):
            return None
        name, generation = found
        row_generation, offset = self._rows.get((name, inode), (0, 0))
        if row_generation == generation:
            del self._rows[name, inode]
        else:  # its row went with its last commit, and a crash came before its removal: ids tell that nothing is new
            offset = 0
        return self._add(SpoolFile(name, generation, inode, offset, place="leaving"))

    def _next_generation(self, name: str, now_us: int) -> int:
        lives = self.lives(name)
        self._last_generation = max(now_us, self._last_generation + 1, lives[-1].generation + 1 if lives else 0)
        return self._last_generation

    def _add(self, file: SpoolFile) -> SpoolFile:
        (self.leaving if file.place == "leaving" else self.spool)[file.entry] = file
        lives = self._by_name.setdefault(file.name, [])
        lives.append(file)
        lives.sort(key=lambda life: life.generation)
        return file

    def left(self, file: SpoolFile) -> None:
        """The file has been moved to ``leaving``."""
        del self.spool[file.name]
        file.place = "leaving"
        self.leaving[file.row] = file

    def renew(self, file: SpoolFile, size: int, now_us: int) -> SpoolFile:
        """The file has become shorter than what was read: what is there counts as read, what follows is a new life,
        so that offsets used again make no ids used again."""
        self.forget(file)
        fresh = self._add(SpoolFile(file.name, self._next_generation(file.name, now_us), file.inode, size))
        self.row_changes.append(SpoolOffset(fresh.row, fresh.inode, size))
        return fresh

    def forget(self, file: SpoolFile, *, row: bool = True) -> None:
        """The file is gone. With ``row`` its offset row goes with the next commit."""
        file.forgotten = True
        (self.leaving if file.place == "leaving" else self.spool).pop(file.entry, None)
        lives = self._by_name[file.name]
        lives.remove(file)
        if not lives:
            del self._by_name[file.name]
        if row:
            self.row_changes.append(SpoolOffset(file.row, file.inode, None))

    def drop_orphans(self, is_there: Callable[[str, int], bool]) -> None:
        """After everything was looked at: rows without a file are of no use, and an inode number comes again."""
        for (name, inode), (generation, _) in list(self._rows.items()):
            if not is_there(name, inode):
                del self._rows[name, inode]
                self.row_changes.append(SpoolOffset(f"{name}.{generation}", inode, None))
