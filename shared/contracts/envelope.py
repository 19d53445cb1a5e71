"""The CloudEvents 1.0 envelope of everything on the bus, in structured and in binary mode.

Which types exist is not here: that is `registry.py`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import unquote
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, StringConstraints

from shared.contracts.scalars import Moment

Data = TypeVar("Data", bound=BaseModel)

YIQI = UUID("6f1ad64e-6a3b-5d0f-9d0c-1e5b2c7a4f10")
"""Namespace of every derived id. Changing it makes every redelivery look new."""

OUR_SOURCE = "urn:cn:gov:gz:440100:yiqi"
CONTENT_TYPE = "application/cloudevents+json"


class Envelope(BaseModel, Generic[Data]):
    """CloudEvents 1.0 with the profile of this house: `time` is required, data is one JSON object.

    `id` is 1–128 printable ASCII characters chosen by the publisher; with the publisher it is the
    identity of the event, so a retry must keep it. `source` is `urn:cn:gov:gz:<publisher>:<system>`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
    source: Annotated[
        str, StringConstraints(pattern=r"^urn:cn:gov:gz:[a-z0-9_-]{1,64}:[A-Za-z0-9._-]{1,64}$")
    ]
    type: Annotated[str, StringConstraints(max_length=128)]
    subject: Annotated[str, StringConstraints(max_length=128)] | None = None
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: Annotated[str, StringConstraints(max_length=256)] | None = None
    correlationid: Annotated[str, StringConstraints(max_length=128)] | None = None
    causationid: Annotated[str, StringConstraints(max_length=128)] | None = None
    traceparent: Annotated[str, StringConstraints(max_length=64)] | None = None
    data: Data

    @property
    def publisher(self) -> str:
        """The publisher that `source` claims; compared with the subject token, never trusted alone."""
        return self.source.split(":")[4]

    def wire(self) -> bytes:
        """The structured mode, as we publish it."""
        return self.model_dump_json(exclude_none=True).encode()


def derived_id(*cause: object) -> str:
    """The id of an event that follows from its cause: same cause, same id, so a repeat is a duplicate."""
    return str(uuid5(YIQI, "/".join(map(str, cause))))


def traceparent(data: BaseModel, id_: str, trace: str | None = None) -> str:
    """The W3C context of one of our own events, by its id and what it speaks of: all that is said of a case is one
    trace, whose id is the case's, and of a package likewise; else the event begins one. `trace` is the publisher's,
    for what answers it. Nothing need be kept: whoever repeats the event says the same."""
    of = trace or getattr(data, "case", None) or getattr(data, "package", None) or id_
    return f"00-{str(of).replace('-', '')}-{id_.replace('-', '')[16:]}-01"


def attributes(
    type_: str, cause: tuple[object, ...], at: datetime, *, source: str = OUR_SOURCE
) -> dict[str, Any]:
    """The attributes of one of our own events; `cause` names it for ever."""
    return {"id": derived_id(type_, *cause), "source": source, "type": type_, "time": at}


def binary_attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of a binary-mode event.

    NATS keeps the case of header names (ADR-4), so they are looked up without regard to it.
    """
    return {
        name[3:].lower(): unquote(value) for name, value in headers.items() if name.lower().startswith("ce-")
    }


def binary_to_structured(headers: Mapping[str, str], body: bytes) -> bytes:
    """A binary-mode event as the structured document that it stands for."""
    document = {**binary_attributes(headers), "data": json.loads(body)}
    return json.dumps(document, ensure_ascii=False).encode()


def is_binary(headers: Mapping[str, str] | None) -> bool:
    return headers is not None and any(name.lower() == "ce-specversion" for name in headers)
