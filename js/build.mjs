// Bundles each widget, its styles included, into one self-contained ES module where the Python package expects it.
// anywidget stores the module once per widget in the notebook file, so size is a promise: `make lint` checks it.
// The module is therefore stored packed, at half its size, behind the few lines that unpack it.
import { createHash } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { constants, deflateRawSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const outdir = fileURLToPath(new URL("../itx_notebook/widgets/static/", import.meta.url));

// A renamed entry would otherwise leave its old bundle behind, and the wheel would ship both.
rmSync(outdir, { recursive: true, force: true });
mkdirSync(outdir, { recursive: true });

const shared = { absWorkingDir: root, bundle: true, minify: true, target: "es2022", logLevel: "warning" };

const styles = await build({ ...shared, entryPoints: ["src/tree.css"], write: false });

const { outputFiles } = await build({
  ...shared,
  entryPoints: { tree: "src/tree.tsx" },
  outdir,
  format: "esm",
  platform: "browser",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  define: {
    "process.env.NODE_ENV": '"production"',
    STYLES: JSON.stringify(styles.outputFiles[0].text.trim()),
  },
  write: false,
});
for (const { path, text } of outputFiles) writeFileSync(path, pack(text));

/**
 * An ES module that exports the factory of `source`. It imports a blob, as anywidget itself does with the module it is
 * given, so it asks nothing of the page that a widget did not need already. A page keeps what it once imported for
 * ever, so the widgets of one page share what the first of them unpacked.
 */
function pack(source) {
  const packed = deflateRawSync(source, { level: constants.Z_BEST_COMPRESSION }).toString("base64");
  const name = `itx-notebook ${createHash("sha256").update(source).digest("base64url").slice(0, 16)}`;
  return `const packed="${packed}";
const shared=Symbol.for("${name}");
const unpack=async()=>{
const bytes=Uint8Array.from(atob(packed),c=>c.charCodeAt(0));
const source=await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).text();
const url=URL.createObjectURL(new Blob([source],{type:"text/javascript"}));
try{return await import(/* webpackIgnore: true */url)}finally{URL.revokeObjectURL(url)}};
export default async()=>{
try{return(await(globalThis[shared]??=unpack())).default()}catch(error){delete globalThis[shared];throw error}};
`;
}
