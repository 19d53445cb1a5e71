"""What comes back, and how fast mails go: reports and other bounces told apart, addresses nobody can make up, rates."""

import email.policy
from email import message_from_bytes
from email.message import EmailMessage
from uuid import UUID

import pytest

from services.notify import compose as composing
from services.notify import headers
from services.notify.bounces import Bounce, read
from services.notify.pace import PAUSES, Pace
from services.notify.undelivered import SUPPRESSED, in_words
from services.notify.verp import Forged, address, mail_of
from shared.runtime.settings import Settings
from tests.unit.test_compose import SAMPLES, written

MAIL = UUID("6d511521-ef97-5fe4-bcfd-421675ab1955")
WHERE, SECRET = "bounce.gz.example", "s3cret"


# --- addresses ---------------------------------------------------------------------------------------


def test_an_address_leads_back_to_its_mail_however_it_is_written() -> None:
    made = address(MAIL, WHERE, SECRET)
    assert mail_of(made, WHERE, SECRET) == mail_of(made.upper(), WHERE, SECRET) == MAIL
    assert len(made.split("@")[0]) <= 64


@pytest.mark.parametrize(
    "other",
    [
        address(MAIL, WHERE, "another secret"),
        address(MAIL, "elsewhere.example", SECRET),
        address(MAIL, WHERE, SECRET).replace("b+", "b+a", 1),
        "b+" + "a" * 26 + "-" + "a" * 8 + "@" + WHERE,
        "b+@" + WHERE,
        "postmaster@" + WHERE,
        "",
    ],
)
def test_an_address_that_we_did_not_make_is_refused(other: str) -> None:
    with pytest.raises(Forged):
        mail_of(other, WHERE, SECRET)


def test_of_another_mail_the_code_is_another() -> None:
    made = address(MAIL, WHERE, SECRET)
    other = address(UUID(int=MAIL.int ^ 1), WHERE, SECRET)
    with pytest.raises(Forged):
        mail_of(made.split("-")[0] + "-" + other.split("-")[1], WHERE, SECRET)


def test_half_of_the_settings_is_none() -> None:
    with pytest.raises(ValueError, match="go together"):
        Settings(bounce_domain=WHERE)
    with pytest.raises(ValueError, match="needs bounce_domain"):
        Settings(bounce_port=2424)


# --- what it says ------------------------------------------------------------------------------------


def report(
    action: str, status: str, diagnostic: str = "smtp; 550 no", subject: str = "Undelivered Mail"
) -> bytes:
    return f"""From: MAILER-DAEMON@mx.example
To: b+x@bounce.gz.example
Subject: {subject}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="B"

--B
Content-Type: text/plain

I'm sorry.

--B
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; someone@th.example
Action: {action}
Status: {status}
Diagnostic-Code: {diagnostic}

--B
Content-Type: text/rfc822-headers

Subject: x

--B--
""".replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("action", "status", "expected"),
    [
        ("failed", "5.1.1", Bounce("hard", True, True, "5.1.1", "550 no")),
        ("failed", "5.2.1", Bounce("hard", True, True, "5.2.1", "550 no")),
        ("failed", "5.2.2", Bounce("hard", True, False, "5.2.2", "550 no")),
        ("failed", "5.7.1", Bounce("hard", True, False, "5.7.1", "550 no")),
        ("failed", "4.4.7", Bounce("soft", True, False, "4.4.7", "550 no")),
        ("delayed", "4.4.1", Bounce("soft", False, False, "4.4.1", "550 no")),
        ("delivered", "2.0.0", Bounce("other", False, False, "2.0.0", "delivered")),
        ("Failed (mailbox gone)", "5.1.1", Bounce("hard", True, True, "5.1.1", "550 no")),
        ("failed", "", Bounce("hard", True, True, None, "550 no")),
    ],
)
def test_a_report_says_whether_the_mail_and_whether_the_address_is_lost(
    action: str, status: str, expected: Bounce
) -> None:
    assert read(report(action, status)) == expected


def test_the_reason_names_nobody() -> None:
    told = read(report("failed", "5.1.1", "smtp; 550 5.1.1 <someone@th.example>: unknown\x07"))
    assert told.why == "550 5.1.1 <<address>>: unknown"


def plain(subject: str, text: str = "x", **fields: str) -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = "MAILER-DAEMON@mx.example", subject
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message.as_bytes(policy=email.policy.SMTP)


