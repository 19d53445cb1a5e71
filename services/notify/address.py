"""What may stand on an envelope: one plain mailbox, in ASCII.

Whether somebody reads it is not here: only the mail server can tell, and a bounce.
"""

from functools import lru_cache

from email_validator import EmailNotValidError, validate_email


class BadAddress(ValueError):
    """Nothing can be sent there; the message, in Chinese, says why and does not repeat the address."""


@lru_cache(maxsize=128)  # each is asked for when the mail is written, and again on the wire
def mailbox(address: str | None) -> str:
    """The address with its domain in punycode. Names, comments, lists and quoted parts are refused.

    A local part beyond ASCII needs SMTPUTF8, which few relays offer: it is refused here, because
    the wire would raise an encoding error in the middle of a conversation.
    """
    if not address:
        raise BadAddress("没有电子邮箱")
    if not address.rpartition("@")[0].isascii():
        raise BadAddress("电子邮箱 @ 之前只能是英文字母、数字和符号")
    try:
        # `.test` is where demonstrations send; whether a domain exists is the relay's question.
        found = validate_email(
            address, check_deliverability=False, allow_smtputf8=False, test_environment=True
        ).ascii_email
    except EmailNotValidError as error:
        raise BadAddress("电子邮箱不合格式") from error
    assert found is not None, "without SMTPUTF8 there is always an ASCII form"  # for mypy
    return found


def reach(address: str) -> str:
    """The same for all spellings of one mailbox, to compare by: as the wire has it, without regard to case."""
    if address.isascii():
        return address.strip().lower()  # a hundred times as fast; what is no address reaches nobody
    try:
        return mailbox(address).lower()
    except BadAddress:
        return address.strip().lower()
