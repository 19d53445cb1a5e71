"""What became of a mail that was owed.

Letters and their wording are not here: those are `services/notify/letters`.
"""

from uuid import UUID

from shared.contracts.types import Outbound


class MailSettled(Outbound):
    """`to` is the code of the agency, never the address."""

    mail: UUID
    letter: str
    to: str
    case: UUID | None = None
    why: str | None = None


class MailSent(MailSettled): ...


class MailFailed(MailSettled): ...


class MailUnknown(MailSettled):
    """The server may or may not have taken it; a person decides, no machine sends it again."""
