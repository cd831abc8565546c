// Bundles each widget into one self-contained ES module and one stylesheet, where the Python package expects them.
// anywidget stores the module once per widget in the notebook file, so size is a promise: `make lint` checks it.
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const outdir = fileURLToPath(new URL("../itx_notebook/widgets/static/", import.meta.url));

// A renamed entry would otherwise leave its old bundle behind, and the wheel would ship both.
rmSync(outdir, { recursive: true, force: true });

await build({
  absWorkingDir: root,
  entryPoints: { tree: "src/tree.tsx" },
  outdir,
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
});

// The stylesheet is an entry of its own: anywidget hands it to the page beside the module, not through it.
await build({
  absWorkingDir: root,
  entryPoints: { tree: "src/tree.css" },
  outdir,
  bundle: true,
  minify: true,
  target: "es2022",
  logLevel: "warning",
});
