"""Settings: one TOML file, overridden by TOLLBOOK_* environment variables.

All mistakes are told at once, each with its file or variable and its key; a value that may be secret is never shown.
"""

import os
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from accounting.base import config_checks as checks
from accounting.base import config_sources as sources
from accounting.base.errors import SettingsError
from accounting.event import Source

ENV_PREFIX = "TOLLBOOK_"
CONFIG_VARIABLE = "TOLLBOOK_CONFIG"
DEFAULT_FILE = Path("tollbook.toml")
DEFAULT_DATABASE = "sqlite:///tollbook.db"
DEFAULT_OUT = "reports-out"
DEFAULT_SPOOL = "spool"
RADSEC_SECRET = "radsec"  # noqa: S105 - RFC 6614 section 2.3: known to all, for TLS does the work

Dialect = Literal["opensips", "kamailio", "mediaproxy", "cisco", "asterisk", "freeswitch", "generic"]
Identity = Literal["billing_party", "source_ip", "auth_user", "from_user", "caller_number"]
Party = Literal["account", "carrier"]
Listen = Annotated[str, BeforeValidator(checks.listen_address)]
Network = Annotated[str, BeforeValidator(checks.network)]
Address = Annotated[str, BeforeValidator(checks.address)]
Zone = Annotated[str, BeforeValidator(checks.timezone)]
Country = Annotated[str, BeforeValidator(checks.country)]
Digits = Annotated[str, Field(pattern=r"^[0-9]{0,8}$")]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^\S(.*\S)?$")]
DatabaseUrl = Annotated[str, BeforeValidator(checks.database_url)]
Column = Annotated[str, BeforeValidator(checks.column_name)]
ColumnOf = Annotated[str, BeforeValidator(checks.column_of)]
Whole = Annotated[int, BeforeValidator(checks.whole_number)]
Seconds = Annotated[Whole, Field(ge=0, le=366 * 86400)]


