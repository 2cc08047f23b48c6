/** The built site (scripts/build), served for a test; with the scripted engine in place of the real one if asked. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { startServer } from "../../../scripts/lib/server.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const BUILDS = ["relaxed", "simd128", "relaxed-threads", "simd128-threads"];
export const DIST = process.env.SMOLLM_DIST ?? here("../../../dist");

/** @param {{ fake?: boolean, overlays?: Record<string, string>, isolation?: boolean, delay?: (path: string) => Promise<void> | undefined }} [options] */
export async function serveSite({ fake = false, overlays = {}, isolation, delay } = {}) {
  for (const needed of ["index.html", "models/smollm2-135m-instruct", ...(fake ? [] : BUILDS.map((build) => `smollm-web/pkg/${build}`))]) {
    if (!existsSync(`${DIST}/${needed}`)) throw new Error(`${DIST}/${needed} is missing: run scripts/fetch-model and scripts/build`);
  }
  const requests = [];
  const server = await startServer({
    root: DIST,
    isolation,
    delay,
    overlays: {
      "/blank/": here("blank/"),
      "/fixtures/": here("../../fixtures/"),
      ...(fake && { "/fake/": here("../fake/"), ...Object.fromEntries(BUILDS.map((build) => [`/smollm-web/pkg/${build}/`, here("../fake/")])) }),
      ...overlays,
    },
    onRequest: (entry) => requests.push(entry),
  });
  return { ...server, requests, blank: `${server.url}blank/index.html` };
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
