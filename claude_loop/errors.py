"""Every deliberate error of claude-loop.

    ClaudeLoopError
    ├── InputError            the caller sent something we refuse
    │   ├── InvalidJson · InvalidEvent · UnknownField · IdConflict · TooLarge
    │   ├── InvalidFilter · InvalidCursor · InvalidRequest · UnsupportedMediaType
    │   └── NotFound · AmbiguousPrd · NotSupported · MethodNotAllowed · RequestTimeout · UnusableBackup
    ├── RefusedError          the caller may not
    │   └── Unauthorized · Forbidden · HostRefused · OriginRefused · ForeignFile · SettingsFileRefused
    ├── LoadError             the caller should try again
    │   └── Busy · RateLimited · ShuttingDown · StorageFull · StorageReadOnly · StorageFailed
    ├── HomeError             the state directory cannot be used
    │   └── UnsafeHome · LinkedDirectory · AlreadyRunning · NewerLog
    ├── StartError            the daemon cannot start as asked
    │   └── SettingsRefused · PortTaken · ActivationFailed · NoUserManager · UnitFailed
    ├── DaemonUnreachable · Internal
    └── LockError             names promised to existing users of ``session_lock``
        └── LockTimeout

Clients branch on ``code``; ``message`` is a sentence for a person and may be reworded at any time.
"""

from __future__ import annotations

from typing import Any, ClassVar

# No sentence of ours is longer.
LONGEST_TEXT = 500


class ClaudeLoopError(Exception):
    """Base of all deliberate errors.

    ``code`` is stable, ``status`` is the HTTP status, ``hint`` names the next step and ``field``
    the offending part of the input as a dotted path, if there is one.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.field = field

    def as_dict(self) -> dict[str, Any]:
        """``{"code", "message", "hint", "field"?}``: the body of ``{"error": …}`` on every transport.

        Texts may quote what was sent: they are bounded, and no control character is among them.
        """
        body = {"code": self.code, "message": _harmless(self.message), "hint": _harmless(self.hint)}
        if self.field is not None:
            body["field"] = _harmless(self.field)
        return body


def _harmless(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    if text.isprintable():
        return text
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escaped if len(escaped) <= LONGEST_TEXT else escaped[: LONGEST_TEXT - 1] + "…"


class Internal(ClaudeLoopError):
    default_hint = "This is a defect of claude-loop: daemon.log has the details."


class InputError(ClaudeLoopError):
    code = "invalid_request"
    status = 400
    default_hint = "docs/http.md and docs/socketio.md tell what each request takes."


class InvalidRequest(InputError):
    pass


class InvalidJson(InputError):
    code = "invalid_json"
    default_hint = "Send one JSON object, a JSON array of objects, or one object a line (application/x-ndjson)."


class InvalidEvent(InputError):
    code = "invalid_event"
    status = 422
    default_hint = "docs/events.md lists every type with its fields."


class UnknownField(InvalidEvent):
    code = "unknown_field"
    default_hint = "Put fields of your own under `data`."


class IdConflict(InputError):
    code = "id_conflict"
    status = 409
    default_hint = "An id names one event for ever: use a new id for different content."


class TooLarge(InputError):
    code = "too_large"
    status = 413
    default_hint = "Shorten the longest strings, or keep them in a file and send its path."


class InvalidFilter(InputError):
    code = "invalid_filter"
    default_hint = "docs/socketio.md lists the keys of a filter; each is a list of strings."


class InvalidCursor(InputError):
    code = "invalid_cursor"
    default_hint = 'Use a cursor the server gave you, "now", "start", {"last": N} or {"since": time}.'


class UnsupportedMediaType(InputError):
    code = "unsupported_media_type"
    status = 415
    default_hint = "Send Content-Type: application/json or application/x-ndjson."


class NotFound(InputError):
    code = "not_found"
    status = 404


class AmbiguousPrd(InputError):
    code = "ambiguous_prd"
    status = 409
    default_hint = "Say which with `--project` (`project=` over HTTP); an empty one is the PRD without a project."


class NotSupported(InputError):
    code = "not_supported"
    status = 501
    default_hint = "docs/http.md and docs/socketio.md list what this server does."


class MethodNotAllowed(InputError):
    code = "method_not_allowed"
    status = 405
    default_hint = "GET reads and POST writes; docs/http.md lists the addresses."


class RequestTimeout(InputError):
    code = "request_timeout"
    status = 408
    default_hint = "Send the whole request at once."


class TokenExists(InputError):
    code = "token_exists"
    status = 409
    default_hint = "Choose another name, or `claude-loop token revoke` that one first."


class UnusableBackup(InputError):
    code = "backup_unusable"
    status = 422
    default_hint = "Nothing was changed. `claude-loop backup FILE` makes files that can be restored."


class RefusedError(ClaudeLoopError):
    code = "forbidden"
    status = 403
    default_hint = "docs/security.md tells who may do what."


class Unauthorized(RefusedError):
    code = "unauthorized"
    status = 401
    default_hint = "Send `Authorization: Bearer TOKEN`; the token is in the file `token` of the state directory."


class Forbidden(RefusedError):
    pass


class HostRefused(RefusedError):
    code = "host_refused"
    status = 421
    default_hint = "Use http://127.0.0.1 or http://localhost, or add the name to `allowed_hosts`."


class OriginRefused(RefusedError):
    code = "origin_refused"
    default_hint = "Only this server's own page may call it from a browser; add other origins to `allowed_origins`."


class ForeignFile(RefusedError):
    code = "foreign_file"
    status = 409
    default_hint = "Look at it, and remove it yourself if it may go."


class SettingsFileRefused(RefusedError):
    """A file of somebody else's that we would have to change, and better do not."""

    code = "settings_file_refused"
    status = 409
    default_hint = "Nothing was changed."