class Section(BaseModel):
    """A part of the settings: frozen, and nothing unknown in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DatabaseSettings(Section):
    """Where everything is kept."""

    url: Annotated[DatabaseUrl, Field(repr=False)] = DEFAULT_DATABASE  # may hold a password
    url_file: Path | None = None


class ReceiverSettings(Section):
    """Where accounting requests arrive, and the receiver's limits."""

    listen: tuple[Listen, ...] = ("127.0.0.1:1813",)  # UDP
    listen_tcp: tuple[Listen, ...] = ()
    listen_tls: tuple[Listen, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None  # who signs the clients' certificates
    tls_crl: Path | None = None
    processes: Annotated[Whole, Field(ge=1, le=64)] = 1  # they share the addresses; each has a journal writer
    receive_buffer_bytes: Annotated[Whole, Field(ge=65536, le=2**30)] = 4 * 1024 * 1024
    batch_max: Annotated[Whole, Field(ge=1, le=10_000)] = 256  # requests of one commit
    pending_max: Annotated[Whole, Field(ge=1, le=10_000_000)] = (
        100_000  # requests in memory; more are dropped and counted
    )
    reply_cache_s: Annotated[Whole, Field(ge=0, le=3600)] = 30

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if not (self.listen or self.listen_tcp or self.listen_tls):
            raise ValueError("listens nowhere; name an address in listen, listen_tcp or listen_tls")
        missing = [name for name in ("tls_certificate", "tls_key", "tls_ca") if getattr(self, name) is None]
        if self.listen_tls and missing:
            raise ValueError(f"listen_tls needs {' and '.join(missing)} too")
        return self


class SpoolSettings(Section):
    """Where accepted requests wait while the database is away."""

    directory: Path = Path(DEFAULT_SPOOL)
    bytes_max: Annotated[Whole, Field(ge=1024 * 1024)] = 4 * 1024**3
    slow_s: Annotated[Whole, Field(ge=1, le=60)] = 2  # a database that takes longer to answer is away


class PairingSettings(Section):
    """How long things are waited for."""

    max_age_s: Annotated[Whole, Field(ge=1, le=366 * 86400)] = 86400
    stop_grace_s: Seconds = 300
    media_grace_s: Seconds = 60
    reuse_gap_s: Seconds = 60
    media_gap_s: Seconds = 120  # 0: off


class DirectionSettings(Section):
    """Which parties are charged, by direction of the call."""

    outbound: tuple[Party, ...] = ("account", "carrier")
    inbound: tuple[Party, ...] = ("carrier",)
    on_net: tuple[Party, ...] = ()
    transit: tuple[Party, ...] = ("carrier",)


class WorkerSettings(Section):
    """How the pipeline runs."""

    interval_s: Annotated[Whole, Field(ge=1, le=86400)] = 5
    batch_events_max: Annotated[Whole, Field(ge=1, le=10_000_000)] = 100_000


class ReportSettings(Section):
    """Of billing days and nightly reports."""

    timezone: Zone = "UTC"
    out: Path = Path(DEFAULT_OUT)


class MetricsSettings(Section):
    """Where metrics and health are served over HTTP."""

    listen: Listen | None = None


class LogSettings(Section):
    """What processes say on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class SourceSettings(Section):
    """What clients and collectors have in common: how their reports are read and weighed."""

    name: Name
    role: Literal["access", "egress"] = "access"
    rank: Annotated[Whole, Field(ge=1, le=1000)] = 1
    own_addresses: tuple[Address, ...] = ()
    identify_by: Annotated[tuple[Identity, ...], Field(min_length=1)] = ("billing_party", "source_ip", "auth_user")
    country: Country = ""
    international_prefix: Digits = ""
    national_prefix: Digits = ""


class ClientSettings(SourceSettings):
    """Who may send accounting requests."""

    address: Network
    secret: Annotated[SecretStr, Field(min_length=1)]
    secret_file: Path | None = None
    secret_next: Annotated[SecretStr, Field(min_length=1)] | None = None  # accepted beside `secret`, for a rotation
    secret_next_file: Path | None = None
    require_message_authenticator: bool = False
    certificate: Annotated[str, BeforeValidator(checks.certificate_name)] = ""  # over TLS, and in no other way
    requests_per_s_max: Annotated[Whole, Field(ge=0, le=10_000_000)] = 0  # 0: no limit
    dialect: Annotated[
        tuple[Dialect, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(min_length=1),
    ] = ("generic",)
    dictionary: str = ""  # opensips | classic | a file; "" = by dialect

    @model_validator(mode="before")
    @classmethod
    def _has_radsec_secret(cls, table: Any) -> Any:
        if isinstance(table, dict) and table.get("certificate"):
            return {"secret": RADSEC_SECRET} | table
        return table


class CollectorSettings(SourceSettings):
    """Which SQL accounting tables are followed."""

    url: Annotated[DatabaseUrl, Field(repr=False)]
    url_file: Path | None = None
    flavour: Literal["opensips", "kamailio", "kamailio-cdrs", "radacct", "mediaproxy"]
    start: Annotated[str, BeforeValidator(checks.start)]  # all | now | an ISO instant
    timezone: Zone = "UTC"
    columns: dict[ColumnOf, Column] = {}
    start_on_confirmed: bool = False  # kamailio-cdrs: start_time is the answer (cdr_start_on_confirmed=1)
    interval_s: Annotated[Whole, Field(ge=1, le=86400)] = 2
    batch_max: Annotated[Whole, Field(ge=1, le=100_000)] = 2000  # rows of one commit
    gap_s: Annotated[Whole, Field(ge=1, le=366 * 86400)] = 86400  # how long a missing id may still appear

    @model_validator(mode="after")
    def _can_start(self) -> Self:
        if self.flavour == "mediaproxy" and self.start not in ("all", "now"):
            raise ValueError('start must be "all" or "now": the table media_sessions has no time')
        return self


class MediaSettings(Section):
    """Where rtpengine's CDR lines come from: syslog over UDP, or a file."""

    name: Name
    listen: Listen | None = None
    address: Network = "127.0.0.0/8"
    file: Path | None = None
    role: Literal["access", "egress"] = "access"
    rank: Annotated[Whole, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        if (self.listen is None) == (self.file is None):
            raise ValueError("needs listen or file, and not both")
        return self


class Settings(BaseSettings):
    """All settings; made by load_settings only, which also checks what lies between them."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    database: DatabaseSettings = DatabaseSettings()
    receiver: ReceiverSettings = ReceiverSettings()
    spool: SpoolSettings = SpoolSettings()
    pairing: PairingSettings = PairingSettings()
    directions: DirectionSettings = DirectionSettings()
    worker: WorkerSettings = WorkerSettings()
    reports: ReportSettings = ReportSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    clients: tuple[ClientSettings, ...] = ()
    collectors: tuple[CollectorSettings, ...] = ()
    media: tuple[MediaSettings, ...] = ()
    _path: Path | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The file the settings came from, if there was one."""
        return self._path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what load_settings has merged, and nothing behind its back."""
        return (init_settings,)


def load_settings(path: Path | None) -> Settings:
    """Return the settings of the --config file, of $TOLLBOOK_CONFIG, of ./tollbook.toml, or the built-in ones.

    SettingsError names every mistake. Relative paths in the file are relative to the file, in the environment to ".".
    """
    path = _config_file(path)
    base = Path.cwd() if path is None else path.absolute().parent
    mistakes: list[str] = []
    defaults = {"reports": {"out": DEFAULT_OUT}, "spool": {"directory": DEFAULT_SPOOL}}
    below = {"database": {"url": DEFAULT_DATABASE}} | deepcopy(defaults)
    sources.resolve_paths(below, Path.cwd())
    in_file = {}
    if path is not None:
        in_file = sources.merge(defaults, sources.read_toml(path, mistakes))
        sources.resolve_paths(in_file, base)
    in_environment, variables = sources.read_environment(Settings, CONFIG_VARIABLE, mistakes)
    sources.resolve_paths(in_environment, Path.cwd())
    origins = sources.Origins(path, variables)
    tree = sources.merge(sources.merge(below, in_file), in_environment)
    sources.read_secrets(tree, base, origins, mistakes)
    sources.find_missing_files(tree, origins, mistakes)
    sources.find_duplicates(tree, origins, mistakes)
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        mistakes += sources.complaints(error.errors(include_input=False), origins)
    if mistakes:
        raise SettingsError(mistakes)
    settings._path = path
    return settings


def source_of(settings: SourceSettings) -> Source:
    """Return a client's or collector's settings as the journal keeps them, with id 0: it is not registered yet.

    A dictionary file is read now, for the journal keeps its text. SettingsError if it cannot be.
    """
    dialects: tuple[str, ...]
    sql: dict[str, Any] = {}
    if isinstance(settings, ClientSettings):
        kind, dialects, dictionary = "radius", settings.dialect, _dictionary_text(settings.dictionary)
    else:
        assert isinstance(settings, CollectorSettings)
        kind, dialects, dictionary = "sql", (settings.flavour,), ""
        sql = {
            "timezone": settings.timezone,
            "columns": tuple(f"{name}={column}" for name, column in sorted(settings.columns.items())),
            "start_on_confirmed": settings.start_on_confirmed,
        }
    return Source(
        id=0,
        name=settings.name,
        kind=kind,
        dialects=dialects,
        dictionary=dictionary,
        role=settings.role,
        rank=settings.rank,
        own_addresses=settings.own_addresses,
        identify_by=settings.identify_by,
        country=settings.country,
        international_prefix=settings.international_prefix,
        national_prefix=settings.national_prefix,
        **sql,
    )


def _config_file(path: Path | None) -> Path | None:
    if path is None and os.environ.get(CONFIG_VARIABLE):
        path = Path(os.environ[CONFIG_VARIABLE])
    if path is None:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    try:
        path.stat()
    except FileNotFoundError:
        raise SettingsError([f"{path}: there is no such configuration file"]) from None
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    return path


def _dictionary_text(dictionary: str) -> str:
    if dictionary in sources.FAMILIES:
        return dictionary
    try:
        return Path(dictionary).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError([f"{dictionary}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{dictionary}: is not UTF-8 text"]) from None
