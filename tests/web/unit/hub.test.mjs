/** Models by a hub's id: which files are chosen, what is asked with which headers, and what a hub that is gone leaves. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { resolveModel } from "../../../js/models.js";
import { faultyServer, ranged } from "../support/faulty-server.mjs";
import { memoryOpfs } from "../support/memory-opfs.mjs";
import { fed, record, settled } from "../support/recording-engine.mjs";

const gguf = Buffer.concat([Buffer.from("GGUF"), randomBytes(300_000)]);
const safetensors = Buffer.concat([Buffer.from("\x10\0\0\0\0\0\0\0{"), randomBytes(200_000)]);
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const entry = (path, data, more) => ({ type: "file", path, size: data.length, oid: "0".repeat(40), ...more });
const large = (path, data) => entry(path, data, { lfs: { oid: sha256(data), size: data.length } });
const text = Buffer.from("{}");

const TREES = {
  "one/gguf": [entry("README.md", text), large("m.Q8_0.gguf", gguf), large("m.Q4_0.gguf", gguf), { type: "directory", path: "x" }],
  "one/checkpoint": [entry("config.json", text), entry("tokenizer.json", text), large("model.safetensors", safetensors)],
  "one/wrong": [large("model.gguf", randomBytes(gguf.length))],
  "one/nothing": [entry("README.md", text)],
};

let server;
before(async () => {
  const file = (data) => (request, response, nth) => (request.headers.authorization === "Bearer good" || !request.url.includes("secret")
    ? ranged(data)(request, response, nth) : response.writeHead(401).end());
  const routes = { "/api/models/one/secret/tree/v2": file(Buffer.from(JSON.stringify([large("deep/m.gguf", gguf)]))), "/one/secret/resolve/v2/deep/m.gguf": file(gguf) };
  for (const [repo, tree] of Object.entries(TREES)) {
    routes[`/api/models/${repo}/tree/main`] = (_, response) => response.end(JSON.stringify(tree));
    for (const { path } of tree) routes[`/${repo}/resolve/main/${path}`] = file(/gguf$/.test(path) ? gguf : /safetensors$/.test(path) ? safetensors : text);
  }
  server = await faultyServer(routes);
});
after(() => server.close());

const load = (repo, hub = {}, how = {}) => record(resolveModel(repo, {
  modelsUrl: "https://a.example/", baseUrl: "https://a.example/", hub: { endpoint: server.url("/"), ...hub },
}), how);

test("the file that suits best, or the one asked for, checked by the hub's hash", async () => {
  assert.deepEqual(Object.keys(fed((await load("one/gguf")).engine)), ["m.Q4_0.gguf"]);
  const { engine } = await load("one/gguf", { file: "m.Q8_0.gguf" });
  assert.ok(fed(engine)["m.Q8_0.gguf"].equals(gguf));
  await assert.rejects(load("one/wrong"), { code: "integrity", message: /^model\.gguf: sha-256 is/ });
  await assert.rejects(load("one/gguf", { file: "other.gguf" }), { code: "not_a_model", message: "one/gguf: has no file other.gguf" });
  await assert.rejects(load("one/nothing"), { code: "not_a_model", message: /one\/nothing: has neither/ });
});

test("a checkpoint", async () => {
  const { engine } = await load("one/checkpoint");
  assert.ok(fed(engine)["model.safetensors"].equals(safetensors));
  assert.deepEqual(Object.keys(engine.spec.files), ["config.json", "tokenizer.json"]);
});

test("a token goes with every request, and its lack is said", async () => {
  const { engine } = await load("one/secret", { token: "good", revision: "v2" });
  assert.ok(fed(engine)["m.gguf"].equals(gguf));
  await assert.rejects(load("one/secret", { revision: "v2" }), { code: "http_status", message: /it takes a token to read it/ });
  await assert.rejects(load("one/secret", { revision: "v2", token: "bad" }), { code: "http_status", message: /it takes another token/ });
});

test("a model that is on this device loads without the hub", async () => {
  const gone = await faultyServer({
    "/api/models/a/b/tree/main": (_, response) => response.end(JSON.stringify([large("m.gguf", gguf)])),
    "/a/b/resolve/main/m.gguf": ranged(gguf),
  });
  const opfs = memoryOpfs();
  const hub = { endpoint: gone.url("") };
  await load("a/b", hub, { opfs });
  await settled(opfs);
  await gone.close();
  assert.ok(fed((await load("a/b", hub, { opfs })).engine)["m.gguf"].equals(gguf));
});
