// Bundles each widget into one self-contained ES module and one stylesheet, where the Python package expects them.
// anywidget stores the module once per widget in the notebook file, so size is a promise: `make lint` checks it.
import { rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const outdir = fileURLToPath(new URL("../itx_notebook/widgets/static/", import.meta.url));

// A renamed entry would otherwise leave its old bundle behind, and the wheel would ship both.
rmSync(outdir, { recursive: true, force: true });

/** Names of classes and variables that tests and styles of other people may know. */
const PUBLIC_NAMES = new Set(["itx-panel", "itx-header", "itx-badge", "itx-list", "itx-notebook"]);
const shortNames = new Map();

/** Names written out cost three kilobytes in every notebook; in the sources they stay readable. */
const shortenNames = {
  name: "shorten-names",
  setup({ onLoad }) {
    onLoad({ filter: /[/\\]src[/\\].*\.(tsx?|css)$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const contents = source.replace(/\bitx-[a-z]+(-[a-z]+)*/g, (name) => {
        if (PUBLIC_NAMES.has(name)) return name;
        if (!shortNames.has(name)) shortNames.set(name, `itx${shortNames.size.toString(36)}`);
        return shortNames.get(name);
      });
      return { contents, loader: path.endsWith("css") ? "css" : path.endsWith("x") ? "tsx" : "ts" };
    });
  },
};

/** Properties of our own objects, none of them on the wire or the page's. */
const OWN_PROPERTIES =
  /^(store|tree|canAsk|isFlowing|arrangement|isPlain|childrenOf|isExpanded|isActive|isFollowing|isLoading|unseen|onActivate|onResize|onRetry|onPress|troubled|showDetails|toggleFollowing|showOlder|takenAt|viewHeight|moveTo)$/;

await build({
  absWorkingDir: root,
  plugins: [shortenNames],
  mangleProps: OWN_PROPERTIES,
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
  plugins: [shortenNames],
  entryPoints: { tree: "src/tree.css" },
  outdir,
  bundle: true,
  minify: true,
  target: "es2022",
  logLevel: "warning",
});
