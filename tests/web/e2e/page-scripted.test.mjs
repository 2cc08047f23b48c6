/**
 * The chat page in Chromium over the scripted engine: everything about the page itself, quickly.
 * What the real model says is the matter of model.test.mjs.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { launchChromium } from "../support/browsers.mjs";
import { complaints, serveSite } from "../support/site.mjs";

let site, browser, context, page, found, slow = false;
before(async () => {
  site = await serveSite({ fake: true, delay: (path) => slow && path.endsWith(".gguf") ? sleep(1000) : undefined });
  browser = await launchChromium();
});
after(async () => {
  await browser?.close();
  await site?.close();
});
beforeEach(async () => {
  context = await browser.newContext({ viewport: { width: 900, height: 700 } });
  page = await context.newPage();
  found = complaints(page);
});
afterEach(() => context.close());

/** The scripted engine takes any file for a model. */
const MODEL = "?model=fake/fake.gguf";
const open = async () => {
  await page.goto(`${site.url}${MODEL}`);
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
};
/** Changes are drawn with the next frame: until then the page shows what was before. */
const drawn = () => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
/** Dialogs close and lists empty with an event and a frame of their own. */
const gone = (selector) => page.waitForFunction((wanted) => !document.querySelector(wanted), selector);
const send = async (text) => {
  await page.locator("#message").fill(text);
  await page.keyboard.press("Enter");
  await drawn();
};
const answers = () => page.locator(".message-assistant");
const finished = (status = "done") => page.waitForFunction(
  (wanted) => [...document.querySelectorAll(".message-assistant")].at(-1)?.dataset.status === wanted, status);

test("loads, answers, shows its figures; nothing is complained about, nothing is asked of other hosts", async () => {
  const hosts = new Set();
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  await open();
  assert.match(await page.locator("#message").getAttribute("aria-label"), /Message/);
  await send("say: Hello **there**");
  await finished();
  assert.equal(await answers().last().locator(".answer strong").innerText(), "there");
  assert.match(await answers().last().locator(".figures").innerText(), /tokens\/s · first token .* · 2 tokens/);
  assert.deepEqual(found, []);
  assert.deepEqual([...hosts], [new URL(site.url).host]);
});

test("the bytes come once: a reload loads from this device, and the conversation is still there", async () => {
  await open();
  await send("say: kept");
  await finished();
  const downloads = () => site.requests.filter(({ method, path }) => method === "GET" && path.endsWith(".gguf")).length;
  const once = downloads();
  await page.reload();
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
  assert.equal(await answers().last().locator(".answer").innerText(), "kept");
  assert.equal(downloads(), once);
  assert.match(await page.locator(".message-user").innerText(), /say: kept/);
});

test("what the engine has read outlives a reload, and goes with the conversation", async () => {
  const saved = () => page.evaluate(async () => {
    const { SmolLM } = await import(new URL("smollm-web/index.js", location.href).href);
    return (await SmolLM.states.list()).length;
  });
  const until = async (question, wanted) => {
    let found;
    for (let tries = 0; tries < 200 && found !== wanted; tries++) {
      await sleep(50);
      found = await question();
    }
    assert.equal(found, wanted);
  };
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  await open();
  await send("say: one two three");
  await finished();
  await until(saved, 1);
  assert.deepEqual(said, []);

  await page.goto(`${site.url}${MODEL}&log=debug`);
  await until(() => said.some((text) => text.includes("restored chat")), true);
  await send("say: four");
  await finished();
  // The first prompt has five words: its reader's role, and what was said.
  assert.match(said.find((text) => text.includes("] prompt")), /, 5 of them in the cache/);

  await page.getByRole("button", { name: "New chat" }).click();
  await until(saved, 0);
  assert.deepEqual(found, []);
});

test("an answer streams; Escape stops it, and the next message works", async () => {
  await open();
  await send(`slow: 30 ${"word ".repeat(200)}`);
  await page.locator('.message-assistant[data-status="streaming"]').waitFor();
  const length = () => answers().last().locator(".answer").innerText().then((text) => text.length);
  const early = await length();
  await page.waitForFunction((n) => document.querySelector(".message-assistant .answer").textContent.length > n + 20, early);
  assert.equal(await page.getByRole("button", { name: "Stop the answer" }).count(), 1);
  await page.keyboard.press("Escape");
  await finished("stopped");
  assert.match(await answers().last().innerText(), /Stopped/);
  assert.ok((await length()) < 900);
  await send("say: next");
  await finished();
  assert.equal(await answers().last().locator(".answer").innerText(), "next");
});

test("the stop button stops too, and Enter does not send while an answer is written", async () => {
  await open();
  await send(`slow: 30 ${"word ".repeat(200)}`);
  await page.locator('.message-assistant[data-status="streaming"]').waitFor();
  await send("too early");
  assert.equal(await page.locator(".message-user").count(), 1);
  assert.equal(await page.locator("#message").inputValue(), "too early");
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await finished("stopped");
});

