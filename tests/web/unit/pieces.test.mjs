import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { ERROR_CODES, SmolLMError, abortError, fromWire, toSmolLMError, toWire } from "../../../js/errors.js";
import { ahead } from "../../../js/ahead.js";
import { Meter } from "../../../js/meter.js";
import { REGISTRY, modelUrl, resolveModel } from "../../../js/models.js";
import { checkCompletion, isoDay } from "../../../js/params.js";
import { chooseBuild, onOneThread, probe } from "../../../js/probe.js";
import { Sha256 } from "../../../js/sha256.js";
import { checkContent } from "../../../js/sniff.js";
import { fitMessages } from "../../../js/context.js";

test("error codes are those of the crate, in its order", async () => {
  const rust = await readFile(new URL("../../../src/error.rs", import.meta.url), "utf8");
  const codes = [...rust.matchAll(/Self::\w+ => "(\w+)"/g)].map(([, code]) => code);
  assert.deepEqual([...ERROR_CODES], codes);
});

test("an error crosses to the page with its code, name, stack and chain of causes", () => {
  const error = new SmolLMError("network", "m.gguf: no connection", { cause: new TypeError("failed to fetch", { cause: "dns" }) });
  const crossed = fromWire(structuredClone(toWire(error)));
  assert.ok(crossed instanceof SmolLMError);
  assert.equal(crossed.code, "network");
  assert.equal(crossed.message, error.message);
  assert.equal(crossed.stack, error.stack);
  assert.equal(crossed.cause.name, "TypeError");
  assert.equal(crossed.cause.cause.message, "dns");
  assert.equal(fromWire(toWire(abortError(null, "x"))).name, "AbortError");
});

test("what the wasm engine throws keeps its code; anything else gets the fallback", () => {
  const coded = Object.assign(new Error("context: full"), { code: "context_overflow" });
  assert.equal(toSmolLMError(coded, "engine_lost").code, "context_overflow");
  assert.equal(toSmolLMError(coded, "engine_lost").cause, coded);
  assert.equal(toSmolLMError(Object.assign(new Error("x"), { code: "E42" }), "engine_lost").code, "engine_lost");
  assert.equal(toSmolLMError(new DOMException("x", "AbortError"), "network").code, "aborted");
  assert.equal(toSmolLMError("text", "network", "f").message, "f: text");
});

test("sha-256 equals the platform's, at every length around the block edges", () => {
  for (const length of [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000, 65_537]) {
    const data = randomBytes(length);
    for (const piece of [1, 7, 64, 100_000]) {
      if (length / piece > 2000) continue;
      const hash = new Sha256();
      for (let at = 0; at < length; at += piece) hash.update(data.subarray(at, at + piece));
      assert.equal(hash.hex(), createHash("sha256").update(data).digest("hex"), `${length} bytes in pieces of ${piece}`);
    }
  }
});

test("progress goes up over all files, whoever tells of it, and its rate is that of the last seconds", () => {
  const seen = [];
  let now = 0;
  const meter = new Meter((p) => seen.push(p), { now: () => now });
  meter.expect(10_000);
  for (let s = 0; s <= 10; s++) {
    now = s * 1000;
    meter.at("a", s < 5 ? 100 + s * 100 : 600 + (s - 5) * 1000, false);
  }
  assert.deepEqual(seen.at(-1), { phase: "download", loaded: 5600, total: 10_000, file: "a", cached: false, rate: 1000, timeLeft: 4400 });
  meter.at("a", 300, false);
  now += 100;
  meter.at("b", 400, true);
  meter.at("a", 5600, true);
  assert.deepEqual([meter.loaded, seen.at(-1).loaded, seen.at(-1).rate, seen.at(-1).phase], [6000, 6000, 1000, "load"]);
  assert.deepEqual(seen.map(({ loaded }) => loaded), seen.map(({ loaded }) => loaded).sort((a, b) => a - b));
});