@pytest.mark.parametrize(
    "raw",
    [
        plain("Re: 截止提醒", Auto_Submitted="auto-replied"),
        plain("Re: 截止提醒", X_Autoreply="yes"),
        plain("Re: 截止提醒", Precedence="auto_reply"),
        plain("自动回复：我在休假"),
        plain("Automatic reply: 截止提醒"),
        plain("Out of Office"),
    ],
)
def test_an_automatic_answer_fails_no_mail(raw: bytes) -> None:
    assert (read(raw).kind, read(raw).final) == ("auto", False)


def test_a_bounce_without_a_report_is_understood() -> None:
    qmail = (
        "Hi. This is the qmail-send program at mx.example.\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
        "<someone@th.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n"
        "--- Below this line is a copy of the message.\n\nReturn-Path: <x@y.example>\n"
    )
    assert read(plain("failure notice", qmail)).kind == "hard"


@pytest.mark.parametrize(
    "raw", [b"", b"\x00\xff" * 100, plain("谢谢"), report("", "5.1.1"), b"Content-Type: multipart/report\n\n"]
)
def test_what_nobody_can_read_has_no_effect(raw: bytes) -> None:
    assert (read(raw).kind, read(raw).final) == ("other", False)


def test_a_status_is_told_in_words() -> None:
    assert in_words("550 5.1.1 <address>: unknown") == "收件地址不存在或已停用（5.1.1）"
    assert in_words(SUPPRESSED) == "此前发往该地址的邮件已被退回"
    assert in_words(None) == "对方邮件系统拒收"


# --- how fast ----------------------------------------------------------------------------------------


def test_a_rate_is_kept_and_others_are_not_held_up() -> None:
    pace = Pace({"qq.com": 60})
    for _ in range(60):
        assert not pace.waits("qq.com", 0)
        pace.begin("qq.com", 0)
        assert pace.waits("qq.com", 0)  # one at a time
        pace.end("qq.com", 0, refused=False)
    assert 0 < pace.waits("qq.com", 0) <= 1
    assert not pace.waits("th.example", 0)
    assert not pace.waits("qq.com", 1)


def test_a_domain_that_refuses_again_and_again_is_left_alone() -> None:
    pace = Pace({})
    for _ in range(2):
        pace.begin("a.example", 0)
        pace.end("a.example", 0, refused=True)
        assert not pace.waits("a.example", 0)  # one mailbox may be full
    pace.begin("a.example", 0)
    pace.end("a.example", 0, refused=True)
    assert pace.waits("a.example", 0) == PAUSES[0]
    assert not pace.waits("b.example", 0)
    pace.begin("a.example", PAUSES[0])
    assert pace.waits("a.example", PAUSES[0])  # what is tried first tells
    pace.end("a.example", PAUSES[0], refused=True)
    assert pace.waits("a.example", PAUSES[0]) == PAUSES[1]
    pace.begin("a.example", 100)
    pace.end("a.example", 100, refused=False)
    assert not pace.waits("a.example", 100)
    assert pace._domains == {}


def test_every_other_domain_may_have_a_rate() -> None:
    pace = Pace(Settings.model_validate({"mail_domain_rate": "*=1, QQ.com=1000"}).mail_domain_rate)
    pace.begin("a.example", 0)
    pace.end("a.example", 0, refused=False)
    assert pace.waits("a.example", 0) == 60
    assert not pace.waits("b.example", 0)


@pytest.mark.parametrize("rates", ["qq.com", "qq.com=-1", "qq.com=fast"])
def test_a_rate_that_is_none_is_refused(rates: str) -> None:
    with pytest.raises(ValueError, match="mail_domain_rate"):
        Settings.model_validate({"mail_domain_rate": rates})


# --- headers -----------------------------------------------------------------------------------------


def test_what_is_read_back_is_what_the_standard_library_would_write(monkeypatch: pytest.MonkeyPatch) -> None:
    for owed in SAMPLES:
        ours = written(owed).as_bytes()
        with monkeypatch.context() as there:
            there.setattr(composing, "POLICY", headers.STANDARD)
            theirs = written(owed).as_bytes()
        a, b = (message_from_bytes(raw, policy=email.policy.default) for raw in (ours, theirs))
        assert a.items() == b.items()
        assert not any(part.defects for part in a.walk())
        assert ours.partition(b"\r\n\r\n")[2] == theirs.partition(b"\r\n\r\n")[2]
        assert max(map(len, ours.split(b"\r\n"))) <= 998
