/** One browser for a whole run, the same to its callers whichever it is. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { launchChromiumProfile, launchFirefox } from "../../tests/web/support/browsers.mjs";
import { memoryOfDescendants } from "./machine.mjs";

/**
 * @typedef {object} Page what Playwright's and Puppeteer's pages have in common
 * @property {(url: string) => Promise<unknown>} goto
 * @property {() => Promise<unknown>} reload
 * @property {<A, R>(run: (argument: A) => R | Promise<R>, argument?: A) => Promise<R>} evaluate
 * @property {(selector: string, options?: { timeout: number }) => Promise<unknown>} waitForSelector
 * @property {() => Promise<unknown>} close
 *
 * @typedef {object} Browser
 * @property {string} version
 * @property {(url: string) => Promise<Page>} open a new page at a URL
 * @property {() => number | null} memoryBytes of all its processes, where the system tells
 * @property {() => Promise<void>} close
 */

/** @param {"chromium" | "firefox"} name @returns {Promise<Browser>} */
export async function openBrowser(name) {
  return name === "firefox" ? openFirefox() : openChromium();
}

/** @returns {Promise<Browser>} */
async function openChromium() {
  const profile = mkdtempSync(path.join(tmpdir(), "smollm-bench-"));
  const context = await launchChromiumProfile(profile);
  const page = await context.newPage();
  const version = await page.evaluate(() => /Chrome\/([\d.]+)/.exec(navigator.userAgent)?.[1] ?? "unknown");
  return {
    version: `Chromium ${version}`,
    open: async (url) => at(/** @type {any} */ (await context.newPage()), url),
    memoryBytes: () => memoryOfDescendants(/chrom/i),
    close: async () => {
      await context.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** @returns {Promise<Browser>} */
async function openFirefox() {
  const browser = await launchFirefox();
  return {
    version: (await browser.version()).replace("/", " "),
    open: async (url) => at(/** @type {any} */ (await browser.newPage()), url),
    memoryBytes: () => memoryOfDescendants(/firefox|Web Content|Isolated Web|Privileged|GeckoMain/i),
    close: () => browser.close(),
  };
}

/** @param {Page} page @param {string} url */
async function at(page, url) {
  await page.goto(url);
  return page;
}
