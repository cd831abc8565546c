"""The tree in a real JupyterLab, for the benchmark ``tree``: one page and one kernel, in which code is run and timed.

Apart from the benchmark because it drives a browser. All times are taken in the page, by its own clock, at the frame
that shows what was waited for; the kernel's clock is the same machine's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

import ipywidgets
import nbformat
from ipywidgets.embed import embed_data
from nbformat.sign import NotebookNotary
from playwright.sync_api import CDPSession, sync_playwright

from tests.browser.lab import CHROMIUM_FLAGS, NotebookPage, open_notebook, start_lab

__all__ = ["PageBench"]

GROUPS: Final = 100
LEAVES: Final = 1_000
FEW: Final = 1_000
VERSION: Final = {"version_major": 2, "version_minor": 0}
"""Of the widget protocol."""

CONNECT: Final = "import itx_notebook\nitx = itx_notebook.connect()\n"
NAME: Final = '''
def name(parent, children):
    """Let a stream name children; they need not exist to be shown."""
    kind = "events.iterate.com/stream/child-stream-created"
    itx.streams.get(parent).append_batch([{"type": kind, "payload": {"childPath": path}} for path in children])
'''
MAKE_FEW: Final = f'name("/few", [f"/few/stream-{{n:04}}" for n in range({FEW})])\n'
ROWS: Final = 'rows = lambda n: "".join(f"<div class=bench-row>stream-{i:04}</div>" for i in range(n))\n'
PREPARE: Final = (
    CONNECT
    + NAME
    + MAKE_FEW
    + f"""
groups = [f"/group-{{g:03}}" for g in range({GROUPS})]
for group in groups:
    name(group, [f"{{group}}/leaf-{{n:04}}" for n in range({LEAVES})])
for path in ("/flood", "/unseen", "/beat"):
    itx.streams.get(path).append("x")

import gc, json, threading, time, anywidget, ipywidgets
from IPython.display import HTML

class Bare(anywidget.AnyWidget):
    _esm = '''export default {{ render({{ model, el }}) {{
        el.className = 'bench-bare'; el.textContent = '-1';
        el.onclick = () => model.send({{ n: Number(el.textContent) + 1 }});
        model.on('msg:custom', message => {{ el.textContent = message.n; }});
    }} }}'''

bare = Bare()
bare.on_msg(lambda widget, content, buffers: widget.send(content))
{ROWS}

def beat(count):
    told = []
    def run():
        stream = itx.streams.get("/beat")
        for n in range(count):
            time.sleep(0.06)
            told.append(["tree", None, time.time() * 1000])
            told[-1][1] = stream.append("x").offset
            time.sleep(0.06)
            told.append(["bare", n, time.time() * 1000])
            bare.send({{"n": n}})
    thread = threading.Thread(target=run)
    thread.start()
    return thread, told

def flood(path, seconds):
    stream, sent, begun = itx.streams.get(path), 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        stream.append_batch([{{"type": "x", "payload": {{"n": n}}}} for n in range(100)])
        sent += 100
        time.sleep(max(0.0, begun + sent / 10_000 - time.perf_counter()))
    print(sent / (time.perf_counter() - begun))

def get_rss():
    gc.collect()
    with open("/proc/self/statm") as facts:
        return int(facts.read().split()[1]) * 4096
