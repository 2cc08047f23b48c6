/**
 * Options in the page's address, for trying things: `?model=<id or URL>`, `?kernel=simd128`,
 * `?log=debug`.
 *
 * @param {string} search
 * @returns {{ model: string, kernel?: "relaxed" | "simd128", logLevel?: "debug" | "info" | "warn" | "error" | "silent" }}
 */
export function pageOptions(search) {
  const params = new URLSearchParams(search);
  const kernel = params.get("kernel");
  const logLevel = params.get("log");
  return {
    model: params.get("model") || "smollm2-135m-instruct",
    ...(kernel && { kernel: /** @type {any} */ (kernel) }),
    ...(logLevel && { logLevel: /** @type {any} */ (logLevel) }),
  };
}
