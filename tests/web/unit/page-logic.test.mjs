import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR_CODES } from "../../../js/errors.js";
import { adviceFor } from "../../../www/logic/advice.js";
import { planBlocks } from "../../../www/logic/blocks.js";
import * as conversation from "../../../www/logic/conversation.js";
import { follows } from "../../../www/logic/follow.js";
import { formatBytes, formatDuration, formatFigures } from "../../../www/logic/format.js";
import { pageOptions } from "../../../www/logic/options.js";

const { ask, appendText, emptyConversation, fail, finish, fromJson, isAnswering, retryLast, toJson, toRequest } = conversation;
const exchange = (c, question, answer) => finish(appendText(ask(c, question), answer), "done", { tokens: 1, tokensPerSecond: 2, firstTokenMs: 3 });

test("a conversation grows by question and answer, and no value is ever changed", () => {
  const empty = emptyConversation("be kind");
  const asked = ask(empty, "hi");
  assert.equal(empty.messages.length, 0);
  assert.ok(isAnswering(asked));
  const said = appendText(appendText(asked, "hel"), "lo");
  assert.equal(asked.messages[1].content, "");
  assert.deepEqual(said.messages.map(({ role, content, status }) => [role, content, status]), [["user", "hi", "done"], ["assistant", "hello", "streaming"]]);
  const done = finish(said, "done");
  assert.ok(!isAnswering(done));
  assert.deepEqual(toRequest(ask(done, "and?")), [
    { role: "system", content: "be kind" }, { role: "user", content: "hi" }, { role: "assistant", content: "hello" }, { role: "user", content: "and?" },
  ]);
  assert.deepEqual(ask(done, "x").messages.map(({ id }) => id), [1, 2, 3, 4]);
});

test("the model is not asked again what it never answered", () => {
  let c = exchange(emptyConversation(), "one", "1");
  c = fail(ask(c, "two"), { code: "network", message: "lost" });
  c = finish(ask(c, "three"), "stopped");
  assert.deepEqual(toRequest(ask(c, "four")).map(({ content }) => content), ["one", "1", "four"]);
  const again = retryLast(c);
  assert.equal(again.messages.at(-1).status, "waiting");
  assert.deepEqual(toRequest(again).map(({ content }) => content), ["one", "1", "three"]);
  assert.equal(retryLast(fail(ask(emptyConversation(), "x"), { code: "busy", message: "" })).messages.at(-1).failure, undefined);
});

test("what was kept comes back; an answer cut by the reload counts as stopped; anything else is an empty conversation", () => {
  const c = appendText(ask(exchange(emptyConversation("s"), "one", "1"), "two"), "tw");
  const back = fromJson(toJson(c));
  assert.equal(back.systemPrompt, "s");
  assert.deepEqual(back.messages.map(({ content, status }) => [content, status]), [["one", "done"], ["1", "done"], ["two", "done"], ["tw", "stopped"]]);
  assert.deepEqual(back.messages[1].figures, { tokens: 1, tokensPerSecond: 2, firstTokenMs: 3 });
  for (const bad of [null, "", "{", "[]", '{"version":2}', '{"version":1,"messages":"x"}', '{"version":1,"messages":[{"role":"assistant","content":"x"}]}',
    '{"version":1,"messages":[{"role":"user","content":"x"}]}']) {
    assert.deepEqual(fromJson(bad), emptyConversation(), String(bad));
  }
  const hostile = fromJson('{"version":1,"systemPrompt":7,"messages":[{"role":"user","content":"a","status":"waiting"},{"role":"assistant","content":"b","figures":{"tokens":"<b>"}}]}');
  assert.equal(hostile.systemPrompt, null);
  assert.deepEqual(hostile.messages.map((m) => [m.status, m.figures]), [["stopped", undefined], ["stopped", undefined]]);
});

test("only changed blocks are drawn anew", () => {
  assert.deepEqual(planBlocks([], ["a"]), { keep: 0, remove: 0, add: ["a"] });
  assert.deepEqual(planBlocks(["a", "b"], ["a", "bc", "d"]), { keep: 1, remove: 1, add: ["bc", "d"] });
  assert.deepEqual(planBlocks(["a", "b"], ["a", "b"]), { keep: 2, remove: 0, add: [] });
  assert.deepEqual(planBlocks(["a", "b"], ["x"]), { keep: 0, remove: 2, add: ["x"] });
});

test("the page follows the answer, lets go when the reader scrolls up, and takes hold at the end", () => {
  const at = (top, height = 1000, client = 400) => ({ top, height, client });
  assert.equal(follows(true, at(600), at(600, 1050)), true);
  assert.equal(follows(true, at(600), at(500)), false);
  assert.equal(follows(false, at(500), at(520, 1100)), false);
  assert.equal(follows(false, at(500), at(590)), true);
  assert.equal(follows(false, at(500), at(600)), true);
  // The window grew, or text was taken away: no wish of the reader's.
  assert.equal(follows(true, at(600, 1000, 400), at(540, 1000, 430)), true);
  assert.equal(follows(true, at(600, 1000), at(500, 950)), true);
});

test("figures as people read them", () => {
  assert.deepEqual([999, 98_362_432, 1_500_000, 2.5e9, 45_000].map(formatBytes), ["999 B", "98 MB", "1.5 MB", "2.50 GB", "45 kB"]);
  assert.deepEqual([12.4, 1234, 45_000, 300_000].map(formatDuration), ["12 ms", "1.2 s", "45 s", "5 min"]);
  assert.equal(formatFigures({ tokens: 1, tokensPerSecond: 0, firstTokenMs: 0 }), "1 token");
  assert.equal(formatFigures({ tokens: 40, tokensPerSecond: 31.6, firstTokenMs: 85 }), "32 tokens/s · first token 85 ms · 40 tokens");
});

test("every error code has its advice", () => {
  for (const code of ERROR_CODES.filter((c) => !["aborted", "busy", "invalid_argument"].includes(c))) {
    assert.notEqual(adviceFor(code).title, adviceFor("no-such-code").title, code);
  }
});

test("options in the address", () => {
  assert.deepEqual(pageOptions(""), { model: "smollm2-135m-instruct" });
  assert.deepEqual(pageOptions("?model=models/x/&kernel=simd128&threads=3&log=debug&seed=7"), { model: "models/x/", kernel: "simd128", threads: 3, seed: 7, logLevel: "debug" });
  assert.deepEqual(pageOptions("?seed=x&threads=0"), { model: "smollm2-135m-instruct" });
});
