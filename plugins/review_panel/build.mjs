// Builds dist/index.umd.js of the plugin: node build.mjs [file]
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "../gem_label/dist/index.umd.js");

// the sum over the sources shows, without building, that a built file is not of these sources
const files = readdirSync(join(here, "src"), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
const modules = files.map(({ parentPath, name }) => relative(here, join(parentPath, name)).replaceAll("\\", "/"));
const sources = ["build.mjs", "package.json", "tsconfig.json", ...modules].sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(`${name}\0`).update(readFileSync(join(here, name))).update("\0");

const { warnings } = await build({
  entryPoints: [join(here, "src/index.tsx")],
  outfile: target,
  bundle: true,
  format: "iife",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  // the App sets React as a global before it loads plugins
  alias: { react: join(here, "src/react.cjs") },
  banner: { js: `// built by plugins/review_panel/build.mjs from sources with the sha256 ${hash.digest("hex")}` },
});
if (warnings.length) process.exit(1);
