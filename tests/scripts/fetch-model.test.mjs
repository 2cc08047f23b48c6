// scripts/fetch-model against a server in the hub's layout, faults included.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { HubServer, safetensors } from "./hub-server.mjs";

const script = fileURLToPath(new URL("../../scripts/fetch-model", import.meta.url));
const ID = "HuggingFaceTB/SmolLM-135M-Instruct";
const weights = safetensors(50_000);
const complete = () => ({
  "config.json": { model_type: "llama" },
  "tokenizer.json": { version: "1.0" },
  "tokenizer_config.json": { eos_token: "<|im_end|>" },
  "generation_config.json": { eos_token_id: 2 },
  "model.safetensors": { bytes: weights, large: true },
});

/** @type {HubServer} */
let hub;
/** @type {string} */
let models;

before(async () => {
  hub = await new HubServer().start();
});
after(() => hub.stop());
beforeEach(() => {
  models = mkdtempSync(join(tmpdir(), "fetch-model-"));
  hub.files.clear();
  hub.requests.length = 0;
});
afterEach(() => rmSync(models, { recursive: true }));

/** Runs the script. @param {string} id @param {Record<string, string>} environment */
function fetchModel(id = ID, environment = {}) {
  return new Promise((resolve) => {
    const child = spawn(script, [id], {
      env: { ...process.env, HF_ENDPOINT: hub.endpoint, HF_TOKEN: "", MODELS_DIR: models, ...environment },
    });
    let out = "";
    let log = "";
    child.stdout.on("data", (text) => (out += text));
    child.stderr.on("data", (text) => (log += text));
    child.on("close", (code) => resolve({ code, path: out.trim(), log }));
  });
}

const at = (/** @type {string} */ name) => join(models, ID, name);

