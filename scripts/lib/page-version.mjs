/**
 * Usage: node scripts/lib/page-version.mjs SITE
 *
 * Writes into a built site's service-worker.js which files the page consists of, each with its SHA-256, and into it and
 * index.html the version that follows from them: the same files, the same version.
 */
import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";

const WORKER = "service-worker.js";
const PAGE = "index.html";
const PLACE = 'const SITE = { version: "", files: {} };';

const VERSION = /(<html [^>]*data-version=")[^"]*/;

/** What browsers load of the page; not types, licences and package.json. */
const LOADED = new Set([".html", ".js", ".css", ".svg", ".png", ".webmanifest", ".wasm"]);
/** Models are stored by the package, the worker and the icons of an installed page by the browser. */
const LEFT_OUT = ["models/", "icons/", "smollm-web/types/", WORKER];

const sha256 = (/** @type {string | Buffer} */ content) => createHash("sha256").update(content).digest("hex");

/**
 * The two files of a site that know its version, by name.
 * @param {string} root folder of the site
 * @returns {Promise<Record<string, string>>}
 */
export async function versioned(root) {
  /** @type {Map<string, string>} */
  const files = new Map();
  const collect = async (/** @type {string} */ folder, /** @type {string} */ place) => {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const name = place + entry.name + (entry.isDirectory() ? "/" : "");
      if (LEFT_OUT.includes(name)) continue;
      const file = path.join(folder, entry.name);
      if (entry.isDirectory()) await collect(file, name);
      else if (LOADED.has(path.extname(name))) files.set(name, sha256(await readFile(file)));
    }
  };
  await collect(root, "");

  const worker = await readFile(new URL(`../../www/${WORKER}`, import.meta.url), "utf8");
  const page = await readFile(path.join(root, PAGE), "utf8");
  if (worker.split(PLACE).length !== 2) throw new Error(`${WORKER}: the place for the list of files is not there once`);
  if (!VERSION.test(page)) throw new Error(`${PAGE}: no data-version on its html element`);
  const stamp = (/** @type {string} */ version) => page.replace(VERSION, (_, before) => before + version);

  const list = () => Object.fromEntries([...files].sort(([a], [b]) => (a < b ? -1 : 1)));
  files.set(PAGE, sha256(stamp("")));
  const version = sha256(worker + JSON.stringify(list())).slice(0, 16);
  files.set(PAGE, sha256(stamp(version)));
  const site = `const SITE = ${JSON.stringify({ version, files: list() })};`;
  return { [WORKER]: worker.replace(PLACE, () => site), [PAGE]: stamp(version) };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const root = process.argv[2];
  for (const [name, text] of Object.entries(await versioned(root))) await writeFile(path.join(root, name), text);
}