test("work ahead: so many at a time, results in order, and a failure once", async () => {
  let running = 0, most = 0;
  const work = async (ms) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, ms));
    running--;
    if (ms === 13) throw new Error("thirteen");
    return ms * 2;
  };
  const results = [];
  for await (const [item, result] of ahead([9, 1, 5, 3, 7, 2], 3, work)) results.push([item, result]);
  assert.deepEqual(results, [9, 1, 5, 3, 7, 2].map((ms) => [ms, ms * 2]));
  assert.equal(most, 3);
  await assert.rejects(async () => { for await (const _ of ahead([1, 13, 13], 3, work)); }, /thirteen/);
});

test("first bytes tell models from everything else", () => {
  const bytes = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0));
  checkContent(bytes("GGUF\x03\0\0\0"), "gguf", "m");
  checkContent(bytes("\x50\0\0\0\0\0\0\0{\"a"), "safetensors", "m");
  checkContent(bytes("\xef\xbb\xbf [1]"), "json", "m");
  checkContent(bytes("{% for m in messages %}"), "text", "m");
  for (const [text, kind] of [
    ["ggml\0\0\0\0", "gguf"], ["<html>", "gguf"], ["{}", "gguf"], ["PK\x03\x04", "gguf"],
    ["{\"error\": 1}", "safetensors"], ["\x50\0\0\0\x01\0\0\0{", "safetensors"], ["\x50\0\0\0\0\0\0\0[", "safetensors"], ["abc", "safetensors"],
    ["not json", "json"], ["<!-- x --><html>", "json"], ["  <!doctype html>", "text"], ["", "text"],
  ]) {
    assert.throws(() => checkContent(bytes(text), kind, "m"), { code: "not_a_model" }, JSON.stringify(text));
  }
});

test("the build follows what the browser validates", () => {
  const can = probe();
  assert.equal(can.simd128, true);
  assert.equal(can.threads, true);
  assert.deepEqual(probe(undefined && {}), can);
  assert.deepEqual(probe({ validate: () => false }), { simd128: false, relaxed: false, threads: false });
  const [all, plain, none] = [
    { simd128: true, relaxed: true, threads: true }, { simd128: true, relaxed: false, threads: true }, { simd128: false, relaxed: false, threads: false },
  ];
  assert.equal(chooseBuild(all).build, "relaxed");
  assert.equal(chooseBuild(plain).build, "simd128");
  assert.match(chooseBuild(plain).why[0], /no relaxed SIMD/);
  assert.equal(chooseBuild(all, { kernel: "simd128" }).build, "simd128");
  assert.equal(chooseBuild(all, { kernel: "simd128", isolated: true, cores: 2 }).build, "simd128-threads");
  assert.throws(() => chooseBuild(none), { code: "unsupported_browser" });
  assert.throws(() => chooseBuild(plain, { kernel: "relaxed" }), { code: "unsupported_browser" });
});

test("threads follow the option, isolation and the cores, and say why", () => {
  const can = { simd128: true, relaxed: true, threads: true };
  const isolated = { isolated: true, cores: 8 };
  for (const [cores, threads] of [[1, 1], [2, 2], [3, 3], [4, 4], [6, 4], [8, 4], [12, 6], [16, 8], [64, 8]]) {
    const choice = chooseBuild(can, { isolated: true, cores });
    assert.equal(choice.threads, threads, `${cores} cores`);
    assert.equal(choice.build, threads > 1 ? "relaxed-threads" : "relaxed");
    assert.match(choice.why[1], new RegExp(`^threads ${threads}: .*core`));
  }
  assert.deepEqual(chooseBuild(can, { ...isolated, threads: 3 }).why[1], "threads 3: asked for by option");
  for (const [choice, reason] of [
    [chooseBuild(can, { ...isolated, threads: 1 }), /asked for/],
    [chooseBuild(can, { cores: 8, threads: 4 }), /not cross-origin isolated/],
    [chooseBuild(can, { cores: 8 }), /not cross-origin isolated/],
    [chooseBuild({ ...can, threads: false }, isolated), /has no threads/],
    [onOneThread(chooseBuild(can, isolated), "no memory"), /: no memory$/],
  ]) {
    assert.equal(choice.build, "relaxed");
    assert.equal(choice.threads, 1);
    assert.match(choice.why[1], reason);
    assert.equal(choice.why.length, 2);
  }
});

