"""The accounts of nats-server: who is who on the bus, and what each may say and hear; text in, text out.

Making keys and writing files is not here: that is `services/cli/nats.py`.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from shared.contracts.registry import ASKS, EVENTS
from shared.runtime import SERVICES
from shared.runtime.files import OURS
from shared.runtime.streams import (
    AUDIT,
    BEFORE_REVIEW,
    BUCKET,
    CATALOGUES,
    CONSUMERS,
    FILE,
    OUT,
    STREAMS,
    Consumer,
)

HUB, SYSTEM = "HUB", "SYS"
"""The account of the streams and of all that is ours, and the server's own, which nobody may log in to."""

PROVISIONER, OPERATOR, DESK, DOOR = "provisioner", "operator", "desk", "door"
USERS = (*SERVICES, PROVISIONER, OPERATOR, DESK, DOOR)
"""Who is in HUB. The provisioner makes streams and consumers, and backups of them (whoever may make a consumer may have
stored bytes delivered under any subject); the operator only reads; the desk speaks for those who have no account; the
door for agencies that speak HTTP, which it knows by a token or a certificate."""

LIMITS = "{max_connections: 32, max_subscriptions: 256, max_payload: 1MB, max_leafnodes: 0}"
"""Of one agency: what a few systems of a bureau need. nats-server limits accounts; users only by JWT."""

TOKEN = 4
"""Which part of a subject names the agency, counted from 1; it must be the name of the account that imports it."""


def inbox(user: str) -> str:
    """Where answers to a user are sent, and nobody else listens."""
    return f"_INBOX_{user}"


def _of(cls: str, token: str) -> str:
    """All that one publisher says in a class (`in`, `file`), asks (`ask`), or is told (`out`)."""
    return f"sme.{cls}.v1.{token}.>"


