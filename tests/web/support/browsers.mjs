/** The browsers of this machine, headless: Chromium through Playwright, Firefox through WebDriver BiDi. */
import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";

/** @param {string} variable @param {string[]} names */
function program(variable, names) {
  if (process.env[variable]) return process.env[variable];
  for (const name of names) {
    try {
      return execFileSync("sh", ["-c", `command -v "${name}"`], { encoding: "utf8" }).trim();
    } catch {
      // The next one.
    }
  }
  throw new Error(`${names[0]}: not found; install it, or name its program in ${variable}`);
}

/** Nothing of the browser's own goes over the network; as root there is no sandbox. */
const CHROMIUM_FLAGS = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--disable-default-apps", "--disable-dev-shm-usage",
  // A page in the background of a test is in use all the same.
  "--disable-renderer-backgrounding", "--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows",
  ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
];

/** @param {string[]} flags */
function chromiumOptions(flags) {
  const executablePath = program("CHROMIUM", ["chromium", "chromium-browser", "google-chrome"]);
  return { executablePath, headless: true, args: [...CHROMIUM_FLAGS, ...flags] };
}

/** @param {string[]} [flags] */
export function launchChromium(flags = []) {
  return chromium.launch(chromiumOptions(flags));
}

/** With a profile on disk, as a visitor has one: what is stored there is really written. @param {string} folder */
export function launchChromiumProfile(folder) {
  return chromium.launchPersistentContext(folder, chromiumOptions([]));
}

export function launchFirefox() {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: program("FIREFOX", ["firefox-esr", "firefox"]),
    headless: true,
    protocolTimeout: 600_000,
    extraPrefsFirefox: {
      "app.update.auto": false, "browser.shell.checkDefaultBrowser": false, "datareporting.policy.dataSubmissionEnabled": false,
      "toolkit.telemetry.enabled": false,
    },
  });
}
