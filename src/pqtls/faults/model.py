"""What an entry of the catalogue holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["fault", "state", "cost", "circumstance"]
Where = Literal[
    "server",
    "server-or-box-before-it",
    "middlebox",
    "network-path",
    "tunnel-or-router",
    "return-path",
    "inspecting-box",
    "client-network",
]


@dataclass(frozen=True, slots=True)
class Victim:
    """Who was hit, as told by a source.

    Attributes:
        what: Product or user, and what happened.
        source: Where that is written: an issue, an advisory, a page.
        limit_bytes: The size up to which it takes a hello, None where it is not about a size.
    """

    what: str
    source: str
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something to do.

    Attributes:
        what: As an instruction.
        proved_by: Experiments each of which does just this; one that got through proves it here. Empty for what
            no experiment can show, such as an update.
        is_post_quantum: It is about staying so: what came out classical proves nothing.
        is_one_segment: It is about one segment: what left in several and got through proves nothing.
    """

    what: str
    proved_by: tuple[str, ...] = ()
    is_one_segment: bool = False
    is_post_quantum: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One class of trouble, or of something healthy that looks like trouble.

    Attributes:
        id: Such as F01. Never reused.
        name: Lower case with dashes.
        kind: "fault" breaks handshakes; "state" is what the server is able to; "cost" makes them slower;
            "circumstance" is harmless by itself and brings others to light.
        sentence: What is wrong, completing "On this path ...".
        what: What it is.
        signs: How it is told from others, by the experiments that do it.
        where: Whose it most likely is.
        victims: Who was hit.
        remedies: What to do, the real fix first, then work-arounds.
        confused_with: Entries that look alike from one end.
        radar: Cloudflare Radar's name for it, "" where it has none.
        measured: What was measured, and by whom; "" if nothing was.
    """

    id: str
    name: str
    kind: Kind
    sentence: str
    what: str
    signs: str
    where: Where
    victims: tuple[Victim, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    confused_with: tuple[str, ...] = ()
    radar: str = ""
    measured: str = ""