@dataclass(frozen=True)
class Allowed:
    """The subjects of a user of HUB. A list of what is refused (`unpublish`) only the desk has, see there."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    unpublish: tuple[str, ...] = ()


def _api(verb: str, *rest: str) -> str:
    return ".".join(("$JS.API", verb, *rest))


def _hears(consumer: Consumer) -> Iterator[str]:
    """What a service that is bound to a consumer asks the server, and answers it."""
    yield _api("CONSUMER.INFO", consumer.stream, consumer.durable)
    yield _api("CONSUMER.MSG.NEXT", consumer.stream, consumer.durable)
    yield f"$JS.ACK.{consumer.stream}.{consumer.durable}.>"


def _files(publisher: str) -> str:
    return _api("DIRECT.GET", FILE, _of("file", publisher))


SPOKEN = ("in", "file", "ask")
"""The classes that an agency speaks in."""

ASKERS = (DESK, DOOR)
"""Who of HUB asks for agencies."""

REPLIES = ("_R_.>", *(f"{inbox(user)}.>" for user in ASKERS))
"""Where whoever answers questions answers them: nats-server gives a question from another account a reply subject of
this kind, with a token that nobody can guess. Its `allow_responses` would remember every message of our consumers."""

MORE: Mapping[str, tuple[str, ...]] = {
    # Reads what was filed, sends marked copies; reads answers again for whoever was away.
    "intake": (_files("*"), _of("file", OURS), _api("STREAM.MSG.GET", OUT), *REPLIES),
    "review": (  # asks whether something unread was said before the clock acts
        *(_api("CONSUMER.INFO", c.stream, c.durable) for c in BEFORE_REVIEW),
        *sorted({_api("STREAM.MSG.GET", c.stream) for c in BEFORE_REVIEW}),
        *(_api(verb, AUDIT) for verb in ("STREAM.INFO", "STREAM.MSG.GET")),  # and tells its head once a day
    ),
    "notify": (_files(OURS),),  # attaches marked copies
    "export": (  # an object of its bucket: look, put, forget the former one
        *(_api(verb, BUCKET) for verb in ("STREAM.INFO", "STREAM.MSG.GET", "STREAM.PURGE")),
        f"$O.{CATALOGUES}.>",
    ),
}
"""What a service asks of the bus besides hearing its consumers and saying its events."""


def allowed(user: str, agencies: Collection[str] = ()) -> Allowed:
    """What a user of HUB may do: what the registry and the streams say of it, and nothing else."""
    streams = [*(str(s.name) for s in STREAMS), BUCKET]
    mine = (f"{inbox(user)}.>",)
    if user in SERVICES:
        says = (e.pattern for e in EVENTS if user in e.says)
        hears = (subject for c in CONSUMERS if c.service == user for subject in _hears(c))
        asked = (ask.pattern for ask in ASKS if ask.hears == user)
        return Allowed(tuple(dict.fromkeys((*says, *hears, *MORE[user]))), (*mine, *asked))
    match user:
        case "provisioner":
            above = ("CREATE", "UPDATE", "INFO", "SNAPSHOT", "RESTORE")
            below = ("CREATE", "DURABLE.CREATE", "DELETE", "INFO", "MSG.NEXT")
            of_streams = (_api(f"STREAM.{verb}", s) for s in streams for verb in above)
            making = (_api("CONSUMER.CREATE", s) for s in streams)
            of_consumers = (_api(f"CONSUMER.{verb}", s, ">") for s in streams for verb in below)
            # An object of the bucket is read through a consumer of the reader's own.
            reads = (_api("STREAM.NAMES"), _api("STREAM.LIST"), _api("STREAM.MSG.GET", BUCKET))
            whole = (f"$JS.FC.{BUCKET}.>", "$JS.SNAPSHOT.ACK.>", "$JS.SNAPSHOT.RESTORE.>")
            return Allowed((*of_streams, *making, *of_consumers, *reads, *whole), mine)
        case "operator":
            verbs = ("STREAM.INFO", "STREAM.MSG.GET", "CONSUMER.NAMES", "CONSUMER.LIST")
            of_streams = (_api(verb, s) for s in streams for verb in verbs)
            of_consumers = (_api("CONSUMER.INFO", s, "*") for s in streams)
            asks = (_api("INFO"), _api("STREAM.NAMES"), _api("STREAM.LIST"), _files("*"))
            return Allowed((*asks, *of_streams, *of_consumers), (*mine, "sme.>"))
        case "desk":
            speaks = (*(e.pattern for e in EVENTS if e.cls == "in"), *(ask.pattern for ask in ASKS))
            # NATS has no pattern for `a token that is no account`, so this one list is of what is refused. The
            # known ways around such lists are of subscriptions; what is published has one literal subject.
            listed = tuple(_of(cls, code) for code in sorted(agencies) for cls in SPOKEN)
            return Allowed(
                (*dict.fromkeys(speaks), _of("file", "*")),
                (*mine, _of("out", "*")),
                (*listed, _of("file", OURS)),
            )
        case "door":
            # One by one: it has no business with files of ours, nor with those for whom the desk speaks.
            speaks = tuple(_of(cls, code) for code in sorted(agencies) for cls in SPOKEN)
            return Allowed(speaks, mine)
    raise ValueError(f"no user {user}")


def text(agencies: Collection[str], keys: Mapping[str, str]) -> str:
    """The accounts part of a nats-server configuration, to be included; `keys` has the public nkey of everyone.

    An agency's account is named by its code and imports the subjects with that code, which is all that it can say
    or hear outside itself: so the token of a subject is the proven identity of its publisher.
    """
    if OURS in agencies:
        raise ValueError(f"{OURS} is the token of our own files and can be no agency's code")
    exports = (
        *(f"{{service: {_quoted(_of(cls, '*'))}, account_token_position: {TOKEN}}}" for cls in SPOKEN),
        f"{{stream: {_quoted(_of('out', '*'))}, account_token_position: {TOKEN}}}",
    )
    lines = [
        "# Public keys only. Written by `yiqi nats config`: change the directory of agencies, not this file.",
        "accounts {",
        f"  {SYSTEM} {{}}",
        f"  {HUB} {{",
        "    jetstream: enabled",
        "    exports: [",
        *(f"      {export}" for export in exports),
        "    ]",
        "    users: [",
    ]
    for user in USERS:
        may = allowed(user, agencies)
        deny = f", deny: {_quoted(may.unpublish)}" if may.unpublish else ""
        lines += [
            f"      # {user}",
            f"      {{nkey: {keys[user]}, permissions: {{",
            f"        publish: {{allow: {_quoted(may.publish)}{deny}}}",
            f"        subscribe: {{allow: {_quoted(may.subscribe)}}}",
            "      }}",
        ]
    lines += ["    ]", "  }"]
    for code in sorted(agencies):
        imports = (
            *(f"{{service: {{account: {HUB}, subject: {_quoted(_of(cls, code))}}}}}" for cls in SPOKEN),
            f"{{stream: {{account: {HUB}, subject: {_quoted(_of('out', code))}}}}}",
        )
        lines += [
            f"  {_quoted(code)} {{",
            f"    users: [{{nkey: {keys[code]}}}]",
            f"    limits: {LIMITS}",
            f"    imports: [{', '.join(imports)}]",
            "  }",
        ]
    return "\n".join([*lines, "}", f"system_account: {SYSTEM}", ""])


def _quoted(value: object) -> str:
    """JSON is what nats-server reads, too; unquoted, `$JS` would be a variable."""
    return json.dumps(value)
