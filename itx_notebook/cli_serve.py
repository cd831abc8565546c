"""``itx-notebook serve``: settings from arguments, files and the environment; signals; and what is said on the way.

Secrets come from a file or the environment, never from arguments, which every user of the machine can read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import click

from itx_notebook.client.local_door import LocalDoor
from itx_notebook.doors import Deployment
from itx_notebook.doors.monitoring import ACCESS_LOGGER
from itx_notebook.doors.service import Service, ServiceSettings, open_service
from itx_notebook.errors import ItxError

__all__ = ["serve_command"]

_SECRET: Final = "ITX_ADMIN_SECRET"  # noqa: S105  # the variable's name
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=4873, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--admin-secret-file", type=_FILE, help=f"File with the admin secret; else {_SECRET}, else there is none."
)
@click.option(
    "--origin", "origins", multiple=True, help="Web page that may connect, https://host; else the same host's."
)
@click.option("--tls-cert", "certificate", type=_FILE, help="Certificate chain, PEM. SIGHUP reads it again.")
@click.option("--tls-key", "key", type=_FILE, help="Its private key, PEM.")
@click.option("--trust-proxy", "trusts_proxy", is_flag=True, help="Believe X-Forwarded-For and -Proto.")
@click.option("--max-connections", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--max-message-mib", default=32, show_default=True, type=click.IntRange(1, 1024))
@click.option("--drain-timeout", default=10.0, show_default=True, type=click.FloatRange(0), help="Seconds, at the end.")
@click.option("--jwks", help="Keys of those whose signed tokens count: an https:// URL or a file.")
@click.option("--jwt-issuer")
@click.option("--jwt-audience")
@click.option("--access-log/--no-access-log", default=True, help="One JSON line per request, on standard error.")
@click.pass_obj
def serve_command(
    home: Path,
    /,
    *,
    admin_secret_file: Path | None,
    origins: tuple[str, ...],
    max_message_mib: int,
    access_log: bool,
    **given: Any,
) -> None:
    """Let others use the store over the network, until SIGTERM or Ctrl-C."""
    settings = ServiceSettings(
        admin_secret=_read_secret(admin_secret_file),
        origins=origins or None,
        max_message_bytes=max_message_mib * 1024 * 1024,
        **given,
    )
    if (settings.certificate is None) != (settings.key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    if settings.is_open_line:
        _tell("Warning: whoever is on the way can read along. Use --tls-cert, or a proxy that does and --trust-proxy.")
    _make_private(home)
    asyncio.run(_serve(home, settings, with_access_log=access_log))


def _make_private(home: Path) -> None:
    """A new data directory is for its owner alone; of one that is not, say so, and leave it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_mode & 0o077:
        _tell(f"Warning: other users of this machine may read the events in {home}. chmod 700 it.")


async def _serve(home: Path, settings: ServiceSettings, *, with_access_log: bool) -> None:
    deployment = await Deployment.open(home)
    try:
        if settings.admin_secret is None and not deployment.people.get_users():
            _tell(f"Nobody can sign in yet: set {_SECRET}, or make users and tokens (itx-notebook users, tokens).")
        async with open_service(deployment, settings) as service:
            _set_up_logs(with_access=with_access_log)
            door = await LocalDoor.open(deployment, home)
            try:
                # First: whoever reads that it serves may send one at once.
                ended = _heed_signals(service)
                _tell(f"Serving {home} at {service.server.url} (process {os.getpid()}).")
                await ended.wait()
                _tell("Ending: what is asked for is answered.")
            finally:
                await door.close()
    finally:
        await deployment.close()
    _tell("Ended.")


def _heed_signals(service: Service) -> asyncio.Event:
    """Set when a signal asks for the end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end(number: int) -> None:
        ended.set()
        # Asked again, it ends at once.
        loop.remove_signal_handler(number)

    def reload() -> None:
        try:
            was_read = service.reload_certificate()
        except ItxError as error:
            _tell(f"Error: {error.message}\n→ {error.remedy}")
        else:
            _tell("The certificate was read again." if was_read else "Nothing to read again: there is no certificate.")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return ended


def _read_secret(file: Path | None) -> str | None:
    """The admin secret. Taken out of the environment, so that no child process has it."""
    from_environment = os.environ.pop(_SECRET, None)
    if file is None:
        return from_environment or None
    try:
        secret = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ItxError(f"The admin secret cannot be read from {file}.", code="BAD_REQUEST") from error
    if not secret:
        raise ItxError(f"{file} holds no admin secret.", code="BAD_REQUEST")
    if file.stat().st_mode & 0o007:
        _tell(f"Warning: every user of this machine can read {file}. chmod 600 it.")
    return secret


def _set_up_logs(*, with_access: bool) -> None:
    general = logging.StreamHandler(sys.stderr)
    general.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(general)
    access = logging.getLogger(ACCESS_LOGGER)
    access.propagate = False
    if with_access:
        lines = logging.StreamHandler(sys.stderr)
        lines.setFormatter(logging.Formatter("%(message)s"))
        access.addHandler(lines)
        access.setLevel(logging.INFO)


def _tell(text: str) -> None:
    click.echo(text, err=True)