test("Shift+Enter breaks the line; blank messages are not sent", async () => {
  await open();
  await page.locator("#message").fill("one");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  assert.equal(await page.locator("#message").inputValue(), "one\ntwo");
  await page.locator("#message").fill("   ");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".message-user").count(), 0);
});

test("a message sent while the model loads is answered when it is there", async () => {
  await page.goto(`${site.url}${MODEL}`);
  await send("say: at last");
  await finished();
  assert.equal(await answers().last().locator(".answer").innerText(), "at last");
});

test("new chat, and its undo", async () => {
  await open();
  await send("say: one");
  await finished();
  await page.getByRole("button", { name: "New chat" }).click();
  await gone(".message-assistant");
  assert.ok(await page.locator(".welcome").isVisible());
  await page.getByRole("button", { name: "Undo" }).click();
  await answers().first().waitFor();
  assert.equal(await answers().last().locator(".answer").innerText(), "one");
});

test("a system prompt starts a new chat, is told to the model, and survives a reload", async () => {
  await open();
  await send("say: one");
  await finished();
  await page.getByRole("button", { name: "System prompt" }).click();
  await page.locator("#system-prompt").fill("You are a pirate.");
  await page.getByRole("button", { name: "Save" }).click();
  await gone(".message-assistant");
  await page.waitForTimeout(700);
  await page.reload();
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
  await page.getByRole("button", { name: "System prompt" }).click();
  assert.equal(await page.locator("#system-prompt").inputValue(), "You are a pirate.");
  await page.getByRole("button", { name: "Use the model's own" }).click();
  await gone("dialog");
});

test("dark and light: the system decides until the visitor does, and that is kept", async () => {
  await page.emulateMedia({ colorScheme: "dark" });
  await open();
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.getByRole("button", { name: "Switch to the light theme" }).click();
  const light = await background();
  assert.notEqual(dark, light);
  await page.reload();
  assert.equal(await background(), light);
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await background(), light);
});

test("the page follows the answer, lets go when the reader scrolls up, and offers a way back", async () => {
  await open();
  await send(`slow: 10 ${"line\n\n".repeat(400)}`);
  const gap = () => page.locator("#transcript").evaluate((t) => t.scrollHeight - t.scrollTop - t.clientHeight);
  await page.waitForFunction(() => document.querySelector("#transcript").scrollHeight > 1500);
  assert.ok((await gap()) < 60, `follows: ${await gap()}`);
  await page.locator("#transcript").hover();
  await page.mouse.wheel(0, -400);
  await page.waitForTimeout(300);
  const before = await gap();
  await page.waitForTimeout(300);
  assert.ok((await gap()) > before, "left alone");
  await page.getByRole("button", { name: "Go to the end" }).click();
  await page.waitForTimeout(200);
  assert.ok((await gap()) < 60);
});

test("errors say what to do, and the button does it", async () => {
  await open();
  await send("fail");
  await finished("failed");
  assert.match(await answers().last().innerText(), /Not enough memory[^]*kv cache: no memory/);
  await send("trap");
  await finished("failed");
  assert.match(await answers().last().innerText(), /The engine stopped[^]*Load again/);
  await send("say: back again");
  await finished();
  assert.equal(await answers().last().locator(".answer").innerText(), "back again");
});

test("a model that cannot be loaded is named, and can be tried again", async () => {
  for (const [model, words] of [
    ["models/nowhere.gguf", /The model is not where it should be[^]*nowhere\.gguf: the server answered status 404/],
    ["models/nowhere/", /config\.json: the server answered status 404/],
    ["/index.html?as=.gguf", /config\.json/],
    ["no-such-id", /no such id/],
  ]) {
    await page.goto(`${site.url}?model=${encodeURIComponent(model)}`);
    const card = page.locator('.load-card[data-state="failed"]');
    await card.waitFor();
    assert.match(await card.innerText(), words, model);
  }
  await page.goto(`${site.url}?model=models/nowhere.gguf`);
  await page.locator('.load-card[data-state="failed"]').waitFor();
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator('.load-card[data-state="failed"]').waitFor();
});

test("a dropped model takes the place of the one that is loaded; other files are refused", async () => {
  await open();
  await send("say: first");
  await finished();
  const drop = (name) => page.evaluate((given) => {
    const data = new DataTransfer();
    const bytes = new Uint8Array(1000);
    bytes.set(new TextEncoder().encode("GGUF"));
    data.items.add(new File([bytes], given));
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  }, name);
  await drop("holiday.jpg");
  assert.match(await page.locator(".toast").innerText(), /Drop a \.gguf file/);
  assert.equal(await page.locator(".engine-pill").getAttribute("data-state"), "ready");
  await drop("mine.gguf");
  await page.locator('.engine-pill[data-state="loading"]').waitFor();
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
  await send("say: second");
  await finished();
  assert.equal(await answers().count(), 2);
  assert.deepEqual(found, []);
});

