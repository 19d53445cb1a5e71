"""Every environment variable of the services, typed, with a default that is safe on one machine.

Secrets have no default; nothing here reads files or connects.
"""

from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MAILBOX = r"^[!#-'*+./0-9=?A-Z^_`a-z{-~-]+@[A-Za-z0-9.-]+$"
"""Plain: what could end a header's address and begin another is not in it."""


class Settings(BaseSettings):
    """`YIQI_<NAME>`; a service started with an unknown or ill-typed one does not start."""

    model_config = SettingsConfigDict(env_prefix="YIQI_", env_file=None, frozen=True)

    nats_url: str = "nats://127.0.0.1:4222"
    """One server, or those of a cluster with commas between."""
    nats_seed: Path | None = None
    """File with the nkey seed of this service; without it the connection carries no identity."""
    nats_seeds: Path | None = None
    """Folder of seeds, `<code>.nk`, for the command line: it speaks with that of the agency it is told to."""
    nats_ca: Path | None = None
    nats_cert: Path | None = None
    nats_key: Path | None = None
    """With any of them all is said over TLS, from the first byte: the server must have `handshake_first`."""

    database_url: SecretStr = SecretStr("postgresql://yiqi@127.0.0.1:5432/yiqi")
    """As the service's own role; `yiqi provision` alone uses an owner's."""

    smtp_host: str = "127.0.0.1"
    smtp_port: int = 25
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_security: Literal["plain", "starttls", "tls"] = "plain"
    """A relay on loopback needs none."""
    smtp_reply_timeout: float = 600
    """Seconds to wait for the answer after the final dot (RFC 5321 §4.5.3.2.6): shorter means more `unknown`."""
    smtp_connections: int = Field(default=8, ge=1, le=64)
    """At a time, kept between mails: QUIT after `smtp_mails` of them, or `smtp_idle` seconds without one."""
    smtp_mails: int = Field(default=100, ge=1)
    smtp_idle: float = Field(default=30, gt=0)
    mail_domain_rate: Annotated[dict[str, float], NoDecode] = {}
    """Mails a minute by domain of the recipient, and then one at a time: `qq.com=60,*=600`, where `*` is every other.
    Public hosts have 60 unless it says otherwise (`services/notify/pace.py`). Each process counts for itself."""
    mail_domain: str = "localhost"
    mail_from: str = "yiqi@localhost"
    mail_from_name: str = "益企服务平台"
    mail_reply_to: Annotated[str, StringConstraints(pattern=MAILBOX)] | None = None
    """Where answers go: a mailbox that somebody reads."""
    mail_unsubscribe: Annotated[str, StringConstraints(pattern=rf"^https://[!-;=?-~]+$|{MAILBOX}")] | None = (
        None
    )
    """Only for letters that are optional, of which there are none today: a mailbox, or an address that takes an empty POST
    and knows the mail by its id."""

    sending_hours: Annotated[tuple[time, time] | None, NoDecode] = (time(8, 30), time(18))
    """`08:30-18:00` of working days, in Guangzhou, for mails that can wait (which these are: `services/notify/hours.py`).
    Empty: at any hour, and no mail of the morning."""
    hold_letters: Annotated[tuple[str, ...], NoDecode] = ()
    """Letters, separated by commas, that wait until somebody releases them, besides those that a notice holds."""
    bounce_domain: str | None = None
    """Where bounces come back to, each to an address of its own; without it they go to `mail_from`."""
    bounce_secret: SecretStr | None = None
    """What makes these addresses ours. Who changes it does not know the bounces of older mails."""
    bounce_host: str = "127.0.0.1"
    bounce_port: int = 0
    """Of the LMTP listener that the relay hands bounces to; 0: none."""

    operators: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses, separated by commas, that get a letter every day: what has failed, what waits for a person, the head
    of the audit stream. None: nobody does."""

    notices: Path | None = None
    agencies: Path | None = None
    calendars: Path | None = None
    letters: Path | None = None
    """Mounted folders that add to the packaged data and win over it. Of letters, any part of one: `returned/body.txt`."""

    catalogues: Path | None = None
    """Folder that export writes catalogues to, besides the object store."""
    fonts: Path | None = None
    """Folder of the office's own typefaces (方正小标宋, 仿宋_GB2312, 黑体, 楷体_GB2312), which the PDF then embeds in place of
    the free ones: .ttf, .otf, .ttc."""

    stream_days: int = Field(default=400, ge=30)
    """After how many days the streams forget; `yiqi provision` alone uses it. Ours: no source says how long. What a
    service has not read by then is lost, so it must be longer than any outage (and than the dedupe window)."""

    host: str = "127.0.0.1"
    port: int = 0
    """Of /livez, /readyz and /metrics; 0 takes a free one."""

    door_port: int = 8400
    """Of the HTTP door, on `host`; its own pages are on `port`, as those of the services."""
    door_publishers: Path | None = None
    """File with the digests of tokens and certificates by which the door knows agencies (`yiqi publisher token`)."""
    door_cert: Path | None = None
    door_key: Path | None = None
    """What the door proves itself with. It listens without TLS on loopback only."""
    door_ca: Path | None = None
    """Who has signed the certificates of agencies; without it nobody is asked for one."""

    batch: int = 200
    """Messages a transaction takes at most. Latency does not depend on it: a batch is what has arrived."""

    clock: Path | None = None
    """File with an offset in seconds, for the demo and for tests: production leaves it unset."""

    watchdog: float = 10
    log_level: str = "INFO"

    traces: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where OpenTelemetry sends traces to, by its own variable: what else it knows of `OTEL_…` it reads itself."""

    @field_validator("smtp_user", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        """A Secret with an empty key is a relay that asks nobody who he is: with '' it would be asked to let nobody in."""
        return value or None

    @field_validator("operators", "hold_letters", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value

    @field_validator("sending_hours", mode="before")
    @classmethod
    def _from_to(cls, value: Any) -> Any:
        return (
            [one.strip() for one in value.split("-")] if isinstance(value, str) and value else value or None
        )

    @field_validator("sending_hours")
    @classmethod
    def _in_order(cls, value: tuple[time, time] | None) -> tuple[time, time] | None:
        if value and value[0] >= value[1]:
            raise ValueError("from the earlier to the later")
        return value

    @field_validator("mail_domain_rate", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [one.partition("=") for one in value.split(",") if one.strip()]
        return {domain.strip().lower(): rate.strip() for domain, _, rate in pairs}

    @field_validator("mail_domain_rate")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if any(rate <= 0 for rate in value.values()):
            raise ValueError("a rate is a number of mails a minute, above 0")
        return value

    @model_validator(mode="after")
    def _bounces(self) -> Self:
        """Half of it would send mails whose bounces nobody can read."""
        if (self.bounce_domain is None) != (self.bounce_secret is None):
            raise ValueError("bounce_domain and bounce_secret go together")
        if self.bounce_port and self.bounce_domain is None:
            raise ValueError("bounce_port needs bounce_domain")
        return self

    @property
    def nats_servers(self) -> list[str]:
        return [url.strip() for url in self.nats_url.split(",")]
