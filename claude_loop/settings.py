"""All settings in one frozen model: flags > ``CLAUDE_LOOP_*`` > config.toml > defaults."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from claude_loop.clock import parse_hours
from claude_loop.errors import SettingsRefused
from claude_loop.settings_words import SETTINGS_LISTED, Sources, Words

DEFAULT_PORT = 18790


class AuthSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    loopback: Literal["own-uid", "token", "open"] = Field(
        "own-uid",
        description="Who may come in over loopback TCP without a token: connections of the daemon's own uid "
        "(Linux only), nobody, or everybody on this machine. Such a caller may emit and read, never control.",
    )


class RetentionSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    days: float = Field(
        90.0,
        gt=0,
        description="Events received longer ago than this many days are pruned; by a clock that jumped ahead, once it "
        "has been there for a day.",
    )
    events: int = Field(10_000_000, gt=0, description="The newest this many events are kept.")


class LimitSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    data_bytes: int = Field(65_536, ge=1024, description="Largest `data` of one event, bytes of JSON.")
    data_depth: int = Field(32, ge=1, le=200, description="Deepest nesting of `data`.")
    body_bytes: int = Field(16_777_216, ge=1024, description="Largest request body, bytes.")
    connections: int = Field(2_000, ge=1, description="Open TCP connections.")
    handshake_seconds: float = Field(10.0, gt=0, description="Time a new connection has for its first request.")
    in_flight: int = Field(256, ge=1, description="Unanswered publishes of one Socket.IO client; more get `busy`.")
    events_per_second: int = Field(
        0, ge=0, description="Events one Socket.IO client or one HTTP principal may publish a second; 0 is unlimited."
    )


class RedactSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    secrets: bool = Field(True, description="Replace API keys, tokens, passwords and private keys before the log.")
    emails: bool = Field(False, description="Replace e-mail addresses too.")
    cards: bool = Field(False, description="Replace payment card numbers too.")


NotifyKind = Literal["waiting", "failed", "stalled", "vanished", "rate_limited", "done"]
_ALL_KINDS: tuple[NotifyKind, ...] = ("waiting", "failed", "stalled", "vanished", "rate_limited", "done")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class NotifySettings(BaseModel):
    """One channel. Addresses hold passwords: they are secrets from here on."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="What the channel is called in the log and in commands."
    )
    command: tuple[str, ...] = Field(
        (), description="A program with its arguments; it gets the message as JSON on stdin. This or `urls`."
    )
    urls: tuple[SecretStr, ...] = Field(
        (), description="Addresses as apprise writes them. Each is delivered to on its own. They stay secret."
    )
    kinds: tuple[NotifyKind, ...] = Field(
        _ALL_KINDS,
        description="Which kinds to send: `waiting`, `failed`, `stalled`, `vanished`, `rate_limited`, `done`.",
    )
    projects: tuple[str, ...] = Field((), description="Only of these projects; `*` and `?` are wildcards.")
    grace: float | None = Field(
        None,
        ge=0,
        le=86_400,
        description="Seconds that a state must last; one that ends sooner is not sent. "
        "Without it half a second, and 20 for `rate_limited`.",
    )
    quiet_hours: str = Field(
        "", description="Like `22:00-07:00`, local time: what comes meanwhile is sent at their end, if it still holds."
    )
    urgent: tuple[NotifyKind, ...] = Field((), description="Kinds that are sent in quiet hours too.")
    repeat_minutes: float = Field(
        0.0, ge=0, le=10_080, description="While the state lasts, send again after this many minutes; 0 never does."
    )
    repeat_times: int = Field(3, ge=0, le=100, description="How often to repeat at most.")
    resolved: bool = Field(True, description="Say so when the state has ended.")
    time_limit: float = Field(15.0, gt=0, le=120, description="Seconds that one attempt may take.")

    @field_validator("quiet_hours")
    @classmethod
    def _readable_hours(cls, value: str) -> str:
        parse_hours(value)
        return value

    @field_validator("urls")
    @classmethod
    def _addresses(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(_URL.match(url.get_secret_value()) is None for url in value):
            raise ValueError("an address begins with a scheme, like ntfy://")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == bool(self.urls):
            raise ValueError(f"the channel {self.name} needs either a command or urls")
        return self


class HeartbeatSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: SecretStr = Field(
        SecretStr(""), description="Fetched while all is well, for a service that misses it when it does not come."
    )
    every: float = Field(60.0, ge=1, le=86_400, description="Seconds between two heartbeats.")


class Settings(BaseSettings):
    """Settings of one daemon. Nested ones are written ``CLAUDE_LOOP_AUTH__LOOPBACK`` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="CLAUDE_LOOP_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,
    )

    host: str = Field("127.0.0.1", description="Address to bind; 127.0.0.1 also binds ::1.")
    port: int = Field(DEFAULT_PORT, ge=0, le=65_535, description="TCP port; 0 lets the system choose.")
    tls_cert: Path | None = Field(None, description="Certificate file (PEM); with it the server speaks TLS.")
    tls_key: Path | None = Field(None, description="Private key file (PEM).")
    insecure_behind_proxy: bool = Field(
        False, description="Allow a non-loopback address without TLS: a proxy in front terminates it."
    )
    allowed_hosts: tuple[str, ...] = Field((), description="Names besides the loopback ones that `Host` may carry.")
    allowed_origins: tuple[str, ...] = Field(
        (), description="Origins besides the server's own that browsers may call from."
    )
    durability: Literal["full", "normal"] = Field(
        "full",
        description="`full` survives power loss (fsync at each commit); `normal` may lose the last commits then.",
    )
    stalled_after: float = Field(300.0, gt=0, description="Seconds of silence after which a run counts as stalled.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level in daemon.log."
    )
    auth: AuthSettings = AuthSettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitSettings = LimitSettings()
    redact: RedactSettings = RedactSettings()
    monitor_url: str = Field(
        "", description="Where the monitor is reached from elsewhere, for links in messages; else its own address."
    )
    notify: tuple[NotifySettings, ...] = Field(
        (), max_length=32, description="Channels for notifications, a table `[[notify]]` each."
    )
    heartbeat: HeartbeatSettings = HeartbeatSettings()

    @property
    def tells_people(self) -> bool:
        """Whether there are channels or a heartbeat."""
        return bool(self.notify or self.heartbeat.url.get_secret_value())

    @field_validator("notify")
    @classmethod
    def _distinct(cls, value: tuple[NotifySettings, ...]) -> tuple[NotifySettings, ...]:
        names = [channel.name for channel in value]
        if len(set(names)) < len(names):
            raise ValueError("two channels have the same name")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings  # neither is a source of ours
        return init_settings, env_settings, _File(settings_cls, toml_file=config_file())


def config_file() -> Path:
    """``$XDG_CONFIG_HOME/claude-loop/config.toml``, else below ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base and os.path.isabs(base) else Path.home() / ".config"
    return root / "claude-loop" / "config.toml"


def load_settings(**flags: Any) -> Settings:
    """Settings from all sources; ``flags`` that are None count as not given.

    Raises ``SettingsRefused`` naming the setting, or the file that cannot be read.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as failure:
        raise _words(given).refusal(failure.errors(include_url=False, include_input=False)) from None
    except SettingsError as failure:
        raise _words(given).no_json() or SettingsRefused(f"{failure}.", hint=SETTINGS_LISTED) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise SettingsRefused(f"{config_file()} is not TOML: {failure}.", hint=SETTINGS_LISTED) from None
    except OSError as failure:
        why = failure.strerror or str(failure)
        raise SettingsRefused(f"{config_file()} cannot be read: {why}.", hint=SETTINGS_LISTED) from None


class _File(TomlConfigSettingsSource):
    """The file, where a name that no setting has is a slip; variables with such names may mean something else."""

    def __call__(self) -> dict[str, Any]:
        for name in self.toml_data:
            if name not in self.settings_cls.model_fields:
                raise Words(Settings.model_json_schema(), _sources({}, {})).unknown((name,))
        return super().__call__()


def _words(flags: Mapping[str, Any]) -> Words:
    environ = {name.upper(): value for name, value in os.environ.items()}
    return Words(Settings.model_json_schema(), _sources(flags, environ))


def _sources(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Sources:
    path = config_file()
    file = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return Sources(flags, environ, path, file)