test("before a download, and during it, what the model takes is said", async () => {
  // Every text that the card shows.
  await page.addInitScript(() => {
    window.said = [];
    new MutationObserver(() => {
      const text = document.querySelector(".load-card:not([hidden])")?.innerText;
      if (text && text !== window.said.at(-1)) window.said.push(text);
    }).observe(document, { subtree: true, childList: true, characterData: true });
  });
  slow = true;
  await page.goto(`${site.url}${MODEL}&context=1000`);
  await page.locator(".load-needs:not(:empty)").waitFor();
  slow = false;
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
  const said = (await page.evaluate(() => window.said)).join("\n\n");
  // 65 pages of a memory for threads, and a kilobyte a token.
  assert.match(said, /Looking whether the model fits on this device[^]*1 kB to download · 5\.3 MB of memory · about \d+ tokens\/s/);
  assert.deepEqual(found, []);
});

test("what does not fit is not downloaded unasked: a shorter context is proposed, or to load it all the same", async () => {
  const tooLong = `${site.url}${MODEL}&context=${1 << 23}`;
  await page.goto(tooLong);
  const card = page.locator('.load-card[data-state="unfit"]');
  await card.waitFor();
  assert.match(await card.innerText(), /may be too large for this device[^]*8\.59 GB of memory[^]*does not fit: WebAssembly has at most 4 GiB/);
  assert.equal(await page.locator(".engine-pill").innerText(), "Not loaded");
  // A question gets an answer that says so.
  await send("say: anything");
  await finished("failed");
  assert.match(await answers().last().innerText(), /Not enough memory/);
  await page.getByLabel("New chat").click();
  await page.getByRole("button", { name: "Load with 32,768 tokens of context" }).click();
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
  await page.locator(".engine-pill").click();
  assert.match(await page.locator("dialog").innerText(), /32,768 tokens/);
  await page.keyboard.press("Escape");

  await page.goto(tooLong);
  await page.getByRole("button", { name: "Load it all the same" }).click();
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
  assert.deepEqual(found, []);
});

test("loading can be cancelled and begun again", async () => {
  slow = true;
  await page.goto(`${site.url}${MODEL}`);
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Load the model" }).click();
  slow = false;
  await page.locator('.engine-pill[data-state="ready"]').waitFor();
});

test("what the model writes cannot run, load or submit anything", async () => {
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await open();
  requests.length = 0;
  for (const hostile of [
    "<script>window.pwned = 1</script>", "<img src=x onerror=window.pwned=1>", "![x](https://evil.example/x.png)",
    "[x](javascript:window.pwned=1)", "<a href='javascript:window.pwned=1'>x</a>", "<svg onload=window.pwned=1>", "<iframe src='https://evil.example'></iframe>",
    "<form action='https://evil.example'><input name=a><button>go</button></form>", "<style>body{display:none}</style>", "<div style='position:fixed;inset:0'>x</div>",
    "<math><mtext></mtext><mglyph><svg><mtext><style><path id='</style><img onerror=window.pwned=1 src>'>", "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>", "<p class='send-button' id='message'>x</p>", "`<b>code</b>`",
  ]) {
    await send(`say: ${hostile}`);
    await finished();
  }
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.deepEqual(requests.filter((url) => !url.startsWith(site.url)), []);
  assert.equal(await page.locator(".answer").locator("script, img, svg, iframe, form, style, base, meta, button, [style], [onerror], [onload], [id]").count(), 0);
  assert.equal(await page.locator('.answer [href^="javascript"]').count(), 0);
  assert.ok(await page.locator("#message").isVisible());

  await send("say: [a link](https://example.org/)");
  await finished();
  const link = answers().last().locator("a");
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
  assert.equal(await link.getAttribute("target"), "_blank");
});

test("a phone's width: nothing sticks out, everything can be reached", async () => {
  for (const width of [320, 390]) {
    await page.setViewportSize({ width, height: 700 });
    await open();
    await send(`say: ${"averylongwordwithoutanyspaces".repeat(10)} \`${"code".repeat(60)}\``);
    await finished();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
    for (const name of ["System prompt", "New chat", "Send"]) assert.ok(await page.getByRole("button", { name }).isVisible(), name);
    await page.getByRole("button", { name: "New chat" }).click();
  }
});

test("the engine's dialog tells what happened, stage by stage, to be copied for a report; no words are in it", async () => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open();
  await send("say: xylophone");
  await finished();
  await page.locator(".engine-pill").click();
  await page.locator(".journal summary").click();
  const stages = await page.locator(".journal-lines li > span:nth-child(2)").evaluateAll((lines) => lines.map((line) => line.textContent.split(":")[0]));
  for (const stage of ["probe", "engine", "model", "ready", "request", "prompt", "prefill", "answer"]) assert.ok(stages.includes(stage), `${stage} in ${stages}`);
  await page.getByRole("button", { name: "Copy for a report" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const report = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(report, /^page [0-9a-f]{16}\nMozilla.*\n\n0\.000 debug probe: what this browser has/);
  assert.match(report, /answer: 1 tokens, then stop/);
  assert.doesNotMatch(report, /xylophone/);
  assert.deepEqual(found, []);
});
