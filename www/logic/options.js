/**
 * Options in the page's address, for trying things: `?model=<id or URL>`, `?kernel=simd128`,
 * `?threads=1`, `?context=512` (tokens), `?log=debug`, `?seed=7` (every answer is drawn from that seed, so the same words give the same answer).
 *
 * @param {string} search
 * @returns {{ model: string, kernel?: "relaxed" | "simd128", threads?: number, contextLength?: number, seed?: number, logLevel?: "debug" | "info" | "warn" | "error" | "silent" }}
 */
export function pageOptions(search) {
  const params = new URLSearchParams(search);
  const kernel = params.get("kernel");
  const logLevel = params.get("log");
  const threads = Number.parseInt(params.get("threads") ?? "", 10);
  const contextLength = Number.parseInt(params.get("context") ?? "", 10);
  const seed = Number.parseInt(params.get("seed") ?? "", 10);
  return {
    model: params.get("model") || "smollm2-135m-instruct",
    ...(kernel && { kernel: /** @type {any} */ (kernel) }),
    ...(threads >= 1 && { threads }),
    ...(contextLength >= 1 && { contextLength }),
    ...(seed >= 0 && { seed }),
    ...(logLevel && { logLevel: /** @type {any} */ (logLevel) }),
  };
}
