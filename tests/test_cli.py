"""The command line: what it prints, what it leaves, and how it ends, on real stores in and out of use."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from itx_notebook.cli import main
from itx_notebook.doors import Deployment
from itx_notebook.streams import StreamEngine
from itx_notebook.types import StreamEvent
from tests.support import hold_store

Logs = dict[str, list[StreamEvent]]


def run(home: Path, *arguments: str, text: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments], input=text)


def complain(home: Path, *arguments: str, text: bytes | None = None) -> str:
    """What a command that refuses says."""
    result = run(home, *arguments, text=text)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output
    return result.stderr


def fill(home: Path, slug: str = "shop", *, events: int = 3) -> str:
    """A project with a few streams; returns its id."""

    async def work() -> str:
        deployment = await Deployment.open(home)
        project = await deployment.directory.create(slug)
        for path in ("/orders", "/orders/new", "/large"):
            stream = deployment.engine.stream(project.id, path)
            for n in range(events):
                await stream.append(
                    {"type": "x", "payload": {"n": n, "ä": "😀\n"}, "metadata": {}, "idempotencyKey": f"k{n}"}
                )
        await deployment.engine.stream(project.id, "/large").append({"type": "x", "payload": "large" * 200_000})
        await deployment.close()
        return project.id

    return asyncio.run(work())


def read_logs(home: Path, namespace: str) -> Logs:
    async def work() -> Logs:
        engine = StreamEngine.open(home)
        names = engine.reader.read_names(namespace)
        logs = {name.path: await engine.stream(namespace, name.path).read() for name in names}
        await engine.close()
        return logs

    return asyncio.run(work())


def get_project_id(home: Path, slug: str) -> str:
    async def work() -> str:
        deployment = await Deployment.open(home)
        project = deployment.directory.try_get(slug)
        await deployment.close()
        assert project is not None
        return project.id

    return asyncio.run(work())


def as_facts(logs: Logs, *, without_last_of_root: bool = False) -> dict[str, list[Any]]:
    """All of the logs, except for the namespace that the first events name."""
    facts = {
        path: [
            (event.offset, event.created_at, event.type, event.idempotency_key, event.metadata)
            + ((event.payload,) if event.offset > 1 else ())
            for event in log
        ]
        for path, log in logs.items()
    }
    if without_last_of_root:
        facts["/"].pop()
    return facts


# -- export and import -------------------------------------------------------------------------------------------------


def test_project_when_exported_and_imported_elsewhere_is_the_same_event_for_event(home: Path, tmp_path: Path) -> None:
    identity, other = fill(home), tmp_path / "other"
    exported = run(home, "export", "--project", "shop", "-o", str(tmp_path / "shop.jsonl"))
    assert (exported.exit_code, exported.stdout, exported.stderr) == (0, "", "Exported 23 events of shop.\n")
    imported = run(other, "import", str(tmp_path / "shop.jsonl"))
    assert imported.stderr == "Imported 22 events into 4 streams of shop (0 were there).\n"
    assert get_project_id(other, "shop") == identity
    # The project was made known by touching its root.
    assert as_facts(read_logs(other, identity), without_last_of_root=True) == as_facts(read_logs(home, identity))
    assert run(other, "verify").exit_code == 0


def test_import_when_repeated_adds_nothing_and_when_continued_adds_the_rest(home: Path, tmp_path: Path) -> None:
    identity, other = fill(home), tmp_path / "other"
    text = run(home, "export", "--project", "shop").stdout_bytes
    lines = text.splitlines(keepends=True)
    assert run(other, "import", "-", text=b"".join(lines[:10])).exit_code == 0
    again = run(other, "import", "-", text=text)
    assert again.stderr == "Imported 13 events into 4 streams of shop (9 were there).\n"
    logs = read_logs(other, identity)
    assert run(other, "import", "-", text=text).stderr == "Imported 0 events into 4 streams of shop (22 were there).\n"
    assert read_logs(other, identity) == logs


def test_stream_when_imported_into_another_project_and_path_names_itself_and_is_announced(
    home: Path, tmp_path: Path
) -> None:
    fill(home)
    target = fill(tmp_path / "other", "target")
    text = run(home, "export", "/orders/new", "--project", "shop").stdout_bytes
    assert [json.loads(line)["streamPath"] for line in text.splitlines()] == ["/orders/new"] * 5
    other = tmp_path / "other"
    arguments = ("import", "-", "--project", "target", "--as", "/copied/orders")
    assert run(other, *arguments, text=text).stderr == "Imported 5 events into 1 streams of target (0 were there).\n"
    assert run(other, *arguments, text=text).exit_code == 0
    logs = read_logs(other, target)
    assert logs["/copied/orders"][0].payload == {"namespace": target, "path": "/copied/orders"}
    assert [event.payload for event in logs["/copied"] if "child" in event.type] == [{"childPath": "/copied/orders"}]
    assert run(other, "verify").exit_code == 0


def test_project_when_imported_into_its_own_store_becomes_another_one(home: Path) -> None:
    identity = fill(home)
    text = run(home, "export", "--project", identity).stdout_bytes
    assert run(home, "import", "-", text=text).stderr.startswith("Imported 0 events into 4 streams of shop")
    assert run(home, "import", "-", "--project", "copy", text=text).stderr.startswith("Imported 22 events")
    assert run(home, "import", "-", "--project", "copy", text=text).stderr.startswith("Imported 0 events")
    copy = get_project_id(home, "copy")
    assert copy != identity
    assert as_facts(read_logs(home, copy), without_last_of_root=True) == as_facts(read_logs(home, identity))
    assert read_logs(home, copy)["/orders"][0].payload == {"namespace": copy, "path": "/orders"}


def test_import_when_the_stream_has_another_history_is_refused_and_adds_nothing(home: Path, tmp_path: Path) -> None:
    fill(home)
    other = tmp_path / "other"
    target = fill(other)
    before = read_logs(other, target)
    text = run(home, "export", "--project", "shop").stdout_bytes
    assert complain(other, "import", "-", text=text) == (
        "Error: Line 2: / holds another event at offset 1.\n"
        "→ It is another stream of the same name: import into another project, or under another path.\n"
    )
    assert read_logs(other, target) == before


GOOD = {
    "namespace": "prj_1",
    "streamPath": "/a",
    "type": "x",
    "offset": 1,
    "createdAt": "2026-06-10T09:00:00.000Z",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 2}, "Line 1: /a goes on at offset 1, not 2."),
        ({"offset": 0}, "Line 1 is no exported event: offset 0"),
        ({"createdAt": "yesterday"}, "createdAt 'yesterday' is none"),
        ({"extra": 1}, "Line 1 is no exported event: Object contains unknown field `extra`"),
        ({"type": 1}, "Line 1 is no exported event: Expected `str`"),
        ({"source": {"x": 1}}, "Line 1 is no exported event: Event source"),
        ({"streamPath": "/A"}, 'Stream path "/A" is not valid'),
        ({"type": "events.iterate.com/stream/woken"}, "The payload of events.iterate.com/stream/woken is not of"),
    ],
)
def test_line_when_it_is_no_exported_event_is_refused_by_number(
    home: Path, changes: dict[str, Any], message: str
) -> None:
    fill(home)
    line = json.dumps({**GOOD, **changes}).encode()
    assert message in complain(home, "import", "-", "--project", "shop", text=line + b"\n")
    assert run(home, "verify").exit_code == 0


def test_line_when_cut_off_is_refused_and_what_came_before_it_stays(home: Path, tmp_path: Path) -> None:
    fill(home)
    text = run(home, "export", "--project", "shop").stdout_bytes
    other = tmp_path / "other"
    assert "is no exported event: Input data was truncated" in complain(other, "import", "-", text=text[:-1000])
    assert run(other, "verify").exit_code == 0
    assert run(other, "import", "-", text=text).exit_code == 0


def test_lines_when_a_key_stands_twice_are_refused(home: Path) -> None:
    fill(home)
    created = {**GOOD, "type": "events.iterate.com/stream/created", "payload": {"namespace": "p", "path": "/a"}}
    lines = [created, *({**GOOD, "offset": n, "idempotencyKey": "k"} for n in (2, 3))]
    text = b"\n".join(json.dumps(line).encode() for line in lines)
    assert "Line 3: the idempotency key 'k' of /a is that of an earlier event" in complain(
        home, "import", "-", "--project", "shop", text=text
    )


def test_names_when_they_are_not_there_are_refused(home: Path) -> None:
    assert "There is no store in" in complain(home, "export")
    fill(home)
    assert "Project nope not found." in complain(home, "export", "--project", "nope")
    assert "Stream /nope of shop has no events." in complain(home, "export", "/nope", "--project", "shop")
    streams = run(home, "export", "/orders", "/large", "--project", "shop").stdout_bytes
    assert "no project is named" in complain(home, "import", "-", text=streams)
    assert "Project nope not found." in complain(home, "import", "-", "--project", "nope", text=streams)
    assert "one path is not enough" in complain(home, "import", "-", "--project", "shop", "--as", "/b", text=streams)


def test_output_when_it_cannot_be_written_is_told_and_nothing_is_left(home: Path, tmp_path: Path) -> None:
    fill(home)
    result = run(home, "export", "--project", "shop", "-o", str(tmp_path / "missing" / "file"))
    assert result.exit_code == 1
    assert "missing/file" in result.stderr
    (tmp_path / "old.jsonl").write_text("old")
    assert run(home, "export", "/nope", "--project", "shop", "-o", str(tmp_path / "old.jsonl")).exit_code == 1
    assert [path.name for path in tmp_path.iterdir() if path != home] == ["old.jsonl"]
    assert (tmp_path / "old.jsonl").read_text() == "old"


# -- beside a process that holds the store -----------------------------------------------------------------------------


def test_commands_when_the_store_is_in_use_work_beside_its_owner_or_name_it(home: Path, tmp_path: Path) -> None:
    with hold_store(home) as owner:
        assert run(home, "export", "/held").stderr == "Exported 3 events of default.\n"
        assert run(home, "verify").stderr.startswith("0 faults in")
        assert run(home, "compact").exit_code == 0
        assert run(home, "backup", str(tmp_path / "copy")).exit_code == 0
        text = run(home, "export").stdout_bytes
        refusal = complain(home, "import", "-", text=text)
        assert f"in use by process {owner.pid}" in refusal
        assert "itx.close() in a kernel, SIGTERM for a server" in refusal
    assert run(tmp_path / "copy", "verify").stderr.startswith("0 faults in")
    assert run(tmp_path / "copy", "export", "/held").stdout_bytes == run(home, "export", "/held").stdout_bytes


def test_program_when_run_as_one_prints_lines_that_a_pipe_takes(home: Path) -> None:
    fill(home)
    command = [sys.executable, "-W", "error", "-m", "itx_notebook.cli", "--home", str(home)]
    ran = subprocess.run([*command, "export", "/orders", "--project", "shop"], capture_output=True, check=True)
    assert [json.loads(line)["offset"] for line in ran.stdout.splitlines()] == [1, 2, 3, 4, 5, 6]
    # No bar where there is no terminal.
    assert ran.stderr == b"Exported 6 events of shop.\n"
    assert b"backup" in subprocess.run([*command, "--help"], capture_output=True, check=True).stdout