test("model arguments", () => {
  const where = { modelsUrl: "https://a.example/site/models/", baseUrl: "https://a.example/site/page.html" };
  const resolve = (model) => resolveModel(model, where);
  const [{ id }] = REGISTRY;
  assert.deepEqual(resolve(id), { kind: "pack", name: id, url: `https://a.example/site/models/${id}/` });
  assert.deepEqual(resolve("/packs/tiny/manifest.json?token=1"), { kind: "pack", url: "https://a.example/packs/tiny/?token=1" });
  assert.deepEqual(resolve("m/a%20b.gguf?download=1"), { kind: "gguf", file: { name: "a b.gguf", url: "https://a.example/site/m/a%20b.gguf?download=1" } });
  assert.deepEqual(resolve("/packs/tiny"), { kind: "directory", url: "https://a.example/packs/tiny/" });
  assert.deepEqual(resolve(new URL("https://b.example/m/?token=1")), { kind: "directory", url: "https://b.example/m/?token=1" });
  const blob = new Blob(["x"]), named = new File(["x"], "weights.gguf");
  assert.deepEqual(resolve(blob), { kind: "blobs", files: [{ name: "model.gguf", blob }] });
  assert.deepEqual(resolve([named]), { kind: "blobs", files: [{ name: "weights.gguf", blob: named }] });
  const hub = { kind: "hub", repo: "HuggingFaceTB/SmolLM2-135M-Instruct", endpoint: "https://huggingface.co", revision: "main", token: undefined, file: undefined };
  assert.deepEqual(resolve("HuggingFaceTB/SmolLM2-135M-Instruct"), hub);
  assert.equal(modelUrl(hub), "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main/");
  assert.deepEqual(resolveModel("a/b", { ...where, hub: { endpoint: "/mirror/", revision: "v1", token: "t", file: "x.gguf" } }),
    { kind: "hub", repo: "a/b", endpoint: "https://a.example/mirror", revision: "v1", token: "t", file: "x.gguf" });
  assert.deepEqual(resolve("./a/b"), { kind: "directory", url: "https://a.example/site/a/b/" });
  for (const bad of ["smollm9", "", undefined, 7, [], ["x"], "javascript:alert(1)", "http://"]) {
    assert.throws(() => resolve(bad), { code: "invalid_argument" }, String(bad));
  }
  assert.throws(() => resolve("smollm9"), /known: smollm2-135m-instruct/);
});

test("parameters: good ones go through, names and nulls as with OpenAI", () => {
  const messages = [
    { role: "developer", content: "be brief" },
    { role: "user", content: [{ type: "text", text: "a" }, { type: "text", text: "b" }] },
  ];
  const args = checkCompletion({
    model: "x", messages, temperature: 0, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1.1, max_tokens: null,
    max_completion_tokens: 5, stop: "\n", seed: 0, logprobs: true, top_logprobs: 20, n: 1, response_format: { type: "text" },
    frequency_penalty: 0, logit_bias: {}, tools: [], stream: false, user: "u",
  });
  assert.deepEqual(args, {
    messages: [{ role: "system", content: "be brief" }, { role: "user", content: "ab" }], date: isoDay(new Date()),
    seed: 0, temperature: 0, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1.1, max_tokens: 5, stop: ["\n"], logprobs: true, top_logprobs: 20,
  });
  assert.equal(checkCompletion({ messages }, () => 77).seed, 77);
  assert.equal(isoDay(new Date(2026, 0, 5)), "2026-01-05");
});

