"""What `yiqi publisher simulate` makes up: rows that a notice accepts, and mistakes that nothing lets through."""

from datetime import UTC, datetime

import pytest

from services.cli import trial
from services.intake import parse
from shared.contracts.registry import SUBMISSION_FILED
from shared.contracts.submission import Filer
from shared.notices.directory import Directory
from shared.notices.load import load_all
from shared.runtime.decode import Dead, Item, Raw, decode

NOTICES = load_all()
NOW = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)
DISTRICT = Directory.load().by_code["440106"]
FORMS = [(n.notice.id, f.id) for n in NOTICES.values() for f in trial.lists(n.notice, DISTRICT.kind)]


def made(notice: str = "gz-collection-2025q1", form: str = "F3", count: int = 1) -> list[trial.Document]:
    of = NOTICES[notice].notice
    return list(trial.filings(of, of.by_form[form], DISTRICT, count, NOW))


def heard(one: trial.Trial) -> Item | Dead:
    raw = Raw(SUBMISSION_FILED.subject(DISTRICT.code), one.body, None, "SME_IN", 1, NOW)
    return decode(raw, {SUBMISSION_FILED.name: SUBMISSION_FILED})


@pytest.mark.parametrize(("notice", "form"), FORMS)
def test_a_row_of_every_list_is_accepted(notice: str, form: str) -> None:
    (document,) = made(notice, form)
    item = heard(trial.Trial(document))
    assert isinstance(item, Item), item
    data = item.data
    filing = parse.Filing(
        NOTICES[notice], Filer(**data.filer.model_dump()), None, DISTRICT.code, NOW, district_name="天河"
    )
    judged = parse.judge(filing, form, data.values, direction=data.direction)
    assert [f for f in judged.findings if f.severity == "hard"] == []


def test_there_is_something_to_make_up_in_the_collection() -> None:
    assert [form for notice, form in FORMS if notice == "gz-collection-2025q1"] != []


def test_each_is_another_event_about_another_item() -> None:
    documents = made(count=5)
    assert len({d["id"] for d in documents}) == 5
    assert len({d["data"]["values"]["activity_name"] for d in documents}) == 5


@pytest.mark.parametrize("mistake", trial.MISTAKES)
def test_every_mistake_is_refused(mistake: str) -> None:
    (document,) = made()
    spoilt = trial.spoilt(document, mistake)
    found = heard(spoilt)
    assert isinstance(found, Dead)
    assert found.problem is not None
    assert spoilt.document["id"] != document["id"]


def test_control_without_the_mistake_it_is_not() -> None:
    assert isinstance(heard(trial.Trial(made()[0])), Item)