test("a checkpoint arrives byte for byte and its directory is printed", async () => {
  hub.publish(ID, complete());
  const { code, path, log } = await fetchModel();
  assert.equal(code, 0, log);
  assert.equal(path, join(models, ID));
  assert.deepEqual(readFileSync(at("model.safetensors")), weights);
  assert.deepEqual(readdirSync(path).sort(), [
    "SHA256SUMS",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
});

test("what is there is verified and reused without a request", async () => {
  hub.publish(ID, complete());
  await fetchModel();
  hub.requests.length = 0;
  assert.equal((await fetchModel()).code, 0);
  assert.deepEqual(hub.requests, []);
});

test("a file that changed on disk is fetched again", async () => {
  hub.publish(ID, complete());
  await fetchModel();
  writeFileSync(at("model.safetensors"), "damaged");
  assert.equal((await fetchModel()).code, 0);
  assert.deepEqual(readFileSync(at("model.safetensors")), weights);
});

test("a broken connection is continued by byte range", async () => {
  const files = complete();
  files["model.safetensors"].cutAt = 70_000;
  hub.publish(ID, files);
  const { code, log } = await fetchModel();
  assert.equal(code, 0, log);
  assert.deepEqual(readFileSync(at("model.safetensors")), weights);
  const ranges = hub.requestsFor("model.safetensors").map(({ range, status }) => [range, status]);
  assert.ok(ranges.some(([range, status]) => range === "bytes=70000-" && status === 206), JSON.stringify(ranges));
});

test("an interrupted run is continued by the next", async () => {
  hub.publish(ID, complete());
  await fetchModel();
  // As a run that was killed in the middle of the weights leaves it.
  rmSync(at("SHA256SUMS"));
  rmSync(at("model.safetensors"));
  const partial = join(models, ID, ".partial/model.safetensors");
  hub.publish(ID, { "model.safetensors": { bytes: weights, large: true, cutAt: 100_000, stall: true } });
  hub.requests.length = 0;
  const child = spawn(script, [ID], {
    env: { ...process.env, HF_ENDPOINT: hub.endpoint, MODELS_DIR: models },
    detached: true,
    stdio: "ignore",
  });
  const killed = new Promise((resolve) => child.on("close", resolve));
  // curl keeps a few kilobytes to itself until they are a buffer full.
  while (!existsSync(partial) || readFileSync(partial).length < 50_000) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  process.kill(-child.pid, "SIGKILL");
  await killed;
  const kept = readFileSync(partial).length;
  hub.requests.length = 0;
  const { code, log } = await fetchModel();
  assert.equal(code, 0, log);
  assert.deepEqual(readFileSync(at("model.safetensors")), weights);
  assert.equal(hub.requestsFor("model.safetensors").at(-1).range, `bytes=${kept}-`);
});

test("a partial file of a model that changed meanwhile is started over", async () => {
  const changed = safetensors(50_000, 2);
  hub.publish(ID, { ...complete(), "model.safetensors": { bytes: weights, large: true, cutAt: 90_000 } });
  const running = fetchModel();
  while (!hub.requestsFor("model.safetensors").some(({ path }) => path.startsWith("/content"))) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  hub.publish(ID, { "model.safetensors": { bytes: changed, large: true } });
  const { code, log } = await running;
  assert.equal(code, 0, log);
  assert.deepEqual(readFileSync(at("model.safetensors")), changed);
});

test("a server without ranges is downloaded from the start again", async () => {
  const files = complete();
  Object.assign(files["model.safetensors"], { cutAt: 50_000, noRanges: true });
  hub.publish(ID, files);
  const { code, log } = await fetchModel();
  assert.equal(code, 0, log);
  assert.deepEqual(readFileSync(at("model.safetensors")), weights);
});

test("shards are found through the index", async () => {
  const files = complete();
  delete files["model.safetensors"];
  hub.publish(ID, {
    ...files,
    "model.safetensors.index.json": { weight_map: { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" } },
    "model-00001-of-00002.safetensors": { bytes: safetensors(100), large: true },
    "model-00002-of-00002.safetensors": { bytes: safetensors(200), large: true },
  });
  const { code, log } = await fetchModel();
  assert.equal(code, 0, log);
  assert.deepEqual(readFileSync(at("model-00002-of-00002.safetensors")), safetensors(200));
});

test("an index cannot write outside the model's directory", async () => {
  const files = complete();
  delete files["model.safetensors"];
  hub.publish(ID, { ...files, "model.safetensors.index.json": { weight_map: { a: "../../../evil.safetensors" } } });
  const { code, log } = await fetchModel();
  assert.equal(code, 1);
  assert.match(log, /which is no file name/);
});

test("a revision goes into the address and into a directory of its own", async () => {
  hub.publish(ID, complete(), "v1.0");
  const { code, path } = await fetchModel(`${ID}@v1.0`);
  assert.equal(code, 0);
  assert.equal(path, join(models, `${ID}@v1.0`));
});

test("the token goes to the hub and not to the content host", async () => {
  hub.publish(ID, complete());
  const { code, log } = await fetchModel(ID, { HF_TOKEN: "hf_secret" });
  assert.equal(code, 0, log);
  for (const { path, authorization } of hub.requests) {
    assert.equal(authorization, path.startsWith("/content") ? undefined : "Bearer hf_secret", path);
  }
});

const refusals = {
  "a gated model": [{ "config.json": { status: 401 } }, /401 for config\.json.*set HF_TOKEN/],
  "a forbidden model": [{ "config.json": { status: 403 } }, /403 for config\.json.*set HF_TOKEN/],
  "a missing configuration": [{ "config.json": { status: 404 } }, /has no config\.json \(404\)/],
  "missing weights": [{ "model.safetensors": { status: 404 } }, /neither model\.safetensors nor its index/],
  "a web page with status 200": [
    { "model.safetensors": Buffer.from("<!DOCTYPE html><html><body>Log in</body></html>") },
    /model\.safetensors: the answer is a web page/,
  ],
  "a web page as JSON": [{ "config.json": Buffer.from("<html></html>") }, /config\.json: the answer is a web page/],
  "broken JSON": [{ "config.json": Buffer.from('{"model_type": ') }, /config\.json: the answer is no JSON/],
  "a Git LFS pointer": [
    { "model.safetensors": Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n") },
    /Git LFS pointer/,
  ],
  "truncated weights": [{ "model.safetensors": weights.subarray(0, 100_000) }, /truncated: expected \d+ bytes, found 100000/],
  "weights of random bytes": [{ "model.safetensors": Buffer.alloc(1000, 0xa5) }, /no safetensors file/],
};
for (const [what, [files, message]] of Object.entries(refusals)) {
  test(`${what} is refused by name and leaves nothing that a later run would trust`, async () => {
    hub.publish(ID, { ...complete(), .../** @type {object} */ (files) });
    const { code, path, log } = await fetchModel();
    assert.equal(code, 1, log);
    assert.equal(path, "");
    assert.match(log, /** @type {RegExp} */ (message));
    assert.ok(!existsSync(at("SHA256SUMS")));

    hub.publish(ID, complete());
    assert.equal((await fetchModel()).code, 0);
    assert.deepEqual(readFileSync(at("model.safetensors")), weights);
  });
}

test("weights whose sum is not the promised one are refused", async () => {
  const files = complete();
  hub.publish(ID, files);
  const damaged = Buffer.from(weights);
  damaged[weights.length - 1] ^= 1;
  // The redirect promises one sum, the content host sends other bytes.
  const path = `/${ID}/resolve/main/model.safetensors`;
  const served = { bytes: weights, large: true };
  hub.files.set(path, served);
  const get = hub.files.get.bind(hub.files);
  hub.files.get = (key) => {
    const file = get(key);
    return key === path && hub.requests.at(-1)?.path.startsWith("/content") ? { ...served, bytes: damaged } : file;
  };
  const { code, log } = await fetchModel();
  hub.files.get = get;
  assert.equal(code, 1);
  assert.match(log, /model\.safetensors: expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}/);
});

for (const id of ["nonsense", "../../etc/passwd", "a/b/c", "a/.."]) {
  test(`${id} is no model id`, async () => {
    const { code, log } = await fetchModel(id);
    assert.equal(code, 1);
    assert.match(log, /not a model id|unknown model/);
    assert.deepEqual(hub.requests, []);
  });
}
