/** The native command line, one JSON line in, one out. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { DIST } from "./site.mjs";

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** The default model as the site serves it, and the file that it was made from; below the site's folder. */
export const PACK = "models/smollm2-135m-instruct/";
export const GGUF = "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";

/** `smollm fingerprint`. @param {string} text @param {string} model below the site's folder @returns {{ tokens: number, text: string, answer: string, ids: number[] }} */
export const fingerprint = (text, model) => smollm("fingerprint", [{ text }], model)[0];

/**
 * `smollm generate` over all requests in one process.
 * @param {object[]} requests @param {string} model below the site's folder @returns {{ text: string, ids: number[], finish_reason: string, usage: any }[]}
 */
export const generate = (requests, model) => smollm("generate", requests, model);

/** @param {string} command @param {object[]} requests @param {string} model @returns {any[]} */
function smollm(command, requests, model) {
  const binary = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, "target"), "release/smollm");
  execFileSync("cargo", ["build", "--locked", "--release", "--quiet", "--bin", "smollm"], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
  if (!existsSync(binary)) throw new Error(`${binary}: cargo build did not make it`);
  const output = execFileSync(binary, [command, "--model", path.join(DIST, model)], {
    input: requests.map((request) => `${JSON.stringify(request)}\n`).join(""), encoding: "utf8", maxBuffer: 1 << 28,
  });
  return output.trim().split("\n").map((line) => JSON.parse(line));
}
