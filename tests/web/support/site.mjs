/** The built site (scripts/build), served for a test; with the scripted engine in place of the real one if asked. */
import { existsSync } from "node:fs";
import { cp, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { versioned } from "../../../scripts/lib/page-version.mjs";
import { startServer } from "../../../scripts/lib/server.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const BUILDS = ["relaxed", "simd128", "relaxed-threads", "simd128-threads"];
export const DIST = process.env.SMOLLM_DIST ?? here("../../../dist");

/**
 * @param {{ root?: string, fake?: boolean, overlays?: Record<string, string>, isolation?: boolean, port?: number, policy?: string | null,
 *   intercept?: any, delay?: (path: string) => Promise<void> | undefined }} [options]
 *   `root`: another site than the built one; `fake`: a copy with the scripted engine
 */
export async function serveSite({ root = DIST, fake = false, overlays = {}, isolation, port, policy, intercept, delay } = {}) {
  const requests = [];
  const copy = fake ? await copySite() : null;
  if (!copy) complete(root, BUILDS);
  const server = await startServer({
    root: copy?.root ?? root,
    port,
    isolation,
    policy,
    delay,
    intercept,
    overlays: {
      "/blank/": here("blank/"),
      "/fixtures/": here("../../fixtures/"),
      "/fake/": here("../fake/"),
      // As an application has it that takes the package.
      "/isolation-worker.js": here("../../../js/isolation-worker.js"),
      ...overlays,
    },
    onRequest: (entry) => requests.push(entry),
  });
  return {
    ...server, requests, blank: `${server.url}blank/index.html`,
    close: async () => {
      await server.close();
      await copy?.remove();
    },
  };
}

/**
 * A copy of the built site with the scripted engine, in which a test may change the page's files.
 * @returns {Promise<{ root: string, version(): Promise<void>, remove(): Promise<void> }>} `version` makes a version of them as they are
 */
export async function copySite() {
  complete(DIST, []);
  const root = await mkdtemp(path.join(tmpdir(), "smollm-site-"));
  const left = ["models", "smollm-web/pkg"].map((name) => path.join(DIST, name));
  await cp(DIST, root, { recursive: true, filter: (name) => !left.includes(name) });
  await symlink(path.join(DIST, "models"), path.join(root, "models"));
  for (const build of BUILDS) await cp(here("../fake/"), path.join(root, "smollm-web/pkg", build), { recursive: true });
  const version = async () => {
    for (const [name, text] of Object.entries(await versioned(root))) await writeFile(path.join(root, name), text);
  };
  await version();
  return { root, version, remove: () => rm(root, { recursive: true, force: true }) };
}

/** @param {string} root @param {string[]} builds of the engine that have to be there */
function complete(root, builds) {
  for (const needed of ["index.html", "models/smollm2-135m-instruct", ...builds.map((build) => `smollm-web/pkg/${build}`)]) {
    if (!existsSync(`${root}/${needed}`)) throw new Error(`${root}/${needed} is missing: run scripts/fetch-model and scripts/build`);
  }
}

/** Fails a test run on what the page itself complained about. Returns the list of complaints. @param {import("playwright-core").Page} page */
export function complaints(page) {
  const found = [];
  page.on("pageerror", (error) => found.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" || /Content Security Policy/i.test(message.text())) found.push(message.text());
  });
  return found;
}
