"""What a form asks for in one place: a column of a list, a labelled field of a card.

Where the place stands is not here: `model.py` has the lists, `cards.py` the cards.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Clause = Annotated[str, StringConstraints(min_length=1)]
"""Where the source says it, as the spec abbreviates it: `征集通知·二·1`."""

Type = Literal[
    "text",
    "person",
    "choice",
    "contact",
    "period",
    "quantity",
    "amount",
    "months",
    "rate",
    "phone",
    "phones",
    "email",
    "uscc",
    "postcode",
    "date",
    "year_month",
    "integer",
    "decimal",
    "percent",
    "flag",
]

PERSONAL: frozenset[Type] = frozenset({"person", "contact", "phone", "phones", "email"})
"""Types of what says who a person is or how to reach one: `person` is a name, or the post that stands beside it. The
code of a company (`uscc`) and what a course says of its lecturer are what the notice is about, and no contact."""


class Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(Data):
    """One printed column: `header` is exact, `field` its id in the spec, `limit` in characters.

    `required` and limits are ours unless `stated`: then a longer text is refused, else only noted. `rule` is the
    rule of the notice that says how long the value is. `inherit` takes a blank cell as "same as above" (merged
    cells, ODD-06). `conditional` is the hint of a column that only some items must fill; the others say `—`.
    `unit` and `least` are of numbers. `width` is in mm.
    """

    field: Annotated[str, StringConstraints(pattern=r"^F[\d-]+\.[A-E]?\d+$")]
    key: Key
    header: Text
    aliases: tuple[str, ...] = ()
    type: Type = "text"
    list: str | None = None
    required: bool = True
    conditional: str | None = None
    inherit: bool = False
    limit: int | None = None
    stated: bool = False
    rule: str | None = None
    unit: str = ""
    least: int | None = None
    width: Annotated[float, Field(gt=0)] = 25

    @model_validator(mode="after")
    def _choice_has_list(self) -> Self:
        if (self.type == "choice") != (self.list is not None):
            raise ValueError("type: choice 与 list 必须同时出现")
        return self
