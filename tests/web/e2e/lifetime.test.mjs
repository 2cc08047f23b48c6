/**
 * Workers that are ended from outside, and pages that are frozen, left and come back to, in Chromium and in Firefox: the
 * engine is loaded again, and the conversation goes on.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { ready, tell, until } from "../support/chat-page.mjs";
import { complete, loadEngine, openBlank } from "../support/in-page.mjs";
import { serveSite } from "../support/site.mjs";

let real, scripted;
before(async () => {
  real = await serveSite();
  scripted = await serveSite({ fake: true });
});
after(async () => {
  await real?.close();
  await scripted?.close();
});

const GREEDY = { messages: [{ role: "user", content: "Name three rivers of Europe." }], temperature: 0, max_tokens: 24 };

const lastIs = (page, ...states) => until(page, states.join(), (wanted) => wanted.includes([...document.querySelectorAll(".message-assistant")].at(-1)?.dataset.status), states);
const answers = (page) => page.evaluate(() => [...document.querySelectorAll(".message-assistant .answer")].map((answer) => answer.textContent.trim()));
const open = async (page, site) => {
  await page.goto(`${site.url}?model=fake/fake.gguf`);
  await ready(page);
};
/** Remembers the engines' workers, as a browser does that ends one. */
const holdWorkers = () => {
  const { Worker } = window;
  window.workers = [];
  window.Worker = class extends Worker {
    constructor(...args) {
      super(...args);
      if (String(args[0]).endsWith("/worker.js")) window.workers.push(this);
    }
  };
};

for (const [browserName, launch] of [["Chromium", launchChromium], ["Firefox", launchFirefox]]) {
  const inPage = (name, run) => test(`${browserName}: ${name}`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await run(page);
    } finally {
      await browser.close();
    }
  });

  inPage("a worker ended in mid-answer rejects all that is pending; loaded again, the engine gives the clean run's answer", async (page) => {
    await openBlank(page, real.blank);
    await page.evaluate(holdWorkers);
    await loadEngine(page);
    const clean = await complete(page, GREEDY);
    for (const moment of ["prefill", "decode"]) {
      const lost = await page.evaluate(async ([params, when]) => {
        const { engine, settled, workers } = window;
        // Nothing tells the page of this.
        const kill = () => workers.at(-1).terminate();
        const words = "river stone cloud lamp seven ".repeat(when === "prefill" ? 120 : 1);
        const running = settled(async () => {
          let tokens = 0;
          const stream = await engine.chat.completions.create({
            ...params, messages: [{ role: "user", content: `Tell me of ${words}` }], max_tokens: 400, stream: true,
            onPrefill: () => { if (when === "prefill") kill(); },
          });
          for await (const { choices: [{ delta }] } of stream) if (delta.content && ++tokens === 3) kill();
        });
        const all = await Promise.all([running, settled(() => engine.chat.completions.create(params)), settled(() => engine.tokenize("x"))]);
        const why = await engine.lost;
        return { codes: all.map(({ error }) => error?.code), later: (await settled(() => engine.countTokens("x"))).error?.code, why: why.message };
      }, [GREEDY, moment]);
      // The tokenizer answers between two steps: it may have been quicker.
      assert.deepEqual(lost.codes.slice(0, 2), ["engine_lost", "engine_lost"], moment);
      assert.equal(lost.later, "engine_lost");
      assert.match(lost.why, /ended by the browser/);
      await loadEngine(page);
      assert.deepEqual((await complete(page, GREEDY)).ids, clean.ids, moment);
    }
  });

  inPage("the chat page loads an engine again that was lost, in mid-answer or at rest, and the conversation goes on", async (page) => {
    await (page.addInitScript ?? page.evaluateOnNewDocument).call(page, holdWorkers);
    await open(page, scripted);
    await tell(page, "say: first");
    await lastIs(page, "done");
    await tell(page, `slow: 50 ${"word ".repeat(100)}`);
    await lastIs(page, "streaming");
    // The one before it only looked whether the model fits.
    await page.evaluate(() => window.workers.at(-1).terminate());
    await lastIs(page, "failed");
    assert.match(await page.evaluate(() => [...document.querySelectorAll(".message-assistant")].at(-1).innerText), /The engine stopped/);
    await tell(page, "say: alive");
    await lastIs(page, "done");

    await page.evaluate(() => window.workers.at(-1).terminate());
    await until(page, "told", () => document.querySelector(".load-card:not([hidden])")?.innerText.includes("The engine stopped") === true);
    await tell(page, "say: again");
    await until(page, "answered", () => [...document.querySelectorAll(".answer")].at(-1).textContent.trim() === "again");
    const said = await answers(page);
    assert.equal(said[0], "first");
    assert.deepEqual(said.slice(2), ["alive", "again"]);
    // As it was before: nothing of the loss is left on the page but the answer that failed.
    assert.equal(await page.evaluate(() => document.querySelector(".engine-pill").dataset.state), "ready");
  });

  inPage("a page that is left in mid-answer and come back to still has its conversation, and answers", async (page) => {
    await open(page, scripted);
    await tell(page, "say: first");
    await lastIs(page, "done");
    await page.evaluate(() => { window.stayed = true; });
    await tell(page, `slow: 40 ${"word ".repeat(100)}`);
    await lastIs(page, "streaming");
    await page.goto(scripted.blank);
    await page.goBack();
    await ready(page);
    // Frozen meanwhile, the answer goes on; otherwise the page is a new one, and the answer counts as stopped.
    const stayed = await page.evaluate(() => window.stayed === true);
    await lastIs(page, stayed ? "done" : "stopped");
    console.log(`${browserName}: the page was ${stayed ? "frozen" : "loaded again"}`);
    const [first, second] = await answers(page);
    assert.equal(first, "first");
    assert.match(second, stayed ? /^(word ){99}word$/ : /^word/);
    await tell(page, "say: third");
    await until(page, "answered", () => [...document.querySelectorAll(".answer")].at(-1).textContent.trim() === "third");
  });
}

test("Chromium: a page that is frozen in mid-answer goes on when it is resumed", async () => {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    await open(page, scripted);
    await tell(page, `slow: 40 ${"word ".repeat(60)}`);
    await lastIs(page, "streaming");
    const session = await page.context().newCDPSession(page);
    await session.send("Page.setWebLifecycleState", { state: "frozen" });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await session.send("Page.setWebLifecycleState", { state: "active" });
    await lastIs(page, "done");
    assert.equal((await answers(page))[0], "word ".repeat(60).trim());
    await tell(page, "say: awake");
    await until(page, "answered", () => [...document.querySelectorAll(".answer")].at(-1).textContent.trim() === "awake");
  } finally {
    await browser.close();
  }
});
