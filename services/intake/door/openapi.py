"""The OpenAPI document of the door, without starting anything.

Where it is published is not here.
"""

from typing import Any

from services.intake.door.app import create


def document() -> dict[str, Any]:
    return create(None).openapi()
