"""SIPp as both ends of calls, and what its message log says that it did."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.support.daemon import listens, program, running

SCENARIOS = Path(__file__).parents[1] / "data/sip"
PATIENCE_S = 40
_HEAD = re.compile(
    rb"^-{40,} (\d{4}-\d\d-\d\d).([\d:.]+)\S*\r?\nUDP message (sent|received) ?[(\[]\d+[)\]]? ?bytes\)? ?:(?:\r?\n){2}",
    re.MULTILINE,
)


class Message(NamedTuple):
    """One SIP message of a log."""

    at_s: float
    sent: bool
    first: str  # request or status line
    headers: Mapping[str, str]

    @property
    def cseq(self) -> tuple[int, str]:
        """The number and the method of its CSeq."""
        number, method = self.headers["cseq"].split()
        return int(number), method


class Truth(NamedTuple):
    """What one end saw of one call."""

    call_id: str
    from_tag: str
    to_tag: str  # of the answer that lasted longest, else of the last refusal
    code: int
    started_s: float
    answered_s: float | None
    ended_s: float | None
    released_by: str  # caller | callee | unknown

    @property
    def duration_ms(self) -> int | None:
        """How long the call lasted; None if it had no answer or no end."""
        if self.answered_s is None or self.ended_s is None:
            return None
        return round((self.ended_s - self.answered_s) * 1_000)


@contextmanager
def answering(scenario: str, folder: Path, at: tuple[str, int], *options: str) -> Iterator[None]:
    """Run a called party at an address until the block ends."""
    name = f"{scenario}-{at[1]}"
    command = _command(scenario, folder / name, at, options)
    with running(command, folder / f"{name}.out", lambda: listens(at), cwd=folder):
        yield


def calling(
    scenario: str, folder: Path, name: str, proxy: tuple[str, int], at: str, *options: str, calls: int = 1
) -> "subprocess.Popen[bytes]":
    """Start a call, or several; done() waits for their end."""
    command = [
        *_command(scenario, folder / name, (at, 0), options), "-m", str(calls), "-timeout", str(PATIENCE_S),
        "-timeout_error", f"{proxy[0]}:{proxy[1]}",
    ]  # fmt: skip
    with (folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder)


def done(process: "subprocess.Popen[bytes]", folder: Path, name: str) -> None:
    """Wait until a call has ended as its scenario says."""
    try:
        status = process.wait(PATIENCE_S + 10)
    finally:
        process.kill()
    errors = folder / f"{name}.errors"
    assert status == 0, f"SIPp's {name} went wrong ({status}): {errors.read_text() if errors.exists() else ''}"


def with_sound(scenario: str, folder: Path, lasts_s: float) -> str:
    """Make a scenario like another, where the caller is heard for so long after the answer, and return its name."""
    made = folder / f"{scenario}-heard"
    sound = made.with_suffix(".pcmu")  # of this scenario alone: SIPp may be reading that of another one
    sound.write_bytes(b"\xff" * round(8_000 * lasts_s))
    play = f'<nop><action><exec rtp_stream="{sound},1,0"/></action></nop><pause milliseconds="{lasts_s * 1_000:.0f}"/>'
    text = (SCENARIOS / f"{scenario}.xml").read_text().replace("[media_port]", "[rtpstream_audio_port]")
    head, ack, tail = text.partition("ACK [next_url]")
    made.with_suffix(".xml").write_text(head + ack + tail.replace("</send>", f"</send>{play}", 1))
    return str(made)


def messages(folder: Path, name: str) -> list[Message]:
    """Return the log of a call's messages."""
    text = (folder / f"{name}.messages").read_bytes()
    heads = list(_HEAD.finditer(text))
    result = []
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        first, *lines = (
            text[head.end() : following.start() if following else None].decode().split("\r\n\r\n")[0].splitlines()
        )
        at = datetime.fromisoformat(f"{head[1].decode()}T{head[2].decode()}").astimezone(UTC).timestamp()
        result.append(Message(at, head[3] == b"sent", first, _headers(lines)))
    return result


def truths(log: Sequence[Message]) -> list[Truth]:
    """Return the calls that this caller made, by their first INVITEs."""
    result = []
    for invite in log:
        if invite.sent and invite.first.startswith("INVITE ") and tag_of(invite.headers["to"]) == "":
            call = [m for m in log if m.headers["call-id"] == invite.headers["call-id"] and m.at_s >= invite.at_s]
            again = [m.at_s for m in call if _is_next(m, invite)]
            call = [m for m in call if not again or m.at_s < min(again)]
            if not any(t.call_id == invite.headers["call-id"] and t.started_s == invite.at_s for t in result):
                result.append(_truth(invite, call))
    return result


def _is_next(message: Message, invite: Message) -> bool:
    """Return whether a message begins another call with the same Call-ID: as the first, by another transaction."""
    return (
        message.sent
        and message.first.startswith("INVITE ")
        and tag_of(message.headers["to"]) == ""
        and message.cseq == invite.cseq
        and message.headers["via"] != invite.headers["via"]
    )


def tag_of(header: str) -> str:
    """Return the tag of a From or To."""
    return header.rpartition(";tag=")[2] if ";tag=" in header else ""


def _truth(invite: Message, call: Sequence[Message]) -> Truth:
    finals = [
        m for m in call
        if not m.sent and m.cseq == invite.cseq and m.first.startswith("SIP/2.0 ") and int(m.first.split()[1]) >= 200
    ]  # fmt: skip
    assert finals, f"{invite.headers['call-id']} was never answered or refused"
    byes = [m for m in reversed(call) if m.first.startswith("BYE ")]
    ends = {tag: bye for tag in _answers(finals) for bye in byes if _is_of(bye, tag)}
    lasted = {tag: ends[tag].at_s - at_s if tag in ends else 0.0 for tag, at_s in _answers(finals).items()}
    to_tag = max(lasted, key=lambda tag: lasted[tag]) if lasted else tag_of(finals[-1].headers["to"])
    bye = ends.get(to_tag)
    return Truth(
        invite.headers["call-id"],
        tag_of(invite.headers["from"]),
        to_tag,
        int(finals[-1].first.split()[1]),
        invite.at_s,
        _answers(finals).get(to_tag),
        bye.at_s if bye else None,
        "unknown" if bye is None else "caller" if bye.sent else "callee",
    )


def _answers(finals: Sequence[Message]) -> dict[str, float]:
    """Return when each called party answered, by its tag."""
    answers = [m for m in reversed(finals) if m.first.startswith("SIP/2.0 2")]
    return {tag_of(m.headers["to"]): m.at_s for m in answers}


def _is_of(bye: Message, tag: str) -> bool:
    return tag in (tag_of(bye.headers["to"]), tag_of(bye.headers["from"]))


def _command(scenario: str, base: Path, at: tuple[str, int], options: Sequence[str]) -> list[str]:
    where = ["-i", at[0], "-mi", at[0], "-ci", at[0], *(["-p", str(at[1])] if at[1] else [])]
    return [
        program("sipp", "sip-tester"), "-sf", str(SCENARIOS / f"{scenario}.xml"), *where, "-nostdin", "-skip_rlimit",
        "-trace_msg", "-message_file", f"{base}.messages", "-trace_err", "-error_file", f"{base}.errors", *options,
    ]  # fmt: skip


def _headers(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in reversed(lines)]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
