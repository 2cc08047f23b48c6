/** The chat page with the real weights, as a visitor meets it, in Chromium and in Firefox. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { serveSite } from "../support/site.mjs";

let site;
before(async () => { site = await serveSite(); });
after(() => site?.close());

for (const [browserName, launch] of [["Chromium", launchChromium], ["Firefox", launchFirefox]]) {
  test(`${browserName}: load, chat, stream, stop mid-answer, go on, remember over a reload`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      const errors = [];
      page.on("pageerror", (error) => errors.push(String(error)));
      /** Waits in the page: both libraries can evaluate, and little else alike. */
      const until = (condition, argument, seconds = 240) => page.evaluate(([source, value, limit]) => new Promise((resolve, reject) => {
        const holds = window.conditions[source];
        const began = Date.now();
        (function look() {
          if (holds(value)) resolve(true);
          else if (Date.now() - began > limit * 1000) reject(new Error(`${source}: not within ${limit} s; the page says: ${document.body.innerText.slice(-500)}`));
          else setTimeout(look, 50);
        })();
      }), [condition, argument, seconds]);
      const install = () => page.evaluate(() => {
        const last = () => [...document.querySelectorAll(".message-assistant")].at(-1);
        window.conditions = {
          ready: () => document.querySelector(".engine-pill")?.dataset.state === "ready",
          questions: (n) => document.querySelectorAll(".message-user").length === n,
          status: (wanted) => last()?.dataset.status === wanted,
          // Answers are drawn by chance: one may talk until its longest instead of ending by itself.
          answered: () => ["done", "length"].includes(last()?.dataset.status),
          longer: (n) => (last()?.querySelector(".answer").textContent.length ?? 0) > n,
        };
        window.answer = () => last()?.querySelector(".answer").textContent ?? "";
      });
      let asked = 0;
      const send = async (text) => {
        await page.focus("#message");
        await page.keyboard.type(text);
        await page.keyboard.press("Enter");
        await until("questions", ++asked);
      };
      const answer = () => page.evaluate(() => window.answer());

      await page.goto(`${site.url}?seed=7`);
      await install();
      await until("ready");

      await send("Hi, my name is Alice.");
      await until("answered");
      assert.ok((await answer()).length > 0);

      await send("Name the capital of France.");
      await until("answered");
      assert.match(await answer(), /Paris/);
      const figures = await page.evaluate(() => [...document.querySelectorAll(".figures")].at(-1).textContent);
      assert.match(figures, /tokens\/s · first token/);
      console.log(`${browserName}: ${figures}`);

      await send("Write a very long story about a dragon.");
      await until("longer", 30);
      await page.keyboard.press("Escape");
      await until("status", "stopped");
      const stopped = await answer();
      assert.ok(stopped.length > 30);

      await send("Never mind. Thank you!");
      await until("answered");
      const last = await answer();

      // Kept half a second after the last change.
      await new Promise((resolve) => setTimeout(resolve, 800));
      await page.reload();
      await install();
      await until("questions", 4);
      assert.equal(await answer(), last);
      await until("ready");
      await send("Good bye!");
      await until("answered");
      assert.deepEqual(errors, []);
    } finally {
      await browser.close();
    }
  });
}
