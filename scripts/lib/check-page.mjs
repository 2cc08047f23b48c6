/**
 * Usage: node scripts/lib/check-page.mjs [--query ?model=…] [question]
 *
 * Opens the built chat page in headless Chromium as a visitor would, asks one question, prints the
 * answer as it streams and the page's own figures; exits 0 when an answer came, else 1.
 */
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { launchChromium } from "../../tests/web/support/browsers.mjs";
import { startServer } from "./server.mjs";

const dist = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../dist");
const { values, positionals } = parseArgs({ allowPositionals: true, options: { query: { type: "string", default: "" } } });
const question = positionals[0] ?? "Explain in two sentences why the sky is blue.";

const server = await startServer({ root: dist });
const browser = await launchChromium();
let failed = true;
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(`page error: ${error.message}`));
  const began = performance.now();
  await page.goto(server.url + values.query);
  const ready = page.locator('.engine-pill[data-state="ready"]').waitFor({ timeout: 300_000 }).then(() => true);
  const broken = page.locator('.load-card[data-state="failed"]').waitFor({ timeout: 300_000 }).then(() => false);
  broken.catch(() => {});
  ready.catch(() => {});
  if (!(await Promise.race([ready, broken]))) throw new Error(await page.locator(".load-card").innerText());
  console.log(`ready      ${((performance.now() - began) / 1000).toFixed(1)} s after the page was opened`);

  await page.locator("#message").fill(question);
  await page.keyboard.press("Enter");
  console.log(`question   ${question}`);
  process.stdout.write("answer     ");
  const answer = page.locator(".message-assistant").last();
  let printed = "";
  for (;;) {
    const status = await answer.getAttribute("data-status");
    // A block of Markdown ends in a line break that goes again when the block grows.
    const text = ((await answer.locator(".answer").textContent()) ?? "").trimEnd();
    // Markdown may redraw what was shown; only what is new is printed.
    process.stdout.write(text.startsWith(printed) ? text.slice(printed.length) : "");
    if (text.startsWith(printed)) printed = text;
    if (status === "done" || status === "length") break;
    if (status === "failed" || status === "stopped") throw new Error(await answer.innerText());
    await page.waitForTimeout(50);
  }
  console.log(`\nfigures    ${await answer.locator(".figures").innerText()}`);
  await page.locator(".engine-pill").click();
  const facts = await page.locator(".facts").evaluate((list) => [...list.querySelectorAll("dt")].map((dt) => [dt.textContent, dt.nextElementSibling?.textContent]));
  for (const [name, value] of facts) console.log(`${(name ?? "").toLowerCase().padEnd(22)} ${value}`);
  failed = printed.trim() === "";
  if (failed) console.error("the answer is empty");
} catch (error) {
  console.error(`\nfailed: ${error instanceof Error ? error.message : error}`);
} finally {
  await browser.close();
  await server.close();
}
process.exit(failed ? 1 : 0);
