"""One table of another program, followed by ids: what is new in it since a position, as journal rows.

It reads only, and keeps nothing: the caller stores rows and the new position together.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from accounting.base.clock import from_us
from accounting.collecting.flavours import TableSpec
from accounting.collecting.position import Gap, Position, advanced, expired, filled, gaps_to_look_at
from accounting.db.foreign import Foreign, Value, quoted
from accounting.sources.localtime import instants

ROW_BYTES_MAX = 1 << 20
FIRST_IDS = 1000
"""With start = now: so many of the last ids are looked at for transactions that are still open."""
STATE_US = 60_000_000
YOUNG_US = 300_000_000
GAPS_A_TURN = 1000
RANGES_A_QUERY = 250
FOLLOW_A_TURN = 2000
FOLLOW_MAX = 200_000
FOLLOW_CLOSED_US = 600_000_000
MARGIN_US = 3600 * 1_000_000
JUMP_US = 1800 * 1_000_000


class Batch(NamedTuple):
    """What one poll found."""

    rows: tuple[bytes, ...]
    position: Position
    is_full: bool  # there is more to read at once
    given_up: int = 0
    restarted: bool = False


class Follower:
    """Reads one table over an open connection."""

    def __init__(
        self, database: Foreign, spec: TableSpec, columns: dict[str, int | None], zone: str, batch_max: int, gap_us: int
    ) -> None:
        self._database = database
        self._spec = spec
        self._names = tuple(columns)
        self._place = {name.lower(): at for at, name in enumerate(self._names)}
        self._id = self._place[spec.id.lower()]
        self._time = self._place[spec.time.lower()] if spec.time else None
        self._core = [self._place[name.lower()] for name in spec.core]
        self._state = [self._place[name.lower()] for name in spec.state if name.lower() in self._place]
        self._widths = {
            at: width
            for name in spec.may_be_cut
            if (at := self._place.get(name.lower())) is not None and (width := columns[self._names[at]])
        }
        self._zone = zone
        self._max = batch_max
        self._gap_us = gap_us
        self._turn = 0
        self._state_due_us = 0
        self._select = f"SELECT {', '.join(map(quoted, self._names))} FROM {quoted(spec.name)}"
        self._key = quoted(spec.id)

    def first(self, start: str, now_us: int, start_us: int | None) -> Position:
        """Return where a collector without a position begins: `start` is all, now, or an instant (`start_us`)."""
        made = self._database.state(self._spec.name).made
        if start == "all":
            return Position(made=made)
        since = self._local(now_us - MARGIN_US if start_us is None else start_us)
        top = self._number(f"SELECT MAX({self._key}) FROM {quoted(self._spec.name)}") or 0
        if start_us is not None:
            time = quoted(self._spec.time)
            closed = f" OR {quoted(self._spec.closed)} IS NULL" if self._spec.closed else ""
            found = self._number(
                f"SELECT MIN({self._key}) FROM {quoted(self._spec.name)} WHERE {time} >= '{since}'{closed}"
            )
            return self._at(Position(made=made, skip_before=since, high=(found - 1 if found else top)))
        position = Position(high=max(0, top - FIRST_IDS), made=made, skip_before=since)
        ids = [
            int(row[0] or 0)
            for row in self._database.rows(
                f"SELECT {self._key} FROM {quoted(self._spec.name)} WHERE {self._key} > {position.high}"
                f" ORDER BY {self._key}"
            )
        ]
        return self._at(advanced(position, ids, now_us) if ids else position)

    def poll(self, position: Position, now_us: int) -> Batch:
        """Return what is new since `position`: rows above it, rows in its gaps, and rows that were changed in place."""
        self._turn += 1
        found = self._database.rows(
            f"{self._select} WHERE {self._key} >= {position.high} ORDER BY {self._key} LIMIT {self._max + 1}"
        )
        is_anchored = bool(found) and position.high > 0 and self._id_of(found[0]) == position.high
        if self._began_again(position, found[0] if is_anchored else None):
            made = self._database.state(self._spec.name).made
            return Batch((), Position(made=made, skip_before=position.skip_before), True, restarted=True)
        if is_anchored and now_us >= self._state_due_us:
            self._state_due_us = now_us + STATE_US
            position = position._replace(made=self._database.state(self._spec.name).made)
        new = found[1:] if is_anchored else [row for row in found if self._id_of(row) > position.high]
        new = new[: self._max]
        late = self._late(position, now_us)
        changed, position = self._changed(position, now_us)
        raws: list[bytes] = []
        for row in new:
            fold, position = self._fold(row, position)
            raws += self._raw(row, position, fold)
        for row in late:
            raws += self._raw(row, position, None)
        raws += [raw for row in changed for raw in self._raw(row, position, None)]
        moved = filled(advanced(position, [self._id_of(row) for row in new], now_us), map(self._id_of, late))
        if new:
            moved = moved._replace(anchor=self._digest(new[-1], self._core))
        if self._spec.closed:
            moved = self._following(moved, [*new, *late], now_us)
        moved, given_up = expired(moved, now_us, self._gap_us)
        return Batch(tuple(raws), moved, self._max in (len(new), len(late)), given_up)

    # ---- have the ids begun again?

    def _began_again(self, position: Position, anchor: tuple[Value, ...] | None) -> bool:
        """Return whether the table was emptied with its ids, or made again, since `position`.

        The row at the position tells: another row stands there now, or none and the table is younger or its counter
        is lower. A row that is only deleted (archived) leaves the counter where it was.
        """
        if not position.high or not position.anchor:
            return False
        if anchor is not None:
            return self._digest(anchor, self._core) != position.anchor
        state = self._database.state(self._spec.name)
        if state.made != position.made:
            return True
        if state.next_id is not None:
            return state.next_id <= position.high
        return (self._number(f"SELECT MAX({self._key}) FROM {quoted(self._spec.name)}") or 0) < position.high

    # ---- what appears behind the position

    def _late(self, position: Position, now_us: int) -> list[tuple[Value, ...]]:
        """Return rows that appeared in gaps; at most as many as a batch may have."""
        gaps = gaps_to_look_at(position, self._turn, now_us, young_us=YOUNG_US, many=GAPS_A_TURN)
        found: list[tuple[Value, ...]] = []
        for at in range(0, len(gaps), RANGES_A_QUERY):
            if len(found) >= self._max:
                break
            found += self._database.rows(
                f"{self._select} WHERE {self._within(gaps[at : at + RANGES_A_QUERY])} ORDER BY {self._key}"
                f" LIMIT {self._max}"
            )
        return found

    def _within(self, gaps: Sequence[Gap]) -> str:
        single = [str(gap.first) for gap in gaps if gap.first == gap.last]
        ranges = [f"{self._key} BETWEEN {gap.first} AND {gap.last}" for gap in gaps if gap.first < gap.last]
        return " OR ".join(ranges + ([f"{self._key} IN ({','.join(single)})"] if single else []))

    # ---- rows that are changed in place

    def _changed(self, position: Position, now_us: int) -> tuple[list[tuple[Value, ...]], Position]:
        """Return the followed rows that say something else than before; those that are gone are followed no more."""
        if not position.follow:
            return [], position
        parts = -(-len(position.follow) // FOLLOW_A_TURN)
        part = self._turn % parts
        asked = position.follow[part * FOLLOW_A_TURN : (part + 1) * FOLLOW_A_TURN]
        ids = ",".join(str(number) for number, _, _ in asked)
        rows = {
            self._id_of(row): row
            for row in self._database.rows(f"{self._select} WHERE {self._key} IN ({ids}) ORDER BY {self._key}")
        }
        changed = []
        kept = []
        for entry in position.follow:
            row = rows.get(entry[0])
            if entry not in asked:
                kept.append(entry)
            elif row is not None:
                now = self._entry(row, now_us)
                if now[1] != entry[1]:
                    changed.append(row)
                    kept.append(now)
                elif not entry[2] or now_us - entry[2] < FOLLOW_CLOSED_US:
                    kept.append(entry)
        return changed, position._replace(follow=tuple(kept))

    def _following(self, position: Position, rows: Iterable[tuple[Value, ...]], now_us: int) -> Position:
        entries = [entry for row in rows if not (entry := self._entry(row, now_us))[2]]
        return position._replace(follow=(*position.follow, *entries)[-FOLLOW_MAX:])

    def _entry(self, row: tuple[Value, ...], now_us: int) -> tuple[int, str, int]:
        closed = _text(row[self._place[self._spec.closed.lower()]])
        is_open = not closed or closed.startswith("0000")
        return self._id_of(row), self._digest(row, self._state), 0 if is_open else now_us

    # ---- a row as the journal keeps it

    def _raw(self, row: tuple[Value, ...], position: Position, fold: int | None) -> list[bytes]:
        time = self._wall(row)
        if position.skip_before and time and time < position.skip_before and not self._spec.closed:
            return []
        said: dict[str, Any] = {
            "table": self._spec.name,
            "row": {name: _shown(value) for name, value in zip(self._names, row, strict=True)},
        }
        full = [self._names[at] for at, width in self._widths.items() if _fills(row[at], width)]
        if full:
            said["full"] = full
        if fold is not None:
            said["fold"] = fold
        raw = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        if len(raw) > ROW_BYTES_MAX:  # a column of many megabytes is no part of an accounting row
            said["row"] = {name: value for name, value in said["row"].items() if len(str(value)) < 4096}
            raw = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        return [raw]

    def _fold(self, row: tuple[Value, ...], position: Position) -> tuple[int | None, Position]:
        """Return which pass of a doubled hour a row is of, by the order of ids: the clock jumps back once."""
        wall = self._wall(row)
        found = instants(wall, self._zone)
        if found is None:
            return None, position
        if found.later_us is None:
            return None, position._replace(wall=max(wall, position.wall))
        second = position.second == wall[:10]
        if not second and position.wall[:10] == wall[:10]:
            before = instants(position.wall, self._zone)
            second = before is not None and before.us - found.us > JUMP_US
        return int(second), position._replace(
            wall=max(wall, position.wall), second=wall[:10] if second else position.second
        )

    def _wall(self, row: tuple[Value, ...]) -> str:
        return "" if self._time is None else _text(row[self._time])

    def _digest(self, row: tuple[Value, ...], places: Sequence[int]) -> str:
        return blake2b("\x00".join(_text(row[at]) for at in places).encode(), digest_size=8).hexdigest()

    def _at(self, position: Position) -> Position:
        """Return a position with the digest of its row."""
        found = self._database.rows(f"{self._select} WHERE {self._key} = {position.high}") if position.high else []
        return position._replace(anchor=self._digest(found[0], self._core) if found else "")

    def _id_of(self, row: tuple[Value, ...]) -> int:
        return int(row[self._id] or 0)

    def _number(self, statement: str) -> int | None:
        [[value]] = self._database.rows(statement)
        return None if value is None else int(value)

    def _local(self, us: int) -> str:
        return from_us(us).astimezone(ZoneInfo(self._zone)).strftime("%Y-%m-%d %H:%M:%S")


def _text(value: Value) -> str:
    return (
        value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else "" if value is None else str(value)
    )


def _shown(value: Value) -> Any:
    """Return a value for JSON: octets that are not UTF-8 as {"hex": ...}."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}


def _fills(value: Value, width: int) -> bool:
    return isinstance(value, bytes) and (len(value) == width or len(_text(value)) == width)