class LoadError(ClaudeLoopError):
    code = "busy"
    status = 503
    default_hint = "Try again in a moment; the same id is not stored twice."


class Busy(LoadError):
    status = 429
    default_hint = "Wait for the answers to what you have sent before sending more."


class RateLimited(LoadError):
    code = "rate_limited"
    status = 429
    default_hint = "Send fewer events a second, or many events in one request."


class ShuttingDown(LoadError):
    code = "shutting_down"
    default_hint = "Try again when the daemon is back; the same id is not stored twice."


class StorageFull(LoadError):
    code = "storage_full"
    status = 507
    default_hint = "Free some disk space: the daemon goes on by itself, and spooled events wait."


class StorageReadOnly(LoadError):
    code = "storage_read_only"
    default_hint = "Make the state directory writable: the daemon goes on by itself, and spooled events wait."


class StorageFailed(LoadError):
    code = "storage_failed"
    default_hint = "daemon.log has the details; the daemon tries again by itself, and spooled events wait."


class LogDamaged(LoadError):
    code = "log_damaged"
    default_hint = (
        "Spooled events wait. With the daemon down `claude-loop restore FILE` puts a backup in its place, "
        "`claude-loop restore --empty` a new log; both keep the damaged file under another name."
    )


class LogGone(LoadError):
    code = "log_gone"
    default_hint = (
        "Put it back where it was, and the daemon goes on; or restart the daemon, which then begins a new log. "
        "Spooled events wait."
    )


class HomeError(ClaudeLoopError):
    code = "home_unusable"
    default_hint = "Point CLAUDE_LOOP_HOME to a directory of your own on a local disk."


class UnsafeHome(HomeError):
    code = "home_unsafe"
    default_hint = "Point CLAUDE_LOOP_HOME to a directory of your own on a local disk."


class LinkedDirectory(HomeError):
    code = "home_linked"
    default_hint = (
        "Remove the link. To keep things elsewhere, move the whole directory and set CLAUDE_LOOP_HOME, or mount it."
    )


class AlreadyRunning(HomeError):
    code = "already_running"
    status = 409
    default_hint = "`claude-loop status` shows the running daemon, `claude-loop down` stops it."


class NewerLog(HomeError):
    code = "log_newer"
    default_hint = "Use the version that wrote it, or another CLAUDE_LOOP_HOME."


class StartError(ClaudeLoopError):
    code = "cannot_start"
    default_hint = "docs/settings.md lists every setting with its values."


class SettingsRefused(StartError):
    code = "settings_refused"
    default_hint = "docs/security.md says what each way in needs."


class PortTaken(StartError):
    code = "port_taken"
    status = 409
    default_hint = "Stop what listens there, or choose another port with CLAUDE_LOOP_PORT (0: any free one)."


class ActivationFailed(StartError):
    code = "activation_failed"
    default_hint = "The socket unit must have ListenStream= lines and Accept=no, as in systemd/claude-loop.socket."


class NoUserManager(StartError):
    code = "no_user_manager"
    default_hint = (
        "Log in as this user, not by `su` or `sudo`, or `export XDG_RUNTIME_DIR=/run/user/$(id -u)`; "
        "`claude-loop up` needs no systemd."
    )


class UnitFailed(StartError):
    code = "unit_failed"
    default_hint = "`journalctl --user -n 30` may say more."


class DaemonUnreachable(ClaudeLoopError):
    code = "daemon_unreachable"
    status = 503
    default_hint = "`claude-loop up` starts it."


class LockError(ClaudeLoopError):
    """A session lock could not be used."""

    code = "lock_failed"
    default_hint = "`claude-loop locks` shows who holds which lock."


class LockTimeout(LockError):
    """A session lock was not had within its timeout."""

    code = "lock_timeout"
    status = 409
