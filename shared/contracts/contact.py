"""Who is written to at an agency: a change of one contact person, as agencies publish it.

Who may publish it, and which letter goes to whom, is not here: that is the notify service.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from shared.contracts.scalars import Day, integral
from shared.contracts.types import Inbound, Post, Token


class ContactChanged(Inbound):
    """A contact person of `agency` as it stands from now on, whole: what is left out is not so any more.

    `contact` is the code by which the agency knows the person, never a name, and never given to another. The highest
    `version` counts, whatever comes when. The term is from `since` to `until`, both days included; one who is not
    `active` is written to no more, from now on.
    """

    agency: Token
    contact: Token
    version: Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(integral)]
    posts: Annotated[tuple[Post, ...], Field(min_length=1, max_length=3)]
    email: Annotated[str, Field(min_length=3, max_length=254)]
    since: Day | None = None
    until: Day | None = None
    active: bool = True