"""
)

PROBE: Final = """() => {
    // Is a frame being drawn? What changes then is painted with it, what changes later with the next one.
    let isDrawing = false;
    const waiting = [];
    const channel = new MessageChannel();
    channel.port1.onmessage = () => { isDrawing = false; };
    window.drawn = null;
    window.main = window.jupyterapp.shell.currentWidget;
    window.opened = {};
    const frame = () => {
        isDrawing = true;
        channel.port2.postMessage(null);
        window.drawn?.push(performance.now());
        for (const tell of waiting.splice(0)) tell(performance.timeOrigin + performance.now());
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    const painted = tell => {
        if (isDrawing) tell(performance.timeOrigin + performance.now());
        else waiting.push(tell);
    };
    /** When what `look` gives was painted; it is asked after each change of the page. */
    window.until = look => new Promise((resolve, reject) => {
        const end = setTimeout(() => { observer.disconnect(); reject(new Error(`waited in vain: ${look}`)); }, 60_000);
        const observer = new MutationObserver(() => {
            if (!look()) return;
            observer.disconnect();
            clearTimeout(end);
            painted(resolve);
        });
        observer.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
    });
    /** Note each number that `read` gives, and when it was painted, until the function is called that it returns. */
    window.follow = (name, read) => {
        const seen = [];
        let last = read();
        const observer = new MutationObserver(() => {
            const value = read();
            if (value === last) return;
            last = value;
            painted(time => seen.push([name, value, time]));
        });
        observer.observe(document.body, { subtree: true, childList: true, characterData: true });
        return () => { observer.disconnect(); return seen; };
    };
    window.row = path => [...document.querySelectorAll(`[role=treeitem][data-path="${path}"]`)].at(-1);
    window.count = path =>
        Number((window.row(path)?.querySelector('.itx-badge')?.textContent ?? '').replace(/\\D/g, ''));
    /** Runs a cell and tells after how many milliseconds its output showed `selector`. */
    window.paint = async (panel, source, selector, index) => {
        const cell = panel.content.widgets[index];
        panel.content.activeCellIndex = index;
        panel.content.deselectAll();
        cell.model.sharedModel.setSource(source);
        cell.model.outputs.clear();
        const shown = window.until(() => cell.node.querySelector(selector));
        const begun = performance.timeOrigin + performance.now();
        const ran = window.jupyterapp.commands.execute('notebook:run-cell');
        const time = await shown - begun;
        await ran;
        return time;
    };
}"""

FIRST_TREE_ROW: Final = '[role=treeitem][data-path="/few/stream-0001"]'


class PageBench:
    """The browser's measurements. Everything that is measured in turns is one method for each side.

    Parameters
    ----------
    is_quick : bool
        Fewer samples.
    chromium : str
        The browser's program.
    """

    def __init__(self, *, is_quick: bool, chromium: str) -> None:
        self.samples = 6 if is_quick else 25
        self.flood_seconds = 1.0 if is_quick else 4.0
        self.peer_nodes = 100 if is_quick else 500
        self.details: dict[str, list[float]] = {}
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.ipytree = self._try_install_ipytree()
        if self.ipytree is not None:
            # The server finds the front end's part of it there.
            os.environ["JUPYTER_PATH"] = str(self.ipytree / "share" / "jupyter")
        self._server = self._stack.enter_context(start_lab(self._folder / "lab"))
        playwright = self._stack.enter_context(sync_playwright())
        self._browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        self._stack.callback(self._browser.close)
        self._write_saved()
        self._page = self._stack.enter_context(self._open("main", ["", "", ""]))
        self._devtools: CDPSession = self._page.page.context.new_cdp_session(self._page.page)
        self._page.page.evaluate(PROBE)
        self.run(PREPARE)
        if self.ipytree is not None:
            self.run(f"import sys\nsys.path.append({str(self.ipytree)!r})\nimport ipytree")
        self.run(f'name("/many", [f"/many/stream-{{n:04}}" for n in range({self.peer_nodes})])')
        self._next_group = 0
        self._beaten: dict[str, dict[str, list[float]]] = {}

    def close(self) -> None:
        """End the browser and the server."""
        self._stack.close()

    def run(self, source: str) -> str:
        """Run code in the kernel; what it printed."""
        self._page.page.evaluate(
            """source => {
                window.jupyterapp.shell.activateById(window.main.id);
                window.main.content.widgets[1].model.sharedModel.setSource(source);
            }""",
            source,
        )
        self._page.run(1)
        return "".join(output.get("text", "") for output in self._page.get_outputs(1))

    # -- first paint -------------------------------------------------------------------------------------------------

    def paint_cached(self) -> float:
        """Seconds from the cell to its tree, where kernel and cache are warm."""
        return self._paint('itx.tree("/few")', FIRST_TREE_ROW)

    def paint_html(self) -> float:
        """Seconds from the cell to the same rows as HTML in a widget."""
        return self._paint(f"ipywidgets.HTML(rows({FEW}))", ".bench-row")

    def paint_as_many(self) -> float:
        """Seconds from the cell to a tree of as many nodes as ipytree is given."""
        return self._paint('itx.tree("/many")', '[role=treeitem][data-path="/many/stream-0001"]')

    def paint_ipytree(self) -> float:
        """Seconds from the cell to the same tree by ipytree."""
        source = f"""
nodes = [ipytree.Node(f"stream-{{n:04}}") for n in range({self.peer_nodes})]
ipytree.Tree(nodes=[ipytree.Node("/many", nodes)])
"""
        return self._paint(source, f".jstree-node .jstree-node:nth-child({self.peer_nodes})")

    def paint_saved(self, kind: str) -> float:
        """Seconds from opening a saved notebook, in a JupyterLab that runs, to what it shows; it stays open."""
        seconds: float = self._page.page.evaluate(
            """async ([kind, selector]) => {
                const known = new Set(document.querySelectorAll('.jp-NotebookPanel'));
                const begun = performance.timeOrigin + performance.now();
                const shown = window.until(() => [...document.querySelectorAll('.jp-NotebookPanel')]
                    .find(panel => !known.has(panel) && panel.querySelector(selector)));
                const path = `saved-${kind}.ipynb`;
                window.opened[kind] = await window.jupyterapp.commands.execute('docmanager:open', { path });
                return (await shown - begun) / 1000;
            }""",
            [kind, FIRST_TREE_ROW if kind == "tree" else ".bench-row"],
        )
        return seconds

    def paint_cold(self, kind: str) -> float:
        """Seconds from the first cell of a fresh kernel, in the notebook opened last, to what it shows; closes that."""
        source = f"import os\nos.environ['ITX_HOME'] = {str(self._folder / 'saved')!r}\n" + (
            f'{CONNECT}itx.tree("/few")' if kind == "tree" else f"import ipywidgets\n{ROWS}ipywidgets.HTML(rows({FEW}))"
        )
        seconds: float = self._page.page.evaluate(
            """async ([kind, source, selector]) => {
                const panel = window.opened[kind];
                window.jupyterapp.shell.activateById(panel.id);
                await panel.sessionContext.ready;
                while (panel.sessionContext.session?.kernel?.status !== 'idle') {
                    await new Promise(requestAnimationFrame);
                }
                const time = await window.paint(panel, source, selector, panel.content.widgets.length - 1);
                await panel.sessionContext.shutdown();
                panel.context.model.dirty = false;
                panel.close();
                window.jupyterapp.shell.activateById(window.main.id);
                return time / 1000;
            }""",
            [kind, source, FIRST_TREE_ROW if kind == "tree" else ".bench-row"],
        )
        return seconds

    # -- a hundred thousand nodes ------------------------------------------------------------------------------------

    def show_groups(self) -> None:
        """Display the tree of 100,000 nodes, closed, and the bare widget."""
        self._paint(
            'display(bare)\nbrowser = itx.tree(expand=["/beat", "/flood"])\nbrowser',
            '[role=treeitem][data-path="/beat"]',
            cell=2,
        )

    def expand(self) -> float:
        """Milliseconds from a click on a closed group that was not loaded to its thousand children, the median."""
        spent: list[float] = []
        for _ in range(self.samples):
            if self._next_group == GROUPS:
                self.show_groups()
                self._next_group = 0
            group, self._next_group = f"/group-{self._next_group:03}", self._next_group + 1
            spent.append(
                self._page.page.evaluate(
                    """async group => {
                        const list = window.main.content.widgets[2].node.querySelector('[role=tree]');
                        list.scrollTop = Number(group.slice(-3)) * 24;
                        if (!window.row(group)) await window.until(() => window.row(group));
                        const press = verb =>
                            window.row(group).querySelector(`button[aria-label="${verb} ${group}"]`);
                        const shown = window.until(() => window.row(`${group}/leaf-0000`));
                        const begun = performance.timeOrigin + performance.now();
                        (press('Load') ?? press('Expand')).click();
                        const time = await shown - begun;
                        const gone = window.until(() => !window.row(`${group}/leaf-0000`));
                        press('Collapse').click();
                        await gone;
                        return time;
                    }""",
                    group,
                )
            )
        return self._note("expand", spent)

    def echo(self) -> float:
        """Milliseconds from a click on a bare widget, through the kernel and back, to its text, the median."""
        spent = [
            self._page.page.evaluate(
                """async () => {
                    const bare = [...document.querySelectorAll('.bench-bare')].at(-1);
                    const before = bare.textContent;
                    const shown = window.until(() => bare.textContent !== before);
                    const begun = performance.timeOrigin + performance.now();
                    bare.click();
                    return await shown - begun;
                }"""
            )
            for _ in range(self.samples)
        ]
        return self._note("echo", spent)

    def beat(self, side: str, *, is_busy: bool) -> float:
        """Milliseconds from just before an append (``tree``) or a bare message (``bare``) to its painting, the median.

        Both sides are measured in one go, by turns; the second call of a pair gives what the first one saw.
        """
        key = "busy" if is_busy else "idle"
        if side not in self._beaten.get(key, {}):
            self._beaten[key] = self._measure_beats(is_busy=is_busy)
        return self._note(f"{side}, {key}", self._beaten[key].pop(side))

    def _measure_beats(self, *, is_busy: bool) -> dict[str, list[float]]:
        self._page.page.evaluate(
            """() => {
                const bare = [...document.querySelectorAll('.bench-bare')].at(-1);
                window.ends = [
                    window.follow('tree', () => window.count('/beat')),
                    window.follow('bare', () => Number(bare.textContent)),
                ];
            }"""
        )
        busy = "\nwhile thread.is_alive():\n    sum(range(1000))" if is_busy else ""
        self.run(f"thread, told = beat({self.samples}){busy}")
        told = json.loads(self.run("thread.join()\ntime.sleep(0.3)\nprint(json.dumps(told))"))
        seen = self._page.page.evaluate("() => window.ends.flatMap(end => end())")
        when = {(name, value): time for name, value, time in seen}
        spent: dict[str, list[float]] = {"tree": [], "bare": []}
        for name, value, begun in told:
            if (name, value) in when:
                spent[name].append(when[name, value] - begun)
        return spent

    def flood(self, path: str) -> float:
        """Frames a second that the page draws while 10,000 events a second are appended to a stream."""
        self._page.page.evaluate("() => { window.drawn = []; }")
        rate = float(self.run(f"flood({path!r}, {self.flood_seconds})"))
        times = self._page.page.evaluate("() => { const { drawn } = window; window.drawn = null; return drawn; }")
        self._note(f"{path}, events/s", [rate])
        frames: float = (len(times) - 1) / (times[-1] - times[0]) * 1000
        return frames

    def measure_memory(self) -> tuple[float, float]:
        """Megabytes that a tree of 100,000 open rows takes in the page (JavaScript heap), and in the kernel (RSS)."""
        before, rss = self._get_heap(), float(self.run("print(get_rss())"))
        self._paint("large = itx.tree(expand=groups)\nlarge", '[role=treeitem][data-path="/group-000/leaf-0001"]')
        # The page writes its snapshot into the model a second after the last patch: that is part of it.
        self.run("time.sleep(2.5)")
        used = self._get_heap() - before, float(self.run("print(get_rss())")) - rss
        self.run("large.close()\ndel large")
        return used[0] / 1e6, used[1] / 1e6

    # -- helpers -----------------------------------------------------------------------------------------------------

    def get_percentile(self, name: str, percent: int) -> float:
        """Of all that was noted under a name."""
        return statistics.quantiles(self.details[name], n=100, method="inclusive")[percent - 1]

    def _note(self, name: str, values: list[float]) -> float:
        self.details.setdefault(name, []).extend(values)
        return statistics.median(values)

    def _paint(self, source: str, selector: str, *, cell: int = 3) -> float:
        seconds: float = self._page.page.evaluate(
            """async ([source, selector, cell]) => {
                window.jupyterapp.shell.activateById(window.main.id);
                return await window.paint(window.main, source, selector, cell) / 1000;
            }""",
            [source, selector, cell],
        )
        return seconds

    def _get_heap(self) -> float:
        self._devtools.send("HeapProfiler.collectGarbage")
        return float(self._devtools.send("Runtime.getHeapUsage")["usedSize"])

    def _open(self, home: str, cells: list[str]) -> AbstractContextManager[NotebookPage]:
        return open_notebook(self._server, self._browser, self._folder / home, cells)

    def _write_saved(self) -> None:
        """A notebook saved with the tree, and one with the same rows in a widget of HTML; both are trusted."""
        with self._open("saved", [CONNECT + NAME + MAKE_FEW, 'itx.tree("/few")']) as page:
            page.run(1)
            page.run(2)
            page.row("/few/stream-0001").wait_for()
            page.wait_until_saveable("/few", "stream-0001")
            page.save()
            (self._server.root / "saved-tree.ipynb").write_bytes(page.path.read_bytes())
        shown = ipywidgets.HTML("".join(f"<div class=bench-row>stream-{n:04}</div>" for n in range(FEW)))
        view = {"application/vnd.jupyter.widget-view+json": {"model_id": shown.model_id, **VERSION}}
        cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data=view)])
        notebook = nbformat.v4.new_notebook(cells=[cell])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
        state = {"state": embed_data(views=[shown])["manager_state"]["state"], **VERSION}
        notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
        data = self._server.data
        notary = NotebookNotary(db_file=str(data / "nbsignatures.db"), secret_file=str(data / "notebook_secret"))
        notary.sign(notebook)
        nbformat.write(notebook, self._server.root / "saved-html.ipynb")

    def _try_install_ipytree(self) -> Path | None:
        folder = self._folder / "ipytree"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "ipytree"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return folder
        print(f"ipytree is not here: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
