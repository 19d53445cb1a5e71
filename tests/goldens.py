"""The golden examples of events: whole documents that were published once and are understood for ever.

What may become of them is told by `yiqi contracts check`; they lie with the contracts.
"""

from pathlib import Path

PUBLISHED = Path(__file__).parents[1] / "shared/contracts/published"


def golden(ce_type: str) -> Path:
    """The example that has every field of its payload."""
    return PUBLISHED / ce_type / "examples" / "every-field.json"


def goldens() -> list[Path]:
    return sorted(PUBLISHED.glob("cn.gov.gz.sme.*/examples/*.json"))