test("parameters: every bad one is named", () => {
  const messages = [{ role: "user", content: "x" }];
  for (const [name, values] of Object.entries({
    temperature: [-1, NaN, Infinity, "1"], top_p: [0, 1.1, "x"], top_k: [-1, 1.5], min_p: [-0.1, 1], repetition_penalty: [0, -1],
    max_tokens: [0, 1.5, "9"], max_completion_tokens: [0], stop: ["", [""], [7], Array(17).fill("a")], seed: [-1, 0.5, 2 ** 60],
    logprobs: [1], top_logprobs: [21, -1, 3], n: [2, 0], response_format: [{ type: "json_object" }], tools: [[{}]], tool_choice: ["required"],
    enable_thinking: ["yes"], stream: ["true"], signal: [{}, 1], onPrefill: [1], frequency_penalty: [0.5], logit_bias: [{ 1: 2 }],
    max_token: [5], messages: [[], "x", {}],
  })) {
    for (const value of values) {
      assert.throws(() => checkCompletion({ messages, [name]: value }), (error) => error.code === "invalid_argument" && error.message.startsWith(name), `${name} = ${value}`);
    }
  }
  for (const bad of [undefined, null, 1, {}]) assert.throws(() => checkCompletion(bad), { code: "invalid_argument" });
  for (const message of [null, {}, { role: "robot", content: "" }, { role: "user" }, { role: "user", content: 5 },
    { role: "user", content: [{ type: "image_url" }] }, { role: "assistant", content: "", tool_calls: [{}] }]) {
    assert.throws(() => checkCompletion({ messages: [message] }), (error) => error.code === "invalid_argument" && error.message.startsWith("messages[0]"));
  }
});

test("messages that fit stay; else whole oldest exchanges go, and the same ones for some turns", () => {
  const count = (messages) => messages.reduce((sum, { content }) => sum + content.length, 0);
  const system = { role: "system", content: "s".repeat(50) };
  const conversation = (exchanges) => [system, ...Array.from({ length: exchanges }, (_, i) => [
    { role: "user", content: String.fromCharCode(97 + (i % 26)).repeat(20) }, { role: "assistant", content: "a".repeat(30) },
  ]).flat(), { role: "user", content: "q".repeat(20) }];
  const fit = (messages, more) => fitMessages(messages, { contextLength: 1000, count, ...more });

  const small = conversation(3);
  assert.deepEqual(fit(small), { messages: small, dropped: [] });
  assert.deepEqual(fit(small, { contextLength: 100_000, count: () => assert.fail("no need to count") }), { messages: small, dropped: [] });
  const starts = [];
  for (let n = 15; n < 60; n++) {
    const whole = conversation(n);
    const { messages, dropped } = fit(whole);
    assert.equal(messages[0], system);
    assert.equal(messages.at(-1), whole.at(-1));
    assert.deepEqual([system, ...dropped, ...messages.slice(1)], whole);
    assert.equal(dropped.length % 2, 0);
    assert.ok(count(messages) <= 875, `${count(messages)} of 875 at ${n}`);
    // No more than a step too much, and the exchange that straddles it.
    assert.ok(dropped.length === 0 || count(messages) > 875 - 125 - 50);
    starts.push(dropped.length);
  }
  // 50 tokens a turn, 125 at once: the beginning changes in at most every other turn.
  const changes = starts.filter((s, i) => i > 0 && s !== starts[i - 1]).length;
  assert.ok(changes <= starts.length / 2, `${changes} changes in ${starts.length} turns`);

  const alone = [system, { role: "user", content: "x".repeat(5000) }];
  assert.deepEqual(fit(alone), { messages: alone, dropped: [] });
  const long = [...conversation(3).slice(0, -1), alone[1]];
  assert.deepEqual(fit(long).messages, alone);
  assert.deepEqual(fit([system], { contextLength: 10 }), { messages: [system], dropped: [] });
});
