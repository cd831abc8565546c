"""``itx-notebook``: what one does with a store from a terminal. Each command is a few lines around a function.

Data goes to standard output or a file, everything else to standard error; an error is two lines and exit status 1.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import click

from itx_notebook._config import get_home, get_project
from itx_notebook.cli_access import projects_group, tokens_group, users_group
from itx_notebook.cli_serve import serve_command
from itx_notebook.doors.archive import import_archive, plan_export
from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams.storage import back_up_store, compact_store
from itx_notebook.streams.transfer import open_archive
from itx_notebook.streams.verify import verify_store

__all__ = ["main"]

_BAR_EVERY: Final = 500
"""Lines between two movements of a progress bar."""


class _Commands(click.Group):
    """Commands whose refusals are told in two lines."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ItxError as error:
            click.echo(f"Error: {error.message}\n→ {error.remedy}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="itx-notebook")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory; else ITX_HOME, else the place of this system for user data.",
)
@click.pass_context
def main(ctx: click.Context, home: Path | None) -> None:
    """Look after a store of event streams."""
    ctx.obj = get_home(home)


for _command in (serve_command, projects_group, users_group, tokens_group):
    main.add_command(_command)


@main.command("export")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--project", help="Id or slug; else ITX_PROJECT, else default.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default=Path("-"),
    help="File to write; - is standard output.",
)
@click.pass_obj
def export_command(home: Path, paths: tuple[str, ...], project: str | None, output: Path) -> None:
    """Write streams as JSON Lines: those at PATH, or all of the project. The store may be in use."""
    with open_archive(home) as archive:
        plan = plan_export(archive, get_project(project), paths)
        with _open_output(output) as file, _bar(plan.events, "events") as bar:
            for number, line in enumerate(plan.lines, 1):
                file.write(line)
                if number % _BAR_EVERY == 0:
                    bar.update(_BAR_EVERY)
            bar.update(plan.events % _BAR_EVERY)
    click.echo(f"Exported {plan.events} events of {plan.project.slug}.", err=True)


@main.command("import")
@click.argument("source", type=click.File("rb", lazy=False), metavar="FILE")
@click.option("--project", help="Id or slug of the project it goes into; a project's export has its own.")
@click.option("--as", "path", metavar="PATH", help="Another path, for the export of one stream.")
@click.pass_obj
def import_command(home: Path, source: IO[bytes], project: str | None, path: str | None) -> None:
    """Bring an export into the store, which must not be in use. Importing again adds nothing. - is standard input."""
    with _bar(None, "events") as bar, _whoever_holds_the_store_named():
        target, report = asyncio.run(
            import_archive(
                home, source, project=project, path=path, on_progress=lambda number: bar.update(number - bar.n)
            )
        )
    click.echo(
        f"Imported {report.appended} events into {len(report.streams)} streams of {target.slug}"
        f" ({report.present} were there).",
        err=True,
    )


@contextmanager
def _whoever_holds_the_store_named() -> Iterator[None]:
    """An import writes what the engine would have: beside a running one there is no place for it."""
    try:
        yield
    except StoreError as error:
        if "owner" in (error.details or {}):
            error.with_hint(
                "An import needs the store to itself. End that process (itx.close() in a kernel, SIGTERM for a server),"
                " import, and start it again; what was brought in already is not brought in twice."
            )
        raise


@main.command("verify")
@click.pass_obj
def verify_command(home: Path) -> None:
    """Check that every log is whole and agrees with what was folded from it. The store may be in use."""
    with _bar(None, "streams") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = verify_store(home, on_progress=show)
    for fault in found.faults:
        click.echo(str(fault))
    click.echo(f"{len(found.faults)} faults in {found.streams} streams with {found.events} events.", err=True)
    if found.faults:
        sys.exit(1)


@main.command("compact")
@click.pass_obj
def compact_command(home: Path) -> None:
    """Give the room of what was erased back to the disk. The store may be in use: its appends wait meanwhile."""
    done = compact_store(home)
    click.echo(f"{done.before:,} bytes before, {done.after:,} after.", err=True)


@main.command("backup")
@click.argument("destination", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def backup_command(home: Path, destination: Path) -> None:
    """Copy the store of this moment into DESTINATION, a new data directory. The store may be in use."""
    with _bar(None, "B", unit_scale=True) as bar:
        file = back_up_store(home, destination, on_progress=lambda size: bar.update(size - bar.n))
    click.echo(f"Backed up into {file}.", err=True)


@contextmanager
def _open_output(path: Path) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears under its name when it is whole."""
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise click.FileError(str(path), hint=error.strerror) from error
    finally:
        partial.unlink(missing_ok=True)


def _bar(total: int | None, unit: str, **options: Any) -> Any:
    """A progress bar on standard error, if that is a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, disable=None, leave=False, file=sys.stderr, **options)


if __name__ == "__main__":
    main()
