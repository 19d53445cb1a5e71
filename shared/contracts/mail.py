"""What became of a mail that was owed, and what its issuer says of one that is held.

Letters and their wording are not here: those are `services/notify/letters`.
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.case import Officer
from shared.contracts.scalars import Id
from shared.contracts.types import Inbound, Long, Outbound, Short


class MailsSettled(Inbound):
    """What becomes of mails that are held, said by the issuer of their notice: of those named in `mails`; else of all of
    the notice, or of one `letter` of it, that are held at that moment.

    `text` belongs to `edit`: a paragraph that the letter says besides (an empty one takes it away again). The facts of
    a letter cannot be edited.
    """

    notice: Short
    letter: Short | None = None
    mails: Annotated[tuple[Id, ...], Field(max_length=500)] = ()
    action: Literal["release", "discard", "edit"]
    text: Long = ""
    reason: Annotated[Long, Field(min_length=1)]
    officer: Officer | None = None


class MailSettled(Outbound):
    """`to` is the code of the agency, never the address."""

    mail: Id
    letter: str
    to: str
    case: Id | None = None
    why: str | None = None


class MailSent(MailSettled): ...


class MailFailed(MailSettled): ...


class MailUnknown(MailSettled):
    """The server may or may not have taken it; a person decides, no machine sends it again."""


class MailBounced(MailSettled):
    """It was sent and came back, for good. After a `hard` bounce that says so, the address is `suppressed`: nothing is
    sent there any more."""

    kind: Literal["hard", "soft"]
    status: str | None = None
    suppressed: bool = False
